"""Execute the lessons' notebooks from top to bottom and tell which of them work.

Each notebook runs in a fresh kernel of this very interpreter, inside its lesson's folder. The
executed notebook and an HTML page of it are left under `build/<lesson>/`. A failing notebook does
not stop the others. Blank exercises run too: their checks say "not yet" instead of failing. The
accuracies that a notebook has left in its metrics.json are then compared with `bounds.toml`.

    python tools/run_lessons.py                            all lessons, in full
    python tools/run_lessons.py 03_semantic_segmentation   one lesson
    python tools/run_lessons.py --smoke                    all cells, a dozen pictures, two steps
    python tools/run_lessons.py --smoke --cpu avx2 --threads 1    as on another machine
"""

import argparse
import contextlib
import sys
import time
from dataclasses import dataclass, field
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
from bounds import Bound, BoundsError, check_bounds, read_bounds
from freshness import source_sha256
from kernel_environment import CPUS, copies_of_lessons, kernel_environment
from notebook_progress import Progress
from small_figures import shrink_figures

ROOT = Path(__file__).resolve().parents[1]
PATTERN = "[0-9][0-9]_*/*.ipynb"
BOUNDS = ROOT / "tools" / "bounds.toml"
FAILURES = (CellExecutionError, CellTimeoutError, DeadKernelError)


class OwnKernel(KernelSpecManager):
    """Starts the kernel of the running interpreter, whatever is registered on the machine."""

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        """Return this interpreter's kernel under any name."""
        return KernelSpec(resource_dir="", **get_kernel_dict())


@dataclass
class Result:
    """What came of one notebook: its path, seconds, the failure (empty when all is well), notes.

    `missed` has a line for each bound that its accuracies do not reach.
    """

    notebook: Path
    seconds: float
    failure: str = ""
    note: str = ""
    missed: list[str] = field(default_factory=list)

    @property
    def verdict(self) -> str:
        """The last column of the table."""
        if self.failure:
            return "FAILED"
        return f"{'BELOW ITS BOUNDS' if self.missed else 'ok'}{self.note}"


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
        if not choice.exists() and (ROOT / choice).exists():
            choice = ROOT / choice  # a lesson's name, from whatever folder the command is given
        if choice.is_file() and choice.suffix == ".ipynb":
            chosen.append(choice)
            continue
        inside = find_notebooks(choice.resolve().parent)
        notebooks = [path for path in inside if path.parent == choice.resolve()]
        if not notebooks:
            raise ValueError(f"{choice}: neither a notebook nor a lesson's folder with notebooks")
        chosen += notebooks
    return [path.resolve() for path in dict.fromkeys(chosen)]


