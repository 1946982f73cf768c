"""The losses of labelled pictures that nothing is learned from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor


def mean_losses(
    batches: Iterable[tuple[Any, Any]], losses_of: Callable[[Any, Any], Mapping[str, Tensor]]
) -> dict[str, float]:
    """Return the mean of every loss term over the batches, and their sum as "loss".

    Args:
        batches: of images and targets; one of more images counts more.
        losses_of: computes the terms of one.

    Raises:
        ValueError: there is no batch.
    """
    totals: dict[str, float] = {}
    count = 0
    for images, targets in batches:
        for name, value in losses_of(images, targets).items():
            totals[name] = totals.get(name, 0.0) + float(value) * len(images)
        count += len(images)
    if not count:
        raise ValueError("there is no batch to compute a validation loss from")
    means = {name: total / count for name, total in totals.items()}
    return {"loss": sum(means.values()), **means}


def to_device(targets: Sequence[dict[str, Any]], device: torch.device) -> list[dict[str, Any]]:
    """Copy the tensors of targets to a device."""
    return [
        {key: v.to(device) if isinstance(v, Tensor) else v for key, v in target.items()}
        for target in targets
    ]
