"""tools/freshness.py: what changes a notebook's fingerprint and what does not."""

from collections.abc import Callable
from pathlib import Path

import pytest

from freshness import helper_files, source_sha256, text_files

NOTEBOOK = {
    "cells": [
        {"cell_type": "markdown", "source": "# Text"},
        {"cell_type": "code", "source": "%matplotlib inline\nimport boxes\nfiles = !ls"},
        {"cell_type": "code", "source": ["def later():\n", "    from network import Network\n"]},
        {"cell_type": "code", "source": "subprocess.run(['python', 'detect.py'])"},
    ]
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    files = {
        "boxes.py": "import math\n",
        "network.py": "from layers import Layer\nimport network\n",
        "layers.py": "def late():\n    import deep.inside\n",
        "deep.py": "",
        "detect.py": "import video\n",
        "video.py": "",
        "unused.py": "import boxes\n",
        "darknet/networks/tiny.cfg": "[net]\n",
        "data/coco.names": "person\n",
        "data/photo.jpg": "no text",
        "data/generated/list.txt": "made by a lesson",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_files_that_count(folder: Path) -> None:
    used = [path.name for path in helper_files(NOTEBOOK, folder)]
    assert used == ["boxes.py", "deep.py", "detect.py", "layers.py", "network.py", "video.py"]
    assert [path.name for path in text_files(folder)] == ["tiny.cfg", "coco.names"]


@pytest.mark.parametrize("name", ["boxes.py", "deep.py", "video.py", "darknet/networks/tiny.cfg"])
def test_change_is_noticed(folder: Path, name: str) -> None:
    before = source_sha256(NOTEBOOK, folder)
    (folder / name).write_text((folder / name).read_text() + "changed = 1\n")
    assert source_sha256(NOTEBOOK, folder) != before


def test_changed_cell_is_noticed(folder: Path) -> None:
    changed = {"cells": [*NOTEBOOK["cells"][:-1], {"cell_type": "code", "source": "1"}]}
    reordered = {"cells": NOTEBOOK["cells"][::-1]}
    hashes = {source_sha256(notebook, folder) for notebook in (NOTEBOOK, changed, reordered)}
    assert len(hashes) == 3


def change_text(folder: Path) -> dict:
    return {"cells": [{"cell_type": "markdown", "source": "other"}, *NOTEBOOK["cells"][1:]]}


def change_unused_script(folder: Path) -> dict:
    (folder / "unused.py").write_text("import network\n")
    (folder / "data" / "generated" / "list.txt").write_text("made again")
    return NOTEBOOK


def change_line_endings(folder: Path) -> dict:
    (folder / "boxes.py").write_bytes(b"import math\r\n")
    return NOTEBOOK


@pytest.mark.parametrize("change", [change_text, change_unused_script, change_line_endings])
def test_no_matter(folder: Path, change: Callable[[Path], dict]) -> None:
    before = source_sha256(NOTEBOOK, folder)
    assert source_sha256(change(folder), folder) == before
