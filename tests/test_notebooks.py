"""The committed notebooks: executed, fresh, and tidy. That they run, each lesson's tests say."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode

from colab_cell import colab_cell
from freshness import source_sha256
from run_lessons import find_notebooks, main

ROOT = Path(__file__).resolve().parents[1]
EXECUTED = find_notebooks(ROOT)
ALL = sorted(ROOT.glob("[0-9][0-9]_*/*.ipynb"))

LARGEST = 700_000  # bytes
LONGEST_CELL = 30  # lines
MACHINE_PATH = re.compile(
    r"(?<![\w.])/(?:work|root|tmp|home|opt|usr|var|mnt|private|content|Users)/[\w.-]+"
    r"|\b[A-Z]:\\+(?:Users|Windows|Program)"
)
PICTURE = re.compile(r"!\[([^\]]*)\]\(|<img\b([^>]*)>", re.IGNORECASE)

Check = Callable[[NotebookNode, Path], list[str]]


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def markdown_text(notebook: NotebookNode) -> str:
    text = "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    return re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)


def check_format(notebook: NotebookNode, path: Path) -> list[str]:
    """The notebook is valid, of a readable size, and its cells are neither empty nor long."""
    nbformat.validate(notebook)
    size = path.stat().st_size
    problems = [f"{size} bytes"] if size > LARGEST else []
    for index, cell in enumerate(notebook.cells):
        lines = len(cell.source.splitlines())
        if not cell.source.strip():
            problems.append(f"cell {index} is empty")
        if cell.cell_type == "code" and lines > LONGEST_CELL:
            problems.append(f"cell {index} has {lines} lines")
    return problems


def check_headings(notebook: NotebookNode, path: Path) -> list[str]:
    """There is one heading of the first level."""
    count = len(re.findall(r"^# ", markdown_text(notebook), re.MULTILINE))
    return [] if count == 1 else [f"{count} headings of the first level"]


def check_pictures(notebook: NotebookNode, path: Path) -> list[str]:
    """Pictures in the text have an alternative text."""
    problems = []
    for alternative, attributes in PICTURE.findall(markdown_text(notebook)):
        if not alternative.strip() and not re.search(r"alt=[\"']\s*\w", attributes or ""):
            problems.append("a picture without alternative text")
    return problems


def check_colab_cell(notebook: NotebookNode, path: Path) -> list[str]:
    """The first code cell prepares Colab."""
    first = [cell.source for cell in code_cells(notebook)[:1]]
    return [] if first == [colab_cell(path.parent.name)] else ["first code cell: not Colab's"]


def check_execution(notebook: NotebookNode, path: Path) -> list[str]:
    """The notebook was executed once, from top to bottom, by today's code."""
    counts = [cell.execution_count for cell in code_cells(notebook)]
    problems = []
    if counts != list(range(1, len(counts) + 1)):
        problems.append(f"not executed from top to bottom: {counts}")
    stored = notebook.metadata.get("lesson", {}).get("source_sha256")
    if stored != source_sha256(notebook, path.parent):
        problems.append("the code has changed since it was executed: run `make notebooks`")
    return problems


def check_outputs(notebook: NotebookNode, path: Path) -> list[str]:
    """No output is an error, comes from the error stream, or names a path of the machine."""
    problems = []
    for index, cell in enumerate(notebook.cells):
        for output in cell.get("outputs", []):
            if output.output_type == "error" or output.get("name") == "stderr":
                problems.append(f"cell {index}: {output.get('name', 'error')}")
            data = output.get("data", {})
            texts = {key: data[key] for key in data if not key.startswith("image/")}
            match = MACHINE_PATH.search(json.dumps([texts, output.get("text")]))
            if match:
                problems.append(f"cell {index}: a path of the machine, {match[0]}")
        if cell.metadata.get("execution"):
            problems.append(f"cell {index}: times of execution in its metadata")
    return problems


FOR_ALL = [check_format, check_headings, check_pictures, check_colab_cell]
FOR_EXECUTED = [check_execution, check_outputs]


