"""Check the accuracies that notebooks reach against the table `bounds.toml`.

A notebook leaves its accuracies in a `metrics.json` in its lesson's folder `runs/`. They differ a
little from processor to processor, so no cell asserts them: after a full run they are compared
here with bounds that leave room for that. One entry of the table:

    [[bound]]
    notebook = "05_lesson/lesson.ipynb"
    metrics = "runs/notebook/metrics.json"     in the lesson's folder
    where = { preset = "street" }              entries that metrics.json must have
    at_least = { "bbox.AP" = 0.5 }             names of nested entries, joined by dots
"""

import json
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

KEYS = {"notebook", "metrics", "where", "at_least"}


class BoundsError(ValueError):
    """The table of bounds is not what it should be; the text says what is wrong."""


@dataclass(frozen=True)
class Bound:
    """What one notebook has to reach; see the module for the fields."""

    notebook: str
    metrics: str
    at_least: dict[str, float]
    where: dict[str, Any] = field(default_factory=dict)


@dataclass
class Outcome:
    """What came of comparing a notebook's metrics with its bounds.

    Attributes:
        reached: a line for each value at its bound or above.
        missed: a line for each value below, or for what cannot be compared.
    """

    reached: list[str] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)


def read_bounds(path: Path) -> list[Bound]:
    """Read the table.

    Raises:
        BoundsError: it is not TOML, or an entry has other keys than `KEYS`, or no bound at all.
    """
    try:
        entries = tomllib.loads(path.read_text(encoding="utf-8")).get("bound", [])
    except tomllib.TOMLDecodeError as error:
        raise BoundsError(f"{path}: {error}") from error
    for number, entry in enumerate(entries, start=1):
        missing, unknown = {"notebook", "metrics", "at_least"} - set(entry), set(entry) - KEYS
        if missing or unknown or not entry["at_least"]:
            raise BoundsError(
                f"{path}, bound {number}: missing {sorted(missing)}, unknown {sorted(unknown)}; "
                "an entry has notebook, metrics, at_least with one name or more, and perhaps where"
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
            _compare(bound, metrics, outcome)
    return outcome


def _compare(bound: Bound, metrics: dict[str, Any], outcome: Outcome) -> None:
    for entry, least in bound.at_least.items():
        value = _look_up(metrics, entry)
        shown = f"{value:.3f}" if isinstance(value, int | float) else f"{value!r}"
        line = f"{bound.notebook}: {entry} {shown}, bound {least:.3f}"
        good = isinstance(value, int | float) and value >= least  # NaN is not
        (outcome.reached if good else outcome.missed).append(line)


def _look_up(metrics: Any, entry: str) -> Any:
    """Return the nested entry "a.b.c"; None where there is none."""
    for key in entry.split("."):
        metrics = metrics.get(key) if isinstance(metrics, dict) else None
    return metrics
