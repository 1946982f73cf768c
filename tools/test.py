"""Run the tests: those of each lesson in a process of its own, two processes side by side.

A lesson's scripts import one another by bare names, and two lessons have scripts of one name. In
a process of its own a lesson meets no other.

    python tools/test.py                          all tests
    python tools/test.py 02_yolo_v3_darknet       one lesson's
    python tools/test.py general                  those that belong to no lesson
    python tools/test.py --full                   also the long ones: full notebooks, ten kills
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TESTS = ROOT / "tests"
GENERAL = "general"
NOTEBOOKS = "test_exercises.py"  # executes the notebooks; a process of its own, for it takes long
NO_TESTS = 5  # pytest's exit code


@dataclass(frozen=True)
class Group:
    """Tests that run in one process: a name for people, and the paths that pytest is given."""

    name: str
    paths: tuple[Path, ...]


@dataclass
class Outcome:
    """What came of a group: its exit code, what it printed, its seconds, and its counts."""

    group: Group
    code: int
    text: str
    seconds: float
    passed: int = 0
    failed: int = 0
    skipped: int = 0


def find_groups(choices: list[str]) -> list[Group]:
    """Return the groups of the chosen lessons, those that take long first.

    Raises:
        ValueError: a choice is neither a lesson with tests nor `general`.
    """
    lessons = sorted(path.name for path in TESTS.glob("[0-9][0-9]_*") if path.is_dir())
    known = [*lessons, GENERAL]
    chosen = [Path(choice).name for choice in choices] or known
    for choice in chosen:
        if choice not in known:
            raise ValueError(f"{choice}: no such tests; there are {', '.join(known)}")
    groups = []
    for lesson in (name for name in reversed(lessons) if name in chosen):
        files = sorted((TESTS / lesson).rglob("test_*.py"))
        notebooks = tuple(path for path in files if path.name == NOTEBOOKS)
        others = tuple(path for path in files if path.name != NOTEBOOKS)
        groups += [Group(f"{lesson} code", others), Group(f"{lesson} notebooks", notebooks)]
    if GENERAL in chosen:
        files = (*sorted(TESTS.glob("test_*.py")), *sorted(TESTS.glob("site/test_*.py")))
        groups.insert(2, Group(GENERAL, files))
    return [group for group in groups if group.paths]


def run_group(group: Group, full: bool, threads: int) -> Outcome:
    """Run one group's tests in a new process, and count them."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", f"--junit-xml={report}"]
        command += [*(["--full"] if full else []), *map(str, group.paths)]
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONUTF8": "1"}
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
        )
        outcome = Outcome(group, done.returncode, done.stdout, time.monotonic() - began)
        if report.is_file():
            suite = ElementTree.parse(report).getroot().find("testsuite")
            counts = {name: int(suite.get(name)) for name in ("tests", "errors", "failures")}
            outcome.skipped = int(suite.get("skipped"))
            outcome.failed = counts["errors"] + counts["failures"]
            outcome.passed = max(0, counts["tests"] - outcome.failed - outcome.skipped)
    if outcome.code not in (0, NO_TESTS):
        outcome.failed = max(1, outcome.failed)
    return outcome


def show(outcome: Outcome) -> None:
    """Print a line of a group that passed, and all that one printed that did not."""
    counts = f"{outcome.passed} passed, {outcome.failed} failed, {outcome.skipped} skipped"
    print(f"{outcome.group.name:40} {outcome.seconds:6.0f} s  {counts}", flush=True)
    if outcome.failed:
        print(outcome.text, flush=True)
    for reason in re.findall(r"^SKIPPED \[.*$", outcome.text, re.MULTILINE):
        print(f"  {reason}", flush=True)


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line; `groups` becomes what to run."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="Exit code: 0 all passed, 1 at least one failed, 2 wrong usage.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("lessons", nargs="*", metavar="LESSON", help="a lesson's folder, or general (all)")
    add("--full", action="store_true", help="also the tests that take minutes")
    add("--jobs", type=int, default=2, metavar="N", help="processes side by side (2)")
    options = parser.parse_args(arguments)
    if options.jobs < 1:
        parser.error(f"--jobs {options.jobs}: must be 1 or more")
    try:
        options.groups = find_groups(options.lessons)
    except ValueError as error:
        parser.error(str(error))
    return options


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    options = parse_arguments(arguments)
    threads = max(1, (os.cpu_count() or 1) // options.jobs)
    outcomes = []
    with ThreadPoolExecutor(options.jobs) as pool:
        waiting = [pool.submit(run_group, group, options.full, threads) for group in options.groups]
        for finished in as_completed(waiting):
            outcomes.append(finished.result())
            show(outcomes[-1])
    passed, failed, skipped = (
        sum(getattr(one, name) for one in outcomes) for name in ("passed", "failed", "skipped")
    )
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
