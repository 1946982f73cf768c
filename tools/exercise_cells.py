"""Run the tagged cells of the exercise notebooks, for the tests.

A cell's tag says what it is: `exercise:00.3` is the blank that readers fill in, `solution:00.3` a
right way, `wrong:00.3` a cell with usual wrong ways, and `setup` what the others need. The tagged
cells end in calls of `check`; what these return is what counts here.
"""

import linecache
from collections import defaultdict
from pathlib import Path
from typing import Any

import nbformat

Results = dict[str, list[Any]]  # the CheckResults of each exercise, in their order


def tags(cell: nbformat.NotebookNode) -> list[str]:
    """Return a cell's tags."""
    return cell.metadata.get("tags", [])


def tagged_ids(path: Path, kind: str) -> list[str]:
    """Return the exercises that have cells of a kind ("exercise", "solution", "wrong")."""
    cells = nbformat.read(path, as_version=4).cells
    found = [
        tag.split(":")[1] for cell in cells for tag in tags(cell) if tag.startswith(kind + ":")
    ]
    return list(dict.fromkeys(found))


def run_tagged(path: Path, kind: str) -> Results:
    """Execute the setup cells of a notebook and then its cells of one kind.

    Wrong ways may build on the solutions above them, whose checks are left out then.

    Args:
        path: the notebook. The lesson's folder is on `sys.path`.
        kind: "exercise", "solution" or "wrong".

    Returns:
        What `check` returned in these cells, by the cells' exercises.

    Raises:
        ValueError: a cell checks another exercise than its tag says, or none.
    """
    namespace: dict[str, Any] = {"__name__": "exercise_cells"}
    results: Results = defaultdict(list)
    for index, cell in enumerate(nbformat.read(path, as_version=4).cells):
        if "setup" in tags(cell):
            run_cell(cell.source, f"<cell {index}>", namespace)
        elif kind == "wrong" and any(tag.startswith("solution:") for tag in tags(cell)):
            run_unchecked(cell.source, f"<cell {index}>", namespace)
        for exercise_id in (tag.split(":")[1] for tag in tags(cell) if tag.startswith(kind + ":")):
            found = checked_in(cell.source, f"<cell {index}>", namespace)
            if {result.exercise_id for result in found} != {exercise_id}:
                raise ValueError(f"{path.name}, cell {index}: does not check {exercise_id} alone")
            results[exercise_id] += found
    return dict(results)


def checked_in(source: str, name: str, namespace: dict[str, Any]) -> list[Any]:
    """Execute a cell and return what each call of `check` returned."""
    real, found = namespace["check"], []

    def recording(exercise_id: str, answer: Any) -> Any:
        found.append(real(exercise_id, answer))
        return found[-1]

    namespace["check"] = recording
    try:
        run_cell(source, name, namespace)
    finally:
        namespace["check"] = real
    return found


def run_unchecked(source: str, name: str, namespace: dict[str, Any]) -> None:
    """Execute a cell whose calls of `check` do nothing."""
    real, namespace["check"] = namespace["check"], lambda *_: None
    try:
        run_cell(source, name, namespace)
    finally:
        namespace["check"] = real


def run_cell(source: str, name: str, namespace: dict[str, Any]) -> None:
    """Execute a cell's source; messages can quote its lines, as in a kernel."""
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    exec(compile(source, name, "exec"), namespace)  # noqa: S102 (the project's own notebooks)
