"""What a lesson's datasets share: items read one by one, of which parts can be taken."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from torch.utils.data import Dataset
from torchvision import tv_tensors

from common.random_split import split_indices

Target = dict[str, Any]
Transforms = Callable[[tv_tensors.Image, Target], tuple[Any, Target]]
Items = TypeVar("Items", bound="ImageDataset")


class ImageDataset(Dataset):
    """A list of items; `_load` of a derived class reads one of them.

    Args:
        items: whatever `_load` needs to know of each.
        transforms: called with (image, target), returns both.

    Attributes:
        class_names: in the order of the labels.
        collate: puts a list of (image, target) together into a batch.
    """

    class_names: tuple[str, ...]
    collate: Callable[[Sequence[tuple[Any, Target]]], tuple[Any, Any]]

    def __init__(self, items: Sequence[Any], transforms: Transforms | None) -> None:
        self.transforms, self._items = transforms, list(items)

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> tuple[Any, Target]:
        image, target = self._load(self._items[index])
        if self.transforms is None:
            return image, target
        return self.transforms(image, target)

    def subset(self: Items, indices: Sequence[int], transforms: Transforms | None = None) -> Items:
        """Return a dataset of these items only, with transforms of its own."""
        part = copy.copy(self)
        part._items = [self._items[index] for index in indices]
        part.transforms = transforms
        return part

    def _load(self, item: Any) -> tuple[tv_tensors.Image, Target]:
        raise NotImplementedError


def train_validation_split(
    dataset: Items,
    validation_fraction: float = 0.2,
    seed: int = 0,
    train_transforms: Transforms | None = None,
    validation_transforms: Transforms | None = None,
) -> tuple[Items, Items]:
    """Divide a dataset at random, the same way for the same seed; both parts get an item.

    Args:
        dataset: at least two items.
        validation_fraction: share of the second part, between 0 and 1.
        seed: of the shuffle.
        train_transforms: for the first part.
        validation_transforms: for the second part.

    Raises:
        ValueError: the fraction is not between 0 and 1, or there are fewer than two items.
    """
    train, validation = split_indices(len(dataset), validation_fraction, seed)
    held_out = dataset.subset(validation, validation_transforms)
    return dataset.subset(train, train_transforms), held_out
