"""Execute the lessons' notebooks from top to bottom and tell which of them work.

Each notebook runs in a fresh kernel of this very interpreter, inside its lesson's folder. The
executed notebook and an HTML page of it are left under `build/<lesson>/`. A failing notebook does
not stop the others. Blank exercises run too: their checks say "not yet" instead of failing.
"""

import argparse
import contextlib
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import nbformat
from ipykernel.kernelspec import get_kernel_dict
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbconvert import HTMLExporter
from nbconvert.filters import strip_ansi
from nbformat import NotebookNode

from atomic import replacing
from freshness import source_sha256
from notebook_progress import Progress
from small_figures import shrink_figures

ROOT = Path(__file__).resolve().parents[1]
PATTERN = "[0-9][0-9]_*/*.ipynb"
FAILURES = (CellExecutionError, CellTimeoutError, DeadKernelError)


class OwnKernel(KernelSpecManager):
    """Starts the kernel of the running interpreter, whatever is registered on the machine."""

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        """Return this interpreter's kernel under any name."""
        return KernelSpec(resource_dir="", **get_kernel_dict())


@dataclass
class Result:
    """What came of one notebook: its path, seconds, and the failure (empty when all is well)."""

    notebook: Path
    seconds: float
    failure: str = ""
    note: str = ""

    @property
    def verdict(self) -> str:
        """The last column of the table."""
        return "FAILED" if self.failure else f"ok{self.note}"


def find_notebooks(root: Path) -> list[Path]:
    """Return the notebooks of all lessons, sorted by path."""
    return sorted(root.glob(PATTERN))


def choose_notebooks(choices: list[Path]) -> list[Path]:
    """Turn notebooks and lesson folders into a list of notebooks.

    Raises:
        ValueError: if a choice is neither a notebook nor a folder that holds one.
    """
    chosen: list[Path] = []
    for choice in choices:
        if choice.is_file() and choice.suffix == ".ipynb":
            chosen.append(choice)
            continue
        inside = find_notebooks(choice.resolve().parent)
        notebooks = [path for path in inside if path.parent == choice.resolve()]
        if not notebooks:
            raise ValueError(f"{choice}: neither a notebook nor a lesson's folder with notebooks")
        chosen += notebooks
    return [path.resolve() for path in dict.fromkeys(chosen)]


def execute(notebook: NotebookNode, folder: Path, timeout: float, progress: Progress) -> None:
    """Execute all cells of `notebook`, in place, with `folder` as the working directory.

    Args:
        notebook: the notebook; its old outputs are replaced, its metadata are reduced.
        folder: the lesson's folder.
        timeout: the longest time of one cell, in seconds.
        progress: is told of each cell.

    Raises:
        CellExecutionError: if a cell raises; CellTimeoutError: if it takes too long;
        DeadKernelError: if the kernel dies. The outputs so far are kept in `notebook`.
    """
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    client = NotebookClient(
        notebook,
        km=AsyncKernelManager(kernel_spec_manager=OwnKernel()),
        timeout=timeout,
        resources={"metadata": {"path": str(folder)}},
        coalesce_streams=True,
        extra_arguments=["--log-level=ERROR"],
        record_timing=False,
        store_widget_state=False,
        on_cell_start=progress.cell_started,
    )
    client.owns_km = True  # a given manager would be left running
    try:
        client.execute(env=kernel_environment())
    finally:
        reduce_metadata(notebook)
        shrink_figures(notebook)
    notebook.metadata["lesson"] = {"source_sha256": source_sha256(notebook, folder)}


def kernel_environment() -> dict[str, str]:
    """Return this process's environment, but with the notebook's own way to draw figures.

    Sliders would be empty boxes in a stored notebook: STILL_PICTURES asks for pictures instead.
    """
    kept = {name: value for name, value in os.environ.items() if name != "MPLBACKEND"}
    return kept | {"STILL_PICTURES": "1"}


def reduce_metadata(notebook: NotebookNode) -> None:
    """Keep of the metadata only what is the same on all machines."""
    notebook.metadata["kernelspec"] = {
        "display_name": "Python 3",
        "language": "python",
        "name": "python3",
    }
    notebook.metadata["language_info"] = {"name": "python"}
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)


