"""The gradients of a batch: as a whole, or on a CPU in parts side by side, which is faster.

A training step is hundreds of small operations. When all cores share each of them, they wait for
one another hundreds of times. When each core takes a part of the batch, they meet once: where the
gradients are averaged.

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
Divide = Callable[[Any, int], Sequence[Any]]


class BatchGradients:
    """Set the gradients of a model's trainable parameters by a batch; an object is a function.

    Args:
        model: is put into training mode.
        losses: gives the loss terms of a batch, or of a part of it, by name; "loss" is what to
            minimise.
        divide: cuts a batch into so many equal parts; none at all where it cannot.
        parts: how many are computed at once, each by a thread with its share of the cores. A model
            that is not `divisible` takes batches whole.
        scaler: keeps small float16 gradients from becoming 0; None in other precisions.

    Every thread has a copy of the model that shares the parameters. The buffers, such as the
    running statistics of batch norm, are its own; after each batch all have their mean.
    """

    def __init__(
        self,
        model: nn.Module,
        losses: Losses,
        divide: Divide,
        parts: int = 1,
        scaler: torch.amp.GradScaler | None = None,
    ) -> None:
        self.losses, self.divide, self.scaler = losses, divide, scaler
        self.parts = parts if divisible(model) else 1
        model.train()  # before it is copied
        self.models = [model, *(_sharing_copy(model) for _ in range(self.parts - 1))]
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        cores = max(1, (os.cpu_count() or 1) // self.parts)
        self.pool = ThreadPoolExecutor(
            self.parts, initializer=torch.set_num_threads, initargs=[cores]
        )

    def __call__(self, batch: Any) -> dict[str, float]:
        """Set the gradients, and return the loss terms as numbers, "loss" among them."""
        parts = self.divide(batch, self.parts) if self.parts > 1 else ()
        terms = self._side_by_side(parts) if parts else self._whole(batch)
        numbers = torch.stack([one.detach() for one in terms.values()]).tolist()  # one wait
        return dict(zip(terms, numbers, strict=True))

    def _whole(self, batch: Any) -> dict[str, Tensor]:
        terms = self.losses(self.models[0], batch)
        for parameter in self.parameters:
            parameter.grad = None
        loss = terms["loss"]
        (loss if self.scaler is None else self.scaler.scale(loss)).backward()
        return terms

    def _side_by_side(self, parts: Sequence[Any]) -> dict[str, Tensor]:
        def one(model: nn.Module, part: Any) -> tuple[Any, Mapping[str, Tensor]]:
            terms = self.losses(model, part)
            gradients = torch.autograd.grad(terms["loss"], self.parameters, allow_unused=True)
            return gradients, {name: value.detach() for name, value in terms.items()}

        gradients, terms = zip(*self.pool.map(one, self.models, parts), strict=True)
        for parameter, found in zip(self.parameters, zip(*gradients, strict=True), strict=True):
            known = [gradient for gradient in found if gradient is not None]
            parameter.grad = sum(known[1:], known[0]) / len(found) if known else None
        self._average_buffers()
        return {name: torch.stack([part[name] for part in terms]).mean() for name in terms[0]}

    @torch.no_grad()
    def _average_buffers(self) -> None:
        for buffers in zip(*(model.buffers() for model in self.models), strict=True):
            if buffers[0].is_floating_point():  # others are counters, equal in all
                mean = torch.stack(buffers).mean(dim=0)
                for one in buffers:
                    one.copy_(mean)


def divisible(model: nn.Module) -> bool:
    """Tell whether the parts of a batch can be computed side by side.

    They are so on a CPU alone, and where processes do not share the batch already. Dropout would
    draw its random numbers for the thread that comes first.
    """
    random = any(isinstance(one, nn.Dropout | nn.Dropout2d) and one.p for one in model.modules())
    on_cpu = all(parameter.device.type == "cpu" for parameter in model.parameters())
    return on_cpu and not random and not isinstance(model, DistributedDataParallel)


def _sharing_copy(model: nn.Module) -> nn.Module:
    """A copy with the very same parameters, and with buffers of its own."""
    return copy.deepcopy(model, {id(parameter): parameter for parameter in model.parameters()})
