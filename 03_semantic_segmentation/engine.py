"""The training loop for models that give a class to every pixel, and their evaluation.

A model takes images (B, 3, H, W) and gives a dict with "out": logits (B, K, H, W) and perhaps
"aux", a helper's logits, which count AUX_WEIGHT in the loss. The loop computes the losses, and
steps the optimiser.

Everything random in a step depends on (seed, epoch, step, rank) alone: not on what ran before it,
and not on how many workers load the data. That is what makes a resumed run exact.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler
from tqdm import tqdm

from batch_parts import BatchParts, is_divisible
from losses import segmentation_losses
from metrics import ConfusionMatrix
from seeded_loading import mix_seed
from sliding_window import DEFAULT_WINDOW, predict_labels
from training_steps import apply_gradients, check_finite, mean_losses, mean_over_ranks, rank

Batch = tuple[Tensor, dict[str, Any]]
AfterStep = Callable[[int, dict[str, float]], None]
DEFAULT_LOSSES = {"cross_entropy": 1.0, "dice": 1.0}
ADVICE = "Lower the learning rate, or look at these pictures"
AUX_WEIGHT = 0.5  # as in torchvision's reference training


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
    parts: int = 1,
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
        schedule, scaler: `training_steps` makes them; a scaler turns on mixed precision, on CUDA.
        max_gradient_norm: gradients longer than this are shortened to it.
        loss_weights, class_weights: see `losses.segmentation_losses`; cross-entropy + Dice.
        parts: of a batch, computed side by side where that is possible; see `batch_parts`.
        epoch, first_step: where in the run the first batch is; they go into the seeds.
        seed: set the random generators anew for each step; None leaves them alone.
        after_step: called with (step, losses); losses are means over all processes.
        progress: show a progress bar on stderr.

    Raises:
        NonFiniteLossError: a loss is NaN or infinite; nothing was updated with it.
        ValueError: there is no batch, a label is no class, or a loss is unknown.
    """
    model.train()
    gradients = _Gradients(model, loss_weights, class_weights, scaler, parts)
    steps, bar = [], tqdm(batches, f"epoch {epoch + 1}", disable=not progress, leave=False)
    for step, (images, targets) in enumerate(bar, start=first_step):
        if seed is not None:
            torch.manual_seed(mix_seed(seed, epoch, step, rank()))
        terms = gradients(images, targets["labels"])
        check_finite(terms, f"epoch {epoch + 1}, step {step + 1}", _shown(targets), ADVICE)
        apply_gradients(model, optimizer, scaler, max_gradient_norm, schedule)
        steps.append(mean_over_ranks(terms, gradients.device))
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


class _Gradients:
    """Sets the gradients of a batch, computed as a whole or in parts side by side."""

    def __init__(
        self,
        model: nn.Module,
        loss_weights: Mapping[str, float] | None,
        class_weights: Tensor | None,
        scaler: torch.amp.GradScaler | None,
        parts: int,
    ) -> None:
        self.device = next(model.parameters()).device
        self.model, self.scaler = model, scaler
        self.factors = loss_weights or DEFAULT_LOSSES
        self.class_weights = None if class_weights is None else class_weights.to(self.device)
        self.parts = parts if is_divisible(model) else 1
        self.side_by_side = BatchParts(model, parts) if self.parts > 1 else None

    def __call__(self, images: Tensor, labels: Tensor) -> dict[str, float]:
        """Return all losses as numbers, "loss" first: what is minimised."""
        images = images.to(self.device, non_blocking=True, memory_format=torch.channels_last)
        labels = labels.to(self.device, non_blocking=True).long()
        if self.side_by_side is not None and len(images) % self.parts == 0:
            halves = list(zip(images.chunk(self.parts), labels.chunk(self.parts), strict=True))
            losses = self.side_by_side.gradients(halves, self._losses)
        else:
            losses = self._losses(self.model, (images, labels))
            self.model.zero_grad(set_to_none=True)
            loss = losses["loss"]
            (loss if self.scaler is None else self.scaler.scale(loss)).backward()
        numbers = torch.stack([one.detach() for one in losses.values()]).tolist()  # one wait
        return dict(zip(losses, numbers, strict=True))

    def _losses(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        images, labels = batch
        with torch.autocast("cuda", torch.float16, enabled=self.scaler is not None):
            outputs = model(images)
        factors, weights = self.factors, self.class_weights
        losses = segmentation_losses(outputs["out"], labels, factors, weights)
        loss = _weighted_sum(losses, factors)
        if "aux" in outputs:
            helper = segmentation_losses(outputs["aux"], labels, factors, weights)
            losses["loss_aux"] = _weighted_sum(helper, factors)
            loss = loss + AUX_WEIGHT * losses["loss_aux"]
        return {"loss": loss, **losses}


def _weighted_sum(losses: Mapping[str, Tensor], factors: Mapping[str, float]) -> Tensor:
    return sum(value * factors[name.removeprefix("loss_")] for name, value in losses.items())


def _shown(targets: Mapping[str, Any]) -> str:
    """Name the pictures of a batch, for an error message."""
    return "images " + ", ".join(map(str, targets.get("path", targets["image_id"])))
