"""Training batches, prepared in threads while the network computes.

What a batch holds depends on the seed and its place in the run alone: not on the number of
threads, and not on what ran before. So a resumed run sees the very pixels that the uninterrupted
one would have seen.

Threads are enough here, and they share one memory of decoded photos: decoding and drawing are done
by libraries that let other threads run meanwhile.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from batches.augmentation import Augmentation, Sample, augment
from darknet.size import InputSize
from dataset import PhotoSet

AHEAD = 2  # batches that are prepared while one is computed with
STEPS_PER_SIZE = 10  # with several sizes: so many batches of one size, as in Darknet


@dataclass(frozen=True)
class Batch:
    """What one training step learns from.

    Attributes:
        images: uint8 (B, 3, H, W), RGB, stored channels last.
        targets: float32 (M, 6): image index, class index, centre x, centre y, width, height; the
            last four as fractions of the input.
        names: the photo files of each image, for error messages.
    """

    images: Tensor
    targets: Tensor
    names: tuple[str, ...]


class TrainingBatches:
    """All photos once an epoch, shuffled anew and changed at random.

    With several processes each gets its part of every batch. Photos that do not fill a last batch
    are left out of the epoch.

    Args:
        photos: what to learn from.
        batch_size: of all processes together.
        size: of the network's input in pixels; see `input_size`.
        augmentation: how strongly photos are changed.
        seed: of the whole run.
        sizes: several sizes to choose from every ten batches (multi-scale training); by default
            `size` alone.
        rank, world_size: number of this process, and of all.
        threads: how many prepare images; 0 prepares them between the steps.

    Raises:
        ValueError: fewer photos than a batch, or a batch that the processes cannot share evenly.
    """

    def __init__(
        self,
        photos: PhotoSet,
        batch_size: int,
        size: InputSize,
        augmentation: Augmentation,
        seed: int,
        *,
        sizes: Sequence[InputSize] = (),
        rank: int = 0,
        world_size: int = 1,
        threads: int = 2,
    ) -> None:
        if not 1 <= batch_size <= len(photos):
            raise ValueError(
                f"batch_size is {batch_size}; allowed are 1 to {len(photos)}, the number of photos"
            )
        if batch_size % world_size:
            raise ValueError(
                f"batch_size is {batch_size}, which {world_size} processes cannot share evenly"
            )
        self.photos, self.batch_size, self.augmentation = photos, batch_size, augmentation
        self.sizes, self.seed, self.threads = tuple(sizes) or (size,), seed, threads
        self.rank, self.world_size = rank, world_size

    def __len__(self) -> int:
        """Count the batches of an epoch."""
        return len(self.photos) // self.batch_size

    def epoch(self, epoch: int, first_step: int = 0, mosaic: bool = True) -> Iterator[Batch]:
        """Give the batches of an epoch from `first_step` on; `mosaic=False` makes none."""
        order = np.random.default_rng((self.seed, epoch)).permutation(len(self.photos))
        settings = self.augmentation if mosaic else replace(self.augmentation, mosaic=0.0)
        share = self.batch_size // self.world_size
        plans = []
        for step in range(first_step, len(self)):
            start = step * self.batch_size + self.rank * share
            indices = [int(index) for index in order[start : start + share]]
            plans.append((indices, self.size_of(epoch, step), epoch, settings))
        if self.threads == 0:
            yield from (collate([self._image(index, *rest) for index in i]) for i, *rest in plans)
        else:
            yield from self._in_threads(plans)

    def size_of(self, epoch: int, step: int) -> InputSize:
        """Return the size of the images of a batch; the same in all processes."""
        if len(self.sizes) == 1:
            return self.sizes[0]
        turn = (epoch * len(self) + step) // STEPS_PER_SIZE
        return self.sizes[np.random.default_rng((self.seed, 1, turn)).choice(len(self.sizes))]

    def _in_threads(self, plans: Sequence[tuple]) -> Iterator[Batch]:
        waiting: deque[list[Future]] = deque()
        with ThreadPoolExecutor(self.threads, "photos") as pool:
            try:
                for indices, *rest in plans:
                    waiting.append([pool.submit(self._image, index, *rest) for index in indices])
                    if len(waiting) > AHEAD:
                        yield collate([one.result() for one in waiting.popleft()])
                while waiting:
                    yield collate([one.result() for one in waiting.popleft()])
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def _image(
        self, index: int, size: InputSize, epoch: int, settings: Augmentation
    ) -> tuple[Sample, str]:
        random = np.random.default_rng((self.seed, epoch, index))
        indices = [index]
        if random.random() < settings.mosaic:
            indices += [int(other) for other in random.integers(len(self.photos), size=3)]
        samples = [
            Sample(self.photos.photo(i), self.photos.boxes_xyxy(i), self.photos.classes(i))
            for i in indices
        ]
        names = " + ".join(str(self.photos.path(i)) for i in indices)
        return augment(samples, size, settings, random), names


def collate(items: Sequence[tuple[Sample, str]]) -> Batch:
    """Put samples of one size together; see `Batch`."""
    samples = [sample for sample, _ in items]
    images = torch.from_numpy(np.stack([sample.image for sample in samples]))  # (B, S, S, 3)
    targets = [_rows(number, sample) for number, sample in enumerate(samples)]
    return Batch(
        images.permute(0, 3, 1, 2),
        torch.from_numpy(np.concatenate(targets)),
        tuple(name for _, name in items),
    )


def _rows(number: int, sample: Sample) -> np.ndarray:
    """The rows of `Batch.targets` of one image: float32 (N, 6)."""
    low, high = sample.boxes_xyxy[:, :2], sample.boxes_xyxy[:, 2:]
    height, width = sample.image.shape[:2]
    side = np.array((width, height), np.float32)
    first = np.stack((np.full(len(low), number), sample.classes), axis=1)
    return np.concatenate((first, (low + high) / 2 / side, (high - low) / side), axis=1).astype(
        np.float32
    )
