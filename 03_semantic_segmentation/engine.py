"""The training loop for models that give a class to every pixel, and a whole run.

A model takes images (B, 3, H, W) and gives a dict with "out": logits (B, K, H, W) and perhaps
"aux", a helper's logits, which count AUX_WEIGHT in the loss. Here stands what such a model learns
from a batch; the steps themselves are in `common/epochs.py`.

`TrainingRun` is a whole run: the model and its optimiser, seeded batches, checkpoints, metrics. In
its folder it keeps

- `last.pt`: everything that is needed to go on,
- `best.pt`: the model of the epoch with the highest validation mean IoU, for `predict.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from common import optimizers
from common.checkpoint import load_checkpoint, load_weights
from common.epochs import train_batches
from common.loading import SeededBatches, evaluation_loader, mix_seed, training_loader
from common.parallel_batches import BatchGradients
from common.resumable_run import RecordStep, ResumableRun
from common.training import data_parallel, mean_losses, mixed_precision, warmup_cosine
from evaluation import evaluate
from losses import balanced_class_weights, segmentation_losses
from metrics import summarize
from models import build_model, pretrained_parameters
from settings import Settings
from splits import TrainingData, count_pixels

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
        batches: (images, targets) as `SegmentationDataset.collate` makes them; images float in
            0..1.
        loss_weights, class_weights: see `losses.segmentation_losses`; cross-entropy + Dice.
        parts: of a batch, computed side by side on a CPU; see `common.parallel_batches`.
        spacing: of the labels, in pixels of the images; see `augmentation.SparseLabels`.
        scaler, loop: schedule, seeds, progress and more; see `common.epochs.train_batches`.

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


class TrainingRun(ResumableRun):
    """Train a model as `settings` say; call `fit`, then `test`.

    Args:
        settings: see `settings.Settings`.
        data: the datasets.
        folder: for the checkpoints; None keeps none.
        device: where to train.
        rank: this process's number.
        world_size: number of processes; above 1, torch.distributed must be initialised.
        progress: show progress bars on stderr.

    Attributes:
        history: one dict a step: {"epoch", "step", "loss", and each loss term}.
        epochs: one dict an epoch: {"epoch", "train" losses, "metrics" of the validation data}.

    Raises:
        ValueError: the batch does not fit the data, the processes or the model.
    """

    PROGRESS = ("epoch", "step", "best", "history", "epochs")
    IRRELEVANT = ("num_workers",)

    def __init__(
        self,
        settings: Settings,
        data: TrainingData,
        folder: str | Path | None = None,
        device: torch.device | str = "cpu",
        rank: int = 0,
        world_size: int = 1,
        progress: bool = True,
    ) -> None:
        super().__init__(settings, data, folder, device, rank, progress)
        _check_batch(settings, world_size)
        self.batches = SeededBatches(
            len(data.train), settings.batch_size, settings.seed, rank, world_size
        )
        torch.manual_seed(mix_seed(settings.seed))
        num_classes, half_size = len(data.class_names), settings.half_size
        model = build_model(settings.model, num_classes, settings.pretrained, half_size=half_size)
        self.model = model.to(self.device)
        self.wrapped = data_parallel(self.model, self.device) if world_size > 1 else self.model
        self.steps_per_epoch = len(self.batches)
        self.optimizer = make_optimizer(self.model, settings)
        total = settings.epochs * self.steps_per_epoch
        warmup = min(round(settings.warmup_fraction * total), total - 1)
        self.schedule = warmup_cosine(self.optimizer, total, warmup)
        self.scaler = mixed_precision(self.device)
        self.class_weights = None
        if settings.balance_classes:
            self.class_weights = balanced_class_weights(count_pixels(data.train))
        self.best = -1.0

    def test(self) -> dict[str, Any]:
        """Measure the best model (without a folder: the last) on the test data."""
        if self.folder is not None:
            load_weights(load_checkpoint(self._path("best.pt")), self.model)
        return self._evaluate(self.data.test)

    def _open_batches(self) -> Any:
        return training_loader(self.data.train, self.batches, self.settings.num_workers)

    def _train_epoch(self, batches: Any, record: RecordStep) -> None:
        self.batches.set_position(self.epoch, self.step)
        train_one_epoch(
            self.wrapped,
            self.optimizer,
            batches,
            schedule=self.schedule,
            scaler=self.scaler,
            max_gradient_norm=self.settings.max_gradient_norm,
            loss_weights=self.settings.loss_weights,
            class_weights=self.class_weights,
            parts=self.settings.batch_parts,
            spacing=self.settings.label_spacing,
            epoch=self.epoch,
            first_step=self.step,
            seed=self.settings.seed,
            after_step=record,
            progress=self.progress,
        )

    def _finish_epoch(self) -> None:
        """Validate, and keep the model if it is the best."""
        if self.rank:
            return
        metrics = self._evaluate(self.data.validation)
        steps = [one for one in self.history if one["epoch"] == self.epoch]
        train = {n: v for n, v in mean_losses(steps).items() if n not in ("epoch", "step")}
        self.epochs.append({"epoch": self.epoch, "train": train, "metrics": metrics})
        score = metrics["mean_iou"] or 0.0
        if score > self.best:
            self.best = score
            self._save("best.pt")

    def _evaluate(self, dataset: Any) -> dict[str, Any]:
        names, window = self.data.class_names, self.settings.window
        batches = evaluation_loader(dataset)
        matrix = evaluate(self.model, batches, len(names), window, self.progress)
        return summarize(matrix, names)


def make_optimizer(model: nn.Module, settings: Settings) -> torch.optim.Optimizer:
    """Return the optimiser that the settings name; see `common.optimizers.make_optimizer`.

    Pretrained layers get a smaller learning rate: they know something to be kept.
    """
    rate = settings.learning_rate
    known = pretrained_parameters(model) if settings.pretrained else []
    return optimizers.make_optimizer(
        settings.optimizer,
        model,
        [(known, rate * settings.pretrained_rate)],
        rate,
        settings.weight_decay,
        settings.muon_momentum,
    )


def _check_batch(settings: Settings, world_size: int) -> None:
    if (
        settings.model in ("deeplabv3", "smp_deeplabv3plus")
        and settings.batch_size < 2 * world_size
    ):
        raise ValueError(
            f"batch_size is {settings.batch_size} for {world_size} process(es); {settings.model} "
            "needs 2 pictures in each, since it normalises a map of one pixel over the batch"
        )
