"""Which files a lesson consists of, and which of them import which.

A lesson's folder has front files, beside its README, and inner rooms: packages such as `common/`.
Scripts import one another by their place in the lesson: `import boxes`, `from common.photos import
read_photo`. The scripts are read here, never imported.
"""

import ast
import json
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from IPython.core.inputtransformer2 import TransformerManager

ROOT = Path(__file__).resolve().parents[1]
COMMON = "common"
# What lessons make or readers bring: not part of a lesson, and often large.
GENERATED = {"runs", "out", "__pycache__", ".ipynb_checkpoints", "my_data", "my_photos"}


def find_lessons(root: Path = ROOT) -> list[Path]:
    """Return the folders of all lessons, sorted."""
    return sorted(path for path in root.glob("[0-9][0-9]_*") if path.is_dir())


def project_files(root: Path = ROOT) -> list[Path]:
    """Return the files under version control below a folder, and those that would be added to it.

    Raises:
        RuntimeError: the folder lies in no git checkout.
    """
    command = ["git", "ls-files", "-co", "--exclude-standard", "-z"]
    done = subprocess.run(command, cwd=root, capture_output=True, encoding="utf-8")
    if done.returncode:
        raise RuntimeError(f"{root} is not a git checkout: clone the repository")
    return [root / name for name in done.stdout.split("\0") if (root / name).is_file()]


def scripts_of(lesson: Path) -> list[Path]:
    """Return all scripts of a lesson, in all rooms, sorted; not what lessons or readers make."""
    found = (path for path in lesson.rglob("*.py"))
    return sorted(path for path in found if not GENERATED & set(path.relative_to(lesson).parts))


def module_name(script: Path, lesson: Path) -> str:
    """Return the name by which a script is imported, such as "common.street.scenes"."""
    parts = script.relative_to(lesson).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def modules_of(lesson: Path) -> dict[str, Path]:
    """Return the scripts of a lesson by the names by which they are imported."""
    return {module_name(path, lesson): path for path in scripts_of(lesson)}


def imported_names(source: str) -> Iterator[str]:
    """Yield the dotted names of all modules that Python code imports, wherever in the code.

    Of `from a import b` both "a" and "a.b" are given: b may be a module.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def own_imports(source: str, modules: Iterable[str]) -> set[str]:
    """Return the modules of a lesson that Python code imports; a package brings its __init__."""
    known, found = set(modules), set()
    for name in imported_names(source):
        parts = name.split(".")
        found |= {".".join(parts[: k + 1]) for k in range(len(parts))} & known
    return found


def import_graph(lesson: Path) -> dict[str, set[str]]:
    """Return for each module of a lesson the modules of the lesson that it imports."""
    return graph_of(modules_of(lesson))


def graph_of(modules: Mapping[str, Path]) -> dict[str, set[str]]:
    """Return for each of some scripts, by their names, which of the others it imports.

    The packages that a module lies in are left out: Python has begun with them before it.
    """
    graph = {}
    for name, path in modules.items():
        parts = name.split(".")
        around = {".".join(parts[: k + 1]) for k in range(len(parts))}
        graph[name] = own_imports(path.read_text(encoding="utf-8"), modules) - around
    return graph


def reached_from(starts: Iterable[str], graph: dict[str, set[str]]) -> set[str]:
    """Return the modules that can be reached from some, these included."""
    waiting, reached = list(starts), set()
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            waiting += graph.get(name, ())
    return reached


def code_cells(notebook: Mapping[str, Any]) -> list[str]:
    """Return the sources of the code cells of a notebook (nbformat 4), from top to bottom."""
    cells = (cell for cell in notebook["cells"] if cell["cell_type"] == "code")
    return ["".join(cell["source"]) for cell in cells]


def python_source(cell_source: str) -> str:
    """Write what only IPython understands, such as %matplotlib or !ls, as plain Python."""
    return TransformerManager().transform_cell(cell_source)


def front_modules(lesson: Path, graph: dict[str, set[str]]) -> set[str]:
    """Return where a reader comes in: the front's scripts, and what its notebooks import."""
    starts = {name for name in graph if "." not in name and (lesson / f"{name}.py").is_file()}
    for notebook in lesson.glob("*.ipynb"):
        for source in code_cells(json.loads(notebook.read_text(encoding="utf-8"))):
            starts |= own_imports(python_source(source), graph)
    return starts
