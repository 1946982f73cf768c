"""A training run from start to end: epochs, evaluation, the best model, and going on after a stop.

`TrainingRun` ties the pieces together for `train.py` and the notebook: the model and its
optimiser, seeded batches, checkpoints and metrics. In its folder it keeps

- `last.pt`: everything that is needed to go on,
- `best.pt`: the model of the epoch with the highest validation mean IoU, for `predict.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

import optimizers
from checkpoint import load_checkpoint, load_weights
from engine import evaluate, train_one_epoch
from losses import balanced_class_weights
from metrics import summarize
from models import SegmentationModel, build_model, pretrained_parameters
from preset_settings import read_run
from presets import Settings
from resumable_run import RecordStep, ResumableRun
from seeded_loading import SeededBatches, evaluation_loader, mix_seed, training_loader
from training_data import TrainingData, count_pixels
from training_steps import data_parallel, mean_losses, mixed_precision, warmup_cosine


def load_model(path: str | Path) -> tuple[SegmentationModel, tuple[str, ...], Settings]:
    """Build the model of a checkpoint, with its weights; return its class names and settings too.

    Raises:
        CheckpointError: see `preset_settings.read_run`.
    """
    checkpoint, class_names, settings = read_run(path, Settings)
    model = build_model(
        settings.model,
        len(class_names),
        settings.pretrained,
        load=False,
        half_size=settings.half_size,
    )
    load_weights(checkpoint, model)
    return model.eval(), class_names, settings


class TrainingRun(ResumableRun):
    """Train a model as `settings` say; call `fit`, then `test`.

    Args:
        settings: see `presets.Settings`.
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
    """Return the optimiser that the settings name; see `optimizers.make_optimizer`.

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
