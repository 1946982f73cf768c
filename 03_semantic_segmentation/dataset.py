"""Datasets of pictures with a class for every pixel.

Every item is `(image, target)`:

- `image`: tv_tensors.Image, uint8, shape (3, H, W), RGB.
- `target["labels"]`: tv_tensors.Mask, uint8, shape (H, W), each pixel's class 0..K-1, or
  IGNORE_INDEX (255) for pixels that count neither in the loss nor in the metrics.
- `target["image_id"]`: int, the picture's place in alphabetic order, from 0.

The background is a class like any other: num_classes counts it because the data does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision import tv_tensors

from common.findings import DataError, Findings, report_lines
from common.image_dataset import ImageDataset, Target, Transforms
from common.masks.augmentation import evaluation_transforms, training_transforms
from common.masks.checks import Seen, check_sizes
from common.masks.class_table import ClassTable, numbered_classes
from common.masks.folders import MASK_FOLDERS, find_layout
from common.masks.label_maps import Masks, read_instances, read_label_map, read_object_masks
from common.masks.layout import find_pairs, find_tables
from common.masks.nuclei import fetch_nuclei
from common.masks.reading import check_names, check_training, open_folder, read_list
from common.masks.survey import survey_folder
from common.parts import PartsError, read_parts
from common.penn_fudan import fetch_penn_fudan
from common.photos import read_photo
from common.street.parts import NUM_TEST_SCENES, NUM_VALIDATION_SCENES, STREET_FOLDER, draw_part
from common.street.scenes import SEMANTIC_CLASSES
from common.survey import Survey
from settings import Settings

DOWNLOADS = {"penn_fudan": fetch_penn_fudan, "nuclei": fetch_nuclei}
Pairs = Sequence[tuple[Path, Masks]]


class SegmentationDataset(ImageDataset):
    """Pairs of a picture and a mask file.

    Args:
        pairs: (picture, mask) files; they are read when they are asked for. A tuple of files in
            place of a mask has one for each object.
        table: the classes, and what the masks' numbers or colours mean.
        transforms: called with (image, target), returns both.
        unknown: "error", or "ignore" for pixels whose value the table does not list.

    Attributes:
        report: what was read, what was mended, and what was left out.
        seen: what was seen of each picture when it was checked, by its file.

    Raises:
        DataError: there is no pair.
    """

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
        self.seen: dict[Path, Seen] = {}

    @classmethod
    def from_path(
        cls,
        folder: str | Path,
        transforms: Transforms | None = None,
        *,
        table: ClassTable | None = None,
        mask_folders: Sequence[str] = MASK_FOLDERS,
        unknown: str = "error",
        on_invalid: str = "refuse",
        progress: bool = False,
    ) -> SegmentationDataset:
        """Read your own folder, and every pair in it once, before training finds a bad one.

        Args:
            folder: with a folder of pictures and one of masks, or another layout of one list; see
                `common/masks/folders.py`.
            transforms, unknown: as for the class.
            table: the classes; None takes the folder's own table. Masks whose values leave no
                doubt do without one; see `common/masks/own_values.py`.
            mask_folders: names of the folder of masks.
            on_invalid: "refuse" pairs that cannot be used, or "drop" them and report it.
            progress: show a progress bar on stderr.

        Raises:
            DataError: a folder is missing, the masks need a class table, no pair is left, or (with
                "refuse") a picture or a mask is missing, damaged, of another size or has a value
                that is not listed.
        """
        findings = Findings(Path(folder), on_invalid)
        layout = find_layout(Path(folder), mask_folders)
        if len(layout.lists) > 1:
            raise DataError(
                f"{folder} is divided into the lists {', '.join(layout.names)}: read one of them"
            )
        tables, notes = ({layout.leading: table}, []) if table else find_tables(layout)
        findings.notes += [*layout.notes, *notes]
        options: dict[str, Any] = {"unknown": unknown, "progress": progress}
        whole = read_list(cls, layout, layout.leading, tables[layout.leading], findings, **options)
        whole.transforms = transforms
        return whole

    @property
    def class_names(self) -> tuple[str, ...]:
        """Name the classes 0, 1, ..."""
        return self.table.names

    def image_path(self, index: int) -> Path:
        """Return the file of an item's picture."""
        return self._items[index][1]

    def pairs(self) -> list[tuple[Path, Masks]]:
        """Return the files of all pairs of a picture and a mask."""
        return [(image, mask) for _, image, mask in self._items]

    def files(self) -> list[Path]:
        """Return the files of all pictures."""
        return [image for _, image, _ in self._items]

    def all_seen(self) -> list[Seen]:
        """Return what was seen of each picture when it was checked."""
        return [self.seen[image] for image in self.files()]

    def labels_of(self, mask: Masks, mended: Counter[str] | None = None) -> np.ndarray:
        """Read a mask as labels, uint8 (H, W).

        Args:
            mask: the file, or those of single objects.
            mended: counts what was not read as it stands there.

        Raises:
            DataError: see `common.masks.label_maps`.
        """
        if isinstance(mask, tuple):
            return read_object_masks(mask, mended)
        return read_label_map(mask, self.table, self.unknown, mended)

    @property
    def has_objects(self) -> bool:
        """Tell whether the masks say which object a pixel belongs to, beside its class."""
        return self.table.objects or isinstance(self._items[0][2], tuple)

    def instances(self, index: int) -> np.ndarray:
        """Return the numbers of an item's objects, int32 (H, W); 0 is none; see `has_objects`."""
        return read_instances(self._items[index][2])

    def _load(self, item: tuple[int, Path, Masks]) -> tuple[tv_tensors.Image, Target]:
        image_id, image_path, mask = item
        labels = self.labels_of(mask)
        pixels = read_photo(image_path, labels.shape[::-1])  # unturned, where the mask is
        image = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))  # (3, H, W)
        target = {"labels": tv_tensors.Mask(torch.from_numpy(labels)), "image_id": image_id}
        return tv_tensors.Image(image), target

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
        PennFudanError, NucleiError: the download fails.
    """
    if settings.data == "street":
        parts, notes = _street(settings.num_scenes, street_folder, progress), []
    else:
        parts, notes = _own(settings, progress)
    train = parts["train"]
    check_names(settings.data, parts)
    train.transforms = training_transforms(
        flip=settings.flip,
        photometric=settings.photometric,
        scale=settings.scale,
        crop_size=settings.crop_size,
    )
    parts["validation"].transforms = parts["test"].transforms = evaluation_transforms()
    reports = [*dict.fromkeys(part.report for part in parts.values()), *report_lines({}, notes)]
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
        pairs = find_pairs(find_layout(scenes).first, Findings(scenes, "refuse"))
        parts[name] = SegmentationDataset(pairs, numbered_classes(SEMANTIC_CLASSES))
        parts[name].report = f"{scenes}: {count} drawn scenes"
    return parts


def _own(settings: Settings, progress: bool) -> tuple[dict[str, SegmentationDataset], list[str]]:
    """Read a folder: its own lists, or all of it divided by the seed; with notes."""
    fetch = DOWNLOADS.get(settings.data)
    path = Path(settings.data) if fetch is None else fetch()
    if not path.is_dir():
        raise DataError(
            f"data {settings.data!r}: allowed are street, {', '.join(DOWNLOADS)} or a folder that "
            "exists"
        )
    folder = open_folder(path, SegmentationDataset)
    options = {"unknown": settings.unknown_labels, "progress": progress}
    try:
        parts, _ = read_parts(
            folder.layout.names,
            lambda name: folder.read(name, settings.on_invalid, **options),
            lambda whole, indices: whole.subset(indices),
            settings.seed,
            _asked(settings.train_split, settings.validation_split, settings.test_split),
        )
    except PartsError as error:
        raise DataError(f"{path}: {error}") from error
    train = parts["train"]
    refusal = check_sizes(path, train.all_seen())
    if refusal is not None and settings.crop_size is None and settings.batch_size > 1:
        raise DataError(refusal)
    return parts, [*folder.notes, *check_training(path, train)]


def _asked(train: str | None, validation: str | None, test: str | None) -> dict[str, str | None]:
    return {"train": train, "validation": validation, "test": test}


def survey_data(
    path: str | Path,
    *,
    decode: bool = False,
    progress: bool = True,
    train_split: str | None = None,
    validation_split: str | None = None,
    test_split: str | None = None,
) -> Survey:
    """Look at a folder of pictures and masks without training, and say all that is found.

    Args:
        path: the folder.
        decode: decode every picture; else their headers and ends are looked at. Masks are decoded.
        progress: show a progress bar on stderr.
        train_split, validation_split, test_split: the data's own lists, as for a training.

    Returns:
        What was found; `error` says why nothing can be trained on, where that is so.
    """
    survey = Survey(str(path), unit="pixels")
    try:
        folder = open_folder(Path(path), SegmentationDataset)
    except DataError as error:
        survey.error = str(error)
        return survey
    asked = _asked(train_split, validation_split, test_split)
    survey_folder(survey, folder, asked, decode=decode, progress=progress)
    return survey
