"""Read the tagged cells of the exercise notebooks, for the tests.

A cell's tag says what it is: `exercise:00.3` is the blank that readers fill in, `solution:00.3` a
right way, `wrong:00.3` a cell with usual wrong ways, and `setup` what the others need. The tagged
cells end in calls of `check`; what these print in an executed notebook is what counts here.
"""

import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import nbformat

MESSAGE = re.compile(r"^(\d\d\.\d+) (right|wrong|not yet)(?:: |$)", re.MULTILINE)


@dataclass(frozen=True)
class Checked:
    """What a check has printed: `verdict` is "right", "wrong" or "not yet"; `reason` says why."""

    exercise_id: str
    verdict: str
    reason: str


def tags(cell: nbformat.NotebookNode) -> list[str]:
    """Return a cell's tags."""
    return cell.metadata.get("tags", [])


def exercises_of(cell: nbformat.NotebookNode, kind: str) -> list[str]:
    """Return the exercises whose cell of a kind this is."""
    return [tag.split(":")[1] for tag in tags(cell) if tag.startswith(kind + ":")]


def tagged_ids(path: Path, kind: str) -> list[str]:
    """Return the exercises that have cells of a kind ("exercise", "solution", "wrong")."""
    cells = nbformat.read(path, as_version=4).cells
    return list(dict.fromkeys(one for cell in cells for one in exercises_of(cell, kind)))


def checked(executed: nbformat.NotebookNode, kind: str) -> dict[str, list[Checked]]:
    """Return what the checks in the cells of one kind have printed, by exercise.

    Args:
        executed: a notebook with its outputs.
        kind: "exercise", "solution" or "wrong".

    Raises:
        ValueError: a cell checks another exercise than its tag says, or none.
    """
    results: dict[str, list[Checked]] = defaultdict(list)
    for index, cell in enumerate(executed.cells):
        for exercise_id in exercises_of(cell, kind):
            found = messages(printed(cell))
            if {one.exercise_id for one in found} != {exercise_id}:
                raise ValueError(f"cell {index} does not check {exercise_id} alone: {found}")
            results[exercise_id] += found
    return dict(results)


def printed(cell: nbformat.NotebookNode) -> str:
    """Return the text that a cell has printed."""
    return "".join(one.text for one in cell.outputs if one.get("name") == "stdout")


def messages(text: str) -> list[Checked]:
    """Divide printed text into the messages of the checks; a message may have several lines."""
    starts = [*MESSAGE.finditer(text)]
    ends = [match.start() for match in starts[1:]] + [len(text)]
    return [
        Checked(match[1], match[2], text[match.end() : end].strip())
        for match, end in zip(starts, ends, strict=True)
    ]
