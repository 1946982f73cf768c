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
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torchvision import tv_tensors
from tqdm import tqdm

from augmentation import evaluation_transforms, training_transforms
from common.choices import ON_INVALID
from common.image_dataset import ImageDataset, Target, Transforms
from common.parts import PartsError, divide, plan_parts
from common.penn_fudan import fetch_penn_fudan
from common.photos import PhotoError, read_photo
from common.street.parts import NUM_TEST_SCENES, NUM_VALIDATION_SCENES, STREET_FOLDER, draw_part
from common.street.scenes import SEMANTIC_CLASSES
from masks.class_table import ClassTable, DataError, numbered_classes
from masks.folders import MASK_FOLDERS, find_pairs, find_splits, find_table
from masks.label_maps import number_classes, read_label_map
from settings import Settings

PEDESTRIAN_CLASSES = ("background", "person")
PROBLEMS_SHOWN = 10
Pairs = Sequence[tuple[Path, Path]]


class SegmentationDataset(ImageDataset):
    """Pairs of a picture and a mask file.

    Args:
        pairs: (picture, mask) files; they are read when they are asked for.
        table: the classes, and what the masks' numbers or colours mean.
        transforms: called with (image, target), returns both.
        unknown: "error", or "ignore" for pixels whose value the table does not list.

    Attributes:
        report: what was read, and what was left out of it.

    Raises:
        DataError: there is no pair.
    """

    MASK_FOLDERS: ClassVar[Sequence[str]] = MASK_FOLDERS

    def __init__(
        self,
        pairs: Pairs,
        table: ClassTable,
        transforms: Transforms | None = None,
        unknown: str = "error",
    ) -> None:
        if not pairs:
            raise DataError("there is no picture")
        super().__init__([(index, *pair) for index, pair in enumerate(pairs)], transforms)
        self.table, self.unknown, self.report = table, unknown, ""

    @classmethod
    def from_path(
        cls,
        folder: str | Path,
        transforms: Transforms | None = None,
        *,
        table: ClassTable | None = None,
        unknown: str = "error",
        on_invalid: str = "refuse",
        progress: bool = False,
    ) -> SegmentationDataset:
        """Read your own folder, and every pair in it once, before training finds a bad one.

        Args:
            folder: with a folder of pictures and one of masks; see `masks/folders.py`.
            transforms, unknown: as for the class.
            table: the classes; None takes the folder's own table. Index masks that hold the
                numbers 0, 1, ... (and 255 for ignored pixels) do without one.
            on_invalid: "refuse" pairs that cannot be used, or "drop" them and report it.
            progress: show a progress bar on stderr.

        Raises:
            DataError: a folder is missing, the masks need a class table, no pair is left, or (with
                "refuse") a picture or a mask is missing, damaged, of another size or has a value
                that is not listed.
        """
        if on_invalid not in ON_INVALID:
            raise ValueError(f"on_invalid is {on_invalid!r}; allowed are {', '.join(ON_INVALID)}")
        folder = Path(folder)
        pairs, problems = find_pairs(folder, cls.MASK_FOLDERS)
        usable: list[int] = []
        if pairs:
            table = table or cls._find_table(folder, [mask for _, mask in pairs])
            whole = cls(pairs, table, transforms, unknown)
            usable = whole._check(problems, progress)
        if problems and (on_invalid == "refuse" or not usable):
            raise DataError(_refusal(folder, problems))
        whole = whole.subset(usable, transforms)
        head = f"{folder}: {len(usable)} pairs are used, {len(problems)} left out"
        whole.report = "\n  ".join([head, *problems])
        return whole

    @property
    def class_names(self) -> tuple[str, ...]:
        """Name the classes 0, 1, ..."""
        return self.table.names

    def image_path(self, index: int) -> Path:
        """Return the file of an item's picture."""
        return self._items[index][1]

    @classmethod
    def _find_table(cls, folder: Path, masks: Sequence[Path]) -> ClassTable:
        return find_table(folder) or number_classes(masks)

    def _check(self, problems: list[str], progress: bool) -> list[int]:
        """Read every pair; return the numbers of the good ones, and add a line for each other."""
        usable = []
        for index, item in enumerate(tqdm(self._items, "checking", disable=not progress)):
            try:
                self._load(item)
                usable.append(index)
            except (DataError, PhotoError) as error:
                problems.append(str(error))
        return usable

    def _load(self, item: tuple[int, Path, Path]) -> tuple[tv_tensors.Image, Target]:
        image_id, image_path, mask_path = item
        pixels, labels = read_photo(image_path), self._labels(mask_path)
        if labels.shape != pixels.shape[:2]:
            (mask_height, mask_width), (height, width) = labels.shape, pixels.shape[:2]
            raise DataError(
                f"{mask_path} is {mask_width} x {mask_height} pixels, but {image_path} is "
                f"{width} x {height}"
            )
        image = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))  # (3, H, W)
        target = {"labels": tv_tensors.Mask(torch.from_numpy(labels)), "image_id": image_id}
        return tv_tensors.Image(image), target

    def _labels(self, mask_path: Path) -> np.ndarray:
        return read_label_map(mask_path, self.table, self.unknown)

    @staticmethod
    def collate(batch: Sequence[tuple[Any, Target]]) -> tuple[Tensor, Target]:
        """Stack items into images (B, 3, H, W) and {"labels": (B, H, W), others: lists}.

        Raises:
            ValueError: the pictures of the batch differ in size.
        """
        sizes = {tuple(image.shape[-2:]) for image, _ in batch}
        if len(sizes) > 1:
            raise ValueError(
                f"a batch has pictures of {len(sizes)} sizes (height, width): {sorted(sizes)}. "
                "Cut parts of one size from them: --crop-size HEIGHT WIDTH"
            )
        images = [image.as_subclass(Tensor) for image, _ in batch]
        targets: Target = {key: [target[key] for _, target in batch] for key in batch[0][1]}
        labels = [one.as_subclass(Tensor) for one in targets["labels"]]
        # (B, 3, H, W) and (B, H, W)
        return torch.stack(images), {**targets, "labels": torch.stack(labels)}


