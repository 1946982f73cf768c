"""Compare ways of training by several trainings of about four minutes of one core.

The result is written to `results/NAME.json` after each training. A comparison that was stopped goes
on where it was; delete its file to begin anew.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from common.coco_metrics import coco_metrics
from common.compare_command import compare_main
from dataset import load_data
from engine import train
from evaluation import collect, suppress
from settings import make_settings

RESULTS = Path(__file__).parent / "results"
SCENES = 480  # 120 steps an epoch
EVERY = 20  # steps of which one loss is kept
SUPPRESSION_IOU = 0.7

PLAIN = {"queries": "learned", "refine": False, "denoising": 0, "maps": 1}
# The epochs are such that each training takes the same minutes within a tenth: one map is sooner.
IDEAS: dict[str, dict[str, Any]] = {
    "DETR of 2020": {**PLAIN, "epochs": 4},
    "+ three maps": {**PLAIN, "maps": 3, "epochs": 3},
    "+ query selection": {"refine": False, "denoising": 0, "epochs": 3},
    "+ refinement": {"denoising": 0, "epochs": 3},
    "+ denoising": {"denoising": 4, "epochs": 3},
}

EPILOG = """comparisons:
  ideas     DETR as published, and what came later one by one; the same minutes for each

example:
  python compare.py ideas --seeds 3"""


def train_with(seed: int, **changes: Any) -> dict[str, Any]:
    """Train the preset `street` with changed settings, and measure on the test scenes.

    Returns:
        COCO's metrics; the same after a suppression as "suppressed"; the losses of some steps as
        "history"; and "seconds".
    """
    settings = make_settings("street", seed=seed, **{"num_scenes": SCENES, **changes})
    data = load_data(settings, progress=False)
    run = train(settings, data, None, progress=False)
    truth, found = collect(run.model, data.test, progress=False)
    kept = coco_metrics(truth, suppress(found, SUPPRESSION_IOU))["bbox"]
    losses = [[step, one["loss"]] for step, one in enumerate(run.history)]
    more = {"suppressed": kept, "history": losses[::EVERY], "seconds": run.seconds}
    return {**coco_metrics(truth, found), **more}


COMPARISONS = {
    "ideas": (
        "AP on 100 unseen scenes: DETR of 2020, and with one later idea more in each row, trained "
        "for the same minutes",
        {
            arm: lambda seed, changes=changes: train_with(seed, **changes)
            for arm, changes in IDEAS.items()
        },
    ),
}


def figures(one: dict[str, Any]) -> dict[str, float]:
    """Return what is printed of one training."""
    shown = {name: one["bbox"][name] for name in ("AP", "AP50")}
    return {**shown, "AP with suppression": one["suppressed"]["AP"], "seconds": one["seconds"]}


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    return compare_main(__doc__, EPILOG, COMPARISONS, RESULTS, figures, arguments)


if __name__ == "__main__":
    sys.exit(main())
