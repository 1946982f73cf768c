"""The settings of a training, and four presets to begin with."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Any

from common.choices import ON_INVALID, OPTIMIZERS
from common.precision import PRECISIONS
from common.settings import change_preset, check_settings, choose_preset, setting
from losses import check_loss_weights

__all__ = ["MODELS", "PRESETS", "UNKNOWN_LABELS", "Settings", "choose_preset", "make_settings"]

MODELS = ("unet", "deeplabv3", "smp_unet", "smp_deeplabv3plus")
UNKNOWN_LABELS = ("error", "ignore")


def read_loss_weights(text: str) -> dict[str, float]:
    """Read factors from an option's text, such as "cross_entropy=1,dice=0.5".

    Raises:
        ArgumentTypeError: the text is not of that form, or see `losses.check_loss_weights`.
    """
    try:
        pairs = [one.split("=") for one in text.split(",")]
        weights = {name.strip(): float(factor) for name, factor in pairs}
        check_loss_weights(weights)
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"{text!r}: {error}; such as cross_entropy=1,dice=0.5 is allowed"
        ) from error
    return weights


@dataclass(frozen=True)
class Settings:
    """All that a training depends on, beside its data; see `common.settings.setting`."""

    preset: str = setting("street", "name of the preset these began as", option=False)
    data: str = setting(
        "street",
        "street (drawn), penn_fudan or nuclei (downloads), or a folder of pictures and masks",
    )
    train_split: str | None = setting(None, "the data's own list to train on", metavar="NAME")
    validation_split: str | None = setting(None, "... to choose the best epoch on", metavar="NAME")
    test_split: str | None = setting(None, "... and to measure on", metavar="NAME")
    on_invalid: str = setting("refuse", "pairs that cannot be used", choices=ON_INVALID)
    unknown_labels: str = setting("error", "mask values that no class has", choices=UNKNOWN_LABELS)
    num_scenes: int = setting(1088, "drawn training scenes, for --data street", at_least=1)
    model: str = setting(
        "smp_unet", "unet is trained from scratch, the others are pretrained", choices=MODELS
    )
    pretrained: bool = setting(True, "start from trained weights, where the model has some")
    skips: bool = setting(True, "the skip connections of unet; without, to see what they bring")
    half_size: bool = setting(True, "the network sees pictures of half the size")
    crop_size: tuple[int, int] | None = setting(
        None, "cut at random from training pictures", at_least=1, metavar=("HEIGHT", "WIDTH")
    )
    scale: tuple[float, float] | None = setting(
        None, "limits of a random resize before that", above=0, metavar=("LOW", "HIGH")
    )
    window: tuple[int, int] = setting(
        (240, 320), "what the model sees at once of larger pictures, when it predicts",
        at_least=1, metavar=("HEIGHT", "WIDTH"),
    )  # fmt: skip
    epochs: int = setting(3, "passes over the training pictures", at_least=1)
    batch_size: int = setting(8, "pictures a step, of all processes together", at_least=1)
    optimizer: str = setting("adamw", "AdamW, or SGD with momentum", choices=OPTIMIZERS)
    learning_rate: float = setting(2e-3, "highest of the schedule", above=0)
    encoder_rate: float = setting(0.1, "factor of it for a pretrained encoder", above=0, at_most=1)
    warmup: float = setting(0.1, "share of the steps in which it rises", at_least=0, at_most=0.9)
    weight_decay: float = setting(1e-2, "as the optimiser takes it", at_least=0)
    max_gradient_norm: float = setting(5.0, "longer gradients are shortened to it", above=0)
    loss_weights: dict[str, float] = setting(
        {"cross_entropy": 1.0}, "factors of the losses, as in cross_entropy=1,dice=0.5",
        parse=read_loss_weights, metavar="NAME=X,...",
    )  # fmt: skip
    balance_classes: bool = setting(False, "weigh rare classes more in the cross-entropy")
    flip: float = setting(0.5, "probability of a left-right flip", at_least=0, at_most=1)
    photometric: float = setting(0.0, "probability of changed colours", at_least=0, at_most=1)
    precision: str = setting("auto", "auto: fp16 on a CUDA GPU, else fp32", choices=PRECISIONS)
    seed: int = setting(0, "of everything random; the same one repeats a run", at_least=0)
    workers: int = setting(0, "processes that load pictures", at_least=0, fixed=False)

    def __post_init__(self) -> None:
        """Raise a ValueError for a value that is not allowed."""
        check_settings(self)
        if self.scale is not None and self.scale[0] > self.scale[1]:
            raise ValueError(f"scale is {self.scale}; the first has to be the smaller one")
        if self.crop_size is None and self.batch_size > 1 and len({*(self.scale or ())}) > 1:
            raise ValueError(
                f"scale is {self.scale} and crop_size is none: the pictures of a batch would have "
                "several sizes. Cut parts of one size from them with --crop-size HEIGHT WIDTH, or "
                "leave --scale out"
            )
        check_loss_weights(self.loss_weights)


PRESETS = {
    # Drawn scenes at half size; an encoder from ImageNet. For a laptop without a network.
    "street": Settings(),
    # Photos on a CPU: the same network, parts of the pictures, many passes over few of them.
    "photos": Settings(
        preset="photos",
        data="penn_fudan",
        crop_size=(320, 320),
        window=(480, 640),
        epochs=20,
        photometric=0.5,
    ),
    # torchvision's reference training of DeepLabV3, on fewer pictures. For a GPU.
    "full": Settings(
        preset="full",
        data="penn_fudan",
        model="deeplabv3",
        half_size=False,
        crop_size=(480, 480),
        scale=(0.5, 2.0),
        window=(480, 640),
        epochs=30,
        optimizer="sgd",
        learning_rate=0.01,
        encoder_rate=1.0,
        warmup=0.05,
        weight_decay=1e-4,
        max_gradient_norm=10.0,
        loss_weights={"cross_entropy": 1.0, "dice": 1.0},
        photometric=0.5,
        workers=4,
    ),
    # Nuclei in microscope pictures, which are small: the network sees them in their full size.
    "nuclei": Settings(
        preset="nuclei",
        data="nuclei",
        half_size=False,
        window=(256, 256),
        epochs=8,
        photometric=0.5,
    ),
}


def make_settings(preset: str | None = None, **changes: Any) -> Settings:
    """Return a preset's settings with changes; None chooses the preset by machine and data.

    Nuclei have a preset of their own on every machine.

    Raises:
        ValueError: unknown preset, or a value out of range.
        TypeError: a change that is no setting.
    """
    if preset is None and changes.get("data") == "nuclei":
        preset = "nuclei"
    return change_preset(PRESETS, preset, changes)
