"""tools/kernel_environment.py: what a notebook's kernel sees, and where a smoke run writes."""

from pathlib import Path

import pytest

from kernel_environment import copies_of_lessons, kernel_environment


@pytest.fixture(autouse=True)
def _surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "avx512")
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX512_CORE")
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.setenv("LESSON_SMOKE", "1")
    monkeypatch.setenv("MPLBACKEND", "Agg")


def test_as_the_environment_says() -> None:
    found = kernel_environment()
    assert found["ATEN_CPU_CAPABILITY"] == "avx512"
    assert found["OMP_NUM_THREADS"] == "7"
    assert "LESSON_SMOKE" not in found  # a full run is full, whatever was set before
    assert "MPLBACKEND" not in found


@pytest.mark.parametrize(
    ("cpu", "aten", "onednn"),
    [("default", "default", "SSE41"), ("avx2", "avx2", "AVX2"), ("native", None, None)],
)
def test_cpu(cpu: str, aten: str | None, onednn: str | None) -> None:
    found = kernel_environment(cpu=cpu)
    assert found.get("ATEN_CPU_CAPABILITY") == aten
    assert found.get("ONEDNN_MAX_CPU_ISA") == onednn


def test_threads_and_smoke() -> None:
    found = kernel_environment(threads=3, smoke=True)
    assert (found["OMP_NUM_THREADS"], found["LESSON_SMOKE"]) == ("3", "1")


def test_copies_leave_the_lesson_alone(tmp_path: Path) -> None:
    lesson = tmp_path / "07_lesson"
    for name in ("runs/best.pt", "data/street/a.png", "data/coco.names", "common/street/art.py"):
        (lesson / name).parent.mkdir(parents=True, exist_ok=True)
        (lesson / name).write_text("as it was")
    with copies_of_lessons() as copies:
        copy = copies[lesson]
        assert copy is copies[lesson]
        assert " " in str(copy) and copy.name == "07_lesson"
        files = {path.relative_to(copy).as_posix() for path in copy.rglob("*") if path.is_file()}
        assert files == {"data/coco.names", "common/street/art.py"}
        (copy / "data" / "coco.names").write_text("changed")
    assert not copy.exists()
    assert (lesson / "data" / "coco.names").read_text() == "as it was"
