"""Anchors and proposals to learn from, chosen at random for each part of a batch on its own.

torchvision's choice draws from one generator for the whole process. Two threads would draw from it
in an order that changes from run to run.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler

_random = threading.local()  # .generator: of the part that this thread works on, if there is one


class OwnSampler(BalancedPositiveNegativeSampler):
    """torchvision's choice, drawn from the generator of `drawing_from`, or else from PyTorch's."""

    def __call__(self, matched_idxs: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Return masks of the chosen objects (labels >= 1) and of the chosen background (0)."""
        positives, negatives = [], []
        for labels in matched_idxs:
            most = int(self.batch_size_per_image * self.positive_fraction)
            positive = self._choose(labels >= 1, most)
            negative = self._choose(labels == 0, self.batch_size_per_image - int(positive.sum()))
            positives.append(positive)
            negatives.append(negative)
        return positives, negatives

    @staticmethod
    def _choose(candidates: Tensor, most: int) -> Tensor:
        """Return a uint8 mask (N,) of at most `most` of the candidates, a bool mask (N,)."""
        places = torch.where(candidates)[0]
        generator = getattr(_random, "generator", None)
        order = torch.randperm(len(places), generator=generator)[:most].to(places.device)
        chosen = torch.zeros_like(candidates, dtype=torch.uint8)
        chosen[places[order]] = 1
        return chosen


@contextmanager
def drawing_from(seed: int | None = None) -> Iterator[None]:
    """Inside, let the samplers in this thread draw from a generator of their own.

    Args:
        seed: of the generator; None leaves the samplers with PyTorch's.
    """
    _random.generator = None if seed is None else torch.Generator().manual_seed(seed)
    try:
        yield
    finally:
        _random.generator = None


def use_own_samplers(detector: nn.Module) -> None:
    """Replace the two samplers of a torchvision detector; their numbers stay."""
    for part in (detector.rpn, detector.roi_heads):
        old = part.fg_bg_sampler
        part.fg_bg_sampler = OwnSampler(old.batch_size_per_image, old.positive_fraction)
