"""Compare ways of training by several trainings: each takes two to four minutes on one core.

Those of `skips` take over ten.

The result is written to `results/NAME.json` after each training. A comparison that was stopped goes
on where it was; delete its file to begin anew.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from common.compare_command import compare_main
from common.masks.augmentation import evaluation_transforms, training_transforms
from common.masks.class_table import numbered_classes
from common.masks.rare_class import RARE_CLASSES, write_rare_masks
from common.street.parts import (
    NUM_TEST_SCENES,
    NUM_VALIDATION_SCENES,
    STREET_FOLDER,
    draw_part,
)
from dataset import SegmentationData, SegmentationDataset, load_data
from engine import train
from evaluation import count_instances, evaluate, predict_labels
from metrics import BoundaryErrors, ConfusionMatrix, summarize
from settings import Settings, make_settings

RESULTS = Path(__file__).parent / "results"
PART = (120, 160)  # height and width of what is cut from a picture: four parts cost one picture
FEW = 64  # pictures that are learned from again and again
# Steps of 8 pictures or parts in one training.
STEPS = {"skips": 3600, "rare": 700, "pretraining": 200, "augmentation": 200, "deeplab": 180}
SCRATCH = {"model": "unet", "learning_rate": 3e-3}

EPILOG = """comparisons:
  skips         U-Net from scratch with and without skip connections, measured on the way
  rare          five losses for a class with 1.3 % of the pixels
  pretraining   one network from ImageNet's weights and from random ones, in the same minutes
  augmentation  what random changes of 64 pictures bring
  deeplab       smp's U-Net and DeepLabV3+ on one pretrained encoder
  nuclei        nuclei counted after the preset of that name; needs its download

