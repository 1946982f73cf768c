"""The Colab cell: run as Colab would run it, in an empty folder, against a local git remote."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from colab_cell import colab_cell
from rooms import project_files

ROOT = Path(__file__).resolve().parents[1]
LESSONS = sorted(path.parent.name for path in ROOT.glob("[0-9][0-9]_*/requirements.txt"))

# What a Colab kernel does: the cell, twice. The second time there is no git and no pip to call.
PROGRAM = """
import json, os, sys, types
if {colab}:
    sys.modules["google.colab"] = types.ModuleType("google.colab")
cell = {cell!r}
exec(cell, {{}})
first = os.getcwd(), sorted(os.listdir()), sys.path[0]
import subprocess
def refuse(*arguments, **options):
    raise AssertionError(f"called again: {{arguments}}")
subprocess.check_call = subprocess.run = refuse
exec(cell, {{}})
print(json.dumps([first, (os.getcwd(), sorted(os.listdir()), sys.path[0])]))
"""


def git(*arguments: str, cwd: Path) -> str:
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.com"]
    command = ["git", *identity, *arguments]
    return subprocess.run(command, cwd=cwd, check=True, capture_output=True, text=True).stdout


def publish(files: dict[str, bytes], folder: Path) -> str:
    """Commit `files` in a new repository below `folder` and return its address."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    git("init", "--quiet", "--initial-branch=main", cwd=folder)
    git("config", "uploadpack.allowFilter", "true", cwd=folder)
    git("add", "--force", ".", cwd=folder)
    git("commit", "--quiet", "-m", "lessons", cwd=folder)
    return folder.as_uri()


def run_cell(folder: str, empty: Path, colab: bool = True, **variables: str) -> list:
    empty.mkdir()
    program = PROGRAM.format(colab=colab, cell=colab_cell(folder))
    offline = {"PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=empty,
        env={**os.environ, **offline, **variables},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def working_tree(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, set[str]]:
    """The address of a repository with all files of this one, and their names."""
    files = {path.relative_to(ROOT).as_posix(): path.read_bytes() for path in project_files()}
    return publish(files, tmp_path_factory.mktemp("remote")), set(files)


@pytest.mark.parametrize("lesson", LESSONS)
def test_lesson_of_this_working_tree(
    lesson: str, working_tree: tuple[str, set[str]], tmp_path: Path
) -> None:
    address, files = working_tree
    first, second = run_cell(lesson, tmp_path / "content", LESSON_REPOSITORY=address)
    expected = tmp_path / "content" / "lessons" / lesson
    assert Path(first[0]) == Path(first[2]) == expected
    assert set(first[1]) == {name.split("/")[1] for name in files if name.startswith(f"{lesson}/")}
    assert second == first
    folders = {path.name for path in expected.parent.iterdir() if path.is_dir()}
    assert folders == {".git", lesson}  # the other lessons are not fetched


@pytest.fixture
def small_course(tmp_path: Path) -> str:
    """Address of a course whose lesson needs a package that is not installed."""
    wheel = tmp_path / "wheels" / "lesson_probe-1.0-py3-none-any.whl"
    wheel.parent.mkdir()
    about = "lesson_probe-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("lesson_probe.py", "")
        archive.writestr(
            f"{about}/METADATA", "Metadata-Version: 2.1\nName: lesson-probe\nVersion: 1.0\n"
        )
        archive.writestr(
            f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{about}/RECORD", "")
    (tmp_path / "remote").mkdir()
    lessons = {"08_small/requirements.txt": b"lesson-probe>=1.0\n", "09_other/other.py": b""}
    return publish(lessons, tmp_path / "remote")


def test_missing_package_is_installed(small_course: str, tmp_path: Path) -> None:
    first, second = run_cell(
        "08_small",
        tmp_path / "content",
        LESSON_REPOSITORY=small_course,
        PIP_FIND_LINKS=str(tmp_path / "wheels"),
        PIP_TARGET=str(tmp_path / "installed"),
    )
    assert first[1] == ["requirements.txt"]
    assert second == first
    assert (tmp_path / "installed" / "lesson_probe.py").is_file()


def test_after_a_restart_of_the_kernel(small_course: str, tmp_path: Path) -> None:
    # A new kernel starts in the top folder again, where the first one's clone lies.
    (tmp_path / "installed").mkdir()
    program = f"import sys; sys.modules['google.colab'] = sys\n{colab_cell('08_small')}"
    environment = {
        **os.environ,
        "LESSON_REPOSITORY": small_course,
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(tmp_path / "wheels"),
        "PIP_TARGET": str(tmp_path / "installed"),
    }
    (tmp_path / "content").mkdir()
    for _ in range(2):
        command = [sys.executable, "-c", f"{program}\nprint(Path.cwd())"]
        done = subprocess.run(
            command, cwd=tmp_path / "content", env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert Path(done.stdout.strip()) == tmp_path / "content" / "lessons" / "08_small"


def test_nothing_happens_elsewhere(tmp_path: Path) -> None:
    first, second = run_cell(
        "08_small", tmp_path / "empty", colab=False, LESSON_REPOSITORY="file:///nowhere"
    )
    assert first == second
    assert (Path(first[0]), first[1]) == (tmp_path / "empty", [])


@pytest.mark.parametrize("folder", ["00_short", "01_mask_r_cnn_fine_tuning"])
def test_cell_is_short_and_tidy(folder: str, tmp_path: Path) -> None:
    cell = tmp_path / "cell.py"
    cell.write_text(f"{colab_cell(folder)}\n")
    assert len(cell.read_text().splitlines()) <= 15
    settings = ["--config", str(ROOT / "pyproject.toml")]
    for command in (["check"], ["format", "--check"]):
        arguments = [sys.executable, "-m", "ruff", *command, *settings, str(cell)]
        done = subprocess.run(arguments, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
