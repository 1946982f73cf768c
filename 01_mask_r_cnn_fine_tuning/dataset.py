"""Datasets that give torchvision's detectors what they ask for, from masks or from annotations.

Every item is `(image, target)`:

- `image`: tv_tensors.Image, uint8, shape (3, H, W), RGB.
- `target["boxes"]`: tv_tensors.BoundingBoxes, float32, shape (N, 4), XYXY in pixels.
- `target["labels"]`: int64, shape (N,), 1..K; 0 is the background and never appears.
- `target["masks"]`: tv_tensors.Mask, uint8 0 or 1, shape (N, H, W); not in a boxes-only dataset.
- `target["area"]`: float32, shape (N,), square pixels.
- `target["iscrowd"]`: int64, shape (N,), 1 for COCO's crowd regions.
- `target["image_id"]`: int.

A box spans pixel *edges*: the right edge is the last pixel's column + 1, as in COCO. With
`torchvision.ops.masks_to_boxes`, which gives the column itself, a mask of one pixel would have a
box without area, and torchvision's models refuse such a box. A picture without objects has N = 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torchvision import tv_tensors

from common.image_dataset import ImageDataset, Target, Transforms
from common.labels.masks import decode_masks
from common.labels.read import read_annotations, read_coco
from common.labels.records import AnnotationError, AnnotationSet, ImageRecord, ObjectRecord
from common.mask_boxes import masks_to_boxes_xyxy
from common.mask_files import read_instance_ids
from common.photos import PHOTO_SUFFIXES, photo_size, read_photo

CROWD = ("keep", "drop")


class DetectorItems(ImageDataset):
    """Items of either dataset, as a detector wants them."""

    has_masks: bool

    @property
    def num_classes(self) -> int:
        """Count the classes with the background, as torchvision's models want it."""
        return len(self.class_names) + 1

    @staticmethod
    def collate(batch: Sequence[tuple[Any, Target]]) -> tuple[list[Any], list[Target]]:
        """Keep images and targets as lists: pictures differ in size and number of objects."""
        return [image for image, _ in batch], [target for _, target in batch]


class PedestrianDataset(DetectorItems):
    """Penn-Fudan's layout: PNGImages/x.png (or .jpg ...) with PedMasks/x_mask.png.

    A mask's pixels hold the number of the pedestrian they belong to, 0 is the background; the
    numbers need not be contiguous. `image_id` is the picture's place in alphabetic order, from 0.

    Args:
        folder: the folder with PNGImages and PedMasks.
        transforms: called with (image, target), returns both.

    Raises:
        AnnotationError: a folder, a mask or a picture is missing, two pictures share one name, or
            a mask has not the size of its picture.
        PhotoError: a picture or mask cannot be read, here or when its item is asked for.
    """

    def __init__(self, folder: str | Path, transforms: Transforms | None = None) -> None:
        pairs = _pair_by_stem(Path(folder) / "PNGImages", Path(folder) / "PedMasks")
        super().__init__([(index, *pair) for index, pair in enumerate(pairs)], transforms)
        self.class_names = ("pedestrian",)
        self.has_masks = True

    def image_path(self, index: int) -> Path:
        """Return the file of an item's picture."""
        return self._items[index][1]

    def _load(self, item: tuple[int, Path, Path]) -> tuple[tv_tensors.Image, Target]:
        image_id, image_path, mask_path = item
        image = read_photo(image_path)
        ids = read_instance_ids(mask_path)  # (H, W)
        if ids.shape != image.shape[:2]:
            raise AnnotationError(f"{mask_path} has not the size of {image_path}")
        numbers, counts = np.unique(ids, return_counts=True)
        inside = numbers != 0
        masks = (ids == numbers[inside, None, None]).astype(np.uint8)  # (N, H, W)
        boxes_xyxy = masks_to_boxes_xyxy(masks)
        labels = np.ones(len(masks), np.int64)
        area = counts[inside].astype(np.float32)
        return _item(image, boxes_xyxy, labels, area, 0 * labels, image_id, masks)


