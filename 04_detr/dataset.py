"""The pictures and labels of a training.

Every item is `(image, target)`:

- `image`: uint8, shape (3, H, W), RGB, all of one size: a picture is scaled to fit, and lies top
  left on gray; see `evaluation.fit_picture`.
- `target["boxes_cxcywh"]`: float32, shape (N, 4): centre x, centre y, width, height as fractions
  of (W, H).
- `target["classes"]`: int64, shape (N,), counted from 0: there is no background.
- `target["image_id"]`: int.

A picture without objects has N = 0. COCO's crowd regions are in no target.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import box_convert
from torchvision.transforms import v2

from common.image_dataset import ImageDataset, Target
from common.labels.records import AnnotationSet, ImageRecord
from common.labels.sources import load_labels
from common.photos import read_photo
from common.street.parts import STREET_FOLDER
from evaluation import fit_picture
from settings import Settings


class DetectionDataset(ImageDataset):
    """The pictures of an annotation set, with their boxes and classes.

    Args:
        annotations: what one of the readers of `common.labels` returned.
        size: (H, W) of all pictures.
        flip: probability of a left-right flip.
        photometric: probability of changed brightness, contrast, saturation and hue.
    """

    def __init__(
        self,
        annotations: AnnotationSet,
        size: tuple[int, int],
        flip: float = 0.0,
        photometric: float = 0.0,
    ) -> None:
        changes = RandomChanges(flip, photometric) if flip or photometric else None
        super().__init__(annotations.images, changes)
        self.annotations, self.size = annotations, size
        self.class_names = annotations.class_names

    @property
    def labels(self) -> AnnotationSet:
        """Return the labels of these pictures as they were read."""
        return replace(self.annotations, images=tuple(self._items))

    @staticmethod
    def collate(batch: Sequence[tuple[Tensor, Target]]) -> tuple[Tensor, list[Target]]:
        """Put images together, uint8 (B, 3, H, W); targets differ in length and stay a list."""
        return torch.stack([image for image, _ in batch]), [target for _, target in batch]

    def image_path(self, index: int) -> Path:
        """Return the file of an item's picture."""
        return self._items[index].path

    def _load(self, item: ImageRecord) -> tuple[Tensor, Target]:
        photo = read_photo(item.path, (item.width, item.height))
        canvas, scale = fit_picture(photo, self.size)
        objects = [one for one in item.objects if not one.iscrowd]
        edges = np.array([one.box_xyxy for one in objects], np.float32).reshape(-1, 4)
        fractions = torch.from_numpy(edges) * scale / torch.tensor(self.size[::-1] * 2)
        target: Target = {
            "boxes_cxcywh": box_convert(fractions, "xyxy", "cxcywh"),
            "classes": torch.tensor([one.label - 1 for one in objects], dtype=torch.int64),
            "image_id": item.image_id,
        }
        return torch.from_numpy(canvas).permute(2, 0, 1), target


class RandomChanges:
    """What is changed at random in training: a left-right flip, and the colours.

    Args:
        flip, photometric: probabilities.
    """

    def __init__(self, flip: float, photometric: float) -> None:
        self.flip, self.colours = flip, v2.RandomPhotometricDistort(p=photometric)

    def __call__(self, image: Tensor, target: Target) -> tuple[Tensor, Target]:
        """Return a changed image, uint8 (3, H, W), and its target."""
        image = self.colours(image)
        if torch.rand(()) >= self.flip:
            return image, target
        mirrored = target["boxes_cxcywh"].clone()
        mirrored[:, 0] = 1 - mirrored[:, 0]
        return image.flip(-1), {**target, "boxes_cxcywh": mirrored}


@dataclass(frozen=True)
class DetectionData:
    """The three parts of a training's data, see `common.parts`; `report` says what was read."""

    train: DetectionDataset
    validation: DetectionDataset
    test: DetectionDataset
    report: str = ""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Name the classes 0, 1, ..."""
        return self.train.class_names


def load_data(
    settings: Settings, street_folder: Path = STREET_FOLDER, progress: bool = True
) -> DetectionData:
    """Return the datasets of `settings.data`, with random changes in the first.

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
    size = settings.image_size
    train = DetectionDataset(labels.train, size, settings.flip, settings.photometric)
    validation, test = (DetectionDataset(part, size) for part in (labels.validation, labels.test))
    lines = [labels.report, *crowded_lines((train, validation, test), settings.num_queries)]
    return DetectionData(train, validation, test, "\n".join(lines))


def crowded_lines(parts: Sequence[DetectionDataset], num_queries: int) -> list[str]:
    """Say how many pictures hold more objects than there are queries to find them; or nothing."""
    pictures = [record for part in parts for record in part.annotations.images]
    counts = [sum(not one.iscrowd for one in record.objects) for record in pictures]
    crowded = [count for count in counts if count > num_queries]
    if not crowded:
        return []
    return [
        f"note: {len(crowded)} picture(s) hold more than {num_queries} objects (up to "
        f"{max(crowded)}); as many as there are queries can be found: --num-queries {max(crowded)}"
    ]
