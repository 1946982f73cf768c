"""The training loop for models that give a class to every pixel, and their evaluation.

A model takes images (B, 3, H, W) and gives a dict with "out": logits (B, K, H, W) and perhaps
"aux", a helper's logits, which count AUX_WEIGHT in the loss. Here stands what such a model learns
from a batch; the steps themselves are in `training_loop.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from batch_gradients import BatchGradients
from losses import segmentation_losses
from metrics import ConfusionMatrix
from sliding_window import DEFAULT_WINDOW, predict_labels
from training_loop import train_batches

Batch = tuple[Tensor, dict[str, Any]]
DEFAULT_LOSSES = {"cross_entropy": 1.0, "dice": 1.0}
ADVICE = "Lower the learning rate, or look at these pictures"
AUX_WEIGHT = 0.5  # as in torchvision's reference training


def train_one_epoch(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Iterable[Batch],
    *,
    loss_weights: Mapping[str, float] | None = None,
    class_weights: Tensor | None = None,
    parts: int = 1,
    spacing: int = 1,
    scaler: torch.amp.GradScaler | None = None,
    **loop: Any,
) -> dict[str, float]:
    """Train on every batch once and return the mean of each loss, and their sum as "loss".

    Args:
        model: one of `models`, or one wrapped for data-parallel training.
        optimizer: over the model's trainable parameters.
        batches: (images, targets) as `dataset.collate` makes them; images float in 0..1.
        loss_weights, class_weights: see `losses.segmentation_losses`; cross-entropy + Dice.
        parts: of a batch, computed side by side on a CPU; see `batch_gradients`.
        spacing: of the labels, in pixels of the images; see `augmentation.SparseLabels`.
        scaler, loop: schedule, seeds, progress and more; see `training_loop.train_batches`.

    Raises:
        NonFiniteLossError: a loss is NaN or infinite; nothing was updated with it.
        ValueError: there is no batch, a label is no class, or a loss is unknown.
    """
    device = next(model.parameters()).device
    factors = loss_weights or DEFAULT_LOSSES
    if class_weights is not None:
        class_weights = class_weights.to(device)

    def losses(network: nn.Module, batch: Batch) -> dict[str, Tensor]:
        images, targets = batch
        images = images.to(device, non_blocking=True, memory_format=torch.channels_last)
        labels = targets["labels"].to(device, non_blocking=True).long()
        with torch.autocast("cuda", torch.float16, enabled=scaler is not None):
            outputs = network(images, spacing) if spacing > 1 else network(images)
        return _all_losses(outputs, labels, factors, class_weights)

    gradients = BatchGradients(model, losses, divide, parts, scaler)
    return train_batches(
        model, optimizer, batches, gradients, _shown, ADVICE, scaler=scaler, **loop
    )


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


def divide(batch: Batch, parts: int) -> list[Batch]:
    """Cut a batch into equal parts of two pictures or more (batch norm needs them), or none."""
    images, targets = batch
    if len(images) % parts or len(images) < 2 * parts:
        return []
    labels = targets["labels"].chunk(parts)
    return [(one, {"labels": its}) for one, its in zip(images.chunk(parts), labels, strict=True)]


def _all_losses(
    outputs: Mapping[str, Tensor],
    labels: Tensor,
    factors: Mapping[str, float],
    class_weights: Tensor | None,
) -> dict[str, Tensor]:
    """Return what to minimise, "loss", and every loss in it."""
    losses = segmentation_losses(outputs["out"], labels, factors, class_weights)
    loss = _weighted_sum(losses, factors)
    if "aux" in outputs:
        helper = segmentation_losses(outputs["aux"], labels, factors, class_weights)
        losses["loss_aux"] = _weighted_sum(helper, factors)
        loss = loss + AUX_WEIGHT * losses["loss_aux"]
    return {"loss": loss, **losses}


def _weighted_sum(losses: Mapping[str, Tensor], factors: Mapping[str, float]) -> Tensor:
    return sum(value * factors[name.removeprefix("loss_")] for name, value in losses.items())


def _shown(batch: Batch) -> str:
    """Name the pictures of a batch, for an error message."""
    targets = batch[1]
    return "images " + ", ".join(map(str, targets.get("path", targets["image_id"])))
