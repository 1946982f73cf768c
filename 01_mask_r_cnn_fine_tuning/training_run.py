"""A training run from start to end: epochs, evaluation, the best model, and going on after a stop.

`TrainingRun` ties the pieces together for `train.py` and the notebooks: the model and its
optimiser, seeded batches, checkpoints and metrics. In its folder it keeps

- `last.pt`: everything that is needed to go on,
- `best.pt`: the model of the epoch with the highest validation AP, for `predict.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

import optimizers
from checkpoint import load_checkpoint, load_weights
from engine import train_one_epoch
from evaluation import evaluate, validation_loss
from model import backbone_parameters, faster_rcnn, mask_head_parameters, mask_rcnn
from preset_settings import read_run
from presets import Settings
from resumable_run import RecordStep, ResumableRun
from seeded_loading import SeededBatches, evaluation_loader, mix_seed, training_loader
from training_data import TrainingData
from training_steps import data_parallel, mean_losses, mixed_precision, warmup_cosine


def build_model(settings: Settings, num_classes: int, pretrained: bool | None = None) -> nn.Module:
    """Build the detector that the settings describe; see `model.mask_rcnn`."""
    builder = mask_rcnn if settings.task == "masks" else faster_rcnn
    trained = settings.pretrained if pretrained is None else pretrained
    size = settings.image_size
    options = {"min_size": size[0], "max_size": size[1]} if size else {}
    return builder(settings.backbone, num_classes, trained, **options)


def load_detector(path: str | Path) -> tuple[nn.Module, tuple[str, ...], Settings]:
    """Build the model of a checkpoint, with its weights; return its class names and settings too.

    Raises:
        CheckpointError: see `preset_settings.read_run`.
    """
    checkpoint, class_names, settings = read_run(path, Settings)
    model = build_model(settings, len(class_names) + 1, pretrained=False)
    load_weights(checkpoint, model)
    return model.eval(), class_names, settings


class TrainingRun(ResumableRun):
    """Train a detector as `settings` say; call `fit`, then `test`.

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
        epochs: one dict an epoch: {"epoch", "train", "validation" losses, "metrics"}.
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
        torch.manual_seed(mix_seed(settings.seed))
        self.model = build_model(settings, len(data.class_names) + 1).to(self.device)
        self.wrapped = data_parallel(self.model, self.device) if world_size > 1 else self.model
        self.batches = SeededBatches(
            len(data.train), settings.batch_size, settings.seed, rank, world_size
        )
        self.steps_per_epoch = len(self.batches)
        self.optimizer = make_optimizer(self.model, settings)
        total = settings.epochs * self.steps_per_epoch
        warmup = min(round(settings.warmup_fraction * total), total - 1)
        self.schedule = warmup_cosine(self.optimizer, total, warmup)
        self.scaler = mixed_precision(self.device)
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
            loss_weights={"loss_box_reg": self.settings.box_loss_weight},
            parts=self.settings.batch_parts,
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
        losses = validation_loss(self.model, evaluation_loader(self.data.validation))
        steps = [one for one in self.history if one["epoch"] == self.epoch]
        train = {n: v for n, v in mean_losses(steps).items() if n not in ("epoch", "step")}
        summary = {"epoch": self.epoch, "train": train, "validation": losses}
        self.epochs.append({**summary, "metrics": metrics})
        score = metrics["segm" if self.settings.task == "masks" else "bbox"]["AP"] or 0.0
        if score > self.best:
            self.best = score
            self._save("best.pt")

    def _evaluate(self, dataset: Any) -> dict[str, Any]:
        loader = evaluation_loader(dataset)
        return evaluate(self.model, loader, self.data.class_names, self.progress)


def make_optimizer(model: nn.Module, settings: Settings) -> torch.optim.Optimizer:
    """Return the optimiser that the settings name; see `optimizers.make_optimizer`.

    Muon's own steps are for the mask head alone. With two images a step, boxes learn better gently.
    A pretrained backbone gets a smaller learning rate: it knows something to be kept.
    """
    rate, name = settings.learning_rate, settings.optimizer
    known = backbone_parameters(model) if settings.pretrained else []
    apart = {*mask_head_parameters(model), *known}
    others = [one for one in model.parameters() if one not in apart]
    return optimizers.make_optimizer(
        name,
        model,
        [(known, rate * settings.pretrained_rate), (others, rate)],
        rate * settings.mask_rate if name == "muon" else rate,
        settings.weight_decay,
    )
