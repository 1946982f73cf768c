"""The training loop for models that give a class to every pixel, and their evaluation.

A model takes images (B, 3, H, W) and gives a dict with "out": logits (B, K, H, W) and perhaps
"aux", a helper's logits, which count AUX_WEIGHT in the loss. The loop computes the losses, and
steps the optimiser.

Everything random in a step depends on (seed, epoch, step, rank) alone: not on what ran before it,
and not on how many workers load the data. That is what makes a resumed run exact.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler
from tqdm import tqdm

from losses import segmentation_losses
from metrics import ConfusionMatrix
from sliding_window import DEFAULT_WINDOW, predict_labels

Batch = tuple[Tensor, dict[str, Any]]
AfterStep = Callable[[int, dict[str, float]], None]
DEFAULT_LOSSES = {"cross_entropy": 1.0, "dice": 1.0}
AUX_WEIGHT = 0.5  # as in torchvision's reference training


class NonFiniteLossError(ValueError):
    """A loss is NaN or infinite; training cannot go on."""


def train_one_epoch(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Iterable[Batch],
    *,
    schedule: LRScheduler | None = None,
    scaler: torch.amp.GradScaler | None = None,
    max_gradient_norm: float | None = None,
    loss_weights: Mapping[str, float] | None = None,
    class_weights: Tensor | None = None,
    epoch: int = 0,
    first_step: int = 0,
    seed: int | None = None,
    after_step: AfterStep | None = None,
    progress: bool = True,
) -> dict[str, float]:
    """Train on every batch once and return the mean of each loss, and their sum as "loss".

    Args:
        model: one of `models`, or one wrapped for data-parallel training.
        optimizer: over the model's trainable parameters.
        batches: (images, targets) as `dataset.collate` makes them; images float in 0..1.
        schedule: stepped after every batch; `warmup_cosine` makes one.
        scaler: a gradient scaler turns on mixed precision, on CUDA; see `mixed_precision`.
        max_gradient_norm: gradients longer than this are shortened to it.
        loss_weights, class_weights: see `losses.segmentation_losses`; cross-entropy + Dice.
        epoch, first_step: where in the run the first batch is; they go into the seeds.
        seed: set the random generators anew for each step; None leaves them alone.
        after_step: called with (step, losses); losses are means over all processes.
        progress: show a progress bar on stderr.

    Raises:
        NonFiniteLossError: a loss is NaN or infinite; nothing was updated with it.
        ValueError: there is no batch, a label is no class, or a loss is unknown.
    """
    model.train()
    device = next(model.parameters()).device
    steps, bar = [], tqdm(batches, f"epoch {epoch + 1}", disable=not progress, leave=False)
    for step, (images, targets) in enumerate(bar, start=first_step):
        if seed is not None:
            torch.manual_seed(mix_seed(seed, epoch, step, _rank()))
        batch = _to_device(images, targets, device)
        loss, terms = _forward(model, *batch, loss_weights, class_weights, scaler)
        _check_finite(terms, targets, epoch, step)
        _update(model, optimizer, loss, scaler, max_gradient_norm, schedule)
        steps.append(_mean_over_ranks(terms, device))
        bar.set_postfix(loss=f"{steps[-1]['loss']:.3f}", refresh=False)
        if after_step is not None:
            after_step(step, steps[-1])
    return mean_losses(steps)


def evaluate(
    model: nn.Module,
    batches: Iterable[Batch],
    num_classes: int,
    window: tuple[int, int] = DEFAULT_WINDOW,
    progress: bool = True,
) -> ConfusionMatrix:
    """Predict every picture in its full size and count pixels by true and predicted class.

    Args:
        model: one of `models`; it is put into evaluation mode.
        batches: (images, targets) of `seeded_loading.evaluation_loader`.
        num_classes: K.
        window: larger pictures are predicted by `sliding_window.predict_labels`.
        progress: show a progress bar on stderr.
    """
    model.eval()
    matrix = ConfusionMatrix(num_classes)
    for images, targets in tqdm(batches, "evaluating", disable=not progress, leave=False):
        for image, labels in zip(images, targets["labels"], strict=True):
            matrix.update(predict_labels(model, image, window), labels.cpu())
    return matrix


def mean_losses(steps: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Average every loss over the steps.

    Raises:
        ValueError: there is no step.
    """
    if not steps:
        raise ValueError("there is no batch to train on")
    return {name: sum(one[name] for one in steps) / len(steps) for name in steps[0]}


