"""tools/run_lessons.py on small notebooks: what it writes, prints and returns."""

import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

import notebook_progress
import run_lessons
from freshness import source_sha256
from run_lessons import find_notebooks, main

FIGURE = "import matplotlib.pyplot as plt\nplt.plot([1, 2]);"


def write_notebook(path: Path, *sources: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    cells = [new_markdown_cell("# A lesson"), *(new_code_cell(source) for source in sources)]
    nbformat.write(new_notebook(cells=cells), path)
    return path


def outputs(path: Path) -> str:
    return str([cell.get("outputs") for cell in nbformat.read(path, as_version=4).cells])


@pytest.fixture
def lesson(tmp_path: Path) -> Path:
    folder = tmp_path / "course" / "07_lesson"
    folder.mkdir(parents=True)
    (folder / "helper.py").write_text("def answer():\n    return 6 * 7\n")
    return folder


def test_good_notebook(lesson: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # The working directory is the lesson's folder; figures are drawn although MPLBACKEND is Agg.
    source = "import os\nfrom helper import answer\nprint(os.path.basename(os.getcwd()), answer())"
    notebook = write_notebook(lesson / "lesson.ipynb", source, FIGURE)
    before = notebook.read_bytes()
    assert main([str(notebook), "--output", str(tmp_path / "out")]) == 0
    executed = tmp_path / "out" / "07_lesson" / "lesson.ipynb"
    assert "07_lesson 42" in outputs(executed)
    assert "image/png" in outputs(executed)
    page = executed.with_suffix(".html").read_text(encoding="utf-8")
    assert "07_lesson 42" in page
    assert "data:image/png;base64," in page
    assert notebook.read_bytes() == before
    last = capsys.readouterr().out.strip().splitlines()
    assert [column.strip() for column in last[0].split("|")] == ["lesson", "seconds", "result"]
    name, seconds, result = (column.strip() for column in last[-1].split("|"))
    assert (name, result) == ("07_lesson/lesson.ipynb", "ok")
    assert 0 < float(seconds) < 120


def test_kernel_is_this_interpreter(lesson: Path, tmp_path: Path) -> None:
    notebook = write_notebook(lesson / "lesson.ipynb", "import sys; print(sys.executable)")
    assert main([str(notebook), "--output", str(tmp_path / "out")]) == 0
    assert repr(sys.executable)[1:-1] in outputs(tmp_path / "out" / "07_lesson" / "lesson.ipynb")


def test_failing_notebook_does_not_stop_the_others(
    lesson: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = write_notebook(lesson / "a_bad.ipynb", "x = 1", "x / 0", "print('not reached')")
    good = write_notebook(lesson / "b_good.ipynb", "print('reached')")
    before = bad.read_bytes()
    assert main([str(bad), str(good), "--in-place", "--output", str(tmp_path / "out")]) == 1
    printed = capsys.readouterr()
    rows = [line.split("|")[-1].strip() for line in printed.out.splitlines()[-2:]]
    assert rows == ["FAILED", "ok"]
    assert "07_lesson/a_bad.ipynb, cell 2" in printed.err
    assert "x / 0" in printed.err
    assert "ZeroDivisionError: division by zero" in printed.err
    assert "\x1b" not in printed.err
    assert bad.read_bytes() == before
    assert "ZeroDivisionError" in outputs(tmp_path / "out" / "07_lesson" / "a_bad.ipynb")
    assert "not reached" not in outputs(tmp_path / "out" / "07_lesson" / "a_bad.ipynb")
    assert "reached" in outputs(good)


@pytest.mark.parametrize(
    ("source", "timeout", "message"),
    [
        ("import os; os._exit(3)", 60, "Kernel died"),
        ("import time; time.sleep(60)", 2, "after 2 seconds"),
        ("for x in", 60, "SyntaxError"),
    ],
)
def test_other_failures(
    lesson: Path,
    tmp_path: Path,
    source: str,
    timeout: int,
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    notebook = write_notebook(lesson / "lesson.ipynb", source)
    options = ["--timeout", str(timeout), "--output", str(tmp_path / "out")]
    assert main([str(notebook), *options]) == 1
    printed = capsys.readouterr()
    assert message in printed.err
    assert "cell 1" in printed.err
    assert printed.out.strip().endswith("FAILED")


def test_file_that_is_no_notebook(
    lesson: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    notebook = lesson / "lesson.ipynb"
    notebook.write_text("<html>")
    assert main([str(notebook), "--output", str(tmp_path / "out")]) == 1
    assert "07_lesson/lesson.ipynb: not a notebook" in capsys.readouterr().err


def test_in_place(lesson: Path, tmp_path: Path) -> None:
    notebook = write_notebook(lesson / "lesson.ipynb", "print('executed')", "1 + 1")
    stored = nbformat.read(notebook, as_version=4)
    stored.cells[1].metadata["execution"] = {"iopub.execute_input": "some time"}
    stored.metadata["kernelspec"] = {"name": "my-env", "display_name": "mine", "language": "x"}
    nbformat.write(stored, notebook)
    assert main([str(notebook), "--in-place", "--output", str(tmp_path / "out")]) == 0
    once = nbformat.read(notebook, as_version=4)
    nbformat.validate(once)
    assert "executed" in outputs(notebook)
    assert [cell.execution_count for cell in once.cells[1:]] == [1, 2]
    assert once.metadata.kernelspec.name == "python3"
    assert once.metadata.language_info == {"name": "python"}
    assert not any(cell.metadata for cell in once.cells)
    assert once.metadata.lesson.source_sha256 == source_sha256(once, lesson)
    first = notebook.read_bytes()
    assert main([str(notebook), "--in-place", "--output", str(tmp_path / "out")]) == 0
    assert notebook.read_bytes() == first  # nothing in it varies from run to run
    assert sorted(path.name for path in lesson.iterdir() if path.is_file()) == [
        "helper.py",
        "lesson.ipynb",
    ]


def test_stderr_is_reported(
    lesson: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = "import sys; print('noise', file=sys.stderr)"
    notebook = write_notebook(lesson / "lesson.ipynb", "1", source)
    assert main([str(notebook), "--output", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out.strip().endswith("| ok, stderr in cell 2")


def test_progress_in_a_log(
    lesson: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(notebook_progress, "SECONDS_BETWEEN_LINES", 0.5)
    slow = "import time; time.sleep(0.6)"
    notebook = write_notebook(lesson / "lesson.ipynb", slow, *["1"] * 20, slow, "1")
    assert main([str(notebook), "--output", str(tmp_path / "out")]) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if "07_lesson" in line]
    assert lines[0] == "07_lesson/lesson.ipynb: 0/24 cells"
    assert "07_lesson/lesson.ipynb: 23/24 cells" in lines
    assert lines[-1].startswith("07_lesson/lesson.ipynb: ended after")
    assert 4 <= len(lines) <= 7  # a line now and then, not one for each cell


def test_progress_on_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with notebook_progress.Progress("lesson", total=3) as progress:
        for index in range(3):
            progress.cell_started(None, cell_index=index)
    assert "3/3" in capsys.readouterr().err


def test_finding_and_choosing(lesson: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = lesson.parent
    for name in ("lesson", "exercises", "solutions"):
        write_notebook(lesson / f"{name}.ipynb", "1")
    write_notebook(root / "01_early" / "early.ipynb", "1")
    write_notebook(root / "notes" / "notes.ipynb", "1")
    names = [path.relative_to(root).as_posix() for path in find_notebooks(root)]
    inside = ["exercises.ipynb", "lesson.ipynb", "solutions.ipynb"]
    assert names == ["01_early/early.ipynb", *(f"07_lesson/{name}" for name in inside)]
    monkeypatch.chdir(root)
    chosen = run_lessons.choose_notebooks([Path("07_lesson"), Path("01_early/early.ipynb")])
    assert chosen == [*(lesson / name for name in inside), root / names[0]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["99_nowhere"], "99_nowhere: neither a notebook nor a lesson's folder"),
        (["--timeout", "0"], "--timeout 0: must be more than 0 seconds"),
        (["--threads", "0"], "--threads 0: must be 1 or more"),
        (["--cpu", "fast"], "invalid choice: 'fast'"),
        (["--smoke", "--in-place"], "what a smoke run shows is no lesson"),
    ],
)
def test_usage(arguments: list[str], message: str, repository: Path) -> None:
    command = [sys.executable, "tools/run_lessons.py", *arguments]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True)
    assert done.returncode == 2
    assert message in done.stderr


SHOW_SURROUNDINGS = """
import os, pathlib
pathlib.Path("runs").mkdir(exist_ok=True)
pathlib.Path("runs/best.pt").write_text("two steps")
names = ("LESSON_SMOKE", "ATEN_CPU_CAPABILITY", "OMP_NUM_THREADS")
print(pathlib.Path.cwd().name, *(os.environ.get(name) for name in names))
"""


def test_smoke_run_in_a_copy(lesson: Path, tmp_path: Path) -> None:
    notebook = write_notebook(lesson / "lesson.ipynb", SHOW_SURROUNDINGS)
    before = notebook.read_bytes()
    options = ["--smoke", "--cpu", "avx2", "--threads", "1", "--output", str(tmp_path / "out")]
    assert main([str(notebook), *options]) == 0
    executed = tmp_path / "out" / "smoke" / "07_lesson" / "lesson.ipynb"
    assert "07_lesson 1 avx2 1" in outputs(executed)
    assert notebook.read_bytes() == before
    assert not (lesson / "runs").exists()


def test_missed_bound_is_a_line_and_exit_code_1(
    lesson: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = "import pathlib; pathlib.Path('metrics.json').write_text('{\"mean_iou\": 0.5}')"
    notebook = write_notebook(lesson / "lesson.ipynb", source)
    table = tmp_path / "bounds.toml"
    monkeypatch.setattr(run_lessons, "BOUNDS", table)
    for bound, code, verdict in ((0.4, 0, "ok"), (0.6, 1, "BELOW ITS BOUNDS")):
        table.write_text(
            '[[bound]]\nnotebook = "07_lesson/lesson.ipynb"\nmetrics = "metrics.json"\n'
            f"at_least = {{ mean_iou = {bound} }}\n"
        )
        assert main([str(notebook), "--output", str(tmp_path / "out")]) == code
        printed = capsys.readouterr()
        assert printed.out.strip().endswith(f"| {verdict}")
        line = f"07_lesson/lesson.ipynb: mean_iou 0.500, bound {bound:.3f}"
        assert (f"MISSED {line}" in printed.err) == (code == 1)
        assert (f"reached {line}" in printed.out) == (code == 0)