def execute(
    notebook: NotebookNode,
    folder: Path,
    timeout: float,
    progress: Progress,
    environment: dict[str, str],
) -> None:
    """Execute all cells of `notebook`, in place, with `folder` as the working directory.

    Args:
        notebook: the notebook; its old outputs are replaced, its metadata are reduced.
        folder: the lesson's folder.
        timeout: the longest time of one cell, in seconds.
        progress: is told of each cell.
        environment: the variables of the kernel.

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
        client.execute(env=environment)
    finally:
        reduce_metadata(notebook)
        shrink_figures(notebook)
    notebook.metadata["lesson"] = {"source_sha256": source_sha256(notebook, folder)}


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


def run_notebook(path: Path, folder: Path, options: argparse.Namespace) -> Result:
    """Execute one notebook, write it (and a page of it) to the output, and return what came of it.

    Args:
        path: the notebook.
        folder: where it is executed, the lesson's folder or a copy of it.
        options: the command's; see `parse_arguments`.
    """
    started, label, failure = time.time(), f"{path.parent.name}/{path.name}", ""
    try:
        notebook = nbformat.read(path, as_version=4)
    except ValueError as error:
        return Result(path, 0.0, f"{label}: not a notebook: {error}")
    environment = kernel_environment(options.cpu, options.threads, options.smoke)
    with Progress(label, total=len(notebook.cells)) as progress:
        try:
            execute(notebook, folder, options.timeout, progress, environment)
        except FAILURES as error:
            failure = f"{label}, cell {progress.index}: {strip_ansi(str(error)).strip()}"
    output = options.output / ("smoke" if options.smoke else "") / path.parent.name
    write_text(output / path.name, notebook_text(notebook))
    if not options.smoke:
        write_text(output / f"{path.stem}.html", html_text(notebook, path))
    if options.in_place and not failure:
        write_text(path, notebook_text(notebook))
    noisy = cells_with_stderr(notebook)
    note = f", stderr in cell {', '.join(map(str, noisy))}" if noisy else ""
    missed = [] if failure or options.smoke else compare(options.bounds, path, started)
    return Result(path, time.time() - started, failure, note, missed)


def compare(bounds: list[Bound], notebook: Path, started: float) -> list[str]:
    """Print the values that reach their bounds, and return a line for each that does not."""
    outcome = check_bounds(bounds, notebook, started)
    print("\n".join(f"reached {line}" for line in outcome.reached), flush=True)
    return [f"MISSED {line}" for line in outcome.missed]


def table(results: list[Result]) -> str:
    """Return the closing table: lesson, seconds, result."""
    names = [f"{result.notebook.parent.name}/{result.notebook.name}" for result in results]
    width = max(map(len, names), default=6)
    lines = [f"{'lesson':<{width}} | seconds | result", f"{'-' * width}-|---------|-------"]
    for name, result in zip(names, results, strict=True):
        lines.append(f"{name:<{width}} | {result.seconds:7.1f} | {result.verdict}")
    return "\n".join(lines)


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line.

    Returns:
        The options; `notebooks` becomes the list of chosen notebooks, and `bounds` the table.
    """
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="Exit code: 0 all ran and reached their bounds, 1 at least one did not, 2 wrong "
        "usage.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("notebooks", nargs="*", type=Path, help="notebooks or lesson folders (default: all)")
    add("--output", type=Path, default=ROOT / "build", help="where results go (default: build/)")
    add("--timeout", type=float, default=900, help="longest time of one cell in seconds (900)")
    add(
        "--in-place",
        action="store_true",
        help="also write the outputs into the notebooks themselves, where all cells succeed",
    )
    add(
        "--smoke",
        action="store_true",
        help="run all cells in the smallest sizes, in copies of the lessons: nothing is learned, "
        "nothing of yours is replaced, and no bound is checked",
    )
    add(
        "--cpu",
        choices=CPUS,
        help="instructions that calculations may use: plain x86-64, up to AVX2, or all there are "
        "(default: as the environment says)",
    )
    add("--threads", type=int, metavar="N", help="threads of a calculation (OMP_NUM_THREADS)")
    options = parser.parse_args(arguments)
    check_options(parser, options)
    return options


def check_options(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """End the command with a message where options do not fit; find the notebooks and bounds."""
    if options.timeout <= 0:
        parser.error(f"--timeout {options.timeout:g}: must be more than 0 seconds")
    if options.threads is not None and options.threads < 1:
        parser.error(f"--threads {options.threads}: must be 1 or more")
    if options.smoke and options.in_place:
        parser.error(
            "--smoke with --in-place: what a smoke run shows is no lesson, so it is not stored in "
            "the notebooks; leave out one of the two"
        )
    try:
        options.notebooks = choose_notebooks(options.notebooks) or find_notebooks(ROOT)
        options.bounds = read_bounds(BOUNDS)
    except (BoundsError, ValueError) as error:
        parser.error(str(error))
    if not options.notebooks:
        parser.error(f"no notebook found as {PATTERN}")


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    options = parse_arguments(arguments)
    results: list[Result] = []
    with contextlib.suppress(KeyboardInterrupt), copies_of_lessons() as copies:
        for path in options.notebooks:
            folder = copies[path.parent] if options.smoke else path.parent
            result = run_notebook(path, folder, options)
            results.append(result)
            for line in filter(None, [result.failure, *result.missed]):
                print(f"\n{line}\n", file=sys.stderr)
    print(f"\n{table(results)}")
    if len(results) < len(options.notebooks):
        print(f"stopped: {len(options.notebooks) - len(results)} notebooks did not run to the end")
        return 1
    return int(any(result.failure or result.missed for result in results))


if __name__ == "__main__":
    sys.exit(main())
