"""Reader of Penn-Fudan's layout: a picture, and a mask in which every person has a number.

    PNGImages/x.png (or .jpg ...)        PedMasks/x_mask.png

A mask's pixels hold the number of the pedestrian they belong to, 0 is the background; the numbers
need not be contiguous.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pycocotools import mask as coco_mask

from common.findings import Place
from common.labels.layout import Layout
from common.labels.records import (
    AnnotationSet,
    Collector,
    ImageRecord,
    ObjectRecord,
    ReadOptions,
)
from common.labels.values import AnnotationError
from common.mask_boxes import masks_to_boxes_xyxy
from common.mask_files import read_instance_ids
from common.photos import PHOTO_SUFFIXES, check_photo

IMAGES, MASKS = "PNGImages", "PedMasks"
CLASS_NAMES = ("pedestrian",)


def has_pedestrians(folder: Path) -> bool:
    """Tell whether a folder has this layout."""
    return (folder / MASKS).is_dir()


def find_pedestrians(folder: Path) -> Layout | None:
    """Recognise a folder of this layout; None where it is none."""
    if not has_pedestrians(folder):
        return None

    def read(_: str | None, options: ReadOptions) -> AnnotationSet:
        return read_pedestrians(folder, options)

    return Layout("Penn-Fudan", (), read)


def read_pedestrians(folder: str | Path, options: ReadOptions | None = None) -> AnnotationSet:
    """Read all pictures with one box and one mask for each pedestrian.

    Args:
        folder: with PNGImages and PedMasks.
        options: how to read it; with "drop" a picture that has a problem is left out.

    Returns:
        The set; pictures are numbered from 0 in alphabetic order.

    Raises:
        AnnotationError: a folder is missing or empty, or there are problems and they are refused.
    """
    folder = Path(folder)
    for name in (IMAGES, MASKS):
        if not (folder / name).is_dir():
            raise AnnotationError(f"the folder {folder / name} does not exist")
    collector = Collector.start(folder, options or ReadOptions())
    photos = sorted(p for p in (folder / IMAGES).iterdir() if p.suffix.lower() in PHOTO_SUFFIXES)
    masks = {p.stem: p for p in sorted((folder / MASKS).iterdir()) if p.stem.endswith("_mask")}
    if not photos:
        raise AnnotationError(f"{folder / IMAGES} has no picture")
    images = []
    for image_id, photo in enumerate(collector.track(photos)):
        mask = masks.pop(f"{photo.stem}_mask", None)
        with collector.reporting(Place(str(photo))):
            if mask is None:
                raise AnnotationError(f"has no mask {folder / MASKS / photo.stem}_mask.png")
            images.append(_read_picture(photo, mask, image_id, collector))
            collector.total += len(images[-1].objects)
    for mask in masks.values():
        with collector.reporting(Place(str(mask))):
            raise AnnotationError(f"has no picture in {folder / IMAGES}")
    return collector.finish(images, CLASS_NAMES, (1,))


def _read_picture(photo: Path, mask: Path, image_id: int, collector: Collector) -> ImageRecord:
    ids = read_instance_ids(mask)  # (H, W)
    height, width = ids.shape
    size = check_photo(photo, decode=collector.options.decode)
    if size != (width, height):
        raise AnnotationError(f"is {size} pixels (width, height), but {mask} is {(width, height)}")
    numbers, counts = np.unique(ids, return_counts=True)
    inside = numbers != 0
    planes = (ids == numbers[inside, None, None]).astype(np.uint8)  # (N, H, W)
    boxes_xyxy = masks_to_boxes_xyxy(planes).tolist()
    runs = coco_mask.encode(np.asfortranarray(planes.transpose(1, 2, 0)))  # N RLEs
    found = zip(boxes_xyxy, counts[inside].tolist(), numbers[inside].tolist(), runs, strict=True)
    objects = [
        ObjectRecord(1, tuple(box), float(area), Place(str(mask), None, f"instance {number}"), rle)
        for box, area, number, rle in found
    ]
    return ImageRecord(photo, width, height, image_id, tuple(objects))
