"""What happens to a picture and its target between the file and the model.

Everything that moves or colours pixels is `torchvision.transforms.v2`: it moves the boxes and the
masks of the target along with the picture, because they are tv_tensors. Two things are added here,
because v2 leaves them to the user: `area` follows the changed object, and a box follows its mask
where a picture was cut, since the visible part of an object can be smaller than its cut box.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torchvision import tv_tensors
from torchvision.transforms import v2

from common.mask_boxes import masks_to_boxes_xyxy

PER_OBJECT = ("labels", "area", "iscrowd")
GRAY = 127


class FollowMasks(v2.Transform):
    """Set each `area`, and with masks each box, to what the masks cover after a change of shape.

    A mask that was pushed out of the picture gets a box without area, which SanitizeBoundingBoxes
    then removes with its mask and label. Without masks, the area becomes the box's.
    """

    def forward(self, *inputs: Any) -> tuple[Any, dict[str, Any]]:
        """Return (image, target) with `boxes` (N, 4) XYXY and `area` (N,) made anew."""
        image, target = inputs
        target = dict(target)
        if "masks" in target:
            masks = target["masks"].numpy()  # (N, H, W)
            boxes = torch.from_numpy(masks_to_boxes_xyxy(masks))
            target["boxes"] = tv_tensors.wrap(boxes, like=target["boxes"])
            target["area"] = torch.from_numpy(masks.sum(axis=(1, 2), dtype=np.float32))
        else:
            x1, y1, x2, y2 = target["boxes"].as_subclass(torch.Tensor).unbind(dim=1)
            target["area"] = (x2 - x1) * (y2 - y1)
        return image, target


def training_transforms(
    *,
    flip: float = 0.5,
    photometric: float = 0.5,
    scale: tuple[float, float] | None = None,
    zoom_out: float = 0.0,
    crop: bool = False,
    size: tuple[int, int] | None = None,
) -> v2.Compose:
    """Compose the random changes for training, then scale the image to float32 in 0..1.

    Args:
        flip: probability of a left-right flip.
        photometric: probability of changed brightness, contrast, saturation and hue.
        scale: smallest and largest factor of a random zoom in place with a shift of up to a
            tenth; the picture keeps its size. (0.8, 1.25) is a good start.
        zoom_out: probability of a wider gray canvas around the picture (SSD's expansion).
        crop: cut a random part that keeps at least one box centre (SSD's crop). Of objects with
            masks all that stays visible is kept; without masks v2 drops those whose centre is cut.
        size: (height, width) the picture is resized to in the end; None keeps it.

    Returns:
        A callable on (image, target); objects that left the picture are gone from every field.
    """
    steps: list[v2.Transform] = []
    if photometric:
        steps.append(v2.RandomPhotometricDistort(p=photometric))
    if zoom_out:
        steps.append(v2.RandomZoomOut(fill={tv_tensors.Image: GRAY, "others": 0}, p=zoom_out))
    if crop:
        steps.append(v2.RandomIoUCrop())
    if scale is not None:
        fill = {tv_tensors.Image: GRAY, "others": 0}
        bilinear = v2.InterpolationMode.BILINEAR  # of the picture; masks always take the nearest
        steps.append(v2.RandomAffine(0, (0.1, 0.1), scale, interpolation=bilinear, fill=fill))
    if size is not None:
        steps.append(v2.Resize(size, antialias=True))
    if zoom_out or crop or scale is not None or size is not None:
        steps.append(FollowMasks())
    if flip:
        steps.append(v2.RandomHorizontalFlip(p=flip))
    steps.append(v2.SanitizeBoundingBoxes(labels_getter=_per_object))
    return v2.Compose([*steps, *_to_model()])


def evaluation_transforms() -> v2.Compose:
    """Scale the image to float32 in 0..1 and change nothing else."""
    return v2.Compose(_to_model())


def _to_model() -> list[v2.Transform]:
    return [v2.ToDtype({tv_tensors.Image: torch.float32, "others": None}, scale=True)]


def _per_object(inputs: tuple[Any, dict[str, Any]]) -> tuple[torch.Tensor, ...]:
    """Name everything beside boxes and masks that has one entry per object."""
    return tuple(inputs[1][key] for key in PER_OBJECT)
