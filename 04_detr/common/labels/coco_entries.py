"""Read a COCO JSON file's lists, and say on which line an entry of them stands."""

from __future__ import annotations

import json
import re
from bisect import bisect_left
from json.decoder import scanstring
from pathlib import Path
from typing import Any

from common.labels.values import AnnotationError, shown

KEYS = ("images", "annotations", "categories")
SPACE = re.compile(r"[ \t\n\r]*")
ENTRY = re.compile(r"(\w+)\[(\d+)\]")
HEAD_CHARACTERS = 2000


class OtherJsonError(AnnotationError):
    """Valid JSON of another kind."""


def head_of(path: Path) -> str:
    """Return the first characters of a JSON file; "" where it cannot be read."""
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_CHARACTERS)
    except OSError:
        return ""
    return head.decode(json.detect_encoding(head), "ignore")


def load_json(path: Path) -> Any:
    """Return what a JSON file holds, in UTF-8, UTF-16 or UTF-32.

    Raises:
        AnnotationError: it cannot be read, or is no JSON.
    """
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise AnnotationError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise AnnotationError(f"{path}: no valid JSON: {error}") from error


def check_coco(data: Any, path: Path) -> dict[str, list[Any]]:
    """Return a JSON file's content where it is COCO's: the three lists are lists.

    Raises:
        OtherJsonError: it is another kind of JSON.
    """
    if not isinstance(data, dict):
        raise OtherJsonError(f"{path}: no COCO JSON, it holds {shown(data)}")
    for key in KEYS:
        if not isinstance(data.get(key), list):
            raise OtherJsonError(f"{path}: no COCO JSON, it has no list {key!r}")
    return data


def value(entry: Any, key: str) -> Any:
    """Return a value of an entry.

    Raises:
        AnnotationError: the entry is no object, or has no such key.
    """
    if not isinstance(entry, dict):
        raise AnnotationError(f"{shown(entry)} is no JSON object")
    if key not in entry:
        raise AnnotationError(f"the key {key!r} is missing")
    return entry[key]


class EntryLines:
    """The lines of a JSON file on which the entries of its lists begin.

    Python's parser keeps no lines. The file is gone through once more, which only a file with
    problems needs.
    """

    def __init__(self, path: Path) -> None:
        raw = path.read_bytes()
        self._text = raw.decode(json.detect_encoding(raw), "surrogatepass")
        self._ends = [match.start() for match in re.finditer("\n", self._text)]
        self._starts: dict[str, list[int]] = {}
        self._decoder = json.JSONDecoder()
        position = self._skip(self._text.find("{") + 1)
        while self._text[position] == '"':
            key, position = scanstring(self._text, position + 1, False)
            position = self._skip(self._skip(position) + 1)  # the colon
            starts, position = self._value(position)
            self._starts[key] = starts
            position = self._skip(self._skip(position) + 1)  # a comma, or the end
            if position >= len(self._text):
                break

    def of(self, entry: str) -> int | None:
        """Return the line of an entry such as "annotations[3] (id 7)"."""
        match = ENTRY.match(entry)
        if match is None:
            return None
        return bisect_left(self._ends, self._starts[match[1]][int(match[2])]) + 1

    def _value(self, position: int) -> tuple[list[int], int]:
        """Go over a value; return where the entries of a list begin, and where the value ends."""
        if self._text[position] != "[":
            return [], self._decoder.raw_decode(self._text, position)[1]
        starts = []
        position = self._skip(position + 1)
        while self._text[position] != "]":
            starts.append(position)
            position = self._skip(self._decoder.raw_decode(self._text, position)[1])
            if self._text[position] == ",":
                position = self._skip(position + 1)
        return starts, position + 1

    def _skip(self, position: int) -> int:
        match = SPACE.match(self._text, position)
        return match.end() if match else position
