"""tools/test.py on a small project: which tests run in which process, and what is counted."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

LESSON_TEST = """
import sys
import pytest
import helper

def test_own_helper(): assert helper.LESSON == "{lesson}"
def test_alone(): assert not [name for name in sys.modules if name == "{foreign}"]
@pytest.mark.full
def test_long(): pass
"""
PROBLEMS = """
import pytest
def test_passes(): pass
def test_fails(): assert 1 + 1 == 3
def test_is_left_out(): pytest.skip("no such machine")
@pytest.fixture
def broken(): raise OSError("no such thing")
def test_without_a_fixture(broken): pass
"""


@pytest.fixture
def project(tmp_path: Path, repository: Path) -> Path:
    """A repository of two lessons whose scripts have the same name."""
    shutil.copytree(repository / "tools", tmp_path / "tools")
    shutil.copy(repository / "pyproject.toml", tmp_path)
    (tmp_path / "tests").mkdir()
    shutil.copy(repository / "tests" / "conftest.py", tmp_path / "tests")
    for lesson, own, foreign in (("11_first", "a", "b"), ("12_second", "b", "a")):
        for folder in (tmp_path / lesson, tmp_path / "tests" / lesson):
            folder.mkdir()
        (tmp_path / lesson / "helper.py").write_text(f'import {own}\nLESSON = "{lesson}"\n')
        (tmp_path / lesson / f"{own}.py").write_text("")
        enter = "from lesson_tests import enter_lesson\n\nenter_lesson(__file__)\n"
        (tmp_path / "tests" / lesson / "conftest.py").write_text(enter)
        text = LESSON_TEST.format(lesson=lesson, foreign=foreign)
        (tmp_path / "tests" / lesson / "test_lesson.py").write_text(text)
    (tmp_path / "tests" / "test_general.py").write_text("def test_general(): pass\n")
    return tmp_path


def run(project: Path, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "tools/test.py", *arguments]
    return subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=180)


def test_all_groups(project: Path) -> None:
    done = run(project)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert lines[-1] == "5 passed, 0 failed, 0 skipped"
    assert sorted(line.split()[0] for line in lines[:-1]) == ["11_first", "12_second", "general"]


def test_full_adds_the_long_ones(project: Path) -> None:
    done = run(project, "12_second", "--full")
    assert done.stdout.splitlines()[-1] == "3 passed, 0 failed, 0 skipped"


def test_failures_errors_and_skips(project: Path) -> None:
    (project / "tests" / "test_general.py").write_text(PROBLEMS)
    done = run(project, "general")
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == "1 passed, 2 failed, 1 skipped"
    assert "assert (1 + 1) == 3" in done.stdout
    assert "no such machine" in done.stdout


def test_a_file_that_cannot_be_imported_is_a_failure(project: Path) -> None:
    (project / "tests" / "test_general.py").write_text("import nothing_of_this_name\n")
    done = run(project, "general")
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == "0 passed, 1 failed, 0 skipped"
    assert "nothing_of_this_name" in done.stdout


def test_two_lessons_in_one_process_are_refused(project: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "tests/11_first", "tests/12_second"]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=180)
    assert done.returncode != 0
    assert "this process tests 11_first already" in done.stdout + done.stderr
    assert "python tools/test.py" in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["13_third"], "13_third: no such tests; there are 11_first, 12_second, general"),
        (["--jobs", "0"], "--jobs 0: must be 1 or more"),
    ],
)
def test_usage(project: Path, arguments: list[str], message: str) -> None:
    done = run(project, *arguments)
    assert done.returncode == 2
    assert message in done.stderr
