"""tools/environment.py: the versions that a report of a failed cell needs."""

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

import environment


def test_names_of_a_requirements_file() -> None:
    text = "# torch\ntorch>=2.4\nopencv-python>=4.9,<5  # why\n\nfoo_bar==1.0\n-r other.txt\n"
    assert environment.required_packages(text) == ["torch", "opencv-python", "foo_bar"]


def test_the_command_prints_what_is_installed(repository: Path) -> None:
    command = [sys.executable, "tools/environment.py"]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    printed = dict(line.split(":", 1) for line in done.stdout.splitlines())
    printed = {name: value.strip() for name, value in printed.items()}
    assert printed["torch"] == version("torch")
    assert printed["python"] == ".".join(map(str, sys.version_info[:3]))
    names = (repository / "requirements.txt").read_text(encoding="utf-8")
    assert set(environment.required_packages(names)) <= set(printed)
    assert str(Path.home()) not in done.stdout


def test_a_missing_package_is_said() -> None:
    assert environment.installed_version("no-such-package-of-this-name") == "missing"


def test_a_broken_pytorch_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    assert environment.accelerator().startswith("torch cannot be imported: ")


def test_a_folder_that_is_no_checkout(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("numpy>=1\n")
    facts = environment.describe(tmp_path)
    assert facts["commit"] == "no git checkout"
    assert facts["numpy"] == version("numpy")


def test_the_templates_are_valid_and_ask_for_it(repository: Path) -> None:
    paths = sorted((repository / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
    forms = {path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) for path in paths}
    assert "config" in forms
    for name, form in forms.items():
        if name != "config":
            assert {"name", "description", "body"} <= set(form)
            ids = [part["id"] for part in form["body"] if part["type"] != "markdown"]
            assert len(ids) == len(set(ids))
    asked = str(forms["a_cell_failed"])
    assert "python tools/environment.py" in asked
    lessons = [path.name[:2] for path in repository.glob("[0-9][0-9]_*")]
    chosen = next(part for part in forms["a_cell_failed"]["body"] if part.get("id") == "lesson")
    assert sorted(option[:2] for option in chosen["attributes"]["options"]) == sorted(lessons)
