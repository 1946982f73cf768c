"""tools/address.py: the address stands in one file, and everywhere else it is the same."""

import re
import subprocess
from pathlib import Path

import pytest

from address import main, read_address, text_files, write_address
from colab_cell import colab_cell

ROOT = Path(__file__).resolve().parents[1]
OPENED = re.compile(r"colab\.research\.google\.com/github/([\w-]+/[\w.-]+)/blob")
CLONED = re.compile(r"address = \\?\"https://github\.com/([\w-]+/[\w.-]+?)\\?\"")


def test_every_badge_and_first_cell_has_the_address() -> None:
    address, found = read_address(), 0
    for path in text_files(ROOT):
        text = path.read_text(encoding="utf-8")
        for other in [*OPENED.findall(text), *CLONED.findall(text)]:
            assert other == address, f"{path.relative_to(ROOT)}: run python tools/address.py"
            found += 1
    assert found > 20
    assert f"https://github.com/{address}" in colab_cell("00_boxes_and_metrics")


@pytest.fixture
def fork(tmp_path: Path) -> Path:
    (tmp_path / "repository.txt").write_text("old-owner/course\n")
    (tmp_path / "README.md").write_text(
        "[x](https://github.com/old-owner/course/blob/main/a.md) https://github.com/hank-ai/darknet"
    )
    (tmp_path / "picture.png").write_bytes(b"old-owner/course")
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    return tmp_path


def test_rewriting(fork: Path) -> None:
    assert {path.name for path in write_address("new/one.more", fork)} == {
        "README.md",
        "repository.txt",
    }
    assert read_address(fork) == "new/one.more"
    text = (fork / "README.md").read_text()
    assert "https://github.com/new/one.more/blob/main/a.md" in text
    assert "https://github.com/hank-ai/darknet" in text
    assert (fork / "picture.png").read_bytes() == b"old-owner/course"
    assert write_address("new/one.more", fork) == []


@pytest.mark.parametrize("wrong", ["course", "https://github.com/a/b", "-a/b", "a/b/c", "a /b"])
def test_wrong_address(fork: Path, wrong: str) -> None:
    with pytest.raises(ValueError, match="not of the form OWNER/NAME"):
        write_address(wrong, fork)


def test_command_says_the_address(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert capsys.readouterr().out.strip() == read_address()
