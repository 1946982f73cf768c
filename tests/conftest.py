"""What all tests share. Those of a lesson run in a process of their own: `tools/test.py`."""

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[1]
TESTS = ROOT / "tests"

# Figures are drawn without a screen and without the user's own matplotlib settings.
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("MPLCONFIGDIR", str(ROOT / "build" / "matplotlib"))

sys.path.append(str(ROOT / "tools"))  # a lesson's folder comes before it, see lesson_tests.py
pytest.register_assert_rewrite("notebook_suite")


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


@pytest.fixture
def repository() -> Path:
    """The top folder of the repository."""
    return ROOT


@pytest.fixture
def lesson_folder(request: pytest.FixtureRequest) -> Path:
    """The folder of the lesson that the test belongs to."""
    return ROOT / request.path.relative_to(TESTS).parts[0]


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
