"""The settings of a training, and three presets to begin with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from common.choices import MAX_DETECTIONS, ON_INVALID, OPTIMIZERS
from common.precision import PRECISIONS
from common.settings import change_preset, check_settings, choose_preset, setting

__all__ = ["PRESETS", "TASKS", "Settings", "choose_preset", "make_settings"]

TASKS = ("masks", "boxes")
BATCH_NORMS = ("fixed", "live")
BACKBONES = ("resnet50", "mobilenet_v3", "mobilenet_v2", "efficientnet_lite0")


@dataclass(frozen=True)
class Settings:
    """All that a training depends on, beside its data; see `common.settings.setting`."""

    preset: str = setting("street", "name of the preset these began as", option=False)
    data: str = setting("street", "street (drawn), penn_fudan (download), or a path to labels")
    train_split: str | None = setting(None, "the data's own list to train on", metavar="NAME")
    validation_split: str | None = setting(None, "... to choose the best epoch on", metavar="NAME")
    test_split: str | None = setting(None, "... and to measure on", metavar="NAME")
    on_invalid: str = setting("refuse", "labels that cannot be used", choices=ON_INVALID)
    num_scenes: int = setting(1450, "drawn training scenes, for --data street", at_least=1)
    task: str = setting("masks", "masks: Mask R-CNN; boxes: Faster R-CNN", choices=TASKS)
    backbone: str = setting("efficientnet_lite0", "below the detector", choices=BACKBONES)
    pretrained: bool = setting(True, "start from trained weights")
    batch_norm: str = setting(
        "fixed", "statistics: pretraining's or each batch's", choices=BATCH_NORMS
    )
    image_size: tuple[int, int] = setting(
        (240, 352), "the shorter side is scaled to the first, the longer to the second at most",
        at_least=32, metavar=("SHORT", "LONG"),
    )  # fmt: skip
    epochs: int = setting(1, "passes over the training pictures", at_least=1)
    batch_size: int = setting(2, "pictures a step, of all processes together", at_least=1)
    optimizer: str = setting("adamw", "AdamW, or SGD with momentum", choices=OPTIMIZERS)
    learning_rate: float = setting(7e-4, "highest of the schedule", above=0)
    backbone_rate: float = setting(
        0.3, "factor of it for a pretrained backbone", above=0, at_most=1
    )
    warmup: float = setting(0.1, "share of the steps in which it rises", at_least=0, at_most=0.9)
    weight_decay: float = setting(1e-4, "as the optimiser takes it", at_least=0)
    max_gradient_norm: float = setting(5.0, "longer gradients are shortened to it", above=0)
    flip: float = setting(0.5, "probability of a left-right flip", at_least=0, at_most=1)
    photometric: float = setting(0.0, "probability of changed colours", at_least=0, at_most=1)
    precision: str = setting("auto", "auto: fp16 on a CUDA GPU, else fp32", choices=PRECISIONS)
    max_detections: int = setting(
        MAX_DETECTIONS, "detections of a picture that are kept and measured", at_least=1
    )
    seed: int = setting(0, "of everything random; the same one repeats a run", at_least=0)
    workers: int = setting(0, "processes that load pictures", at_least=0, fixed=False)

    def __post_init__(self) -> None:
        """Raise a ValueError for a value that is not allowed."""
        check_settings(self)


PRESETS = {
    # Drawn scenes, each seen once; a backbone from ImageNet. For a laptop without a network.
    "street": Settings(),
    # Photos on a CPU: the same network, many passes over few pictures.
    "photos": Settings(preset="photos", data="penn_fudan", epochs=14, photometric=0.5),
    # torchvision's fine-tuning tutorial, with a cosine schedule instead of steps. For a GPU.
    "full": Settings(
        preset="full",
        data="penn_fudan",
        backbone="resnet50",
        image_size=(800, 1333),
        epochs=10,
        optimizer="sgd",
        learning_rate=0.005,
        backbone_rate=1.0,
        weight_decay=5e-4,
        max_gradient_norm=10.0,
        photometric=0.5,
        workers=2,
    ),
}


def make_settings(preset: str | None = None, **changes: Any) -> Settings:
    """Return a preset's settings with changes; None chooses the preset by machine and data.

    Raises:
        ValueError: unknown preset, or a value out of range.
        TypeError: a change that is no setting.
    """
    return change_preset(PRESETS, preset, changes)
