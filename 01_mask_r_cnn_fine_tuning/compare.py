"""Compare ways of training by several trainings: minutes to an hour on two cores.

The result is written to `results/NAME.json` after each training. A comparison that was stopped goes
on where it was; delete its file to begin anew.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from augmentation import evaluation_transforms, training_transforms
from common.coco_metrics import coco_metrics
from common.compare_command import compare_main
from common.confusion import confusion_matrix
from common.street.parts import (
    NUM_TEST_SCENES,
    NUM_VALIDATION_SCENES,
    STREET_FOLDER,
    draw_part,
)
from common.street.views import write_views
from dataset import DetectionData, DetectionDataset, load_data
from engine import train
from evaluation import collect
from settings import Settings, make_settings

RESULTS = Path(__file__).parent / "results"
PICTURES = (10, 30, 100, 300)
STEPS = 400  # of each of them, whatever the number of pictures
CONFUSION_SCORE = 0.5

EPILOG = """comparisons:
  pictures     Faster R-CNN, people by their view, from 10, 30, 100 and 300 scenes, 400 steps each
  backbones    Mask R-CNN on two backbones, and on one of them with live batch norm

example:
  python compare.py pictures --seeds 3"""


def fit(settings: Settings, data: DetectionData) -> dict[str, Any]:
    """Train, measure on the test pictures, and return plain values."""
    run = train(settings, data, None, progress=False)
    truth, detections = collect(run.model, data.test, progress=False)
    metrics = coco_metrics(truth, detections)
    table = confusion_matrix(truth, detections, CONFUSION_SCORE)
    return {**metrics, "confusion": table.tolist(), "seconds": run.seconds}


def load_views(settings: Settings) -> DetectionData:
    """Return drawn scenes whose people are labelled by the side from which they are seen."""
    counts = {"train": settings.num_scenes, "validation": NUM_VALIDATION_SCENES}
    counts["test"] = NUM_TEST_SCENES
    parts = {
        part: DetectionDataset.from_path(
            write_views(draw_part(STREET_FOLDER, part, count, progress=False)),
            training_transforms(flip=settings.flip) if part == "train" else evaluation_transforms(),
            masks=False,
        )
        for part, count in counts.items()
    }
    return DetectionData(**parts)


def train_on_few(count: int, seed: int) -> dict[str, Any]:
    """Train on the first scenes again and again, as many steps as on many scenes."""
    settings = make_settings("street", task="boxes", num_scenes=max(PICTURES), seed=seed)
    data = load_views(settings)
    indices = [k % count for k in range(STEPS * settings.batch_size)]
    few = data.train.subset(indices, data.train.transforms)
    return fit(settings, DetectionData(few, data.validation, data.test))


def train_on(seed: int, **changes: str) -> dict[str, Any]:
    """Train the preset `street` with changed settings."""
    settings = make_settings("street", seed=seed, **changes)
    return fit(settings, load_data(settings, progress=False))


BACKBONE_ARMS: dict[str, dict[str, str]] = {
    "efficientnet_lite0": {},
    "live batch norm": {"batch_norm": "live"},
    "mobilenet_v2": {"backbone": "mobilenet_v2"},
}
COMPARISONS = {
    "pictures": (
        f"AP on 100 unseen scenes after {STEPS} steps on few or many pictures",
        {str(count): lambda seed, count=count: train_on_few(count, seed) for count in PICTURES},
    ),
    "backbones": (
        "AP on 100 unseen scenes with other backbones, and with live statistics of batch norm",
        {
            arm: lambda seed, changes=changes: train_on(seed, **changes)
            for arm, changes in BACKBONE_ARMS.items()
        },
    ),
}


def figures(one: dict[str, Any]) -> dict[str, float]:
    """Return what is printed of one training."""
    return {f"{kind} AP": one[kind]["AP"] for kind in ("bbox", "segm") if kind in one}


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    return compare_main(__doc__, EPILOG, COMPARISONS, RESULTS, figures, arguments)


if __name__ == "__main__":
    sys.exit(main())
