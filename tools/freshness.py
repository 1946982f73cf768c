"""Tell whether a committed notebook still shows what today's code does.

A notebook that is executed gets a fingerprint into its metadata. It covers all that the outputs
come from inside the lesson's folder: the code cells, the helper scripts they use, directly or
through one another, and the text files of `darknet/networks/` and `data/`. When one of them
changes, the fingerprint does not fit any more, and a test asks to execute the notebook again.
"""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rooms import (
    code_cells,
    import_graph,
    modules_of,
    own_imports,
    python_source,
    reached_from,
)

# Only the files directly in these folders count: subfolders hold what lessons generate.
TEXT_FOLDERS = ("darknet/networks", "data")
TEXT_SUFFIXES = (".cfg", ".names", ".data", ".txt", ".csv", ".json")

COLAB_ONLY = "# Google Colab only"  # the first cell, which does nothing elsewhere
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
    shown = [source for source in code_cells(notebook) if not source.startswith(COLAB_ONLY)]
    parts = [("cell", source) for source in shown]
    for path in [*helper_files(notebook, folder), *text_files(folder)]:
        parts.append((path.relative_to(folder).as_posix(), path.read_text(encoding="utf-8")))
    for name, text in parts:
        content = "\n".join(text.splitlines()).encode()
        digest.update(f"{name} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def helper_files(notebook: Mapping[str, Any], folder: Path) -> list[Path]:
    """Return the scripts of `folder`, in all its rooms, that the notebook uses, sorted by path.

    A script counts when a cell imports it or names it ("python detect.py"), or when a script that
    counts imports it.
    """
    modules, graph, starts = modules_of(folder), import_graph(folder), set()
    for source in code_cells(notebook):
        starts |= {name for name in SCRIPT_NAME.findall(source) if name in modules}
        starts |= own_imports(python_source(source), modules)
    return sorted(modules[name] for name in reached_from(starts, graph))


def text_files(folder: Path) -> list[Path]:
    """Return the text files directly in `darknet/networks/` and `data/`, sorted by path."""
    paths = (path for name in TEXT_FOLDERS for path in (folder / name).glob("*"))
    return sorted(path for path in paths if path.suffix in TEXT_SUFFIXES and path.is_file())
