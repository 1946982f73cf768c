"""What the workflows promise: commands for any shell, few rights, actions that cannot change."""

import re
import shlex
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
# What bash and PowerShell read differently, or only one of them understands.
SHELL_ONLY = re.compile(r"[|&;<>$`*?~\\\n'\"%(){}\[\]]")


def jobs(path: Path) -> dict[str, dict]:
    return yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"]


def steps(path: Path) -> list[dict]:
    return [step for job in jobs(path).values() for step in job["steps"]]


def commands(path: Path) -> list[str]:
    return [step["run"] for step in steps(path) if "run" in step]


def test_both_workflows_are_here() -> None:
    assert [path.name for path in WORKFLOWS] == ["pages.yml", "test.yml"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_each_command_is_one_call_of_python_that_any_shell_reads(path: Path) -> None:
    assert commands(path)
    for command in commands(path):
        assert not SHELL_ONLY.search(command), command
        program, first, *rest = shlex.split(command)
        assert program == "python", command
        assert (first == "-m" and rest) or (ROOT / first).is_file(), command


@pytest.mark.parametrize("line", ["make site", "python a.py | tee b", "a && b", "echo $HOME"])
def test_commands_of_one_shell_are_told(line: str) -> None:
    assert SHELL_ONLY.search(line) or shlex.split(line)[0] != "python"


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_files_that_commands_read_are_here_or_were_just_written(path: Path) -> None:
    written: set[str] = set()
    for command in commands(path):
        words = shlex.split(command)
        for option, name in zip(words, words[1:], strict=False):
            if option == "-r":
                assert name in written or (ROOT / name).is_file(), command
            elif option == "--output":
                written.add(name)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_rights_are_few_and_actions_are_pinned_by_commit(path: Path) -> None:
    whole = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert whole["permissions"] == {"contents": "read"}
    assert all(job["timeout-minutes"] for job in jobs(path).values())
    for action in (step for step in steps(path) if "uses" in step):
        name, _, commit = action["uses"].partition("@")
        assert re.fullmatch(r"[0-9a-f]{40}", commit), action["uses"]
        if name == "actions/checkout":
            assert action["with"]["persist-credentials"] is False


def test_systems_and_pythons_that_the_course_promises() -> None:
    found = jobs(ROOT / ".github" / "workflows" / "test.yml")
    matrix = found["systems"]["strategy"]["matrix"]
    assert {name.split("-")[0] for name in matrix["system"]} == {"ubuntu", "macos", "windows"}
    oldest = min(matrix["python"], key=lambda text: [int(part) for part in text.split(".")])
    assert f"need Python {oldest} or newer" in (ROOT / "Makefile").read_text(encoding="utf-8")
    (setup,) = (one for one in found["oldest"]["steps"] if "setup-python" in one.get("uses", ""))
    assert setup["with"]["python-version"] == oldest
