"""tools/bounds.py: what reaches its bound, what does not, and what is wrong with a table.

The stored comparisons are compared with their bounds here, in every run of the tests.
"""

import json
import time
from pathlib import Path

import pytest

from bounds import Bound, BoundsError, check_bounds, check_stored, read_bounds
from run_lessons import BOUNDS, ROOT

ENTRY = """
[[bound]]
notebook = "05_lesson/lesson.ipynb"
metrics = "runs/notebook/metrics.json"
where = { preset = "street" }
at_least = { "bbox.AP" = 0.5, mean_iou = 0.25 }
"""
STORED = """
[[bound]]
stored = "05_lesson/results/name.json"
at_least = { "per_class.dog" = 0.5 }
"""


def write_metrics(lesson: Path, metrics: dict) -> Path:
    path = lesson / "runs" / "notebook" / "metrics.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(metrics))
    return lesson / "lesson.ipynb"


@pytest.fixture
def lesson(tmp_path: Path) -> Path:
    return tmp_path / "05_lesson"


@pytest.fixture
def table(tmp_path: Path) -> list[Bound]:
    path = tmp_path / "bounds.toml"
    path.write_text(ENTRY)
    return read_bounds(path)


@pytest.mark.parametrize(
    ("ap", "iou", "reached", "missed"),
    [
        (0.5, 0.25, ["bbox.AP 0.500, bound 0.500", "mean_iou 0.250, bound 0.250"], []),
        (0.4999, 0.3, ["mean_iou 0.300, bound 0.250"], ["bbox.AP 0.500, bound 0.500"]),
        (float("nan"), None, [], ["bbox.AP nan, bound 0.500", "mean_iou None, bound 0.250"]),
    ],
)
def test_values(lesson, table, ap, iou, reached, missed) -> None:
    notebook = write_metrics(lesson, {"preset": "street", "bbox": {"AP": ap}, "mean_iou": iou})
    outcome = check_bounds(table, notebook, time.time())
    name = "05_lesson/lesson.ipynb: "
    assert outcome.reached == [name + line for line in reached]
    assert outcome.missed == [name + line for line in missed]


def test_missing_entry_is_missed(lesson: Path, table: list[Bound]) -> None:
    notebook = write_metrics(lesson, {"preset": "street", "bbox": 1.0})
    assert len(check_bounds(table, notebook, time.time()).missed) == 2


def test_other_settings_have_no_bound(lesson: Path, table: list[Bound]) -> None:
    notebook = write_metrics(lesson, {"preset": "full", "bbox": {"AP": 0.0}})
    outcome = check_bounds(table, notebook, time.time())
    assert (outcome.reached, outcome.missed) == ([], [])


def test_metrics_of_another_run_do_not_count(lesson: Path, table: list[Bound]) -> None:
    notebook = lesson / "lesson.ipynb"
    left_none = ["05_lesson/lesson.ipynb: this run has left no runs/notebook/metrics.json"]
    assert check_bounds(table, notebook, time.time()).missed == left_none
    write_metrics(lesson, {"preset": "street", "bbox": {"AP": 1.0}, "mean_iou": 1.0})
    assert check_bounds(table, notebook, time.time() + 60).missed == left_none
    assert check_bounds(table, lesson / "other.ipynb", time.time() + 60).missed == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[bound]", "bounds.toml: "),
        ('[[bound]]\nnotebook = "a"\n', "missing ['at_least', 'metrics'], unknown []"),
        (ENTRY + 'at_most = "x"\n', "missing [], unknown ['at_most']"),
        ('[[bound]]\nnotebook = "a"\nmetrics = "b"\nat_least = {}\n', "with one name or more"),
        (ENTRY + 'arm = "a"\n', "missing [], unknown ['arm']"),
        (STORED + 'metrics = "b"\nwhere = {}\n', "missing [], unknown ['metrics', 'where']"),
        (STORED + STORED + "seed = 0\n", "bound 2: missing [], unknown ['seed']"),
        ('[[bound]]\nstored = "a"\n', "missing ['at_least'], unknown []"),
    ],
)
def test_wrong_table(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bounds.toml"
    path.write_text(text)
    with pytest.raises(BoundsError) as caught:
        read_bounds(path)
    assert message in str(caught.value)


def stored_outcome(root: Path, entry: str, *values: tuple[str, int, object]) -> tuple:
    """Check a stored comparison of (arm, seed, IoU of dog); the lines without its name."""
    path = root / "05_lesson" / "results" / "name.json"
    path.parent.mkdir(parents=True)
    runs = [{"arm": a, "seed": seed, "per_class": {"dog": v}} for a, seed, v in values]
    path.write_text(json.dumps({"question": "?", "runs": runs}))
    table = root / "bounds.toml"
    table.write_text(entry)
    outcome = check_stored(read_bounds(table), root)
    name = "05_lesson/results/name.json"
    return tuple(
        [line.removeprefix(name) for line in lines] for lines in (outcome.reached, outcome.missed)
    )


def test_every_stored_training_has_to_reach_its_bound(tmp_path: Path) -> None:
    values = ("a", 0, 0.5), ("a", 1, 0.4999), ("b", 0, 0.9), ("b", 1, float("nan")), ("b", 2, None)
    reached, missed = stored_outcome(tmp_path, STORED, *values)
    assert reached == [
        ", a, seed 0: per_class.dog 0.500, bound 0.500",
        ", b, seed 0: per_class.dog 0.900, bound 0.500",
    ]
    assert missed == [
        ", a, seed 1: per_class.dog 0.500, bound 0.500",
        ", b, seed 1: per_class.dog nan, bound 0.500",
        ", b, seed 2: per_class.dog None, bound 0.500",
    ]


def test_one_arm_of_a_stored_comparison(tmp_path: Path) -> None:
    entry, values = STORED + 'arm = "a"\n', (("a", 0, 0.6), ("b", 0, 0.1))
    line = ", a, seed 0: per_class.dog 0.600, bound 0.500"
    assert stored_outcome(tmp_path / "1", entry, *values) == ([line], [])
    no_arm = ([], [": no training of the arm 'a'"])
    assert stored_outcome(tmp_path / "2", entry, *values[1:]) == no_arm


def test_a_stored_comparison_that_is_missing_is_missed(tmp_path: Path) -> None:
    path = tmp_path / "bounds.toml"
    path.write_text(STORED + ENTRY)
    outcome = check_stored(read_bounds(path), tmp_path)
    missed = ["05_lesson/results/name.json: there is no such file"]
    assert (outcome.reached, outcome.missed) == ([], missed)


def test_notebooks_have_no_bound_of_a_stored_comparison(lesson: Path, tmp_path: Path) -> None:
    path = tmp_path / "bounds.toml"
    path.write_text(STORED)
    outcome = check_bounds(read_bounds(path), lesson / "lesson.ipynb", time.time())
    assert (outcome.reached, outcome.missed) == ([], [])


def test_the_real_table_names_real_notebooks() -> None:
    bounds = read_bounds(BOUNDS)
    assert any(bound.notebook for bound in bounds)
    for bound in bounds:
        if bound.notebook:
            text = (ROOT / bound.notebook).read_text(encoding="utf-8")
            assert "metrics.json" in text, f"{bound.notebook} leaves no metrics.json"
        assert all(0 < least < 1 for least in bound.at_least.values())


def test_what_is_stored_reaches_its_bounds() -> None:
    outcome = check_stored(read_bounds(BOUNDS), ROOT)
    assert outcome.missed == []
    assert outcome.reached
