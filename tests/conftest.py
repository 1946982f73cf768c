"""Keep the lessons apart from one another, as if each had its own Python.

A lesson's folder runs alone: its scripts import one another by their bare names, and two lessons
may have scripts of the same name. The tests of one lesson, all below `tests/<lesson folder>/`,
see that lesson's folder first on `sys.path` and only its scripts in `sys.modules`. A script that
was imported once stays the same object each time its lesson is entered again.
"""

import importlib
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.abc import MetaPathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[1]
TESTS = ROOT / "tests"
LESSON_NAME = re.compile(r"\d\d_\w+")

# Figures are drawn without a screen and without the user's own matplotlib settings.
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("MPLCONFIGDIR", str(ROOT / "build" / "matplotlib"))

# The scripts of tools/ are imported by bare name too; a lesson's folder comes before them.
sys.path.append(str(ROOT / "tools"))
pytest.register_assert_rewrite("notebook_suite")


def lesson_of(path: Path) -> Path | None:
    """Return the lesson folder that a file below `tests/` belongs to, None for general tests."""
    if not path.is_relative_to(TESTS):
        return None
    first = path.relative_to(TESTS).parts[:1]
    if not first or not LESSON_NAME.fullmatch(first[0]):
        return None
    return ROOT / first[0]


class Lessons(MetaPathFinder):
    """Enters the right lesson before pytest imports a test file or a conftest.py.

    It stands first among Python's finders and finds nothing itself: it only notices where the
    file lies that is about to be imported. This is the one place that conftest.py files named on
    the command line pass as well.
    """

    def __init__(self) -> None:
        self.active: Path | None = None
        self.kept: dict[Path | None, dict[str, ModuleType]] = {}

    def find_spec(self, name: str, path: Sequence[str] | None, target: object = None) -> None:
        """Enter the lesson whose tests are about to be imported; find nothing."""
        if path and len(path) == 1 and Path(path[0]).is_relative_to(TESTS):
            self.enter(lesson_of(Path(path[0])))

    def enter(self, lesson: Path | None) -> None:
        """Make `lesson` the only lesson whose scripts can be imported; None leaves them all."""
        if lesson == self.active:
            return
        self._leave()
        self.active = lesson
        if lesson:
            self._set_aside_same_names(lesson)
            sys.path.insert(0, str(lesson))
        sys.modules.update(self.kept.pop(lesson, {}))
        importlib.invalidate_caches()

    def _leave(self) -> None:
        if self.active is None:
            return
        names = [name for name, module in sys.modules.items() if lies_in(module, self.active)]
        self.kept[self.active] = {name: sys.modules.pop(name) for name in names}
        sys.path[:] = [entry for entry in sys.path if entry != str(self.active)]
        sys.modules.update(self.kept.pop(None, {}))

    def _set_aside_same_names(self, lesson: Path) -> None:
        scripts = {path.stem for path in lesson.glob("*.py")}
        names = [name for name in sys.modules if name.split(".")[0] in scripts]
        self.kept[None] = {name: sys.modules.pop(name) for name in names}


def lies_in(module: ModuleType, folder: Path) -> bool:
    """Tell whether the module's file is below `folder`."""
    file = getattr(module, "__file__", None)
    return file is not None and Path(file).is_relative_to(folder)


LESSONS = Lessons()
sys.meta_path.insert(0, LESSONS)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Offer --full."""
    parser.addoption(
        "--full",
        action="store_true",
        help="also run the tests marked `full`, and all of the cases of the others",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the tests marked `full` out, unless --full asks for them."""
    if not config.getoption("--full"):
        left_out = [item for item in items if item.get_closest_marker("full")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Run each test, with its fixtures, inside its own lesson."""
    LESSONS.enter(lesson_of(item.path))
    return (yield)


@pytest.fixture
def repository() -> Path:
    """The top folder of the repository."""
    return ROOT


@pytest.fixture
def lesson_folder(request: pytest.FixtureRequest) -> Path:
    """The folder of the lesson that the test belongs to."""
    folder = lesson_of(request.path)
    assert folder, f"{request.path} does not lie in tests/<lesson folder>/"
    return folder


@pytest.fixture
def stop_at() -> Callable[[int], Callable[[Any], None]]:
    """Make what a run calls after each step: it presses Ctrl+C after the given number of steps."""

    def make(steps: int) -> Callable[[Any], None]:
        def after_step(run: Any) -> None:
            if len(run.history) == steps:
                raise KeyboardInterrupt

        return after_step

    return make


@pytest.fixture
def shared_data(repository: Path) -> Path:
    """A folder of real photos beside the checkout; the test is skipped where there is none."""
    folder = repository.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no folder ../shared/data beside the checkout")
    return folder


@pytest.fixture(scope="session")
def cases(request: pytest.FixtureRequest) -> Callable[[int], int]:
    """Say how many of so many cases a property is tried on: a tenth, or all with --full."""
    full = request.config.getoption("--full")
    return lambda count: count if full else count // 10


@pytest.fixture(scope="session")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], nbformat.NotebookNode]:
    """Execute a notebook in the smallest sizes, once for all tests, and return it."""
    from run_lessons import main

    output, kept = tmp_path_factory.mktemp("smoke"), {}

    def executed(path: Path) -> nbformat.NotebookNode:
        if path not in kept:
            code = main([str(path), "--smoke", "--output", str(output)])
            notebook = nbformat.read(output / "smoke" / path.parent.name / path.name, 4)
            kept[path] = (code, notebook)
        code, notebook = kept[path]
        assert code == 0, f"{path.name} does not run: see the captured error"
        return notebook

    return executed


@pytest.fixture
def kill_and_resume() -> Callable[[list[str], Path, int], None]:
    """Make a function that kills a training at random moments, and lets it go on to its end.

    It takes the command, the folder of its --out, and how often to kill. SIGKILL on POSIX and
    TerminateProcess on Windows: no program can answer either.
    """

    def run(command: list[str], out: Path, kills: int = 10) -> None:
        moments, last = random.Random(7), out / "last.pt"
        resumed = {"args": [*command, "--resume"], "stderr": subprocess.STDOUT}
        for _ in range(kills):
            before = last.stat().st_mtime_ns if last.exists() else None
            with subprocess.Popen(**resumed, stdout=subprocess.DEVNULL) as process:
                while not last.exists() or last.stat().st_mtime_ns == before:
                    assert process.poll() is None, "the run ended before it could be killed"
                    time.sleep(0.01)
                time.sleep(moments.uniform(0, 0.4))
                assert process.poll() is None, "the run ended before it could be killed"
                process.kill()
            assert not (out / "metrics.json").exists()
        done = subprocess.run(**resumed, stdout=subprocess.PIPE, text=True)
        assert done.returncode == 0, done.stdout

    return run
