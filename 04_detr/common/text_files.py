"""Read text files as Windows, spreadsheets and labelling tools write them."""

from __future__ import annotations

import codecs
from pathlib import Path
from typing import Any

import yaml

from common.findings import DataError

# The mark that some programs put before a text says which encoding it has.
MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
MOST_BYTES = 50_000_000


def read_text(path: Path) -> str:
    """Return a file's text: UTF-8, or what its byte order mark says.

    Raises:
        DataError: it cannot be read, or is in another encoding; with its line.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise DataError(f"{path}: more than {MOST_BYTES:,} bytes are no list of labels")
        raw = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    mark, encoding = next((one for one in MARKS if raw.startswith(one[0])), (b"", "utf-8"))
    try:
        text = raw[len(mark) :].decode(encoding)
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        message = f"{path}:{line}: the text is no {encoding.upper()}; save the file as UTF-8"
        raise DataError(message, line) from error
    if "\0" in text:
        raise DataError(f"{path}: it holds zero bytes, so it is no UTF-8; save the file as UTF-8")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_lines(path: Path) -> list[tuple[int, str]]:
    """Return the number (from 1) and the text, without white space around it, of each full line.

    Raises:
        DataError: see `read_text`.
    """
    lines = [line.strip() for line in read_text(path).split("\n")]
    return [(index, line) for index, line in enumerate(lines, start=1) if line]


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the content of a YAML file whose top level has names.

    Raises:
        DataError: see `read_text`; or it is no YAML, or holds something else.
    """
    try:
        content = yaml.safe_load(read_text(path))
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        reason = getattr(error, "problem", None) or error
        raise DataError(f"{path}{line}: no valid YAML: {reason}") from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: no YAML with names such as `names:`")
    return content
