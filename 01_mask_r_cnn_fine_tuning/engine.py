"""The training loop for torchvision's detectors.

A detector in training mode takes images and targets and returns a dict of losses. Mask R-CNN has
five: `loss_objectness` and `loss_rpn_box_reg` of the proposal network, `loss_classifier`,
`loss_box_reg` and `loss_mask` of the heads. The loop sums them, and steps the optimiser.

Everything random in a step depends on (seed, epoch, step, rank) alone: not on what ran before it,
and not on how many workers load the data. That is what makes a resumed run exact.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler
from tqdm import tqdm

from evaluation import Batch, to_device
from seeded_loading import mix_seed
from side_by_side import SideBySide
from training_steps import (
    apply_gradients,
    check_finite,
    mean_losses,
    mean_over_ranks,
    rank,
    update,
)

AfterStep = Callable[[int, dict[str, float]], None]
ADVICE = "Check their boxes and masks, or lower the learning rate"


def train_one_epoch(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Iterable[Batch],
    *,
    schedule: LRScheduler | None = None,
    scaler: torch.amp.GradScaler | None = None,
    max_gradient_norm: float | None = None,
    loss_weights: Mapping[str, float] | None = None,
    side_by_side: SideBySide | None = None,
    epoch: int = 0,
    first_step: int = 0,
    seed: int | None = None,
    after_step: AfterStep | None = None,
    progress: bool = True,
) -> dict[str, float]:
    """Train on every batch once and return the mean of each loss, and their sum as "loss".

    Args:
        model: a torchvision detector, or one wrapped for data-parallel training.
        optimizer: over the model's trainable parameters.
        batches: (images, targets) as `dataset.collate` makes them; images float in 0..1.
        schedule: stepped after every batch; `training_steps.warmup_cosine` makes one.
        scaler: turns on mixed precision, on CUDA; `training_steps.mixed_precision` makes one.
        max_gradient_norm: gradients longer than this are shortened to it.
        loss_weights: factors of single loss terms in the sum; 1 where none is given.
        side_by_side: works on the pictures of a batch at the same time, on a CPU.
        epoch, first_step: where in the run the first batch is; they go into the seeds.
        seed: set the random generators anew for each step; None leaves them alone.
        after_step: called with (step, losses); losses are means over all processes.
        progress: show a progress bar on stderr.

    Raises:
        NonFiniteLossError: a loss is NaN or infinite; nothing was updated with it.
        ValueError: there is no batch.
    """
    model.train()
    device = next(model.parameters()).device
    steps, bar = [], tqdm(batches, f"epoch {epoch + 1}", disable=not progress, leave=False)
    for step, batch in enumerate(bar, start=first_step):
        if seed is not None:
            torch.manual_seed(mix_seed(seed, epoch, step, rank()))
        place = f"epoch {epoch + 1}, step {step + 1}"
        how = (optimizer, scaler, max_gradient_norm, schedule)
        terms = _learn(model, batch, loss_weights, side_by_side, place, *how)
        steps.append(mean_over_ranks(terms, device))
        bar.set_postfix(loss=f"{steps[-1]['loss']:.3f}", refresh=False)
        if after_step is not None:
            after_step(step, steps[-1])
    return mean_losses(steps)


def _learn(
    model: nn.Module,
    batch: Batch,
    loss_weights: Mapping[str, float] | None,
    side_by_side: SideBySide | None,
    place: str,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler | None,
    *how: Any,
) -> dict[str, float]:
    """Change the weights by one batch, and return all losses as numbers."""
    batch = to_device(*batch, next(model.parameters()).device)
    if side_by_side is None:
        loss, terms = _forward(model, *batch, loss_weights, scaler)
    else:
        terms = _gradients(side_by_side, *batch, loss_weights)
    check_finite(terms, place, _shown(batch[1]), ADVICE)
    if side_by_side is None:
        update(model, optimizer, loss, scaler, *how)
    else:
        apply_gradients(model, optimizer, scaler, *how)
    return terms


def _forward(
    model: nn.Module,
    images: Sequence[Tensor],
    targets: Sequence[dict[str, Any]],
    loss_weights: Mapping[str, float] | None,
    scaler: torch.amp.GradScaler | None,
) -> tuple[Tensor, dict[str, float]]:
    """Return the loss to minimise, and all losses as numbers."""
    with torch.autocast("cuda", torch.float16, enabled=scaler is not None):
        losses = model(images, targets)
    loss = _weighted(losses, loss_weights)
    return loss, _numbers(loss, losses)


def _gradients(
    side_by_side: SideBySide,
    images: Sequence[Tensor],
    targets: Sequence[dict[str, Any]],
    loss_weights: Mapping[str, float] | None,
) -> dict[str, float]:
    """Leave the gradients in the weights, and return all losses as numbers."""
    seeds = torch.randint(2**63 - 1, (len(images),)).tolist()  # of the step's own generator
    losses = side_by_side.gradients(
        images, targets, seeds, lambda terms: _weighted(terms, loss_weights)
    )
    return _numbers(_weighted(losses, loss_weights), losses)


def _weighted(losses: Mapping[str, Tensor], weights: Mapping[str, float] | None) -> Tensor:
    return sum(value * (weights or {}).get(name, 1.0) for name, value in losses.items())


def _numbers(loss: Tensor, losses: Mapping[str, Tensor]) -> dict[str, float]:
    numbers = torch.stack([loss, *losses.values()]).tolist()  # one wait for the GPU, not six
    return dict(zip(["loss", *losses], numbers, strict=True))


def _shown(targets: Sequence[dict[str, Any]]) -> str:
    """Name the pictures of a batch, for an error message."""
    return "images " + ", ".join(str(one.get("path", one["image_id"])) for one in targets)
