"""Tell whether a committed notebook still shows what today's code does.

A notebook that is executed gets a fingerprint into its metadata. It covers all that the outputs
come from inside the lesson's folder: the code cells, the helper scripts they use, directly or
through one another, and the text files of `cfg/` and `data/`. When one of them changes, the
fingerprint does not fit any more, and a test asks to execute the notebook again.
"""

import ast
import hashlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from IPython.core.inputtransformer2 import TransformerManager

# Only the files directly in these folders count: subfolders hold what lessons generate.
TEXT_FOLDERS = ("cfg", "data")
TEXT_SUFFIXES = (".cfg", ".names", ".data", ".txt", ".csv", ".json")

SCRIPT_NAME = re.compile(r"\b([A-Za-z_]\w*)\.py\b")


def source_sha256(notebook: Mapping[str, Any], folder: Path) -> str:
    """Hash the code cells of a notebook and the files of its folder that they use.

    Args:
        notebook: the notebook as a dict (nbformat 4).
        folder: the lesson's folder.

    Returns:
        The SHA-256 as 64 hexadecimal digits. Line endings make no difference.

    Raises:
        SyntaxError: if a cell or a helper script is not Python.
    """
    digest = hashlib.sha256()
    parts = [("cell", source) for source in code_cells(notebook)]
    for path in [*helper_files(notebook, folder), *text_files(folder)]:
        parts.append((path.relative_to(folder).as_posix(), path.read_text(encoding="utf-8")))
    for name, text in parts:
        content = "\n".join(text.splitlines()).encode()
        digest.update(f"{name} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def code_cells(notebook: Mapping[str, Any]) -> list[str]:
    """Return the sources of the code cells, from top to bottom."""
    cells = (cell for cell in notebook["cells"] if cell["cell_type"] == "code")
    return ["".join(cell["source"]) for cell in cells]


def helper_files(notebook: Mapping[str, Any], folder: Path) -> list[Path]:
    """Return the scripts of `folder` that the notebook uses, sorted by path.

    A script counts when a cell imports it or names it ("python detect.py"), or when a script that
    counts imports it.
    """
    waiting = []
    for source in code_cells(notebook):
        waiting += [f"{name}.py" for name in SCRIPT_NAME.findall(source)]
        waiting += local_imports(python_source(source), folder)
    found: set[Path] = set()
    while waiting:
        path = folder / waiting.pop()
        if path.is_file() and path not in found:
            found.add(path)
            waiting += local_imports(path.read_text(encoding="utf-8"), folder)
    return sorted(found)


def text_files(folder: Path) -> list[Path]:
    """Return the text files directly in `cfg/` and `data/`, sorted by path."""
    paths = (path for name in TEXT_FOLDERS for path in (folder / name).glob("*"))
    return sorted(path for path in paths if path.suffix in TEXT_SUFFIXES and path.is_file())


def python_source(cell_source: str) -> str:
    """Write what only IPython understands, such as %matplotlib or !ls, as plain Python."""
    return TransformerManager().transform_cell(cell_source)


def imported_modules(source: str) -> Iterator[str]:
    """Yield the dotted names of all modules that Python code imports, wherever in the code."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


def local_imports(source: str, folder: Path) -> list[str]:
    """Return the file names of the imported modules that are scripts of `folder`."""
    names = {f"{module.split('.')[0]}.py" for module in imported_modules(source)}
    return sorted(name for name in names if (folder / name).is_file())
