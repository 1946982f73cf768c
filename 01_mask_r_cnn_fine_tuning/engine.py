"""The training loop for torchvision's detectors.

A detector in training mode takes images and targets and returns a dict of losses. Mask R-CNN has
five: `loss_objectness` and `loss_rpn_box_reg` of the proposal network, `loss_classifier`,
`loss_box_reg` and `loss_mask` of the heads. Here stands what is learned from a batch, their sum;
the steps themselves are in `training_loop.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from batch_gradients import BatchGradients, divisible
from evaluation import Batch, to_device
from own_sampler import drawing_from, use_own_samplers
from training_loop import train_batches

ADVICE = "Check their boxes and masks, or lower the learning rate"


def train_one_epoch(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Iterable[Batch],
    *,
    loss_weights: Mapping[str, float] | None = None,
    parts: int = 1,
    scaler: torch.amp.GradScaler | None = None,
    **loop: Any,
) -> dict[str, float]:
    """Train on every batch once and return the mean of each loss, and their sum as "loss".

    Args:
        model: a torchvision detector, or one wrapped for data-parallel training.
        optimizer: over the model's trainable parameters.
        batches: (images, targets) as `dataset.collate` makes them; images float in 0..1.
        loss_weights: factors of single loss terms in the sum; 1 where none is given.
        parts: of a batch, computed side by side on a CPU; see `batch_gradients`.
        scaler, loop: schedule, seeds, progress and more; see `training_loop.train_batches`.

    Raises:
        NonFiniteLossError: a loss is NaN or infinite; nothing was updated with it.
        ValueError: there is no batch.
    """
    device = next(model.parameters()).device
    weights = loss_weights or {}
    if parts > 1 and divisible(model):
        use_own_samplers(model)

    def losses(detector: nn.Module, part: tuple) -> dict[str, Tensor]:
        images, targets, *seed = part  # a whole batch has none
        half = torch.autocast("cuda", torch.float16, enabled=scaler is not None)
        with drawing_from(*seed), half:
            terms = detector(*to_device(images, targets, device))
        loss = sum(value * weights.get(name, 1.0) for name, value in terms.items())
        return {"loss": loss, **terms}

    gradients = BatchGradients(model, losses, divide, parts, scaler)
    return train_batches(
        model, optimizer, batches, gradients, _shown, ADVICE, scaler=scaler, **loop
    )


def divide(batch: Batch, parts: int) -> list[tuple]:
    """Cut a batch into equal parts, each with a random seed; none where it does not divide."""
    images, targets = batch
    size, rest = divmod(len(images), parts)
    if rest:
        return []
    seeds = torch.randint(2**63 - 1, (parts,)).tolist()  # of the step's own generator
    places = [slice(k * size, (k + 1) * size) for k in range(parts)]
    return [(images[at], targets[at], seed) for at, seed in zip(places, seeds, strict=True)]


def _shown(batch: Batch) -> str:
    """Name the pictures of a batch, for an error message."""
    return "images " + ", ".join(str(one.get("path", one["image_id"])) for one in batch[1])
