"""What happens to a picture and its label map between the files and the model.

Everything that moves or colours pixels is `torchvision.transforms.v2`. It moves the label map along
with the picture because that is a tv_tensors.Mask, and it never mixes labels: masks take the
nearest pixel, always. The mean of road (4) and vehicle (6) would be person (5).
"""

from __future__ import annotations

from typing import Any

import torch
from torchvision import tv_tensors
from torchvision.transforms import v2

from common.masks import IGNORE_INDEX

GRAY = 127  # what pictures are filled with where there is no picture; labels get IGNORE_INDEX
FILL = {tv_tensors.Image: GRAY, tv_tensors.Mask: IGNORE_INDEX, "others": 0}


def training_transforms(
    *,
    flip: float = 0.5,
    photometric: float = 0.0,
    scale: tuple[float, float] | None = None,
    crop_size: tuple[int, int] | None = None,
) -> v2.Compose:
    """Compose the random changes for training, then scale the image to float32 in 0..1.

    Args:
        flip: probability of a left-right flip.
        photometric: probability of changed brightness, contrast, saturation and hue.
        scale: smallest and largest factor by which a picture is resized; None keeps its size.
        crop_size: (height, width) that is cut at a random place; smaller pictures are filled up
            with gray, which is ignored. Pictures of several sizes need it to share a batch.

    Returns:
        A callable on (image, target).
    """
    steps: list[v2.Transform] = []
    if scale is not None:
        steps.append(RandomResize(scale))
    if crop_size is not None:
        steps.append(v2.RandomCrop(crop_size, pad_if_needed=True, fill=FILL))
    if flip:
        steps.append(v2.RandomHorizontalFlip(p=flip))
    if photometric:
        steps.append(v2.RandomPhotometricDistort(p=photometric))
    return v2.Compose([*steps, _to_model()])


def evaluation_transforms() -> v2.Compose:
    """Scale the image to float32 in 0..1 and change nothing else."""
    return v2.Compose([_to_model()])


class RandomResize(v2.Transform):
    """Resize picture and label map by one random factor; no side gets below one pixel."""

    def __init__(self, scale: tuple[float, float]) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, *inputs: Any) -> tuple[Any, dict[str, Any]]:
        """Return (image, target) in the new size."""
        image, target = inputs
        low, high = self.scale
        factor = low + (high - low) * torch.rand(()).item()
        size = [max(1, round(side * factor)) for side in image.shape[-2:]]
        labels = v2.functional.resize(target["labels"], size)  # the nearest, as it is a Mask
        return v2.functional.resize(image, size, antialias=True), {**target, "labels": labels}


def _to_model() -> v2.Transform:
    return v2.ToDtype({tv_tensors.Image: torch.float32, "others": None}, scale=True)
