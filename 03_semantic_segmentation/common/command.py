"""What the commands share: their help, their errors and exit codes, and the JSON they write."""

from __future__ import annotations

import argparse
import dataclasses
import io
import json
import sys
from collections.abc import Callable
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


def exit_code(work: Callable[[], int | None], stopped: str) -> int:
    """Run a command's work, report what is wrong in one line on stderr, and return the exit code.

    Args:
        work: may return how many inputs failed; bad usage and bad data are ValueError or OSError.
        stopped: what to tell who has pressed Ctrl+C.

    Returns:
        0 done, 1 some inputs failed, 2 an error or stopped.
    """
    escape_strange_names()
    try:
        return 1 if work() else 0
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        print(stopped, file=sys.stderr)
    return 2


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
