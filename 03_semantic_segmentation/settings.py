"""The two sizes in which this lesson runs: on a laptop without a network, and in full on a GPU."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from common.optimizers import OPTIMIZERS
from common.presets import change_preset, check_choices, check_numbers, choose_preset
from losses import check_loss_weights
from models import MODELS

UNKNOWN_LABELS = ("error", "ignore")
SIZES = ("crop_size", "window")


@dataclass(frozen=True)
class Settings:
    """All that a training run depends on, beside its data.

    Attributes:
        preset: name of the preset these began as.
        data: "street", "penn_fudan" or a path.
        model: one of `models.MODELS`.
        pretrained: start from trained weights, where the model has some.
        half_size: the network sees pictures of half the size; see `models.SegmentationModel`.
        loss_weights: factors of the losses in the sum, by name; see `losses.LOSSES`.
        balance_classes: weigh the classes in the cross-entropy, rare ones more.
        unknown_labels: "error", or "ignore" for mask values that the class table does not list.
        crop_size: (height, width) cut at random from training pictures; None takes them whole.
        scale: smallest and largest factor of a random resize before that; None does none.
        window: (height, width) of the sliding window for pictures that are larger.
        epochs: passes over the training images.
        batch_size: images a step, of all processes together.
        batch_parts: parts of a batch that a CPU computes side by side; see
            `common.parallel_batches`.
        learning_rate: after the warm-up.
        pretrained_rate: factor of the learning rate for layers that were trained before.
        warmup_fraction: share of all steps in which the learning rate rises.
        optimizer: one of `common.optimizers.OPTIMIZERS`.
        weight_decay: as the optimiser takes it.
        muon_momentum: share of the running mean of its gradients that each step of Muon keeps.
        max_gradient_norm: longer gradients are shortened to it; None leaves them.
        flip: probability of a left-right flip.
        photometric: probability of changed colours.
        label_spacing: learn from one pixel in each block of so many by so many.
        seed: of everything random.
        num_scenes: drawn training scenes, for the data "street".
        num_workers: processes that load data.
    """

    preset: str = "laptop"
    data: str = "street"
    model: str = "smp_unet"
    pretrained: bool = True
    half_size: bool = True  # a quarter of the time
    loss_weights: dict[str, float] = field(
        default_factory=lambda: {"cross_entropy": 1.0, "dice": 1.0}
    )
    balance_classes: bool = False
    unknown_labels: str = "error"
    crop_size: tuple[int, int] | None = None
    scale: tuple[float, float] | None = None
    window: tuple[int, int] = (240, 320)
    epochs: int = 2
    batch_size: int = 4
    batch_parts: int = 2
    learning_rate: float = 6e-3
    pretrained_rate: float = 0.05
    warmup_fraction: float = 0.1
    optimizer: str = "muon"
    weight_decay: float = 1e-2
    muon_momentum: float = 0.8
    max_gradient_norm: float | None = 5.0
    flip: float = 0.5
    photometric: float = 0.0
    label_spacing: int = 2
    seed: int = 0
    num_scenes: int = 960
    num_workers: int = 1

    def __post_init__(self) -> None:
        for name in ("crop_size", "scale", "window"):
            if getattr(self, name) is not None:  # a checkpoint gives a list
                object.__setattr__(self, name, tuple(getattr(self, name)))
        check_choices(
            self, {"model": MODELS, "optimizer": OPTIMIZERS, "unknown_labels": UNKNOWN_LABELS}
        )
        check_numbers(
            self,
            whole=("epochs", "batch_size", "batch_parts", "num_scenes", "label_spacing"),
            positive=("learning_rate",),
            shares=("pretrained_rate",),
        )
        self._check_sizes()
        check_loss_weights(self.loss_weights)

    def _check_sizes(self) -> None:
        for name in SIZES:
            size = getattr(self, name)
            if size is not None and min(size) < 1:
                raise ValueError(f"{name} is {size}; sides of 1 pixel or more are allowed")
        if self.scale is not None and not 0 < self.scale[0] <= self.scale[1]:
            raise ValueError(f"scale is {self.scale}; 0 < smallest <= largest is allowed")

    def as_dict(self) -> dict[str, Any]:
        """Return the settings as plain values, for a checkpoint."""
        values = asdict(self)
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}


# The full preset follows torchvision's reference training of DeepLabV3, on fewer pictures.
PRESETS = {
    "laptop": Settings(),
    "full": Settings(
        preset="full",
        data="penn_fudan",
        model="deeplabv3",
        crop_size=(480, 480),
        scale=(0.5, 2.0),
        window=(480, 640),
        epochs=30,
        batch_size=8,
        half_size=False,
        pretrained_rate=1.0,
        learning_rate=0.01,
        warmup_fraction=0.05,
        optimizer="sgd",
        weight_decay=1e-4,
        max_gradient_norm=None,
        photometric=0.5,
        label_spacing=1,
        num_workers=4,
    ),
}


def make_settings(preset: str | None = None, **changes: Any) -> Settings:
    """Return a preset's settings with changes; None chooses the preset by the machine.

    Raises:
        ValueError: unknown preset, or a value out of range.
        TypeError: a change that is no setting.
    """
    return change_preset(PRESETS, preset or choose_preset(), changes)
