"""The lessons' tests do not see one another: proven with two small lessons and a real pytest."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HELPER = """
from dataclasses import dataclass

LESSON = "{lesson}"

def other():
    import second
    return second
"""

SHARED_CONFTEST = """
import helper
import pytest

LESSON_AT_IMPORT = helper.LESSON

@pytest.fixture
def lesson_in_fixture():
    import second
    return LESSON_AT_IMPORT, second.LESSON
"""

LESSON_TEST = """
import sys
import helper
import {only}
from helper import other

SEEN = {{}}

def test_imports(lesson_folder):
    assert helper.LESSON == "{lesson}"
    assert sys.path[0] == str(lesson_folder)
    assert sys.path.count(str(lesson_folder)) == 1
    assert lesson_folder.name == "{lesson}"

def test_conftest(lesson_in_fixture):
    assert lesson_in_fixture == ("{lesson}", "{lesson}")

def test_lazy_import():
    SEEN["second"] = other()
    assert SEEN["second"].LESSON == "{lesson}"

def test_only_own_modules():
    assert "{foreign}" not in sys.modules
    assert sys.modules["helper"] is helper
    assert not any(entry.endswith("{other_lesson}") for entry in sys.path)
"""

AGAIN_TEST = """
import helper

def test_same_objects():
    import second
    assert helper.other() is second
    assert helper.LESSON == second.LESSON == "{lesson}"
"""

GENERAL_TEST = """
import sys

def test_no_lesson_is_active(repository):
    assert "helper" not in sys.modules
    assert not any(entry.startswith(str(repository / "1")) for entry in sys.path)
"""

ORDER = """
def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.name)  # the lessons take turns
"""


@pytest.fixture
def project(tmp_path: Path, repository: Path) -> Path:
    """A repository of two lessons whose scripts have the same names."""
    (tmp_path / "tests").mkdir()
    shutil.copy(repository / "pyproject.toml", tmp_path)
    shutil.copy(repository / "tests" / "conftest.py", tmp_path / "tests")
    lessons = ("11_first", "12_second")
    for lesson, only, foreign in zip(lessons, ("alpha", "beta"), ("beta", "alpha"), strict=True):
        folder, tests = tmp_path / lesson, tmp_path / "tests" / lesson
        folder.mkdir()
        tests.mkdir()
        (folder / "helper.py").write_text(HELPER.format(lesson=lesson))
        (folder / "second.py").write_text(f'LESSON = "{lesson}"\n')
        (folder / f"{only}.py").write_text("")
        (tests / "conftest.py").write_text(SHARED_CONFTEST)
        other = lessons[1 - lessons.index(lesson)]
        names = {"lesson": lesson, "only": only, "foreign": foreign, "other_lesson": other}
        (tests / "test_lesson.py").write_text(LESSON_TEST.format(**names))
        (tests / "test_again.py").write_text(AGAIN_TEST.format(**names))
    (tmp_path / "tests" / "test_general.py").write_text(GENERAL_TEST)
    return tmp_path


def run_pytest(project: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", *arguments]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_lessons_one_after_the_other(project: Path) -> None:
    assert "11 passed" in run_pytest(project)


def test_lessons_in_turns(project: Path) -> None:
    with (project / "tests" / "conftest.py").open("a") as conftest:
        conftest.write(ORDER)
    assert "11 passed" in run_pytest(project)


def test_one_folder_named_on_the_command_line(project: Path) -> None:
    assert "5 passed" in run_pytest(project, "tests/12_second")


def test_files_of_both_lessons_named_on_the_command_line(project: Path) -> None:
    paths = ("tests/12_second/test_lesson.py", "tests/11_first/test_lesson.py::test_conftest")
    assert "5 passed" in run_pytest(project, *paths)


def test_installed_package_of_the_same_name_comes_back(project: Path) -> None:
    # Something outside the lessons is called like a lesson's script, and was imported before.
    (project / "elsewhere").mkdir()
    (project / "elsewhere" / "helper.py").write_text('LESSON = "elsewhere"\n')
    with (project / "tests" / "conftest.py").open("a") as conftest:
        conftest.write(f"\nsys.path.append({str(project / 'elsewhere')!r})\nimport helper\n")
    (project / "tests" / "test_general.py").write_text(
        'import sys\n\ndef test_back():\n    assert sys.modules["helper"].LESSON == "elsewhere"\n'
    )
    assert "11 passed" in run_pytest(project)


def test_the_check_itself_can_fail(project: Path) -> None:
    # Without the isolation the second lesson gets the first one's scripts.
    conftest = project / "tests" / "conftest.py"
    text = conftest.read_text().replace("        self._leave()\n", "")
    assert text != conftest.read_text()
    conftest.write_text(text)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q"]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