class DetectionDataset(DetectorItems):
    """Any annotations that `read_annotations` understands.

    Args:
        annotations: what one of the readers returned.
        transforms: called with (image, target), returns both.
        masks: True for masks in the targets, False for boxes only, None for masks if every
            object has one.
        crowd: "keep" or "drop". Crowd regions are for evaluation; drop them for training.

    Raises:
        AnnotationError: masks are asked for and an object has none.
        ValueError: `crowd` is neither "keep" nor "drop".
    """

    def __init__(
        self,
        annotations: AnnotationSet,
        transforms: Transforms | None = None,
        *,
        masks: bool | None = None,
        crowd: str = "keep",
    ) -> None:
        if crowd not in CROWD:
            raise ValueError(f"crowd is {crowd!r}; allowed are {CROWD}")
        super().__init__(annotations.images, transforms)
        self.annotations = annotations
        self.class_names = annotations.class_names
        self.crowd = crowd
        objects = [one for image in annotations.images for one in image.objects]
        bare = next((one for one in objects if one.segmentation is None), None)
        if masks and bare is not None:
            raise AnnotationError(f"{bare.source}: no segmentation; masks=False needs none")
        self.has_masks = bool(objects) and bare is None if masks is None else masks

    @classmethod
    def from_path(
        cls,
        path: str | Path,
        transforms: Transforms | None = None,
        *,
        masks: bool | None = None,
        crowd: str = "keep",
        **reader_options: Any,
    ) -> DetectionDataset:
        """Read your own folder or JSON file; `split`, `class_names`, `on_invalid` are passed on.

        Raises:
            AnnotationError: as `read_annotations` and the class itself.
        """
        annotations = read_annotations(path, **reader_options)
        return DetectionDataset(annotations, transforms, masks=masks, crowd=crowd)

    def image_path(self, index: int) -> Path:
        """Return the file of an item's picture."""
        return self._items[index].path

    def _load(self, item: ImageRecord) -> tuple[tv_tensors.Image, Target]:
        image = read_photo(item.path, (item.width, item.height))
        objects = [one for one in item.objects if self.crowd == "keep" or not one.iscrowd]
        masks = decode_masks(objects, item.width, item.height) if self.has_masks else None
        return _item(image, *_columns(objects), item.image_id, masks)


class CocoDataset(DetectionDataset):
    """A COCO JSON file, read as `read_coco` reads it, or annotations that are read already.

    Args:
        source: the JSON file, or an AnnotationSet.
        transforms, masks, crowd: as for DetectionDataset.
        reader_options: `images`, `class_names`, `on_invalid`, `check_images` for `read_coco`.

    Raises:
        AnnotationError: as `read_coco` and `DetectionDataset`.
    """

    def __init__(
        self,
        source: str | Path | AnnotationSet,
        transforms: Transforms | None = None,
        *,
        masks: bool | None = None,
        crowd: str = "keep",
        **reader_options: Any,
    ) -> None:
        if not isinstance(source, AnnotationSet):
            source = read_coco(source, **reader_options)
        super().__init__(source, transforms, masks=masks, crowd=crowd)


def _pair_by_stem(image_folder: Path, mask_folder: Path) -> list[tuple[Path, Path]]:
    for folder in (image_folder, mask_folder):
        if not folder.is_dir():
            raise AnnotationError(f"the folder {folder} does not exist")
    images = [p for p in sorted(image_folder.iterdir()) if p.suffix.lower() in PHOTO_SUFFIXES]
    masks = {p.stem: p for p in sorted(mask_folder.iterdir()) if p.stem.endswith("_mask")}
    pairs = []
    for image in images:
        mask = masks.pop(f"{image.stem}_mask", None)
        if mask is None:
            raise AnnotationError(f"{image} has no mask {mask_folder / image.stem}_mask.png")
        if photo_size(image) != photo_size(mask):
            raise AnnotationError(
                f"{mask} is {photo_size(mask)} pixels (width, height), "
                f"but {image} is {photo_size(image)}"
            )
        pairs.append((image, mask))
    if masks:
        raise AnnotationError(f"{next(iter(masks.values()))} has no image in {image_folder}")
    if not pairs:
        raise AnnotationError(f"{image_folder} has no image")
    return pairs


def _columns(objects: Sequence[ObjectRecord]) -> tuple[np.ndarray, ...]:
    boxes_xyxy = np.array([one.box_xyxy for one in objects], np.float32).reshape(-1, 4)
    labels = np.array([one.label for one in objects], np.int64)
    area = np.array([one.area for one in objects], np.float32)
    iscrowd = np.array([one.iscrowd for one in objects], np.int64)
    return boxes_xyxy, labels, area, iscrowd


def _item(
    image: np.ndarray,
    boxes_xyxy: np.ndarray,
    labels: np.ndarray,
    area: np.ndarray,
    iscrowd: np.ndarray,
    image_id: int,
    masks: np.ndarray | None,
) -> tuple[tv_tensors.Image, Target]:
    canvas_size = image.shape[:2]
    target: Target = {
        "boxes": tv_tensors.BoundingBoxes(
            torch.from_numpy(boxes_xyxy), format="XYXY", canvas_size=canvas_size
        ),
        "labels": torch.from_numpy(labels),
        "image_id": image_id,
        "area": torch.from_numpy(area),
        "iscrowd": torch.from_numpy(iscrowd),
    }
    if masks is not None:
        target["masks"] = tv_tensors.Mask(torch.from_numpy(masks))  # (N, H, W)
    pixels = np.ascontiguousarray(image.transpose(2, 0, 1))  # (3, H, W)
    return tv_tensors.Image(torch.from_numpy(pixels)), target
