"""Compare ways of training by several trainings: about an hour on two cores.

The result is written to `results/NAME.json` after each training. A comparison that was stopped goes
on where it was; delete its file to begin anew.
"""

from __future__ import annotations

import math
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from common.coco_metrics import coco_metrics
from common.compare_command import compare_main
from common.run import Run
from dataset import load_data
from engine import train
from evaluation import collect
from settings import make_settings

RESULTS = Path(__file__).parent / "results"
SHORT = {"epochs": 4, "evaluate_every": 1000}  # the preset `street` has seven
DECAY = 0.998  # of the moving average
RAMP = 100  # steps after which its decay has reached 63 % of that
IDEAS: dict[str, dict[str, Any]] = {
    "published": {},
    "several anchors": {"positive_iou": 0.4},
    "complete IoU": {"box_loss": "ciou"},
    "moving average": {"average": True},
    "mosaic": {"mosaic": 0.5},
}

EPILOG = """comparisons:
  ideas     the loss as published, and later ideas one by one, each trained for four epochs

example:
  python compare.py ideas --seeds 3"""


class RunningAverage:
    """A running average of a model's weights and batch norm statistics; call it after each step.

    Single steps jump around the optimum; their average lies closer to it (Polyak and Juditsky,
    1992). While few steps are done, the average forgets faster, or it would hold on to the start:
    in step t, `DECAY * (1 - exp(-t / RAMP))` of it stays.
    """

    def __init__(self) -> None:
        self.model: AveragedModel | None = None

    def __call__(self, run: Run) -> None:
        """Move the average towards the weights of the run."""
        if self.model is None:
            self.model = AveragedModel(run.model, multi_avg_fn=self._move, use_buffers=True)
        self.model.update_parameters(run.model)

    @staticmethod
    @torch.no_grad()
    def _move(averages: list[Tensor], values: list[Tensor], done: Tensor) -> None:
        if not averages[0].is_floating_point():  # batch norm's counters
            torch._foreach_copy_(averages, values)
            return
        stays = DECAY * (1 - math.exp(-(int(done) + 1) / RAMP))
        torch._foreach_lerp_(averages, values, 1 - stays)


def train_with(seed: int, average: bool = False, **changes: Any) -> dict[str, Any]:
    """Train the preset `street` with changed settings, and measure on the test scenes.

    Args:
        seed: of the training.
        average: measure the running average of the weights, not the last ones.
        changes: of the settings.
    """
    settings = make_settings("street", seed=seed, **SHORT | changes)
    data, averaged = load_data(settings, progress=False), RunningAverage()
    after_step = averaged if average else None
    with tempfile.TemporaryDirectory() as folder:
        run = train(settings, data, folder, after_step=after_step, progress=False)
    network = averaged.model.module if average else run.model
    truth, detections = collect(network, data.test, settings.final_size, progress=False)
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