class PedestrianDataset(SegmentationDataset):
    """Penn-Fudan's layout: every pedestrian of PedMasks, whatever its number, is a person."""

    MASK_FOLDERS = ("PedMasks",)

    @classmethod
    def _find_table(cls, folder: Path, masks: Sequence[Path]) -> ClassTable:
        return numbered_classes(PEDESTRIAN_CLASSES)

    def _labels(self, mask_path: Path) -> np.ndarray:
        everyone = ClassTable(tuple(map(str, range(255))), tuple(range(255)))
        return np.minimum(read_label_map(mask_path, everyone), 1)


@dataclass(frozen=True)
class SegmentationData:
    """The three parts of a training's data, see `common.parts`; `report` says what was read."""

    train: SegmentationDataset
    validation: SegmentationDataset
    test: SegmentationDataset
    report: str = ""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Name the labels 0, 1, ..."""
        return self.train.class_names


def load_data(
    settings: Settings, street_folder: Path = STREET_FOLDER, progress: bool = True
) -> SegmentationData:
    """Return the datasets of `settings.data`, with the settings' augmentation in the first.

    Street scenes that do not lie in `street_folder` yet are drawn there. With `progress`, a bar on
    stderr shows the drawing, and the check of a folder.

    Raises:
        DataError: the data cannot be trained on; the message says what to change.
        PennFudanError: the download fails.
    """
    if settings.data == "street":
        parts = _street(settings.num_scenes, street_folder, progress)
    else:
        parts = _own(settings, progress)
    train = parts["train"]
    for name, part in parts.items():
        if part.class_names != train.class_names:
            raise DataError(
                f"{settings.data}: the pictures to train on have the classes "
                f"{', '.join(train.class_names)}, but the {name} part {', '.join(part.class_names)}"
                ": write one class table for all, classes.json beside their folders"
            )
    train.transforms = training_transforms(
        flip=settings.flip,
        photometric=settings.photometric,
        scale=settings.scale,
        crop_size=settings.crop_size,
    )
    parts["validation"].transforms = parts["test"].transforms = evaluation_transforms()
    reports = dict.fromkeys(part.report for part in parts.values())
    sizes = ", ".join(f"{len(part)} {name}" for name, part in parts.items())
    return SegmentationData(**parts, report="\n".join([*reports, f"pictures: {sizes}"]))


def count_pixels(dataset: SegmentationDataset) -> Tensor:
    """Count the pixels of each class, int64 (K,); ignored ones are left out."""
    counts = torch.zeros(256, dtype=torch.int64)
    for _, target in dataset.subset(range(len(dataset))):
        counts += torch.bincount(target["labels"].as_subclass(Tensor).flatten(), minlength=256)
    return counts[: len(dataset.class_names)]


def _street(num_scenes: int, folder: Path, progress: bool) -> dict[str, SegmentationDataset]:
    """Draw the scenes, or take those that lie there; they are not checked."""
    counts = {"train": num_scenes, "validation": NUM_VALIDATION_SCENES, "test": NUM_TEST_SCENES}
    parts = {}
    for name, count in counts.items():
        scenes = draw_part(folder, name, count, progress)
        pairs, _ = find_pairs(scenes)
        parts[name] = SegmentationDataset(pairs, numbered_classes(SEMANTIC_CLASSES))
        parts[name].report = f"{scenes}: {count} drawn scenes"
    return parts


def _own(settings: Settings, progress: bool) -> dict[str, SegmentationDataset]:
    """Read a folder: its own lists, or all of it divided by the seed."""
    path = fetch_penn_fudan() if settings.data == "penn_fudan" else Path(settings.data)
    if not path.is_dir():
        raise DataError(
            f"data {settings.data!r}: allowed are street, penn_fudan or a folder that exists"
        )
    read: dict[str | None, SegmentationDataset] = {}
    parts = {}
    try:
        plan = plan_parts(
            find_splits(path), settings.train_split, settings.validation_split, settings.test_split
        )
        for name, part in plan.items():
            if part.source not in read:
                read[part.source] = _read_folder(path / (part.source or ""), settings, progress)
            whole = read[part.source]
            parts[name] = whole.subset(divide(len(whole), part.shares, settings.seed)[name])
    except PartsError as error:
        raise DataError(f"{path}: {error}") from error
    return parts


def _read_folder(folder: Path, settings: Settings, progress: bool) -> SegmentationDataset:
    semantic = any((folder / name).is_dir() for name in MASK_FOLDERS)
    pedestrians = (folder / "PedMasks").is_dir() and not semantic
    reader = PedestrianDataset if pedestrians else SegmentationDataset
    return reader.from_path(
        folder,
        unknown=settings.unknown_labels,
        on_invalid=settings.on_invalid,
        progress=progress,
    )


def _refusal(folder: Path, problems: Sequence[str]) -> str:
    """Say what is wrong with the pairs of a folder, and what can be done."""
    count = f"{len(problems)} problem{'s' * (len(problems) > 1)}"
    shown = list(problems[:PROBLEMS_SHOWN])
    more = len(problems) - len(shown)
    shown += [f"... and {more} more"] * (more > 0)
    return "\n  ".join([f"{folder}: {count} (--on-invalid drop leaves such pairs out):", *shown])
