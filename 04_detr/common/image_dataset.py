"""What a lesson's datasets share: items read one by one, of which parts can be taken."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from torch.utils.data import Dataset
from torchvision import tv_tensors

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
