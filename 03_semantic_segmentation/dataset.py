"""Datasets of pictures with a class for every pixel.

Every item is `(image, target)`:

- `image`: tv_tensors.Image, uint8, shape (3, H, W), RGB.
- `target["labels"]`: tv_tensors.Mask, uint8, shape (H, W), each pixel's class 0..K-1, or
  IGNORE_INDEX (255) for pixels that count neither in the loss nor in the metrics.
- `target["image_id"]`: int, the picture's place in alphabetic order, from 0.

The background is a class like any other: num_classes counts it because the data does.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torchvision import tv_tensors
from tqdm import tqdm

from common.image_dataset import ImageDataset, Target, Transforms
from common.photos import read_photo
from masks.class_table import IGNORE_INDEX, ClassTable, DataError, numbered_classes
from masks.folders import find_pairs, find_table
from masks.label_maps import mask_kind, mask_size, mask_values, read_label_map

PEDESTRIAN_CLASSES = ("background", "person")
EXIF_ORIENTATION, LYING = 0x0112, (5, 6, 7, 8)


class SegmentationDataset(ImageDataset):
    """Pairs of a picture and a mask file.

    Args:
        pairs: (picture, mask) files.
        table: the classes, and what the masks' numbers or colours mean.
        transforms: called with (image, target), returns both.
        unknown: "error", or "ignore" for pixels whose value the table does not list.

    Raises:
        DataError: there is no pair.
    """

    def __init__(
        self,
        pairs: Sequence[tuple[Path, Path]],
        table: ClassTable,
        transforms: Transforms | None = None,
        unknown: str = "error",
    ) -> None:
        if not pairs:
            raise DataError("there is no picture")
        super().__init__([(index, *pair) for index, pair in enumerate(pairs)], transforms)
        self.table, self.unknown = table, unknown

    @classmethod
    def from_path(
        cls,
        folder: str | Path,
        transforms: Transforms | None = None,
        *,
        table: ClassTable | None = None,
        unknown: str = "error",
    ) -> SegmentationDataset:
        """Read your own folder; `folder_layout` says how it may be built.

        Args:
            folder: with a folder of pictures and one of masks.
            transforms, unknown: as for the class.
            table: the classes; None takes the folder's own table. Index masks that hold the
                numbers 0, 1, ... (and 255 for ignored pixels) do without one.

        Raises:
            DataError: a folder, picture or mask is missing, or the masks need a class table.
        """
        pairs = find_pairs(Path(folder))
        table = table or find_table(Path(folder)) or _table_of([mask for _, mask in pairs])
        return cls(pairs, table, transforms, unknown)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Name the classes 0, 1, ..."""
        return self.table.names

    def image_path(self, index: int) -> Path:
        """Return the file of an item's picture."""
        return self._items[index][1]

    def check(self, progress: bool = True) -> None:
        """Read every mask and every picture's size, before training finds out after an hour.

        Raises:
            DataError: a mask is damaged, of another size, or has a value that is not listed.
        """
        for _, image_path, mask_path in tqdm(self._items, "checking", disable=not progress):
            size = _upright_size(image_path)
            if mask_size(mask_path) != size:
                raise _sizes_differ(image_path, size, mask_path, mask_size(mask_path))
            self._labels(mask_path)

    def _load(self, item: tuple[int, Path, Path]) -> tuple[tv_tensors.Image, Target]:
        image_id, image_path, mask_path = item
        pixels, labels = read_photo(image_path), self._labels(mask_path)
        if labels.shape != pixels.shape[:2]:
            raise _sizes_differ(image_path, pixels.shape[1::-1], mask_path, labels.shape[::-1])
        image = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))  # (3, H, W)
        target = {"labels": tv_tensors.Mask(torch.from_numpy(labels)), "image_id": image_id}
        return tv_tensors.Image(image), target

    def _labels(self, mask_path: Path) -> np.ndarray:
        return read_label_map(mask_path, self.table, self.unknown)

    @staticmethod
    def collate(batch: Sequence[tuple[Any, Target]]) -> tuple[torch.Tensor, Target]:
        """Stack items into images (B, 3, H, W) and {"labels": (B, H, W), others: lists}.

        Raises:
            ValueError: the pictures of the batch differ in size.
        """
        sizes = {tuple(image.shape[-2:]) for image, _ in batch}
        if len(sizes) > 1:
            raise ValueError(
                f"a batch has pictures of {len(sizes)} sizes (height, width): {sorted(sizes)}. "
                "Give the training a crop size, and a batch size of 1 elsewhere"
            )
        images = [image.as_subclass(torch.Tensor) for image, _ in batch]
        targets: Target = {key: [target[key] for _, target in batch] for key in batch[0][1]}
        labels = [one.as_subclass(torch.Tensor) for one in targets["labels"]]
        # (B, 3, H, W) and (B, H, W)
        return torch.stack(images), {**targets, "labels": torch.stack(labels)}


class PedestrianDataset(SegmentationDataset):
    """Penn-Fudan's layout: every pedestrian of PedMasks, whatever its number, is a person.

    Args:
        folder: the folder with PNGImages and PedMasks.
        transforms: called with (image, target), returns both.

    Raises:
        DataError: a folder, a mask or a picture is missing.
    """

    def __init__(self, folder: str | Path, transforms: Transforms | None = None) -> None:
        pairs = find_pairs(Path(folder), mask_folders=("PedMasks",))
        super().__init__(pairs, numbered_classes(PEDESTRIAN_CLASSES), transforms)

    def _labels(self, mask_path: Path) -> np.ndarray:
        everyone = ClassTable(tuple(map(str, range(255))), tuple(range(255)))
        return np.minimum(read_label_map(mask_path, everyone), 1)


def _table_of(masks: Sequence[Path]) -> ClassTable:
    """Number the classes of index masks that come without a table."""
    found: set[int] = set()
    for mask in masks:
        kind = mask_kind(mask)
        if kind != "index":
            raise DataError(
                f"{mask} is a {kind} mask and there is no class table: write classes.json beside "
                "the pictures, which says what its values or colors mean"
            )
        found |= mask_values(mask)
    classes = found - {IGNORE_INDEX}
    if len(classes) < 2 or max(classes) != len(classes) - 1:
        raise DataError(
            f"the masks in {masks[0].parent} hold the values {sorted(found)[:20]}; without a class "
            "table they must be 0, 1, ... and 255 for ignored pixels: write classes.json"
        )
    return numbered_classes([f"class {k}" for k in range(len(classes))], str(masks[0].parent))


def _sizes_differ(
    image: Path, image_size: tuple[int, int], mask: Path, mask_size: tuple[int, int]
) -> DataError:
    return DataError(
        f"{mask} is {mask_size[0]} x {mask_size[1]} pixels, but {image} is "
        f"{image_size[0]} x {image_size[1]}"
    )


def _upright_size(path: Path) -> tuple[int, int]:
    """Read (width, height) from the header, turned as `read_photo` turns the picture."""
    try:
        with Image.open(path) as image:
            lying = image.getexif().get(EXIF_ORIENTATION) in LYING
            return image.size[::-1] if lying else image.size
    except Exception as error:  # the many formats' readers raise errors of any class
        raise DataError(f"{path} is no readable picture: {error}") from error
