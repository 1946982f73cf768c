"""The settings of a training, and three presets to begin with."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from augmentation import Augmentation
from boxes import InputSize, check_size, height_width, parse_size
from common.choices import MAX_DETECTIONS, ON_INVALID, OPTIMIZERS
from common.precision import PRECISIONS
from common.settings import change_preset, check_settings, setting
from darknet.pretrained import BASES
from losses import BOX_LOSSES

STRIDE = 32  # of the YOLOv3 family: input sides are multiples of it
LARGEST_SIDE = 2048  # of an input in training
ANCHORS = ("fit", "base")


@dataclass(frozen=True)
class Settings:
    """All that a training depends on, beside its data; see `common.settings.setting`.

    A size is a square's side in pixels, or (height, width), multiples of 32.
    """

    preset: str = setting("street", "name of the preset these began as", option=False)
    data: str = setting("street", "street (drawn), penn_fudan (download), or a path to labels")
    train_split: str | None = setting(None, "the data's own list to train on", metavar="NAME")
    validation_split: str | None = setting(None, "... to draw the curves on", metavar="NAME")
    test_split: str | None = setting(None, "... and to measure on", metavar="NAME")
    on_invalid: str = setting("refuse", "labels that cannot be used", choices=ON_INVALID)
    num_scenes: int = setting(448, "drawn training scenes, for --data street", at_least=1)
    base: str = setting("yolov3-tiny", "network", metavar="|".join((*BASES, "CFG")))
    pretrained: str = setting(
        "auto", "weights to start from, auto: COCO's", metavar="auto|none|FILE", fixed=False
    )
    size: InputSize = setting(
        (288, 384), "of the input in training, pixels", parse=parse_size, metavar="N|HxW"
    )
    test_size: InputSize | None = setting(
        None, "of the finished model's input, else the same", parse=parse_size, metavar="N|HxW"
    )
    epochs: int = setting(7, "passes over the training photos", at_least=1)
    batch_size: int = setting(8, "photos a step, of all processes together", at_least=1)
    optimizer: str = setting("adamw", "AdamW, or SGD with momentum", choices=OPTIMIZERS)
    learning_rate: float = setting(2e-3, "highest of the schedule", above=0)
    weight_decay: float = setting(0.01, "of the kernels", at_least=0)
    warmup: float = setting(0.1, "share of the steps in which it rises", at_least=0, at_most=0.9)
    max_gradient_norm: float = setting(100.0, "longer gradients are shortened to it", above=0)
    anchors: str = setting("fit", "fit them to the boxes, or keep the base's", choices=ANCHORS)
    box_loss: str = setting("darknet", "the published one, or complete IoU", choices=BOX_LOSSES)
    positive_iou: float | None = setting(
        None, "anchors above it learn too, else the best alone", at_least=0, at_most=1
    )
    mosaic: float = setting(0.0, "share of images made of four photos", at_least=0, at_most=1)
    scale: float = setting(0.4, "sizes change by up to 1 + X times", at_least=0, at_most=10)
    flip: float = setting(0.5, "share of mirrored photos; 0 for letters", at_least=0, at_most=1)
    flip_vertical: float = setting(
        0.0, "share of photos upside down; 0.5 for cells", at_least=0, at_most=1
    )
    multi_scale: bool = setting(False, "vary the size, from 2/3 to 4/3 of it")
    precision: str = setting("auto", "auto: fp16 on a CUDA GPU, else fp32", choices=PRECISIONS)
    evaluate_every: int = setting(
        0, "epochs between two measurements, 0: four in all", at_least=0, fixed=False
    )
    max_detections: int = setting(
        MAX_DETECTIONS, "detections of a photo that are kept and measured", at_least=1
    )
    seed: int = setting(0, "of everything random; the same one repeats a run", at_least=0)
    workers: int = setting(0, "processes that load photos", at_least=0, fixed=False)

    def __post_init__(self) -> None:
        """Raise a ValueError for a value that is not allowed."""
        check_settings(self)
        for size in (self.size, self.final_size):
            check_size(size, STRIDE, LARGEST_SIDE)

    @property
    def augmentation(self) -> Augmentation:
        """Return how photos are changed in training."""
        return Augmentation(
            flip=self.flip,
            flip_vertical=self.flip_vertical,
            scale=self.scale,
            mosaic=self.mosaic,
        )

    @property
    def final_size(self) -> InputSize:
        """Return the input size of the finished model, at which it is measured."""
        return self.size if self.test_size is None else self.test_size

    @property
    def sizes(self) -> tuple[tuple[int, int], ...]:
        """Return the input sizes (height, width) that training uses."""
        sides = height_width(self.size)
        if not self.multi_scale:
            return (sides,)
        longest = max(sides)
        low, high = math.ceil(longest * 2 / 3 / STRIDE), math.floor(longest * 4 / 3 / STRIDE)
        scaled = (
            [max(1, round(side * k / longest)) for side in sides] for k in range(low, high + 1)
        )
        return tuple((STRIDE * height, STRIDE * width) for height, width in scaled)

    def is_measured(self, epoch: int) -> bool:
        """Tell whether the network is measured after this epoch (from 0); the last always is."""
        every = self.evaluate_every or math.ceil(self.epochs / 4)
        return (epoch + 1) % every == 0 or epoch + 1 == self.epochs


PRESETS = {
    # Drawn scenes in their own shape, 3:4, and COCO's weights. For a laptop.
    "street": Settings(),
    # Photos of all shapes on a CPU: a square, and more passes over fewer of them.
    "photos": Settings(preset="photos", data="penn_fudan", size=320, epochs=12),
    # The whole network at the size of the paper. For a GPU.
    "full": Settings(
        preset="full",
        data="penn_fudan",
        base="yolov3",
        size=416,
        epochs=30,
        batch_size=16,
        workers=4,
    ),
}


def make_settings(preset: str | None = None, **changes: Any) -> Settings:
    """Return a preset's settings with changes; None chooses the preset by machine and data.

    Raises:
        ValueError: unknown preset, or a value that is not allowed.
        TypeError: a change that is no setting.
    """
    return change_preset(PRESETS, preset, changes)
