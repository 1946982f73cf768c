"""The photos and boxes of a training run: drawn street scenes, Penn-Fudan, or a folder of your own.

Every label passes the checks of `common/labels/records.py` before training starts. A `PhotoSet` has
the photos as they are stored, with boxes in their own pixels, for measuring. `TrainingPhotos` makes
of them what a network learns from, and gives items `(image, target)`:

- `image`: uint8, shape (3, H, W), RGB, of the network's input size.
- `target["boxes_cxcywh"]`: float32, shape (N, 4), centre x, centre y, width, height as fractions
  of the input.
- `target["classes"]`: int64, shape (N,), counted from 0.
- `target["path"]`: the photo's file, or the four of a mosaic.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from augmentation import Augmentation, Sample, augment
from boxes import InputSize, Letterbox, height_width, xyxy_to_cxcywh
from common.labels.read import list_splits, read_annotations
from common.labels.records import AnnotationSet, ObjectRecord
from common.labels.sources import load_labels
from common.parts import NAMES
from common.photos import read_photo
from common.street.parts import NUM_TEST_SCENES, STREET_FOLDER, draw_part
from settings import Settings

PHOTO_MEMORY = 2**30  # bytes of decoded photos that are kept; 364 photos of 640 x 480 need a third


class PhotoSet:
    """Photos with their boxes; decoded photos are kept in memory as far as they fit.

    Args:
        labels: the photos and their objects, see `common.labels.records`.
        memory: bytes of decoded photos to keep; the others are read anew each time.
    """

    def __init__(self, labels: AnnotationSet, memory: int = PHOTO_MEMORY) -> None:
        self.labels, self.class_names = labels, labels.class_names
        self._memory = memory
        self._photos: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return len(self.labels.images)

    def photo(self, index: int) -> np.ndarray:
        """Return a photo: uint8 (H, W, 3), RGB. It may be shared: do not write to it.

        Raises:
            PhotoError: the file is missing, damaged, or of another size than its annotation.
        """
        kept = self._photos.get(index)
        if kept is not None:
            return kept
        record = self.labels.images[index]
        photo = read_photo(record.path, (record.width, record.height))
        photo.flags.writeable = False
        if photo.nbytes <= self._memory:
            self._memory -= photo.nbytes
            self._photos[index] = photo
        return photo

    def boxes_xyxy(self, index: int) -> np.ndarray:
        """Return the boxes of the ordinary objects: float32 (N, 4), pixels of the photo."""
        boxes = [one.box_xyxy for one in self._objects(index)]
        return np.array(boxes, np.float32).reshape(-1, 4)

    def classes(self, index: int) -> np.ndarray:
        """Return the class index of each of `boxes_xyxy`, counted from 0: int64 (N,)."""
        return np.array([one.label - 1 for one in self._objects(index)], np.int64)

    def path(self, index: int) -> Path:
        """Return the file of a photo."""
        return self.labels.images[index].path

    def sample(self, index: int) -> Sample:
        """Return a photo with its boxes and classes."""
        return Sample(self.photo(index), self.boxes_xyxy(index), self.classes(index))

    def sizes_wh(self, input_size: InputSize) -> np.ndarray:
        """Return (M, 2) float32: width and height of every box in pixels of the input."""
        height, width = height_width(input_size)
        sizes = [np.zeros((0, 2), np.float32)]
        for index, record in enumerate(self.labels.images):
            letterbox = Letterbox(record.width, record.height, width, height)
            boxes = letterbox.to_network(torch.from_numpy(self.boxes_xyxy(index)))
            sizes.append((boxes[:, 2:] - boxes[:, :2]).numpy())
        return np.concatenate(sizes)

    def _objects(self, index: int) -> list[ObjectRecord]:
        """The objects to learn: a crowd region has no box of one object."""
        return [one for one in self.labels.images[index].objects if not one.iscrowd]


class TrainingPhotos(Dataset):
    """A set's photos, changed at random; see the module's text for an item.

    All random numbers come from PyTorch's global generator, which the loader seeds for each item.

    Args:
        photos: what to learn from.
        size: of the network's input in pixels; see `boxes.height_width`.
        augmentation: how strongly photos are changed.
    """

    def __init__(self, photos: PhotoSet, size: InputSize, augmentation: Augmentation) -> None:
        self.photos, self.size, self.augmentation = photos, size, augmentation

    def __len__(self) -> int:
        return len(self.photos)

    def __getitem__(self, index: int) -> tuple[Tensor, dict[str, Any]]:
        random = np.random.default_rng(int(torch.randint(2**63 - 1, ())))
        indices = [index]
        if random.random() < self.augmentation.mosaic:
            others = [k for k in range(len(self)) if k != index] or indices
            indices += random.choice(others, 3, replace=len(others) < 3).tolist()
        samples = [self.photos.sample(k) for k in indices]
        sample = augment(samples, self.size, self.augmentation, random)
        height, width = sample.image.shape[:2]
        boxes_cxcywh = xyxy_to_cxcywh(torch.from_numpy(sample.boxes_xyxy))
        target = {
            "boxes_cxcywh": boxes_cxcywh / torch.tensor((width, height) * 2),
            "classes": torch.from_numpy(sample.classes),
            "path": " + ".join(str(self.photos.path(k)) for k in indices),
        }
        return torch.from_numpy(sample.image).permute(2, 0, 1), target

    @staticmethod
    def collate(
        batch: Sequence[tuple[Tensor, dict[str, Any]]],
    ) -> tuple[Tensor, Tensor, list[str]]:
        """Put items of one size together.

        Returns:
            The images, uint8 (B, 3, H, W), stored channels last; the targets of `losses.YoloLoss`,
            float32 (M, 6): image index, class index, box; and the photos' files.
        """
        images = torch.stack([image.permute(1, 2, 0) for image, _ in batch])  # (B, H, W, 3)
        rows = [
            torch.cat((torch.full((len(box), 1), k), label[:, None], box), dim=1)
            for k, (box, label) in enumerate((t["boxes_cxcywh"], t["classes"]) for _, t in batch)
        ]
        return images.permute(0, 3, 1, 2), torch.cat(rows), [t["path"] for _, t in batch]


@dataclass(frozen=True)
class DetectionData:
    """The three parts of a training's data, see `common.parts`; `report` says what was read."""

    train: PhotoSet
    validation: PhotoSet
    test: PhotoSet
    report: str = ""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Name the classes 0, 1, ..."""
        return self.train.class_names


def load_data(
    settings: Settings, street_folder: Path = STREET_FOLDER, progress: bool = True
) -> DetectionData:
    """Return the photos of `settings.data` in three parts.

    Raises:
        AnnotationError: the data cannot be trained on; see `common.labels.sources.load_labels`.
        PennFudanError: the download fails.
    """
    labels = load_labels(
        settings.data,
        seed=settings.seed,
        num_scenes=settings.num_scenes,
        on_invalid=settings.on_invalid,
        train_split=settings.train_split,
        validation_split=settings.validation_split,
        test_split=settings.test_split,
        street_folder=street_folder,
        progress=progress,
    )
    memory = PHOTO_MEMORY // max(1, settings.workers)  # each worker keeps photos of its own
    train, validation, test = (
        PhotoSet(part, memory) for part in (labels.train, labels.validation, labels.test)
    )
    return DetectionData(train, validation, test, labels.report)


def load_test_photos(
    name: str,
    *,
    split: str | None = None,
    held_out: bool = False,
    seed: int = 0,
    on_invalid: str = "refuse",
    street_folder: Path = STREET_FOLDER,
    progress: bool = True,
) -> PhotoSet:
    """Read the photos to measure a model on.

    Args:
        name: as for `common.labels.sources.load_labels`.
        split: the data's own list; by default its test list, or that for validation, or everything
            where it has neither.
        held_out: only the test part that `load_data` makes with this seed.
        seed, on_invalid, street_folder, progress: as for `load_labels`.

    Raises:
        AnnotationError: the data cannot be measured on; names file and line.
        PennFudanError: the download fails.
    """
    path = Path(name)
    if name == "street":  # without the scenes for training
        path = draw_part(street_folder, "test", NUM_TEST_SCENES, progress)
    elif held_out or name == "penn_fudan" or not path.exists():
        return PhotoSet(load_labels(name, seed=seed, on_invalid=on_invalid).test)
    known = list_splits(path) if path.is_dir() else ()
    usual = (one for one in (*NAMES["test"], *NAMES["validation"]) if one in known)
    split = split or next(usual, None)
    return PhotoSet(read_annotations(path, split=split, on_invalid=on_invalid))
