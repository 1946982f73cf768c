"""Reader of Penn-Fudan's layout: a picture, and a mask in which every person has a number.

    PNGImages/x.png (or .jpg ...)        PedMasks/x_mask.png

A mask's pixels hold the number of the pedestrian they belong to, 0 is the background; the numbers
need not be contiguous.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pycocotools import mask as coco_mask

from common.labels.records import (
    AnnotationError,
    AnnotationSet,
    Collector,
    ImageRecord,
    ObjectRecord,
)
from common.mask_boxes import masks_to_boxes_xyxy
from common.mask_files import read_instance_ids
from common.photos import PHOTO_SUFFIXES, photo_size

IMAGES, MASKS = "PNGImages", "PedMasks"
CLASS_NAMES = ("pedestrian",)


def has_pedestrians(folder: Path) -> bool:
    """Tell whether a folder has this layout."""
    return (folder / MASKS).is_dir()


def read_pedestrians(folder: str | Path, on_invalid: str = "refuse") -> AnnotationSet:
    """Read all pictures with one box and one mask for each pedestrian.

    Args:
        folder: with PNGImages and PedMasks.
        on_invalid: "refuse" to raise on any problem, "drop" to leave the picture out.

    Returns:
        The set; pictures are numbered from 0 in alphabetic order.

    Raises:
        AnnotationError: a folder is missing or empty, or there are problems and they are refused.
    """
    folder = Path(folder)
    for name in (IMAGES, MASKS):
        if not (folder / name).is_dir():
            raise AnnotationError(f"the folder {folder / name} does not exist")
    collector = Collector(folder, on_invalid)
    photos = sorted(p for p in (folder / IMAGES).iterdir() if p.suffix.lower() in PHOTO_SUFFIXES)
    masks = {p.stem: p for p in sorted((folder / MASKS).iterdir()) if p.stem.endswith("_mask")}
    if not photos:
        raise AnnotationError(f"{folder / IMAGES} has no picture")
    images = []
    for image_id, photo in enumerate(photos):
        mask = masks.pop(f"{photo.stem}_mask", None)
        with collector.reporting(str(photo)):
            if mask is None:
                raise AnnotationError(f"has no mask {folder / MASKS / photo.stem}_mask.png")
            images.append(_read_picture(photo, mask, image_id))
            collector.total += len(images[-1].objects)
    for mask in masks.values():
        with collector.reporting(str(mask)):
            raise AnnotationError(f"has no picture in {folder / IMAGES}")
    return collector.finish(images, CLASS_NAMES, (1,))


def _read_picture(photo: Path, mask: Path, image_id: int) -> ImageRecord:
    ids = read_instance_ids(mask)  # (H, W)
    height, width = ids.shape
    if photo_size(photo) != (width, height):
        raise AnnotationError(
            f"is {photo_size(photo)} pixels (width, height), but {mask} is {(width, height)}"
        )
    numbers, counts = np.unique(ids, return_counts=True)
    inside = numbers != 0
    planes = (ids == numbers[inside, None, None]).astype(np.uint8)  # (N, H, W)
    boxes_xyxy = masks_to_boxes_xyxy(planes).tolist()
    runs = coco_mask.encode(np.asfortranarray(planes.transpose(1, 2, 0)))  # N RLEs
    found = zip(boxes_xyxy, counts[inside].tolist(), numbers[inside].tolist(), runs, strict=True)
    objects = [
        ObjectRecord(1, tuple(box), float(area), f"{mask}: instance {number}", rle)
        for box, area, number, rle in found
    ]
    return ImageRecord(photo, width, height, image_id, tuple(objects))
