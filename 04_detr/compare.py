"""Compare ways of training by several trainings, each of four to twenty minutes of one core.

The result is written to `results/NAME.json` after each training. A comparison that was stopped goes
on where it was; delete its file to begin anew.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from common.coco_metrics import coco_metrics
from common.compare_command import Arms, compare_main
from dataset import load_data
from engine import train
from evaluation import collect, suppress
from settings import make_settings

RESULTS = Path(__file__).parent / "results"
SCENES = 480  # 120 steps an epoch
EVERY = 20  # steps of which one loss is kept
SUPPRESSION_IOU = 0.7
STAGES = ("selected places", "layer 1", "layer 2", "layer 3")

PLAIN = {"queries": "learned", "refine": False, "denoising": 0, "maps": 1}
# The epochs are such that each training takes the same minutes within a tenth: one map is sooner.
IDEAS: dict[str, dict[str, Any]] = {
    "DETR of 2020": {**PLAIN, "epochs": 4},
    "+ three maps": {**PLAIN, "maps": 3, "epochs": 3},
    "+ query selection": {"refine": False, "denoising": 0, "epochs": 3},
    "+ refinement": {"denoising": 0, "epochs": 3},
    "+ denoising": {"denoising": 4, "epochs": 3},
}

LONGER: dict[str, dict[str, Any]] = {
    "600 steps": {"epochs": 2},
    "1,500 steps": {"epochs": 5},
    "1,500 steps, denoising": {"epochs": 5, "denoising": 4},
}

EPILOG = """comparisons:
  ideas     DETR as published, and what came later one by one; the same minutes for each
  longer    AP and duplicates after 7 and 16 minutes, and what denoising brings by then

example:
  python compare.py ideas --seeds 3"""


def train_with(seed: int, **changes: Any) -> dict[str, Any]:
    """Train the preset `street` with changed settings, and measure on the test scenes.

    Returns:
        COCO's metrics; "stages", by name of STAGES its answers' "AP", and "suppressed", their AP
        after a suppression; the losses of some steps as "history"; and "seconds".
    """
    settings = make_settings("street", seed=seed, **changes)
    data = load_data(settings, progress=False)
    run = train(settings, data, None, progress=False)
    names = STAGES[-len(run.model.class_heads) :]
    truth, found = collect(run.model, data.test, progress=False, stages=range(len(names)))
    stages, metrics = {}, {}
    for name, entries in zip(names, found, strict=True):
        metrics = coco_metrics(truth, entries)
        kept = coco_metrics(truth, suppress(entries, SUPPRESSION_IOU))
        stages[name] = {"AP": metrics["bbox"]["AP"], "suppressed": kept["bbox"]["AP"]}
    losses = [[step, one["loss"]] for step, one in enumerate(run.history)]
    return {**metrics, "stages": stages, "history": losses[::EVERY], "seconds": run.seconds}


def arms(ways: dict[str, dict[str, Any]], **same: Any) -> Arms:
    """Return what trains each way with a seed; `same` are changes that all ways have."""
    return {
        name: lambda seed, changes=changes: train_with(seed, **same, **changes)
        for name, changes in ways.items()
    }


COMPARISONS = {
    "ideas": (
        "AP on 100 unseen scenes: DETR of 2020, and with one later idea more in each row, trained "
        "for the same minutes",
        arms(IDEAS, num_scenes=SCENES),
    ),
    "longer": (
        "AP on 100 unseen scenes, and what suppression adds to it in each stage, after a short and "
        "a longer training",
        arms(LONGER),
    ),
}


def figures(one: dict[str, Any]) -> dict[str, float]:
    """Return what is printed of one training."""
    shown = {name: one["bbox"][name] for name in ("AP", "AP50")}
    last = one["stages"][STAGES[-1]]["suppressed"]
    return {**shown, "AP with suppression": last, "seconds": one["seconds"]}


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    return compare_main(__doc__, EPILOG, COMPARISONS, RESULTS, figures, arguments)


if __name__ == "__main__":
    sys.exit(main())
