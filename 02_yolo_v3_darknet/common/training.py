"""What every training loop here needs: the rate of learning, one update, checks and means.

Nothing in this file knows what is learned. With several processes (torchrun), each works on its
own part of a batch; DistributedDataParallel adds up the gradients, `mean_over_ranks` the losses.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.lr_scheduler import LambdaLR, LRScheduler


class NonFiniteLossError(ValueError):
    """A loss is NaN or infinite; training cannot go on. The message names it and the pictures."""


def warmup_cosine(
    optimizer: torch.optim.Optimizer, total_steps: int, warmup_steps: int, last: float = 0.0
) -> LambdaLR:
    """Raise the learning rate in a straight line, then lower it along half a cosine.

    The warm-up keeps the new, still random last layers from shaking what was trained before
    (Goyal et al., 2017, arXiv:1706.02677, section 2.2).

    Args:
        optimizer: its own learning rate is the highest of the schedule.
        total_steps: after so many steps the factor is `last`.
        warmup_steps: length of the straight line.
        last: share of the learning rate that is left at the end.

    Raises:
        ValueError: not 0 <= warmup_steps < total_steps.
    """
    if not 0 <= warmup_steps < total_steps:
        raise ValueError(f"warmup_steps is {warmup_steps}; allowed are 0 to {total_steps - 1}")

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / (warmup_steps + 1)
        done = min((step - warmup_steps) / (total_steps - warmup_steps), 1.0)
        return last + (1 - last) * (1 + math.cos(math.pi * done)) / 2

    return LambdaLR(optimizer, factor)


def update(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    loss: Tensor,
    scaler: torch.amp.GradScaler | None = None,
    max_gradient_norm: float | None = None,
    schedule: LRScheduler | None = None,
) -> None:
    """Compute the gradients of a loss and change the weights.

    Args:
        model: whose weights the optimiser changes.
        optimizer: over the model's trainable parameters.
        loss: one number, shape ().
        scaler: keeps small float16 gradients from becoming 0; None in other precisions.
        max_gradient_norm: a longer gradient is shortened to this; None leaves it.
        schedule: of the learning rate; moves on by one step.
    """
    optimizer.zero_grad(set_to_none=True)
    (loss if scaler is None else scaler.scale(loss)).backward()
    apply_gradients(model, optimizer, scaler, max_gradient_norm, schedule)


def apply_gradients(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler | None = None,
    max_gradient_norm: float | None = None,
    schedule: LRScheduler | None = None,
) -> None:
    """Change the weights by the gradients that they hold; arguments as for `update`."""
    if max_gradient_norm is not None:
        if scaler is not None:
            scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), max_gradient_norm)
    if scaler is None:
        optimizer.step()
    else:
        scaler.step(optimizer)
        scaler.update()
    if schedule is not None:
        schedule.step()


def check_finite(losses: Mapping[str, float], place: str, pictures: str, advice: str) -> None:
    """Refuse a loss that is no finite number.

    Args:
        losses: every loss term by name, and their sum as "loss".
        place: where in the run this is, such as "epoch 1, step 3"; may be empty.
        pictures: what was learned from, such as "images 4, 7".
        advice: what to try, a sentence.

    Raises:
        NonFiniteLossError: a loss is NaN or infinite.
    """
    if all(math.isfinite(value) for value in losses.values()):
        return
    terms = [name for name in losses if name != "loss" and not math.isfinite(losses[name])]
    shown = ", ".join(f"{name} = {losses[name]}" for name in terms or losses)
    where = f" in {place}" if place else ""
    raise NonFiniteLossError(f"{shown}{where}, on the {pictures}. {advice}")


def mean_losses(steps: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Average every loss over the steps.

    Raises:
        ValueError: there is no step.
    """
    if not steps:
        raise ValueError("there is no batch to train on")
    return {name: sum(one[name] for one in steps) / len(steps) for name in steps[0]}


def mean_over_ranks(losses: dict[str, float], device: torch.device) -> dict[str, float]:
    """Average every loss over all processes; a single process keeps its own."""
    if not _distributed():
        return losses
    numbers = torch.tensor(list(losses.values()), dtype=torch.float64, device=device)
    torch.distributed.all_reduce(numbers)
    means = (numbers / torch.distributed.get_world_size()).tolist()
    return dict(zip(losses, means, strict=True))


def data_parallel(model: nn.Module, device: torch.device) -> DistributedDataParallel:
    """Wrap a model so that each backward pass averages the gradients of all processes."""
    devices = [device.index] if device.type == "cuda" else None
    return DistributedDataParallel(model, device_ids=devices)


def mixed_precision(device: torch.device) -> torch.amp.GradScaler | None:
    """Return a gradient scaler on CUDA, and None elsewhere: float16 pays on GPUs only."""
    return torch.amp.GradScaler("cuda") if device.type == "cuda" else None


def rank() -> int:
    """Return the number of this process; 0 where there is only one."""
    return torch.distributed.get_rank() if _distributed() else 0


def _distributed() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()
