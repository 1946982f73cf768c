"""The settings of a training, and three presets to begin with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from common.choices import MAX_DETECTIONS, ON_INVALID, OPTIMIZERS
from common.precision import PRECISIONS
from common.settings import change_preset, check_settings, choose_preset, setting

__all__ = ["PRESETS", "Settings", "choose_preset", "make_settings"]

QUERIES = ("selected", "learned")


@dataclass(frozen=True)
class Settings:
    """All that a training depends on, beside its data; see `common.settings.setting`."""

    preset: str = setting("street", "name of the preset these began as", option=False)
    data: str = setting("street", "street (drawn), penn_fudan (download), or a path to labels")
    train_split: str | None = setting(None, "the data's own list to train on", metavar="NAME")
    validation_split: str | None = setting(None, "... to choose the best epoch on", metavar="NAME")
    test_split: str | None = setting(None, "... and to measure on", metavar="NAME")
    on_invalid: str = setting("refuse", "labels that cannot be used", choices=ON_INVALID)
    num_scenes: int = setting(1200, "drawn training scenes, for --data street", at_least=1)
    pretrained: bool = setting(True, "start from ImageNet's weights")
    queries: str = setting(
        "selected", "best places of the picture, or learned as in 2020", choices=QUERIES
    )
    refine: bool = setting(True, "each decoder layer corrects the boxes of the one before")
    denoising: int = setting(0, "groups of noisy queries; 0: none", at_least=0)
    maps: int = setting(3, "strides 8, 16, 32; 1: the coarsest alone", at_least=1, at_most=3)
    num_queries: int = setting(30, "the most objects of a picture", at_least=1)
    image_size: tuple[int, int] = setting(
        (240, 320), "pictures are scaled to fit into it", at_least=64, metavar=("HEIGHT", "WIDTH")
    )
    epochs: int = setting(2, "passes over the training pictures", at_least=1)
    batch_size: int = setting(4, "pictures a step, of all processes together", at_least=1)
    optimizer: str = setting("adamw", "AdamW, or SGD with momentum", choices=OPTIMIZERS)
    learning_rate: float = setting(6e-4, "highest of the schedule", above=0)
    backbone_rate: float = setting(
        0.2, "factor of it for a pretrained backbone", above=0, at_most=1
    )
    warmup: float = setting(0.1, "share of the steps in which it rises", at_least=0, at_most=0.9)
    weight_decay: float = setting(1e-4, "as the optimiser takes it", at_least=0)
    max_gradient_norm: float = setting(1.0, "longer gradients are shortened to it", above=0)
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
        if self.denoising and self.queries == "learned":
            raise ValueError(
                f"denoising is {self.denoising}, but learned queries have no boxes: denoising has "
                "to be 0 with queries learned"
            )
        places = sum(
            -(-self.image_size[0] // stride) * -(-self.image_size[1] // stride)
            for stride in (8, 16, 32)[-self.maps :]
        )
        if self.queries == "selected" and self.num_queries > places:
            raise ValueError(
                f"num_queries is {self.num_queries}; a picture of this image_size has {places} "
                "places to select from"
            )


PRESETS = {
    # Drawn scenes in their own size; a backbone from ImageNet. For a laptop without a network.
    "street": Settings(),
    # Photos on a CPU: the same network, many passes over few pictures.
    "photos": Settings(
        preset="photos", data="penn_fudan", image_size=(320, 416), epochs=24, photometric=0.5
    ),
    # Larger pictures and more passes. For a GPU.
    "full": Settings(
        preset="full",
        data="penn_fudan",
        image_size=(640, 832),
        num_queries=100,
        epochs=100,
        batch_size=8,
        learning_rate=4e-4,
        photometric=0.5,
        workers=4,
    ),
}


def make_settings(preset: str | None = None, **changes: Any) -> Settings:
    """Return a preset's settings with changes; None chooses the preset by machine and data.

    Raises:
        ValueError: unknown preset, or a value out of range.
        TypeError: a change that is no setting.
    """
    return change_preset(PRESETS, preset, changes)
