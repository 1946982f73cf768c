"""What the commands share: their help, their errors and exit codes, and the JSON they write."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import io
import json
import sys
from pathlib import Path
from typing import Any

from common.files import replacing


def make_parser(description: str, epilog: str | None = None) -> argparse.ArgumentParser:
    """Return a parser whose --help keeps the lines of both texts as they are."""
    return argparse.ArgumentParser(
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def given_settings(options: argparse.Namespace, settings_class: type) -> dict[str, Any]:
    """Return the options that were given and are fields of a dataclass of settings, by name."""
    names = [field.name for field in dataclasses.fields(settings_class)]
    values = {name: getattr(options, name, None) for name in names}
    return {name: value for name, value in values.items() if value is not None}


class Command(contextlib.AbstractContextManager):
    """What a command's work runs in: errors become one line on stderr, and an exit code.

    Bad usage and bad data are ValueError or OSError; other errors are mistakes in the program, and
    keep their traceback.

    Args:
        stopped: what to tell who has pressed Ctrl+C.

    Attributes:
        failed: set it to how many inputs failed.
        exit_code: 0 done, 1 some inputs failed, 2 an error or stopped.
    """

    def __init__(self, stopped: str) -> None:
        self.stopped, self.failed, self._broken = stopped, 0, False
        escape_strange_names()

    @property
    def exit_code(self) -> int:
        return 2 if self._broken else int(self.failed > 0)

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> bool:
        if isinstance(error, KeyboardInterrupt):
            print(self.stopped, file=sys.stderr)
        elif isinstance(error, ValueError | OSError):
            print(f"error: {error}", file=sys.stderr)
        else:
            return False
        self._broken = True
        return True


def escape_strange_names() -> None:
    """Let stdout show what its encoding lacks as \\u3042: a photo may have a name in any script.

    On Windows, a console or a file that output is sent to may have an encoding of 256 signs.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def write_json(path: Path, content: Any, indent: int = 2) -> None:
    """Write plain values to a JSON file, the whole of it or nothing."""
    with replacing(path) as file:
        file.write((json.dumps(content, indent=indent) + "\n").encode())