def name(value: Path | Check) -> str:
    return value.relative_to(ROOT).as_posix() if isinstance(value, Path) else value.__name__


@pytest.mark.parametrize("check", FOR_ALL, ids=name)
@pytest.mark.parametrize("path", ALL, ids=name)
def test_notebook(path: Path, check: Check) -> None:
    assert check(nbformat.read(path, as_version=4), path) == []


@pytest.mark.parametrize("check", FOR_EXECUTED, ids=name)
@pytest.mark.parametrize("path", EXECUTED, ids=name)
def test_executed_notebook(path: Path, check: Check) -> None:
    assert check(nbformat.read(path, as_version=4), path) == []


@pytest.fixture
def good(tmp_path: Path) -> tuple[NotebookNode, Path]:
    """A notebook, just executed, in which no check finds anything."""
    folder = tmp_path / "05_good"
    folder.mkdir()
    path = folder / "good.ipynb"
    notebook = nbformat.v4.new_notebook(
        cells=[
            nbformat.v4.new_markdown_cell("# Good\n\n![a plot](plot.png)"),
            nbformat.v4.new_code_cell(colab_cell("05_good")),
            nbformat.v4.new_code_cell("print('a/tmp/b', 1 / 2)"),
        ]
    )
    nbformat.write(notebook, path)
    assert main([str(path), "--in-place", "--output", str(tmp_path / "out")]) == 0
    return nbformat.read(path, as_version=4), path


def spoil_count(notebook: NotebookNode) -> None:
    notebook.cells[2].execution_count = 7


def spoil_source(notebook: NotebookNode) -> None:
    notebook.cells[2].source = "print('other')"


def spoil_with_stderr(notebook: NotebookNode) -> None:
    notebook.cells[2].outputs[0].name = "stderr"


def spoil_with_error(notebook: NotebookNode) -> None:
    output = nbformat.v4.new_output("error", ename="E", evalue="", traceback=[])
    notebook.cells[2].outputs.append(output)


def spoil_with_path(notebook: NotebookNode) -> None:
    notebook.cells[2].outputs[0].text = "saved to /home/someone/result.png"


def spoil_with_windows_path(notebook: NotebookNode) -> None:
    notebook.cells[2].outputs[0].text = "saved to C:\\Users\\someone"


def spoil_cell(notebook: NotebookNode) -> None:
    notebook.cells[2].source = " \n"


def spoil_length(notebook: NotebookNode) -> None:
    notebook.cells[2].source = "1\n" * 31


def spoil_heading(notebook: NotebookNode) -> None:
    notebook.cells[0].source += "\n\n# Again"


def spoil_picture(notebook: NotebookNode) -> None:
    notebook.cells[0].source = "# Good\n\n![](plot.png)"


def spoil_html_picture(notebook: NotebookNode) -> None:
    notebook.cells[0].source = "# Good\n\n<img src='plot.png'>"


def spoil_colab_cell(notebook: NotebookNode) -> None:
    notebook.cells[1].source += " "


SPOILED: list[tuple[Callable[[NotebookNode], None], Check]] = [
    (spoil_count, check_execution),
    (spoil_source, check_execution),
    (spoil_with_stderr, check_outputs),
    (spoil_with_error, check_outputs),
    (spoil_with_path, check_outputs),
    (spoil_with_windows_path, check_outputs),
    (spoil_cell, check_format),
    (spoil_length, check_format),
    (spoil_heading, check_headings),
    (spoil_picture, check_pictures),
    (spoil_html_picture, check_pictures),
    (spoil_colab_cell, check_colab_cell),
]


def test_checks_find_what_is_spoiled(good: tuple[NotebookNode, Path]) -> None:
    notebook, path = good
    for check in [*FOR_ALL, *FOR_EXECUTED]:
        assert check(notebook, path) == [], check.__name__
    for spoil, check in SPOILED:
        spoiled = nbformat.read(path, as_version=4)
        spoil(spoiled)
        assert check(spoiled, path), spoil.__name__
