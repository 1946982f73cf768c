"""The two sizes in which this lesson runs: on a laptop without a network, and in full on a GPU."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from common.optimizers import OPTIMIZERS
from common.presets import change_preset, check_choices, check_numbers, choose_preset

TASKS = ("masks", "boxes")


@dataclass(frozen=True)
class Settings:
    """All that a training run depends on, beside its data.

    Attributes:
        preset: name of the preset these began as.
        data: "street", "penn_fudan" or a path.
        task: "masks" for Mask R-CNN or "boxes" for Faster R-CNN.
        backbone: one of `model.BACKBONES`.
        pretrained: start from trained weights.
        image_size: (shorter, longer) side in pixels: a picture is scaled until its shorter side
            is the first, but no longer side is above the second; None is the backbone's own.
        epochs: passes over the training images.
        batch_size: images a step, of all processes together.
        batch_parts: parts of a batch that a CPU computes side by side; see
            `common.parallel_batches`.
        learning_rate: after the warm-up.
        mask_rate: factor of the learning rate for the mask head, with the optimiser Muon.
        pretrained_rate: factor of the learning rate for a backbone that was trained before.
        warmup_fraction: share of all steps in which the learning rate rises.
        optimizer: one of `common.optimizers.OPTIMIZERS`.
        weight_decay: as the optimiser takes it.
        max_gradient_norm: longer gradients are shortened to it; None leaves them.
        box_loss_weight: factor of the heads' box loss.
        flip: probability of a left-right flip.
        photometric: probability of changed colours.
        seed: of everything random.
        num_scenes: drawn training scenes, for the data "street".
        num_workers: processes that load data.
    """

    preset: str = "laptop"
    data: str = "street"
    task: str = "masks"
    backbone: str = "efficientnet_lite0"
    pretrained: bool = True
    image_size: tuple[int, int] | None = None
    epochs: int = 1  # of many drawn scenes, each seen once
    batch_size: int = 2  # more steps an image: on the CPU a larger batch saves little time
    batch_parts: int = 2
    learning_rate: float = 7e-4
    mask_rate: float = 3.0
    pretrained_rate: float = 0.3
    warmup_fraction: float = 0.1
    optimizer: str = "muon"
    weight_decay: float = 1e-4
    max_gradient_norm: float | None = 5.0
    box_loss_weight: float = 1.0
    flip: float = 0.5
    photometric: float = 0.0
    seed: int = 0
    num_scenes: int = 1450
    num_workers: int = 1

    def __post_init__(self) -> None:
        check_choices(self, {"task": TASKS, "optimizer": OPTIMIZERS})
        if self.image_size is not None:  # a checkpoint gives a list
            object.__setattr__(self, "image_size", tuple(self.image_size))
        check_numbers(
            self,
            whole=("epochs", "batch_size", "batch_parts", "num_scenes"),
            positive=("learning_rate", "mask_rate"),
            shares=("pretrained_rate",),
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the settings as plain values, for a checkpoint."""
        values = asdict(self)
        size = values["image_size"]
        return {**values, "image_size": list(size) if size is not None else None}


# The full preset is the official tutorial's recipe, with a cosine schedule instead of steps.
PRESETS = {
    "laptop": Settings(),
    "full": Settings(
        preset="full",
        data="penn_fudan",
        backbone="resnet50",
        epochs=10,
        batch_size=2,
        learning_rate=0.005,
        pretrained_rate=1.0,
        optimizer="sgd",
        weight_decay=5e-4,
        max_gradient_norm=10.0,
        photometric=0.5,
        num_workers=2,
    ),
}


def make_settings(preset: str | None = None, **changes: Any) -> Settings:
    """Return a preset's settings with changes; None chooses the preset by the machine.

    Raises:
        ValueError: unknown preset, or a value out of range.
        TypeError: a change that is no setting.
    """
    return change_preset(PRESETS, preset or choose_preset(), changes)
