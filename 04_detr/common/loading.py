"""Batches whose order and augmentation depend on the seed and their place in the run alone.

A resumed run must see the pictures the uninterrupted one would have seen, changed at random in
the same way. So each item is asked for by (index, seed), and that seed drives its augmentation in
whichever process loads it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, TypeVar

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from common.processes import Processes

ALONE = Processes(torch.device("cpu"))
S = TypeVar("S")
SampleKey = tuple[int, int]  # (index, seed)


def mix_seed(*numbers: int) -> int:
    """Return a seed of 63 bits that changes thoroughly with each of the non-negative numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))


class SeededItems(Dataset):
    """A dataset asked by (index, seed); the file of each picture is added as target["path"]."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: SampleKey) -> tuple[Any, dict[str, Any]]:
        index, seed = key
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)  # torchvision's transforms draw from the global generator
            image, target = self.dataset[index]
        if hasattr(self.dataset, "image_path"):
            target = {**target, "path": str(self.dataset.image_path(index))}
        return image, target


class SeededBatches(Sampler[list[SampleKey]]):
    """Shuffle all items anew each epoch; with several ranks, each gets its part of every batch.

    Items that do not fill a last batch are left out of the epoch; the next one shuffles anew.

    Args:
        num_items: length of the dataset.
        batch_size: of all ranks together.
        seed: of the whole run.
        rank: this process's number, from 0.
        world_size: number of processes.

    Raises:
        ValueError: fewer items than a batch, or a batch that the ranks cannot share evenly.
    """

    def __init__(
        self, num_items: int, batch_size: int, seed: int, rank: int = 0, world_size: int = 1
    ) -> None:
        if not 1 <= batch_size <= num_items:
            raise ValueError(
                f"batch_size is {batch_size}; allowed are 1 to {num_items}, the number of images"
            )
        if batch_size % world_size:
            raise ValueError(
                f"batch_size is {batch_size}, which {world_size} processes cannot share evenly"
            )
        self.num_items, self.batch_size, self.seed = num_items, batch_size, seed
        self.rank, self.world_size = rank, world_size
        self.epoch = self.first_step = 0

    def set_position(self, epoch: int, first_step: int = 0) -> None:
        """Choose the epoch to give next, and the batch within it to begin with."""
        self.epoch, self.first_step = epoch, first_step

    def __len__(self) -> int:
        """Count the batches of a whole epoch."""
        return self.num_items // self.batch_size

    def __iter__(self) -> Iterator[list[SampleKey]]:
        generator = torch.Generator().manual_seed(mix_seed(self.seed, self.epoch))
        order = torch.randperm(self.num_items, generator=generator).tolist()
        share = self.batch_size // self.world_size
        for step in range(self.first_step, len(self)):
            start = step * self.batch_size + self.rank * share
            indices = order[start : start + share]
            yield [(index, mix_seed(self.seed, self.epoch, index)) for index in indices]


def training_loader(
    dataset: Any, batch_size: int, seed: int, num_workers: int = 1, processes: Processes = ALONE
) -> DataLoader:
    """Load shuffled batches in processes of their own, ahead of the step that needs them.

    Args:
        dataset: gives (image, target), and has `collate`.
        batch_size: of all processes of the training together.
        seed: of the order and the augmentation.
        num_workers: loading processes; 0 loads between the steps.
        processes: those of the training; each gets its part of every batch.

    Raises:
        ValueError: fewer items than a batch, or a batch that cannot be shared evenly.
    """
    batches = SeededBatches(len(dataset), batch_size, seed, processes.rank, processes.world_size)
    return DataLoader(
        SeededItems(dataset),
        batch_sampler=batches,
        num_workers=num_workers,
        collate_fn=dataset.collate,
        persistent_workers=num_workers > 0,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator(),  # else the loader draws from the global generator
        worker_init_fn=_one_thread,
    )


def fit_batch(settings: S, num_items: int, processes: Processes = ALONE) -> S:
    """Return the settings with a batch that is not larger than the training pictures are many.

    What is changed is said, on the first process.

    Args:
        settings: a dataclass with `batch_size`.
        num_items: pictures to train on.
        processes: those of the training, which share a batch evenly.
    """
    largest = num_items - num_items % processes.world_size
    if settings.batch_size <= num_items or not largest:
        return settings
    if processes.rank == 0:
        print(f"batches of {largest} pictures instead of {settings.batch_size}: there are no more")
    return dataclasses.replace(settings, batch_size=largest)


def evaluation_loader(dataset: Any, batch_size: int = 1) -> DataLoader:
    """Load all items in order; for evaluation and the validation loss."""
    return DataLoader(dataset, batch_size, collate_fn=dataset.collate, generator=torch.Generator())


def _one_thread(_worker: int) -> None:
    torch.set_num_threads(1)  # the cores belong to the training step
