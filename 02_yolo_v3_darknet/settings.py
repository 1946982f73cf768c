"""The settings of a training run, with the reasons for their defaults."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from batches.augmentation import Augmentation
from common.precision import PRECISIONS
from common.smoke import SMOKE_SETTINGS
from darknet.size import InputSize, check_size, height_width

STRIDE = 32  # of the YOLOv3 family: input sides are multiples of it
LARGEST_SIDE = 2048  # of an input in training
ANCHORS = ("fit", "base")
BOX_LOSSES = ("ciou", "darknet")


@dataclasses.dataclass(frozen=True)
class YoloSettings:
    """Everything that a run's result depends on.

    Attributes:
        data, train_split, test_split, num_scenes, on_invalid: see `load_detection_data`.
        base, pretrained: see `start_weights`.
        size: of the network's input in training, pixels, a square's side or (height, width),
            multiples of 32.
        test_size: of the finished model's input; None: the same. An eighth more showed small
            objects better and cost no training time.
        epochs: passes over the training photos.
        batch_size: photos a step, of all processes together.
        learning_rate: the highest of the schedule. 2e-3 suits AdamW with batches of 8: a tenth
            learns too slowly for a run of minutes, ten times as much destroys the backbone.
        weight_decay: of the kernels.
        warmup: share of all steps in which the learning rate rises.
        max_gradient_norm: a longer gradient is shortened to this.
        average_decay: see `common.averaged_weights.AveragedWeights`.
        anchors: `fit` finds the anchors that suit the boxes, `base` keeps the base's.
        box_loss, positive_iou, neighbours: see `losses.YoloLoss`.
        mosaic: share of images made of four photos, in all but the last quarter of the epochs.
            It pays in long runs; in a run of minutes the network needs plain photos more.
        scale, flip, flip_vertical: see `batches.augmentation.Augmentation`.
        multi_scale: choose another size, 2/3 to 4/3 of `size`, every ten steps.
        precision: see `common.precision.choose_precision`.
        evaluate_every: epochs between two measurements; 0: four over the run.
        seed: of everything random.
    """

    data: str = "street"
    train_split: str | None = None
    test_split: str | None = None
    num_scenes: int = 400
    on_invalid: str = "refuse"
    base: str = "yolov3-tiny"
    pretrained: str = "auto"
    size: InputSize = 320
    test_size: InputSize | None = None
    epochs: int = 12
    batch_size: int = 8
    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    warmup: float = 0.1
    max_gradient_norm: float = 100.0
    average_decay: float = 0.998
    anchors: str = "fit"
    box_loss: str = "ciou"
    positive_iou: float | None = 0.4
    neighbours: bool = False
    mosaic: float = 0.0
    scale: float = 0.4
    flip: float = 0.5
    flip_vertical: float = 0.0
    multi_scale: bool = False
    precision: str = "auto"
    evaluate_every: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        """Raise ValueError for a value that is not allowed."""
        self._check_sizes()
        self._check_words()
        for name in ("epochs", "batch_size", "num_scenes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, but has to be 1 or more")
        for name in ("learning_rate", "max_gradient_norm"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}, but has to be above 0")
        for name in ("warmup", "mosaic", "flip", "flip_vertical", "average_decay"):
            highest = 0.9 if name == "warmup" else 1
            if not 0 <= getattr(self, name) <= highest:
                raise ValueError(f"{name} is {getattr(self, name)}; allowed is 0 to {highest}")
        for name in ("weight_decay", "scale", "seed", "evaluate_every"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}, but has to be 0 or more")

    def _check_sizes(self) -> None:
        for name in ("size", "test_size"):
            if isinstance(getattr(self, name), list):  # from a JSON file
                object.__setattr__(self, name, tuple(getattr(self, name)))
        for size in (self.size, self.final_size):
            check_size(size, STRIDE, LARGEST_SIDE)

    def _check_words(self) -> None:
        allowed = {
            "on_invalid": ("refuse", "drop"),
            "anchors": ANCHORS,
            "box_loss": BOX_LOSSES,
            "precision": PRECISIONS,
        }
        for name, words in allowed.items():
            if getattr(self, name) not in words:
                value = getattr(self, name)
                raise ValueError(f"{name} is {value!r}; allowed are {', '.join(words)}")

    @property
    def augmentation(self) -> Augmentation:
        """How photos are changed in training."""
        return Augmentation(
            flip=self.flip,
            flip_vertical=self.flip_vertical,
            scale=self.scale,
            mosaic=self.mosaic,
        )

    @property
    def final_size(self) -> InputSize:
        """The input size of the finished model, at which it is measured."""
        return self.size if self.test_size is None else self.test_size

    @property
    def sizes(self) -> tuple[InputSize, ...]:
        """The input sizes that training uses."""
        if not self.multi_scale:
            return (self.size,)
        sides = height_width(self.size)
        longest = max(sides)
        low, high = math.ceil(longest * 2 / 3 / STRIDE), math.floor(longest * 4 / 3 / STRIDE)
        scaled = (
            [max(1, round(side * k / longest)) for side in sides] for k in range(low, high + 1)
        )
        return tuple((STRIDE * height, STRIDE * width) for height, width in scaled)

    @property
    def first_plain_epoch(self) -> int:
        """From this epoch on no mosaic is made: the last quarter sees photos as they are."""
        return self.epochs - max(1, self.epochs // 4) if self.epochs > 1 else 1

    def is_measured(self, epoch: int) -> bool:
        """Whether the network is measured after this epoch (from 0); the last one always is."""
        every = self.evaluate_every or max(1, math.ceil(self.epochs / 4))
        return (epoch + 1) % every == 0 or epoch + 1 == self.epochs

    def as_dict(self) -> dict[str, Any]:
        """Return the settings as plain values."""
        return dataclasses.asdict(self)


def make_settings(**changes: Any) -> YoloSettings:
    """Return the default settings with changes; `common/smoke.py` has the last word.

    Raises:
        ValueError: a value that is not allowed.
        TypeError: a change that is no setting.
    """
    return YoloSettings(**{**changes, **SMOKE_SETTINGS})