def write_text(path: Path, text: str) -> None:
    """Write a whole file or nothing: a reader never meets a half-written one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        file.write(text.encode())


def notebook_text(notebook: NotebookNode) -> str:
    """Return the notebook as the JSON text that Jupyter would save."""
    return nbformat.writes(notebook, version=4) + "\n"


def html_text(notebook: NotebookNode, path: Path) -> str:
    """Return a page of the notebook with its figures and linked pictures inside."""
    exporter = HTMLExporter(embed_images=True)
    metadata = {"name": path.stem, "path": str(path.parent)}
    return exporter.from_notebook_node(notebook, resources={"metadata": metadata})[0]


def cells_with_stderr(notebook: NotebookNode) -> list[int]:
    """Return the numbers (from 0) of the cells that print to the error stream."""
    return [
        index
        for index, cell in enumerate(notebook.cells)
        if any(output.get("name") == "stderr" for output in cell.get("outputs", []))
    ]


def run_notebook(path: Path, output: Path, timeout: float, in_place: bool) -> Result:
    """Execute one notebook, write it and its HTML page to `output`, and return what came of it."""
    started = time.perf_counter()
    failure = ""
    label = f"{path.parent.name}/{path.name}"
    try:
        notebook = nbformat.read(path, as_version=4)
    except ValueError as error:
        return Result(path, 0.0, f"{label}: not a notebook: {error}")
    with Progress(label, total=len(notebook.cells)) as progress:
        try:
            execute(notebook, path.parent, timeout, progress)
        except FAILURES as error:
            failure = f"{label}, cell {progress.index}: {strip_ansi(str(error)).strip()}"
    folder = output / path.parent.name
    write_text(folder / path.name, notebook_text(notebook))
    write_text(folder / f"{path.stem}.html", html_text(notebook, path))
    if in_place and not failure:
        write_text(path, notebook_text(notebook))
    noisy = cells_with_stderr(notebook)
    note = f", stderr in cell {', '.join(map(str, noisy))}" if noisy else ""
    return Result(path, time.perf_counter() - started, failure, note)


def table(results: list[Result]) -> str:
    """Return the closing table: lesson, seconds, result."""
    names = [f"{result.notebook.parent.name}/{result.notebook.name}" for result in results]
    width = max(map(len, names), default=6)
    lines = [f"{'lesson':<{width}} | seconds | result", f"{'-' * width}-|---------|-------"]
    for name, result in zip(names, results, strict=True):
        lines.append(f"{name:<{width}} | {result.seconds:7.1f} | {result.verdict}")
    return "\n".join(lines)


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line; `notebooks` becomes the list of chosen notebooks."""
    parser = argparse.ArgumentParser(
        description="Execute the lessons' notebooks and leave them, with HTML pages, in a folder.",
        epilog="Exit code: 0 all ran, 1 at least one failed, 2 wrong usage.",
    )
    parser.add_argument(
        "notebooks", nargs="*", type=Path, help="notebooks or lesson folders (default: all)"
    )
    parser.add_argument(
        "--output", type=Path, default=ROOT / "build", help="where results go (default: build/)"
    )
    parser.add_argument(
        "--timeout", type=float, default=900, help="longest time of one cell in seconds (900)"
    )
    parser.add_argument(
        "--in-place",
        action="store_true",
        help="also write the outputs into the notebooks themselves, where all cells succeed",
    )
    options = parser.parse_args(arguments)
    if options.timeout <= 0:
        parser.error(f"--timeout {options.timeout:g}: must be more than 0 seconds")
    try:
        options.notebooks = choose_notebooks(options.notebooks) or find_notebooks(ROOT)
    except ValueError as error:
        parser.error(str(error))
    if not options.notebooks:
        parser.error(f"no notebook found as {PATTERN}")
    return options


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    options = parse_arguments(arguments)
    results: list[Result] = []
    with contextlib.suppress(KeyboardInterrupt):
        for path in options.notebooks:
            result = run_notebook(path, options.output, options.timeout, options.in_place)
            results.append(result)
            if result.failure:
                print(f"\n{result.failure}\n", file=sys.stderr)
    print(f"\n{table(results)}")
    if len(results) < len(options.notebooks):
        print(f"stopped: {len(options.notebooks) - len(results)} notebooks did not run to the end")
        return 1
    return int(any(result.failure for result in results))


if __name__ == "__main__":
    sys.exit(main())
