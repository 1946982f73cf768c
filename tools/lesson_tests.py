"""Let the tests of one lesson import its scripts by their names, as the lesson's commands do."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
entered: list[str] = []


def enter_lesson(conftest: str | os.PathLike) -> Path:
    """Put a lesson's folder first on `sys.path`; its conftest.py calls this before its imports.

    The folder of the tests comes second: judges such as a library of another program lie there.

    Args:
        conftest: the path of tests/<lesson folder>/conftest.py.

    Returns:
        The lesson's folder.

    Raises:
        RuntimeError: this process has entered another lesson: two lessons have scripts of the
            same names.
    """
    tests = Path(conftest).resolve().parent
    if entered and entered != [tests.name]:
        raise RuntimeError(
            f"{tests.name}: this process tests {entered[0]} already. The tests of each lesson run "
            "in a process of their own: python tools/test.py"
        )
    entered[:] = [tests.name]
    lesson = tests.parents[1] / tests.name
    sys.path[:0] = [str(lesson), str(tests)]
    return lesson