def warmup_cosine(
    optimizer: torch.optim.Optimizer, total_steps: int, warmup_steps: int
) -> LambdaLR:
    """Raise the learning rate in a straight line, then lower it along half a cosine to near zero.

    The warm-up keeps the new, still random last layers from shaking what was trained before
    (Goyal et al., 2017, section 2.2).

    Raises:
        ValueError: not 0 <= warmup_steps < total_steps.
    """
    if not 0 <= warmup_steps < total_steps:
        raise ValueError(f"warmup_steps is {warmup_steps}; allowed are 0 to {total_steps - 1}")

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / (warmup_steps + 1)
        done = (step - warmup_steps) / (total_steps - warmup_steps)
        return 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))

    return LambdaLR(optimizer, factor)


def mixed_precision(device: torch.device) -> torch.amp.GradScaler | None:
    """Return a gradient scaler on CUDA, and None elsewhere: float16 pays on GPUs only."""
    return torch.amp.GradScaler("cuda") if device.type == "cuda" else None


def mix_seed(*numbers: int) -> int:
    """Return a seed of 63 bits that changes thoroughly with each of the non-negative numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _to_device(
    images: Tensor, targets: dict[str, Any], device: torch.device
) -> tuple[Tensor, Tensor]:
    images = images.to(device, non_blocking=True)
    labels = targets["labels"].to(device, non_blocking=True)
    return images.contiguous(memory_format=torch.channels_last), labels.long()


def _forward(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    loss_weights: Mapping[str, float] | None,
    class_weights: Tensor | None,
    scaler: torch.amp.GradScaler | None,
) -> tuple[Tensor, dict[str, float]]:
    """Return the loss to minimise, and all losses as numbers."""
    factors = loss_weights or DEFAULT_LOSSES
    if class_weights is not None:
        class_weights = class_weights.to(images.device)
    with torch.autocast("cuda", torch.float16, enabled=scaler is not None):
        outputs = model(images)
    losses = segmentation_losses(outputs["out"], labels, factors, class_weights)
    loss = _weighted_sum(losses, factors)
    if "aux" in outputs:
        helper = segmentation_losses(outputs["aux"], labels, factors, class_weights)
        losses["loss_aux"] = _weighted_sum(helper, factors)
        loss = loss + AUX_WEIGHT * losses["loss_aux"]
    numbers = torch.stack([loss, *losses.values()]).tolist()  # one wait for the GPU
    return loss, dict(zip(["loss", *losses], numbers, strict=True))


def _weighted_sum(losses: Mapping[str, Tensor], factors: Mapping[str, float]) -> Tensor:
    return sum(value * factors[name.removeprefix("loss_")] for name, value in losses.items())


def _update(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    loss: Tensor,
    scaler: torch.amp.GradScaler | None,
    max_gradient_norm: float | None,
    schedule: LRScheduler | None,
) -> None:
    optimizer.zero_grad(set_to_none=True)
    (scaler.scale(loss) if scaler is not None else loss).backward()
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


def _check_finite(
    terms: Mapping[str, float], targets: Mapping[str, Any], epoch: int, step: int
) -> None:
    bad = {name: v for name, v in terms.items() if name != "loss" and not math.isfinite(v)}
    if not bad and math.isfinite(terms["loss"]):
        return
    images = ", ".join(map(str, targets.get("path", targets["image_id"])))
    shown = ", ".join(f"{name} = {value}" for name, value in (bad or terms).items())
    raise NonFiniteLossError(
        f"{shown} in epoch {epoch + 1}, step {step + 1}, on the images {images}. Lower the "
        "learning rate, or look at these pictures"
    )


def _mean_over_ranks(terms: dict[str, float], device: torch.device) -> dict[str, float]:
    if not _distributed():
        return terms
    numbers = torch.tensor(list(terms.values()), dtype=torch.float64, device=device)
    torch.distributed.all_reduce(numbers)
    means = (numbers / torch.distributed.get_world_size()).tolist()
    return dict(zip(terms, means, strict=True))


def _rank() -> int:
    return torch.distributed.get_rank() if _distributed() else 0


def _distributed() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()
