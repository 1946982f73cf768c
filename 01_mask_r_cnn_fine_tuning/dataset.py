"""The pictures and labels of a training, as torchvision's detectors ask for them.

Every item is `(image, target)`:

- `image`: tv_tensors.Image, uint8, shape (3, H, W), RGB.
- `target["boxes"]`: tv_tensors.BoundingBoxes, float32, shape (N, 4), XYXY in pixels.
- `target["labels"]`: int64, shape (N,), 1..K; 0 is the background and never appears.
- `target["masks"]`: tv_tensors.Mask, uint8 0 or 1, shape (N, H, W); not in a boxes-only dataset.
- `target["area"]`: float32, shape (N,), square pixels.
- `target["iscrowd"]`: int64, shape (N,), 0: crowd regions are left out.
- `target["image_id"]`: int.

A box spans pixel *edges*: the right edge is the last pixel's column + 1, as in COCO. With
`torchvision.ops.masks_to_boxes`, which gives the column itself, a mask of one pixel would have a
box without area, and torchvision's models refuse such a box. A picture without objects has N = 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torchvision import tv_tensors

from augmentation import evaluation_transforms, training_transforms
from common.image_dataset import ImageDataset, Target, Transforms
from common.labels.masks import decode_masks
from common.labels.read import read_annotations
from common.labels.records import AnnotationSet, ImageRecord, ObjectRecord
from common.labels.sources import load_labels
from common.labels.values import AnnotationError
from common.photos import read_photo
from common.street.parts import STREET_FOLDER
from settings import Settings


class DetectionDataset(ImageDataset):
    """The pictures of an annotation set, with boxes, labels and perhaps masks.

    Args:
        annotations: what one of the readers of `common.labels` returned.
        transforms: called with (image, target), returns both.
        masks: True for masks in the targets, False for boxes only, None for masks if every
            object has one.

    COCO's crowd regions, which cover many objects, are in no target; `labels` still has them, for
    the evaluation.

    Raises:
        AnnotationError: masks are asked for and an object has none.
    """

    def __init__(
        self,
        annotations: AnnotationSet,
        transforms: Transforms | None = None,
        *,
        masks: bool | None = None,
    ) -> None:
        super().__init__(annotations.images, transforms)
        self.annotations = annotations
        self.class_names = annotations.class_names
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
        **reader_options: Any,
    ) -> DetectionDataset:
        """Read your own folder or file; `split`, `class_names`, `on_invalid` are passed on.

        Raises:
            AnnotationError: as `read_annotations` and the class itself.
        """
        annotations = read_annotations(path, masks=masks is not False, **reader_options)
        return DetectionDataset(annotations, transforms, masks=masks)

    @property
    def num_classes(self) -> int:
        """Count the classes with the background, as torchvision's models want it."""
        return len(self.class_names) + 1

    @property
    def labels(self) -> AnnotationSet:
        """Return the labels of these pictures as they were read."""
        return replace(self.annotations, images=tuple(self._items))

    @staticmethod
    def collate(batch: Sequence[tuple[Any, Target]]) -> tuple[list[Any], list[Target]]:
        """Keep images and targets as lists: pictures differ in size and number of objects."""
        return [image for image, _ in batch], [target for _, target in batch]

    def image_path(self, index: int) -> Path:
        """Return the file of an item's picture."""
        return self._items[index].path

    def _load(self, item: ImageRecord) -> tuple[tv_tensors.Image, Target]:
        image = read_photo(item.path, (item.width, item.height))
        objects = [one for one in item.objects if not one.iscrowd]
        masks = decode_masks(objects, item.width, item.height) if self.has_masks else None
        return _item(image, *_columns(objects), item.image_id, masks)


@dataclass(frozen=True)
class DetectionData:
    """The three parts of a training's data, see `common.parts`; `report` says what was read."""

    train: DetectionDataset
    validation: DetectionDataset
    test: DetectionDataset
    report: str = ""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Name the labels 1, 2, ..."""
        return self.train.class_names


def load_data(
    settings: Settings, street_folder: Path = STREET_FOLDER, progress: bool = True
) -> DetectionData:
    """Return the datasets of `settings.data`, with the settings' augmentation in the first.

    Raises:
        AnnotationError: the data cannot be trained on; see `common.labels.sources.load_labels`.
        PennFudanError: the download fails.
    """
    masks = settings.task == "masks"
    labels = load_labels(
        settings.data,
        masks=masks,
        seed=settings.seed,
        num_scenes=settings.num_scenes,
        on_invalid=settings.on_invalid,
        train_split=settings.train_split,
        validation_split=settings.validation_split,
        test_split=settings.test_split,
        street_folder=street_folder,
        progress=progress,
    )
    augmented = training_transforms(flip=settings.flip, photometric=settings.photometric)
    plain = evaluation_transforms()
    return DetectionData(
        DetectionDataset(labels.train, augmented, masks=masks),
        DetectionDataset(labels.validation, plain, masks=masks),
        DetectionDataset(labels.test, plain, masks=masks),
        labels.report,
    )


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
