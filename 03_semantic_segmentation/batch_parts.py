"""The parts of a batch side by side, each on cores of its own: faster training on a CPU.

A segmentation network's step is hundreds of small operations. When all cores share each of them,
they wait for one another hundreds of times. When each core takes a part of the batch, they meet
once: where the gradients are averaged.

What a part gives does not depend on the others, so the result is the same with one core as with
many. Batch norm normalises each part by the statistics of that part alone.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

Losses = Callable[[nn.Module, Any], dict[str, Tensor]]


class BatchParts:
    """Compute a model's gradients with one thread for each part of a batch.

    Every thread has a copy of the model that shares the parameters. The buffers, such as the
    running statistics of batch norm, are its own; after a step all have their mean.

    Args:
        model: on the CPU, in training mode. What it draws at random would depend on which thread
            comes first, so it may not have dropout; see `is_divisible`.
        count: how many parts; each gets its share of the cores.
    """

    def __init__(self, model: nn.Module, count: int) -> None:
        self.models = [model, *(_sharing_copy(model) for _ in range(count - 1))]
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        cores = max(1, (os.cpu_count() or 1) // count)
        self.pool = ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=[cores])

    def gradients(self, parts: Sequence[Any], losses: Losses) -> dict[str, Tensor]:
        """Set every trainable parameter's `grad` to the mean over the parts.

        Args:
            parts: of the batch, at most one for each thread.
            losses: gives the loss terms of a part by name; "loss" is what to minimise.

        Returns:
            The mean of each loss term.
        """

        def one(model: nn.Module, part: Any) -> tuple[Any, Mapping[str, Tensor]]:
            terms = losses(model, part)
            gradients = torch.autograd.grad(terms["loss"], self.parameters, allow_unused=True)
            return gradients, {name: value.detach() for name, value in terms.items()}

        used = self.models[: len(parts)]
        gradients, terms = zip(*self.pool.map(one, used, parts), strict=True)
        for parameter, found in zip(self.parameters, zip(*gradients, strict=True), strict=True):
            known = [one for one in found if one is not None]
            parameter.grad = sum(known[1:], known[0]) / len(found) if known else None
        self._average_buffers(used)
        return {name: torch.stack([one[name] for one in terms]).mean() for name in terms[0]}

    @torch.no_grad()
    def _average_buffers(self, used: Sequence[nn.Module]) -> None:
        for buffers in zip(*(model.buffers() for model in self.models), strict=True):
            if buffers[0].is_floating_point():
                mean = torch.stack(buffers[: len(used)]).mean(dim=0)
            else:
                mean = buffers[0]  # a counter
            for one in buffers:
                one.copy_(mean)


def is_divisible(model: nn.Module) -> bool:
    """Tell whether `BatchParts` takes a model: on the CPU, no dropout, not split over processes."""
    random = any(isinstance(one, nn.Dropout | nn.Dropout2d) and one.p for one in model.modules())
    on_cpu = all(parameter.device.type == "cpu" for parameter in model.parameters())
    return on_cpu and not random and not isinstance(model, DistributedDataParallel)


def _sharing_copy(model: nn.Module) -> nn.Module:
    """A copy with the same parameters, not equal ones, and with buffers of its own."""
    shared = {id(parameter): parameter for parameter in model.parameters()}
    return copy.deepcopy(model, shared)
