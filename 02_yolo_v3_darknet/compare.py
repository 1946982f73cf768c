"""Compare ways of training, or of computing what was trained: up to an hour on two cores.

The result is written to `results/NAME.json` after each training. A comparison that was stopped goes
on where it was; delete its file to begin anew.
"""

from __future__ import annotations

import functools
import math
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from boxes import Letterbox, height_width
from common.coco_metrics import coco_metrics
from common.coco_truth import coco_truth
from common.compare_command import compare_main
from common.run import Run
from darknet.network import Darknet
from dataset import DetectionData, load_data
from engine import save_model, train
from evaluation import collect, find_all, to_coco
from settings import make_settings
from speed.engines import build_network
from speed.pipelines import OPENCV, VARIANTS, OpenCVPipeline, Work

RESULTS = Path(__file__).parent / "results"
SHORT = {"epochs": 4, "evaluate_every": 1000}  # the preset `street` has seven
DECAY = 0.998  # of the moving average
CALIBRATION_SCENES = 32  # of the training part, for int8
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
  engines   one training of four epochs, computed by each engine in each precision; needs openvino

example:
  python compare.py ideas --seeds 3
  python compare.py engines"""


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


@functools.cache
def trained(seed: int) -> tuple[Path, DetectionData, tuple[int, int]]:
    """Train the preset `street` once, and return its folder, its data and the input's size."""
    settings = make_settings("street", seed=seed, **SHORT)
    data, folder = load_data(settings, progress=False), Path(tempfile.mkdtemp())
    save_model(train(settings, data, folder, progress=False), data.class_names)
    return folder, data, height_width(settings.final_size)


def compute_with(seed: int, variant: str) -> dict[str, Any]:
    """Measure one engine with one precision on the test scenes, with the weights of all others.

    Args:
        seed: of the training.
        variant: one of `speed.pipelines.VARIANTS`.
    """
    folder, data, size = trained(seed)
    model = Darknet(folder / "model.cfg").eval()
    model.load_weights(folder / "model.weights")
    if variant == OPENCV:
        importer = OpenCVPipeline(Work(f"{folder}/model.cfg", f"{folder}/model.weights", "", ""))

        def network(images: Tensor) -> list[Tensor]:
            return [torch.from_numpy(one) for one in importer.maps(images.numpy())]
    else:
        engine, precision = variant.split("-")
        scenes = [np.array(data.train.photo(index)) for index in range(CALIBRATION_SCENES)]
        pictures = [Letterbox(*one.shape[1::-1], *size[::-1]).apply(one)[None] for one in scenes]
        network = build_network(model, engine, size, precision, calibration=pictures)
    found = find_all(model, data.test, size, network=network, progress=False)
    return coco_metrics(coco_truth(data.test.labels), to_coco(data.test, found))


COMPARISONS = {
    "ideas": (
        "AP on 100 unseen scenes with the loss as published, and with one later idea each",
        {
            arm: lambda seed, changes=changes: train_with(seed, **changes)
            for arm, changes in IDEAS.items()
        },
    ),
    "engines": (
        "AP on 100 unseen scenes of one trained network, computed by each engine",
        {arm: lambda seed, variant=arm: compute_with(seed, variant) for arm in VARIANTS},
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
