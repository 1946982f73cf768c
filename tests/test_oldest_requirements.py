"""The list of oldest releases: a pin for each lower bound, and what to do about a missing one."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from oldest_requirements import RequirementsError, main, oldest, pin

ROOT = Path(__file__).resolve().parents[1]


def written(folder: Path, text: str, name: str = "requirements.txt") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("line", "package", "pinned"),
    [
        ("torch>=2.4", "torch", "torch==2.4"),
        ("opencv-python>=4.9.0.80,<5", "opencv-python", "opencv-python==4.9.0.80"),
        ("numpy < 3, >= 1.26", "numpy", "numpy==1.26"),
        ("data==0.1.0", "data", "data==0.1.0"),
        ("Scikit_Image~=0.22.1", "scikit-image", "Scikit_Image==0.22.1"),
        ("torchmetrics>=1.4.0.post0", "torchmetrics", "torchmetrics==1.4.0.post0"),
        ("a[x,y]>=2;sys_platform=='win32'", "a", "a[x,y]==2;sys_platform=='win32'"),
    ],
)
def test_requirement_is_pinned_at_its_lower_bound(line: str, package: str, pinned: str) -> None:
    assert pin(line) == (package, pinned)
    theirs, ours = Requirement(line), Requirement(pinned)  # packaging reads both as we do
    assert (theirs.name, theirs.extras, theirs.marker) == (ours.name, ours.extras, ours.marker)
    (bound,) = ours.specifier
    assert bound.version in theirs.specifier


@pytest.mark.parametrize(
    "line", ["timm", "timm<2", "timm>1.0", "timm!=1.0.4", "timm==1.*", "timm>=", "timm>=a"]
)
def test_line_without_a_lower_bound_is_an_error_with_its_place_and_remedy(
    line: str, tmp_path: Path
) -> None:
    path = written(tmp_path, f"# text\ntorch>=2.4\n\n{line}  # why\n")
    expected = rf"{re.escape(str(path))}:4: '{re.escape(line)}' has no lower bound .*write timm>="
    with pytest.raises(RequirementsError, match=expected):
        oldest(path)


def test_two_lower_bounds_are_one_too_many() -> None:
    with pytest.raises(RequirementsError, match="several lower bounds: write timm>="):
        pin("timm>=1.0.3,>=1.0.7")


@pytest.mark.parametrize("line", ["--pre", "-e .", "a @ https://host/a.whl", "a>=1 \\", "ä>=1"])
def test_what_is_no_requirement_is_an_error(line: str, tmp_path: Path) -> None:
    with pytest.raises(RequirementsError, match=r"requirements.txt:1: .*(understood|no lower)"):
        oldest(written(tmp_path, line))


def test_included_files_come_where_they_are_included(tmp_path: Path) -> None:
    (tmp_path / "a folder").mkdir()
    written(tmp_path / "a folder", "b>=2\n-r ../c.txt\n", "b.txt")
    written(tmp_path, "\ufeffC_x>=3\n", "c.txt")  # some editors begin a file with a mark
    path = written(tmp_path, "a>=1\n-r a folder/b.txt\n--requirement=c.txt\nd>=4\n")
    assert oldest(path) == ["a==1", "b==2", "C_x==3", "d==4"]


def test_a_package_has_one_lower_bound(tmp_path: Path) -> None:
    written(tmp_path, "a.b>=1,<3\n", "other.txt")
    assert oldest(written(tmp_path, "-r other.txt\na.b>=1\n")) == ["a.b==1"]
    expected = r"requirements.txt:2: A-B==2, but a\.b==1 in .*other.txt:1: give both the same"
    with pytest.raises(RequirementsError, match=expected):
        oldest(written(tmp_path, "-r other.txt\nA-B>=2\n"))


def test_circle_and_unreadable_files_are_errors(tmp_path: Path) -> None:
    with pytest.raises(RequirementsError, match="includes itself"):
        oldest(written(tmp_path, "-r requirements.txt\n"))
    with pytest.raises(RequirementsError, match="nowhere.txt cannot be read"):
        oldest(written(tmp_path, "-r nowhere.txt\n"))
    (tmp_path / "bytes.txt").write_bytes(b"a>=1 # \xff\n")
    with pytest.raises(RequirementsError, match="cannot be read as UTF-8"):
        oldest(tmp_path / "bytes.txt")


def test_command_prints_or_writes_the_list(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written(tmp_path, "a>=1\n")
    written(tmp_path, "-r requirements.txt\nb>=2\n", "requirements-dev.txt")
    assert main([], tmp_path) == 0
    assert capsys.readouterr().out == "a==1\n"
    output = tmp_path / "new folder" / "the oldest.txt"
    assert main(["--dev", "--output", str(output)], tmp_path) == 0
    assert capsys.readouterr().out == ""
    assert output.read_bytes() == b"a==1\nb==2\n"


def test_command_fails_with_exit_code_1_and_overwrites_no_source(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path, "a\n")
    assert main(["--output", str(tmp_path / "list.txt")], tmp_path) == 1
    assert "requirements.txt:1: 'a' has no lower bound" in capsys.readouterr().err
    assert not (tmp_path / "list.txt").exists()
    path.write_text("a>=1\n", encoding="utf-8")
    assert main(["--output", str(path)], tmp_path) == 1
    assert "name another file" in capsys.readouterr().err
    assert path.read_text(encoding="utf-8") == "a>=1\n"
    assert main(["--output", str(path / "list.txt")], tmp_path) == 1  # a file is no folder
    assert capsys.readouterr().err.startswith("error: ")


@pytest.mark.parametrize("options", [[], ["--dev"]])
def test_every_bound_of_this_repository_is_pinned(options: list[str]) -> None:
    command = [sys.executable, "-S", str(ROOT / "tools" / "oldest_requirements.py"), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=True)  # -S: no packages
    names = [Requirement(line).name for line in done.stdout.splitlines()]
    assert "torch" in names and ("pytest" in names) == bool(options)
    assert len(names) == len(set(names))
