"""What every training loop here needs: an optimiser, a schedule, and a check of the losses.

Nothing in this file knows what is learned.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from common.choices import OPTIMIZERS


class NonFiniteLossError(ValueError):
    """A loss is NaN or infinite; training cannot go on. The message names it and the pictures."""


def make_optimizer(
    model: nn.Module,
    name: str,
    learning_rate: float,
    weight_decay: float,
    known: Iterable[nn.Parameter] = (),
    known_rate: float = 1.0,
) -> torch.optim.Optimizer:
    """Return an optimiser over the trainable parameters of a model.

    Weight decay is for kernels and matrices. Biases and the scales of a normalisation, which have
    one dimension, are left out of it.

    Args:
        model: frozen parameters are left out.
        name: "adamw", or "sgd" with momentum 0.9.
        learning_rate: highest of the schedule.
        weight_decay: as the optimiser takes it.
        known: parameters that were trained before, and are to learn more gently.
        known_rate: factor of their learning rate.

    Raises:
        ValueError: another name.
    """
    gently = set(known)
    groups = []
    for some, factor in ((False, 1.0), (True, known_rate)):
        mine = [p for p in model.parameters() if p.requires_grad and (p in gently) == some]
        for kernels, decay in ((True, weight_decay), (False, 0.0)):
            chosen = [p for p in mine if (p.ndim > 1) == kernels]
            groups.append({"params": chosen, "lr": learning_rate * factor, "weight_decay": decay})
    groups = [group for group in groups if group["params"]]
    if name == "adamw":
        return torch.optim.AdamW(groups, learning_rate, fused=True)
    if name == "sgd":
        return torch.optim.SGD(groups, learning_rate, momentum=0.9)
    raise ValueError(f"optimizer is {name!r}; allowed are {', '.join(OPTIMIZERS)}")


def warmup_cosine(
    optimizer: torch.optim.Optimizer, total_steps: int, warmup: float = 0.1, last: float = 0.0
) -> LambdaLR:
    """Raise the learning rate in a straight line, then lower it along half a cosine.

    The warm-up keeps the new, still random last layers from shaking what was trained before
    (Goyal et al., 2017, arXiv:1706.02677, section 2.2).

    Args:
        optimizer: its own learning rate is the highest of the schedule.
        total_steps: after so many steps the factor is `last`.
        warmup: share of the steps in which the rate rises, below 1.
        last: share of the learning rate that is left at the end.

    Raises:
        ValueError: `warmup` is not in 0..1, or there is no step.
    """
    if not 0 <= warmup < 1 or total_steps < 1:
        raise ValueError(f"warmup is {warmup} of {total_steps} steps; 0 to below 1 is allowed")
    rising = min(round(warmup * total_steps), total_steps - 1)

    def factor(step: int) -> float:
        if step < rising:
            return (step + 1) / (rising + 1)
        done = min((step - rising) / (total_steps - rising), 1.0)
        return last + (1 - last) * (1 + math.cos(math.pi * done)) / 2

    return LambdaLR(optimizer, factor)


def check_finite(losses: Mapping[str, float], place: str, pictures: Iterable[object]) -> None:
    """Refuse a loss that is no finite number.

    Args:
        losses: every loss term by name, and their sum as "loss".
        place: where in the run this is, such as "epoch 1, step 3".
        pictures: what was learned from.

    Raises:
        NonFiniteLossError: a loss is NaN or infinite.
    """
    if all(math.isfinite(value) for value in losses.values()):
        return
    terms = [name for name in losses if name != "loss" and not math.isfinite(losses[name])]
    shown = ", ".join(f"{name} = {losses[name]}" for name in terms or losses)
    raise NonFiniteLossError(
        f"{shown} in {place}, on the pictures {', '.join(map(str, pictures))}. "
        "Check their labels, or lower the learning rate"
    )
