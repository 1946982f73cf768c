"""Check the accuracies of notebooks and of stored comparisons against the table `bounds.toml`.

A notebook leaves its accuracies in a `metrics.json` in its lesson's folder `runs/`. They differ a
little from processor to processor, so no cell asserts them: after a full run they are compared
here with bounds that leave room for that. One entry of the table:

    [[bound]]
    notebook = "05_lesson/lesson.ipynb"
    metrics = "runs/notebook/metrics.json"     in the lesson's folder
    where = { preset = "street" }              entries that metrics.json must have
    at_least = { "bbox.AP" = 0.5 }             names of nested entries, joined by dots

A stored comparison lies in the repository, so a test compares it, without a run. Each of its
trainings has to reach the bounds. Its entry:

    [[bound]]
    stored = "05_lesson/results/name.json"
    arm = "with skips"                         one arm alone; without this line, all
    at_least = { mean_iou = 0.5 }
"""

import json
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# The keys that an entry must have, and those that it may have.
OF_NOTEBOOK = ({"notebook", "metrics", "at_least"}, {"where"})
OF_STORED = ({"stored", "at_least"}, {"arm"})


class BoundsError(ValueError):
    """The table of bounds is not what it should be; the text says what is wrong."""


@dataclass(frozen=True)
class Bound:
    """What one notebook or stored comparison has to reach; see the module for the fields."""

    at_least: dict[str, float]
    notebook: str = ""
    metrics: str = ""
    where: dict[str, Any] = field(default_factory=dict)
    stored: str = ""
    arm: str = ""


@dataclass
class Outcome:
    """What came of comparing metrics with their bounds.

    Attributes:
        reached: a line for each value at its bound or above.
        missed: a line for each value below, or for what cannot be compared.
    """

    reached: list[str] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)


def read_bounds(path: Path) -> list[Bound]:
    """Read the table.

    Raises:
        BoundsError: it is not TOML, or an entry has other keys than its kind, or no bound at all.
    """
    try:
        entries = tomllib.loads(path.read_text(encoding="utf-8")).get("bound", [])
    except tomllib.TOMLDecodeError as error:
        raise BoundsError(f"{path}: {error}") from error
    for number, entry in enumerate(entries, start=1):
        needed, allowed = OF_STORED if "stored" in entry else OF_NOTEBOOK
        missing, unknown = needed - set(entry), set(entry) - needed - allowed
        if missing or unknown or not entry["at_least"]:
            raise BoundsError(
                f"{path}, bound {number}: missing {sorted(missing)}, unknown {sorted(unknown)}; "
                "an entry has notebook, metrics and perhaps where, or stored and perhaps arm; and "
                "at_least with one name or more"
            )
    return [Bound(**entry) for entry in entries]


def check_bounds(bounds: list[Bound], notebook: Path, started: float) -> Outcome:
    """Compare what a notebook has left with its bounds.

    Args:
        bounds: the whole table.
        notebook: the notebook that has just been run, in its lesson's folder.
        started: when, in seconds since the epoch: an older metrics.json is of another run.
    """
    name = f"{notebook.parent.name}/{notebook.name}"
    outcome = Outcome()
    for bound in (one for one in bounds if one.notebook == name):
        path = notebook.parent / bound.metrics
        if not path.is_file() or path.stat().st_mtime < started - 2:  # some disks count in 2 s
            outcome.missed.append(f"{name}: this run has left no {bound.metrics}")
            continue
        metrics = json.loads(path.read_text(encoding="utf-8"))
        if all(metrics.get(key) == value for key, value in bound.where.items()):
            _compare(bound, bound.notebook, metrics, outcome)
    return outcome


def check_stored(bounds: list[Bound], root: Path) -> Outcome:
    """Compare every training of the stored comparisons with its bounds.

    Args:
        bounds: the whole table.
        root: the folder of the lessons.
    """
    outcome = Outcome()
    for bound in (one for one in bounds if one.stored):
        path = root / bound.stored
        if not path.is_file():
            outcome.missed.append(f"{bound.stored}: there is no such file")
            continue
        runs = json.loads(path.read_text(encoding="utf-8"))["runs"]
        chosen = [run for run in runs if bound.arm in ("", run["arm"])]
        if not chosen:
            outcome.missed.append(f"{bound.stored}: no training of the arm {bound.arm!r}")
        for run in chosen:
            _compare(bound, f"{bound.stored}, {run['arm']}, seed {run['seed']}", run, outcome)
    return outcome


def _compare(bound: Bound, name: str, metrics: dict[str, Any], outcome: Outcome) -> None:
    for entry, least in bound.at_least.items():
        value = _look_up(metrics, entry)
        shown = f"{value:.3f}" if isinstance(value, int | float) else f"{value!r}"
        line = f"{name}: {entry} {shown}, bound {least:.3f}"
        good = isinstance(value, int | float) and value >= least  # NaN is not
        (outcome.reached if good else outcome.missed).append(line)


def _look_up(metrics: Any, entry: str) -> Any:
    """Return the nested entry "a.b.c"; None where there is none."""
    for key in entry.split("."):
        metrics = metrics.get(key) if isinstance(metrics, dict) else None
    return metrics
