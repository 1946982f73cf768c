"""Compare ways of training by several trainings: about an hour on two cores.

The result is written to `results/NAME.json` after each training. A comparison that was stopped goes
on where it was; delete its file to begin anew.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from common.coco_metrics import coco_metrics
from common.compare_command import compare_main
from dataset import load_data
from engine import train
from evaluation import collect
from settings import make_settings

RESULTS = Path(__file__).parent / "results"
# The preset `street` without what it has beyond the paper, and shorter: fifteen trainings.
PUBLISHED = {"average_decay": 0.0, "epochs": 4}
IDEAS: dict[str, dict[str, Any]] = {
    "published": {},
    "several anchors": {"positive_iou": 0.4},
    "complete IoU": {"box_loss": "ciou"},
    "moving average": {"average_decay": 0.998},
    "mosaic": {"mosaic": 0.5},
}

EPILOG = """comparisons:
  ideas     the loss as published, and later ideas one by one, each trained for four epochs

example:
  python compare.py ideas --seeds 3"""


def train_with(seed: int, **changes: Any) -> dict[str, Any]:
    """Train the preset `street` with changed settings, and measure on the test scenes."""
    settings = make_settings("street", seed=seed, evaluate_every=1000, **PUBLISHED | changes)
    data = load_data(settings, progress=False)
    with tempfile.TemporaryDirectory() as folder:
        run = train(settings, data, folder, progress=False)
    truth, detections = collect(run.model, data.test, settings.final_size, progress=False)
    return {**coco_metrics(truth, detections), "seconds": run.seconds}


COMPARISONS = {
    "ideas": (
        "AP on 100 unseen scenes with the loss as published, and with one later idea each",
        {
            arm: lambda seed, changes=changes: train_with(seed, **changes)
            for arm, changes in IDEAS.items()
        },
    ),
}


def figures(one: dict[str, Any]) -> dict[str, float]:
    """Return what is printed of one training."""
    return {name: one["bbox"][name] for name in ("AP", "AP50")}


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    return compare_main(__doc__, EPILOG, COMPARISONS, RESULTS, figures, arguments)


if __name__ == "__main__":
    sys.exit(main())
