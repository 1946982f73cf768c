"""What holds for the whole repository: sizes, words, lists of packages, shared helpers."""

import ast
import re
import sys
from pathlib import Path

import nbformat
import pytest

from rooms import (
    code_cells,
    find_lessons,
    imported_names,
    modules_of,
    project_files,
    python_source,
    scripts_of,
)

ROOT = Path(__file__).resolve().parents[1]
LESSONS = find_lessons()
FOLDERS = [*LESSONS, ROOT / "tools", ROOT / "assets", ROOT / "book"]
SCRIPTS = sorted(path for folder in FOLDERS for path in scripts_of(folder))

LONGEST_FILE, LONGEST_FUNCTION = 330, 50

# The package that brings a module, where their names differ.
PACKAGES = {
    "cv2": "opencv-python",
    "PIL": "pillow",
    "skimage": "scikit-image",
    "IPython": "jupyter",
    "nbformat": "jupyter",
    "yaml": "pyyaml",
    "segmentation_models_pytorch": "segmentation-models-pytorch",
}

# Put together here, so that this file does not contain them.
REGISTRIES = [
    "pypi" + ".org",
    "python" + "hosted.org",
    "ana" + "conda.org",
    "download.py" + "torch.org/whl",
    "registry." + "npmjs",
    "deb." + "debian.org",
]
LEFT_TO_DO = ["TO" + "DO", "FIX" + "ME", "T" + "BD", "X" * 3]
FORBIDDEN = re.compile(
    "|".join(map(re.escape, REGISTRIES))
    + rf"|\b(?:{'|'.join(LEFT_TO_DO)})\b"
    + r"|(?<![\w.])/(?:work|root|farm)/"
)


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def written_text(path: Path) -> str:
    """Return what people read in a file: no bytes, no pictures inside notebooks."""
    content = path.read_bytes()
    if b"\0" in content:
        return ""
    text = content.decode("utf-8", errors="replace")
    if path.suffix == ".ipynb":
        text = re.sub(r'"image/[\w+]+": (?:"[^"]*"|\[[^\]]*\])', "", text)
    return text


def requirements(path: Path) -> dict[str, str]:
    """Return the packages of a requirements file and their bounds, the optional ones too."""
    found = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        match = re.match(r"(?:# optional: )?([A-Za-z0-9][\w.-]*)\s*([^#]*)", line)
        if match:
            found[match[1].lower().replace("_", "-")] = match[2].strip()
    return found


def needed_packages(lesson: Path) -> dict[str, str]:
    """Return the packages that a lesson's scripts and notebooks import, and where."""
    sources = {path: path.read_text(encoding="utf-8") for path in scripts_of(lesson)}
    for path in lesson.glob("*.ipynb"):
        cells = code_cells(nbformat.read(path, as_version=4))
        sources[path] = "\n".join(python_source(cell) for cell in cells)
    own = {name.split(".")[0] for name in modules_of(lesson)} | {"google"}  # google: Colab's own
    needed = {}
    for path, source in sources.items():
        for name in {module.split(".")[0] for module in imported_names(source)}:
            if name not in own and name not in sys.stdlib_module_names:
                needed[PACKAGES.get(name, name.lower().replace("_", "-"))] = relative(path)
    return needed


def test_there_are_lessons() -> None:
    assert LESSONS


@pytest.mark.parametrize("lesson", LESSONS, ids=relative)
def test_lesson_is_complete(lesson: Path) -> None:
    missing = [name for name in ("README.md", "requirements.txt") if not (lesson / name).is_file()]
    missing += [] if list(lesson.glob("*.ipynb")) else ["a notebook"]
    assert not missing, f"{lesson.name} lacks {', '.join(missing)}"


@pytest.mark.parametrize("lesson", LESSONS, ids=relative)
def test_lesson_lists_its_packages(lesson: Path) -> None:
    listed = requirements(lesson / "requirements.txt")
    absent = {name: path for name, path in needed_packages(lesson).items() if name not in listed}
    assert not absent, f"{lesson.name}/requirements.txt lacks {absent}"
    assert "jupyter" in listed, "the lesson runs alone, its notebook needs jupyter"


@pytest.mark.parametrize("lesson", LESSONS, ids=relative)
def test_root_lists_the_same_packages(lesson: Path) -> None:
    everything = requirements(ROOT / "requirements.txt")
    for name, bounds in requirements(lesson / "requirements.txt").items():
        assert everything.get(name) == bounds, f"{name}: not the same bounds in both files"


@pytest.mark.parametrize("path", SCRIPTS, ids=relative)
def test_sizes(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert len(source.splitlines()) <= LONGEST_FILE
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = node.end_lineno - node.lineno + 1
            assert length <= LONGEST_FUNCTION, f"{node.name} has {length} lines"


@pytest.mark.parametrize("path", SCRIPTS, ids=relative)
def test_script_hides_no_standard_module(path: Path) -> None:
    # A script named like a module of Python would be imported in its place.
    assert path.stem not in sys.stdlib_module_names


def test_no_forbidden_words() -> None:
    for path in project_files():
        for number, line in enumerate(written_text(path).splitlines(), 1):
            match = FORBIDDEN.search(line)
            assert not match, f"{relative(path)}:{number}: {match[0]}"


def test_forbidden_words_are_found() -> None:
    for word in [*LEFT_TO_DO, *(f"https://{host}/x" for host in REGISTRIES), " /work" + "/main"]:
        assert FORBIDDEN.search(f"see {word} here"), word
    assert not FORBIDDEN.search("the network/root/cause and homework/main, a PyPI package")


def test_training_commands_of_the_door_say_where_results_go() -> None:
    commands = re.findall(r"`(python train\.py [^`]+)`", (ROOT / "README.md").read_text("utf-8"))
    assert len(commands) >= 3
    assert [command for command in commands if "--out " not in command] == []  # it is required


def test_requirements_are_read(tmp_path: Path) -> None:
    path = tmp_path / "requirements.txt"
    path.write_text(
        "# text\n-r other.txt\nTorch>=2.4\nscikit_image>=0.22,<1  # why\n\ntimm\n"
        "# optional: openvino>=2\n"
    )
    assert requirements(path) == {
        "torch": ">=2.4", "scikit-image": ">=0.22,<1", "timm": "", "openvino": ">=2"
    }  # fmt: skip
