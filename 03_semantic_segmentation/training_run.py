"""A training run from start to end: epochs, evaluation, the best model, and going on after a stop.

`TrainingRun` ties the pieces together for `train.py` and the notebook: the model and its
optimiser, seeded batches, checkpoints and metrics. In its folder it keeps

- `last.pt`: everything that is needed to go on,
- `best.pt`: the model of the epoch with the highest validation mean IoU, for `predict.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from checkpoint import CheckpointError, load_checkpoint, load_weights, restore, save_checkpoint
from engine import evaluate, mean_losses, mix_seed, mixed_precision, train_one_epoch, warmup_cosine
from losses import balanced_class_weights
from metrics import summarize
from models import SegmentationModel, build_model, pretrained_parameters
from presets import Settings
from seeded_loading import SeededBatches, evaluation_loader, training_loader
from training_data import TrainingData, count_pixels

IRRELEVANT = ("num_workers",)  # settings that a resumed run may change


def load_model(path: str | Path) -> tuple[SegmentationModel, tuple[str, ...], Settings]:
    """Build the model of a checkpoint, with its weights; return its class names and settings too.

    Raises:
        CheckpointError: see `checkpoint.load_checkpoint`.
    """
    checkpoint = load_checkpoint(path)
    stored = dict(checkpoint["settings"])
    try:
        class_names = tuple(stored.pop("class_names"))
        settings = Settings(**stored)
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{path} is a checkpoint of another program: {error}") from error
    model = build_model(
        settings.model,
        len(class_names),
        settings.pretrained,
        load=False,
        half_size=settings.half_size,
    )
    load_weights(checkpoint, model)
    return model.eval(), class_names, settings


class TrainingRun:
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
        self.settings, self.data, self.device = settings, data, torch.device(device)
        self.folder = Path(folder) if folder is not None else None
        self.rank, self.progress = rank, progress and rank == 0
        _check_batch(settings, world_size)
        self.batches = SeededBatches(
            len(data.train), settings.batch_size, settings.seed, rank, world_size
        )
        torch.manual_seed(mix_seed(settings.seed))
        num_classes, half_size = len(data.class_names), settings.half_size
        model = build_model(settings.model, num_classes, settings.pretrained, half_size=half_size)
        self.model = model.to(self.device)
        self.wrapped = _data_parallel(self.model, self.device) if world_size > 1 else self.model
        self.steps_per_epoch = len(self.batches)
        self.optimizer = make_optimizer(self.model, settings)
        total = settings.epochs * self.steps_per_epoch
        warmup = min(round(settings.warmup_fraction * total), total - 1)
        self.schedule = warmup_cosine(self.optimizer, total, warmup)
        self.scaler = mixed_precision(self.device)
        self.class_weights = None
        if settings.balance_classes:
            self.class_weights = balanced_class_weights(count_pixels(data.train))
        self.epoch = self.step = 0
        self.best = -1.0
        self.history: list[dict[str, Any]] = []
        self.epochs: list[dict[str, Any]] = []

    def resume(self) -> bool:
        """Go on from `last.pt`; return False where there is none yet.

        Raises:
            CheckpointError: the file is unreadable, or of a run with other settings.
        """
        path = self._path("last.pt")
        if not path.is_file():
            return False
        checkpoint = load_checkpoint(path)
        self._compare_settings(path, checkpoint["settings"])
        progress = restore(checkpoint, self.model, self._states())
        for name in ("epoch", "step", "best", "history", "epochs"):
            setattr(self, name, progress[name])
        return True

    def fit(
        self,
        checkpoint_every: int | None = None,
        after_step: Callable[[TrainingRun], None] | None = None,
    ) -> list[dict[str, Any]]:
        """Train until all epochs are done and return `epochs`.

        Args:
            checkpoint_every: also write `last.pt` after every so many steps of an epoch.
            after_step: called after each step, for a live curve.

        Raises:
            NonFiniteLossError: see `engine.train_one_epoch`.
        """
        loader = training_loader(self.data.train, self.batches, self.settings.num_workers)
        while self.epoch < self.settings.epochs:
            if self.step < self.steps_per_epoch:
                self._train_epoch(loader, checkpoint_every, after_step)
            self._finish_epoch()
        return self.epochs

    def test(self) -> dict[str, Any]:
        """Measure the best model (without a folder: the last) on the test data."""
        if self.folder is not None:
            load_weights(load_checkpoint(self._path("best.pt")), self.model)
        return self._evaluate(self.data.test)

    def _train_epoch(
        self,
        loader: Any,
        checkpoint_every: int | None,
        after_step: Callable[[TrainingRun], None] | None,
    ) -> None:
        def record(step: int, losses: dict[str, float]) -> None:
            self.step = step + 1
            self.history.append({"epoch": self.epoch, "step": step, **losses})
            if checkpoint_every and self.step % checkpoint_every == 0:
                self._save("last.pt")
            if after_step is not None:
                after_step(self)

        self.batches.set_position(self.epoch, self.step)
        train_one_epoch(
            self.wrapped,
            self.optimizer,
            loader,
            schedule=self.schedule,
            scaler=self.scaler,
            max_gradient_norm=self.settings.max_gradient_norm,
            loss_weights=self.settings.loss_weights,
            class_weights=self.class_weights,
            epoch=self.epoch,
            first_step=self.step,
            seed=self.settings.seed,
            after_step=record,
            progress=self.progress,
        )

    def _finish_epoch(self) -> None:
        """Validate, keep the model if it is the best, and begin the next epoch."""
        if self.rank == 0:
            metrics = self._evaluate(self.data.validation)
            steps = [one for one in self.history if one["epoch"] == self.epoch]
            train = {n: v for n, v in mean_losses(steps).items() if n not in ("epoch", "step")}
            self.epochs.append({"epoch": self.epoch, "train": train, "metrics": metrics})
            score = metrics["mean_iou"] or 0.0
            if score > self.best:
                self.best = score
                self._save("best.pt")
        self.epoch, self.step = self.epoch + 1, 0
        self._save("last.pt")
        if self.wrapped is not self.model:
            torch.distributed.barrier()

    def _evaluate(self, dataset: Any) -> dict[str, Any]:
        names, window = self.data.class_names, self.settings.window
        batches = evaluation_loader(dataset)
        matrix = evaluate(self.model, batches, len(names), window, self.progress)
        return summarize(matrix, names)

    def _states(self) -> dict[str, Any]:
        states = {"optimizer": self.optimizer, "schedule": self.schedule}
        return states if self.scaler is None else {**states, "scaler": self.scaler}

    def _path(self, name: str) -> Path:
        if self.folder is None:
            raise RuntimeError("this run keeps no checkpoints: give TrainingRun a folder")
        return self.folder / name

    def _save(self, name: str) -> None:
        if self.folder is None or self.rank:
            return
        progress = {"epoch": self.epoch, "step": self.step, "best": self.best}
        progress |= {"history": self.history, "epochs": self.epochs}
        states = self._states() if name == "last.pt" else {}
        save_checkpoint(self._path(name), self.model, states, progress, self._stored_settings())

    def _stored_settings(self) -> dict[str, Any]:
        return {**self.settings.as_dict(), "class_names": list(self.data.class_names)}

    def _compare_settings(self, path: Path, stored: dict[str, Any]) -> None:
        own = self._stored_settings()
        for name in [*own, *stored]:
            if name not in IRRELEVANT and own.get(name) != stored.get(name):
                raise CheckpointError(
                    f"{path} was made with {name} = {stored.get(name)!r}, not {own.get(name)!r}: "
                    "resume with the same settings or choose another folder"
                )


def make_optimizer(model: nn.Module, settings: Settings) -> torch.optim.Optimizer:
    """Return AdamW or SGD with momentum over the trainable parameters.

    Pretrained layers get a smaller learning rate: they know something to be kept.

    Raises:
        ValueError: another name.
    """
    rate, decay = settings.learning_rate, settings.weight_decay
    known = set(pretrained_parameters(model)) if settings.pretrained else set()
    trained = [p for p in model.parameters() if p.requires_grad]
    parameters = [{"params": [p for p in trained if p not in known]}]
    slow = [p for p in trained if p in known]
    if slow:
        parameters.append({"params": slow, "lr": rate * settings.encoder_rate})
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(parameters, rate, weight_decay=decay, fused=True)
    if settings.optimizer == "sgd":
        return torch.optim.SGD(parameters, rate, momentum=0.9, weight_decay=decay)
    raise ValueError(f"optimizer is {settings.optimizer!r}; allowed are adamw and sgd")


def _check_batch(settings: Settings, world_size: int) -> None:
    if (
        settings.model in ("deeplabv3", "smp_deeplabv3plus")
        and settings.batch_size < 2 * world_size
    ):
        raise ValueError(
            f"batch_size is {settings.batch_size} for {world_size} process(es); {settings.model} "
            "needs 2 pictures in each, since it normalises a map of one pixel over the batch"
        )


def _data_parallel(model: nn.Module, device: torch.device) -> DistributedDataParallel:
    devices = [device.index] if device.type == "cuda" else None
    return DistributedDataParallel(model, device_ids=devices)
