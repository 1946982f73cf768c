"""The pictures of a batch side by side, each on cores of its own: faster training on a CPU.

A detector's step is thousands of small operations. When all cores share each operation, they
wait for one another thousands of times. When each core takes a whole picture, they meet once:
where the gradients are added.

A picture's gradients do not depend on the others', so the result is the same with one thread as
with many. What is random in a picture depends on its own seed.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler

_random = threading.local()  # .generator: of the picture that this thread works on


class OwnSampler(BalancedPositiveNegativeSampler):
    """torchvision's choice of anchors or proposals to learn from, random per picture.

    torchvision's own draws from one generator for the whole process; two threads would draw
    from it in an order that changes from run to run.
    """

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


class SideBySide:
    """Compute a detector's gradients with one thread a picture.

    Args:
        model: a torchvision detector on the CPU, without live batch norm. Its two samplers are
            replaced by `OwnSampler`.
        pictures: how many at once, usually the batch size; each gets its share of the cores.

    Raises:
        ValueError: a live batch norm layer, whose statistics the threads would mix.
    """

    def __init__(self, model: nn.Module, pictures: int) -> None:
        live = [name for name, m in model.named_modules() if isinstance(m, nn.BatchNorm2d)]
        if live:
            raise ValueError(
                f"{live[0]} is a live batch norm: freeze it, or train without pictures side by side"
            )
        for part in (model.rpn, model.roi_heads):
            old = part.fg_bg_sampler
            part.fg_bg_sampler = OwnSampler(old.batch_size_per_image, old.positive_fraction)
        self.model = model
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        cores = max(1, (os.cpu_count() or 1) // pictures)
        self.pool = ThreadPoolExecutor(
            pictures, initializer=torch.set_num_threads, initargs=[cores]
        )

    def gradients(
        self,
        images: Sequence[Tensor],
        targets: Sequence[dict[str, Any]],
        seeds: Sequence[int],
        total_loss: Callable[[Mapping[str, Tensor]], Tensor],
    ) -> dict[str, Tensor]:
        """Set every trainable parameter's `grad` to the mean over the pictures.

        Args:
            images, targets: the batch.
            seeds: one for each picture.
            total_loss: makes the number to minimise of the loss terms.

        Returns:
            The mean of each loss term over the pictures.
        """

        def one(image: Tensor, target: dict[str, Any], seed: int) -> tuple[Any, dict[str, Tensor]]:
            _random.generator = torch.Generator().manual_seed(seed)
            terms = self.model([image], [target])
            gradients = torch.autograd.grad(total_loss(terms), self.parameters, allow_unused=True)
            return gradients, {name: value.detach() for name, value in terms.items()}

        gradients, terms = zip(*self.pool.map(one, images, targets, seeds), strict=True)
        for parameter, parts in zip(self.parameters, zip(*gradients, strict=True), strict=True):
            known = [part for part in parts if part is not None]
            parameter.grad = sum(known[1:], known[0]) / len(parts) if known else None
        return {name: torch.stack([one[name] for one in terms]).mean() for name in terms[0]}
