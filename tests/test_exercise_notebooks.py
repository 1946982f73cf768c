"""The exercises of all lessons: each states its time and purpose, has hints, and is linked."""

import re
from pathlib import Path

import nbformat
import pytest

from exercise_cells import tagged_ids, tags

ROOT = Path(__file__).resolve().parents[1]
LESSONS = sorted(path.parents[1] for path in ROOT.glob("[0-9][0-9]_*/exercises/checks.py"))
REGISTERED = re.compile(r"""^@exercise\(\s*"([\d.]+)", "([^"]+)\"""", re.MULTILINE)
HEADING = re.compile(r"^## (\d\d\.\d+) (.+?)(?: \((\d+) min\))?$", re.MULTILINE)
HINT = re.compile(r"<details><summary>Hint \d</summary>\n\n.+?\n\n</details>", re.DOTALL)


def registered(lesson: Path) -> dict[str, str]:
    """Return id and title of the exercises that a lesson's checks register."""
    sources = (path.read_text(encoding="utf-8") for path in lesson.glob("exercises/*.py"))
    pairs = (pair for source in sources for pair in REGISTERED.findall(source))
    return dict(sorted(pairs, key=lambda pair: int(pair[0].split(".")[1])))


def sections(path: Path) -> dict[str, tuple[str, str, str]]:
    """Return title, minutes ("" for none) and the Markdown of each exercise in a notebook."""
    cells = nbformat.read(path, as_version=4).cells
    text = "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    parts = HEADING.split(text)
    return {
        parts[i]: (parts[i + 1], parts[i + 2] or "", parts[i + 3]) for i in range(1, len(parts), 4)
    }


def name(path: Path) -> str:
    return path.name


def test_there_are_exercises() -> None:
    assert LESSONS


@pytest.mark.parametrize("lesson", LESSONS, ids=name)
def test_count_and_ids(lesson: Path) -> None:
    found = list(registered(lesson))
    assert 6 <= len(found) <= 12
    assert found == [f"{lesson.name[:2]}.{number + 1}" for number in range(len(found))]


@pytest.mark.parametrize("lesson", LESSONS, ids=name)
def test_cells_of_every_exercise(lesson: Path) -> None:
    expected = list(registered(lesson))
    assert tagged_ids(lesson / "exercises.ipynb", "exercise") == expected
    for kind in ("solution", "wrong"):
        assert tagged_ids(lesson / "solutions.ipynb", kind) == expected


@pytest.mark.parametrize("lesson", LESSONS, ids=name)
def test_text_of_every_exercise(lesson: Path) -> None:
    found, titles = sections(lesson / "exercises.ipynb"), registered(lesson)
    assert {key: title for key, (title, _, _) in found.items()} == titles
    for exercise_id, (_, minutes, text) in found.items():
        assert minutes, f"{exercise_id} states no time"
        assert "**You practise:** " in text, f"{exercise_id} does not say what it teaches"
        assert HINT.search(text), f"{exercise_id} has no hint"
    answers = sections(lesson / "solutions.ipynb")
    assert {key: title for key, (title, _, _) in answers.items()} == titles


@pytest.mark.parametrize("lesson", LESSONS, ids=name)
def test_blanks_and_solutions_are_told_apart(lesson: Path) -> None:
    kinds = {"exercises.ipynb": {"exercise"}, "solutions.ipynb": {"solution", "wrong"}}
    for file, allowed in kinds.items():
        for cell in nbformat.read(lesson / file, as_version=4).cells:
            found = {tag.split(":")[0] for tag in tags(cell)}
            assert found <= allowed | {"setup"}, f"{file}: {found}"
            assert not found or cell.cell_type == "code"


@pytest.mark.parametrize("lesson", LESSONS, ids=name)
def test_exercises_are_linked(lesson: Path) -> None:
    readme = (lesson / "README.md").read_text(encoding="utf-8")
    assert "](exercises.ipynb)" in readme
    assert "](solutions.ipynb)" in readme
    assert f"main/{lesson.name}/exercises.ipynb)" in readme, "no way to start them in Colab"
    assert "jupyter lab exercises.ipynb" in readme, "no way to start them locally"
    others = [
        path for path in lesson.glob("*.ipynb") if path.stem not in ("exercises", "solutions")
    ]
    texts = [path.read_text(encoding="utf-8") for path in others]
    for exercise_id, title in registered(lesson).items():
        link = f"[{title}](exercises.ipynb#{exercise_id.replace('.', '')}-"
        assert any(link in text for text in texts), f"{exercise_id} is in no list of the lesson"