example:
  python compare.py rare --seeds 3"""


def fit(settings: Settings, data: SegmentationData, steps: int) -> dict[str, Any]:
    """Train so many steps, on the pictures again and again; measure on the test pictures.

    Returns:
        What `metrics.summarize` gives, and "near" and "far", the wrong share of the pixels up to
        two pixels from a boundary and of the others; "curve", the mean IoU on the validation
        pictures after each epoch; "steps" and "seconds" of training.
    """
    steps = steps // settings.epochs * settings.epochs
    count = steps // settings.epochs * settings.batch_size  # pictures of an epoch
    indices = [k % len(data.train) for k in range(count)]
    again = data.train.subset(indices, data.train.transforms)
    run = train(settings, replace(data, train=again), None, progress=False)
    run.model.eval()
    matrix, boundary = ConfusionMatrix(len(data.class_names)), BoundaryErrors()
    for image, target in data.test:
        found = predict_labels(run.model, image, settings.window)
        for one in (matrix, boundary):
            one.update(found, target["labels"].as_subclass(type(found)))
    near, far = boundary.shares()
    curve = [one["metrics"]["mean_iou"] for one in run.epochs]
    measured = {"near": near, "far": far, "curve": curve, "steps": steps, "seconds": run.seconds}
    return {**summarize(matrix, data.class_names), **measured}


def street(seed: int, steps: int, pictures: int | None = None, **changes: Any) -> dict[str, Any]:
    """Train on drawn scenes; `changes` are settings that differ from the preset `street`."""
    settings = make_settings("street", seed=seed, **{"epochs": 1, **changes})
    data = load_data(settings, progress=False)
    if pictures is not None:
        few = data.train.subset(range(min(pictures, len(data.train))), data.train.transforms)
        data = replace(data, train=few)
    return fit(settings, data, steps)


def load_rare(settings: Settings) -> SegmentationData:
    """Return drawn scenes in which dogs are one class and all else the other."""
    counts = {"train": settings.num_scenes, "validation": NUM_VALIDATION_SCENES}
    parts = {}
    for part, count in {**counts, "test": NUM_TEST_SCENES}.items():
        pairs = write_rare_masks(draw_part(STREET_FOLDER, part, count, progress=False))
        parts[part] = SegmentationDataset(
            pairs, numbered_classes(RARE_CLASSES), evaluation_transforms()
        )
    parts["train"].transforms = training_transforms(
        flip=settings.flip, crop_size=settings.crop_size
    )
    return SegmentationData(**parts)


def rare(seed: int, steps: int, losses: Sequence[str], balance: bool = False) -> dict[str, Any]:
    """Train U-Net from scratch on dogs with a sum of losses."""
    settings = make_settings(
        "street",
        seed=seed,
        epochs=1,
        crop_size=PART,
        loss_weights=dict.fromkeys(losses, 1.0),
        balance_classes=balance,
        **SCRATCH,
    )
    return fit(settings, load_rare(settings), steps)


def nuclei(seed: int) -> dict[str, Any]:
    """Train as `train.py --data nuclei --seed SEED` does, and measure what it measures.

    Returns:
        What `evaluation.evaluate` gives for the epoch that is best on the validation pictures;
        "instances", see `evaluation.count_instances`; "pictures" of each part; "curve", "steps"
        and "seconds" as in `fit`.
    """
    settings = make_settings("nuclei", seed=seed)
    data = load_data(settings, progress=False)
    with tempfile.TemporaryDirectory() as folder:
        run = train(settings, data, folder, progress=False)
        model = run.load_best()
    parts = {"train": data.train, "validation": data.validation, "test": data.test}
    return {
        **evaluate(model, data.test, settings.window, progress=False),
        "instances": count_instances(model, data.test, settings.window, progress=False),
        "pictures": {name: len(part) for name, part in parts.items()},
        "curve": [one["metrics"]["mean_iou"] for one in run.epochs],
        "steps": len(run.history),
        "seconds": run.seconds,
    }


ARMS: dict[str, dict[str, dict[str, Any]]] = {
    "skips": {
        "with skips": {**SCRATCH, "crop_size": PART, "epochs": 12},
        "without": {**SCRATCH, "crop_size": PART, "epochs": 12, "skips": False},
    },
    "rare": {
        "cross-entropy": {"losses": ("cross_entropy",)},
        "weighted cross-entropy": {"losses": ("cross_entropy",), "balance": True},
        "Dice": {"losses": ("dice",)},
        "focal": {"losses": ("focal",)},
        "cross-entropy + Dice": {"losses": ("cross_entropy", "dice")},
    },
    # From scratch all stages learn, and a step takes 1.6 times as long.
    "pretraining": {"pretrained": {}, "from scratch": {"pretrained": False, "steps": 125}},
    "augmentation": {
        "nothing": {"flip": 0.0},
        "flip": {},
        "flip, colours": {"photometric": 0.5},
        "flip, colours, scale": {
            "photometric": 0.5,
            "scale": (0.7, 1.4),
            "crop_size": (240, 320),
        },
    },
    "deeplab": {"U-Net": {"model": "smp_unet"}, "DeepLabV3+": {"model": "smp_deeplabv3plus"}},
    "nuclei": {"preset": {}},
}
QUESTIONS = {
    "skips": "mean IoU and errors at boundaries on 100 unseen scenes, with and without skips",
    "rare": "IoU of a class with 1.3 % of the pixels, after five losses",
    "pretraining": "mean IoU of one network from trained and from random weights, in equal time",
    "augmentation": f"mean IoU on 100 unseen scenes after training on {FEW}, changed at random",
    "deeplab": "mean IoU and errors at boundaries of two decoders on one encoder",
    "nuclei": "nuclei of unseen pictures counted, as patches and after a watershed",
}


def arm(name: str, options: dict[str, Any], seed: int) -> dict[str, Any]:
    """Train one way of a comparison with a seed."""
    if name == "nuclei":
        return nuclei(seed, **options)
    options = {"steps": STEPS[name], **options}
    if name == "rare":
        return rare(seed, **options)
    return street(seed, pictures=FEW if name == "augmentation" else None, **options)


COMPARISONS = {
    name: (
        QUESTIONS[name],
        {
            way: lambda seed, name=name, options=options: arm(name, options, seed)
            for way, options in ways.items()
        },
    )
    for name, ways in ARMS.items()
}


def figures(one: dict[str, Any]) -> dict[str, float]:
    """Return what is printed of one training."""
    judged = next(name for name in ("dog", "person", "nucleus") if name in one["per_class"])
    shown = {"mean IoU": one["mean_iou"], judged: one["per_class"][judged]}
    shown |= {f"F1, {way}": counts["f1"] for way, counts in one.get("instances", {}).items()}
    return shown | {name: one[name] for name in ("near", "far", "seconds") if name in one}


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    return compare_main(__doc__, EPILOG, COMPARISONS, RESULTS, figures, arguments)


if __name__ == "__main__":
    sys.exit(main())
