"""A training run from start to end: the cfg, the epochs, measuring, and going on after a stop.

`YoloRun` ties the pieces together for `train.py` and the notebook. In its folder it keeps

- `model.cfg`, written at the start;
- `last.pt`: everything that is needed to go on, written in one step after each epoch;
- `model.cfg`, `model.weights` (the averaged weights) and `model.names`, written at the end.

The weights at the end of the schedule are the result. None are picked by their score on the test
photos: that would measure luck.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from anchors import anchor_recall, kmeans_anchors
from atomic import replacing
from batch_loading import TrainingBatches
from checkpoint import CheckpointError, load_checkpoint, restore, save_checkpoint
from coco_metrics import coco_metrics
from darknet import Darknet
from detection_data import DetectionData, PhotoSet
from detection_evaluation import coco_detections, coco_truth, confusion_matrix, find_all
from loss import YoloLoss
from make_cfg import make_cfg
from save_model import save_darknet
from start_weights import base_cfg, start
from winograd_training import use_winograd
from yolo_engine import (
    AveragedWeights,
    choose_precision,
    gradient_scaler,
    make_optimizer,
    training_step,
    warmup_cosine,
)
from yolo_settings import YoloSettings

# What a resumed run may change: where the numbers come from, not what they are.
IRRELEVANT = ("pretrained", "evaluate_every")


def choose_cfg(settings: YoloSettings, train: PhotoSet) -> tuple[str, str]:
    """Return the text of the network's cfg, and one line about its anchors.

    Raises:
        ValueError: the base is not known.
    """
    path = base_cfg(settings.base)
    known = max(Darknet(path).outputs, key=lambda output: len(output.anchors)).anchors
    old = np.array(known, np.float64).reshape(-1, 2)
    sizes = train.sizes_wh(settings.size)
    before = f"anchors: those of {path.name} overlap {anchor_recall(sizes, old):.0%} of the boxes"
    classes = len(train.class_names)
    if settings.anchors == "base" or len(np.unique(sizes, axis=0)) < len(old):
        reason = "as asked for" if settings.anchors == "base" else "too few boxes to fit others"
        cfg = make_cfg(path, classes, anchors=None, size=settings.size)
        return cfg, f"{before} by more than half; kept, {reason}"
    new = kmeans_anchors(sizes, len(old), seed=settings.seed)
    cfg = make_cfg(path, classes, anchors=new, size=settings.size)
    return cfg, f"{before} by more than half, the fitted ones {anchor_recall(sizes, new):.0%}"


class YoloRun:
    """Train a detector as `settings` say; call `fit`, then `save` and `measure`.

    Args:
        settings: see `YoloSettings`.
        data: what to train on and what to measure on.
        folder: for the cfg, the names, the checkpoint and the weights.
        device: where to train.
        rank, world_size: number of this process, and of all; with several, torch.distributed
            must be initialised.
        threads: how many prepare images.
        progress: show progress bars on stderr.

    Attributes:
        notes: lines about the start, for the reader.
        history: one dict a step: {"epoch", "step", "loss", "box", "objectness", "class"}.
        epochs: one dict for each measured epoch: {"epoch", "bbox", "seconds"}.
        seconds: how long was trained so far, in all parts of a resumed run.
        averaged: the network with the averaged weights; up to date after `fit` and `resume`.
    """

    def __init__(
        self,
        settings: YoloSettings,
        data: DetectionData,
        folder: str | Path,
        device: torch.device | str = "cpu",
        rank: int = 0,
        world_size: int = 1,
        threads: int = 2,
        progress: bool = True,
    ) -> None:
        self.settings, self.data, self.folder = settings, data, Path(folder)
        self.device, self.rank, self.progress = torch.device(device), rank, progress and rank == 0
        self.precision = choose_precision(settings.precision, self.device)
        self.batches = TrainingBatches(
            data.train,
            settings.batch_size,
            settings.size,
            settings.augmentation,
            settings.seed,
            sizes=settings.sizes,
            rank=rank,
            world_size=world_size,
            threads=threads,
        )
        self.cfg, note = choose_cfg(settings, data.train)
        self.notes = [note]
        self._build(world_size)
        self.epoch = self.step = 0
        self.seconds = 0.0
        self.history: list[dict[str, Any]] = []
        self.epochs: list[dict[str, Any]] = []

    def _build(self, world_size: int) -> None:
        settings = self.settings
        torch.manual_seed(settings.seed)
        path = self._write_cfg()
        model, self.averaged = Darknet(path), Darknet(path)
        objects = len(self.data.train.sizes_wh(settings.size)) / len(self.data.train)
        self.notes.append(start(model, settings.base, settings.pretrained, max(objects, 0.1)))
        self.averaged.load_state_dict(model.state_dict())
        self.averaged.to(self.device, memory_format=torch.channels_last)
        self.model = model.to(self.device, memory_format=torch.channels_last).train()
        if self.device.type == "cpu" and self.precision == "fp32":
            use_winograd(model)
        self.wrapped = _data_parallel(model, self.device) if world_size > 1 else model
        self.loss = YoloLoss(
            model,
            box_loss=settings.box_loss,
            positive_iou=settings.positive_iou,
            neighbours=settings.neighbours,
        )
        self.optimizer = make_optimizer(model, settings.learning_rate, settings.weight_decay)
        total = settings.epochs * len(self.batches)
        warmup = min(round(settings.warmup * total), total - 1)
        self.schedule = warmup_cosine(self.optimizer, total, warmup)
        self.scaler = gradient_scaler(self.precision)
        self.average = AveragedWeights(model, settings.average_decay)

    def resume(self) -> bool:
        """Go on from `last.pt`; return False where there is none yet.

        Raises:
            CheckpointError: the file is unreadable, or of a run with other settings or data.
        """
        path = self.folder / "last.pt"
        if not path.is_file():
            return False
        checkpoint = load_checkpoint(path)
        self._compare(path, checkpoint["settings"])
        progress = restore(checkpoint, self.model, self._states())
        for name in ("epoch", "step", "seconds", "history", "epochs"):
            setattr(self, name, progress[name])
        self.average.copy_to(self.averaged)
        return True

    def fit(
        self,
        checkpoint_every: int | None = None,
        after_step: Callable[[YoloRun], None] | None = None,
    ) -> list[dict[str, Any]]:
        """Train until all epochs are done and return `epochs`.

        Args:
            checkpoint_every: also write `last.pt` after every so many steps of an epoch.
            after_step: called after each step, for a live curve.

        Raises:
            NonFiniteLossError: see `yolo_engine.training_step`.
        """
        while self.epoch < self.settings.epochs:
            self._train_epoch(checkpoint_every, after_step)
            self.average.copy_to(self.averaged)
            if self.rank == 0 and self.settings.is_measured(self.epoch):
                measured = {"epoch": self.epoch, "bbox": self.measure()[0]["bbox"]}
                self.epochs.append({**measured, "seconds": self.seconds})
            self.epoch, self.step = self.epoch + 1, 0
            self._checkpoint()
            if self.wrapped is not self.model:
                torch.distributed.barrier()
        return self.epochs

    def measure(self) -> tuple[dict[str, Any], dict[str, np.ndarray], np.ndarray]:
        """Measure the averaged weights on the test photos.

        Returns:
            The metrics and the precision curves of `coco_metrics`, and the confusion matrix.
        """
        photos = self.data.test
        found = find_all(self.averaged, photos, self.settings.size, progress=self.progress)
        metrics, curves = coco_metrics(coco_truth(photos), coco_detections(photos, found))
        return metrics, curves, confusion_matrix(photos, found)

    def save(self) -> Path:
        """Write model.cfg, model.weights (the averaged ones) and model.names; return the second."""
        seen = len(self.history) * self.settings.batch_size
        self.averaged.header = dataclasses.replace(self.averaged.header, seen=seen)
        names = [name.strip() for name in self.data.class_names]
        save_darknet(self.averaged, names, self.folder)
        return self.folder / "model.weights"

    def _train_epoch(
        self, checkpoint_every: int | None, after_step: Callable[[YoloRun], None] | None
    ) -> None:
        total, first = len(self.batches), self.step
        mosaic = self.epoch < self.settings.first_plain_epoch
        batches = self.batches.epoch(self.epoch, first, mosaic)
        name = f"epoch {self.epoch + 1}/{self.settings.epochs}"
        bar = tqdm(batches, name, total, initial=first, disable=not self.progress, leave=False)
        began = time.perf_counter()
        for batch in bar:
            values = self._train_step(batch)
            self.history.append({"epoch": self.epoch, "step": self.step, **values})
            self.step += 1
            began, before = time.perf_counter(), began
            self.seconds += began - before  # with waiting for photos, without measuring
            bar.set_postfix(loss=f"{values['loss']:.2f}", refresh=False)
            if checkpoint_every and self.step % checkpoint_every == 0:
                self._checkpoint()
            if after_step is not None:
                after_step(self)

    def _train_step(self, batch: Any) -> dict[str, float]:
        values = training_step(
            self.wrapped,
            self.loss,
            self.optimizer,
            batch,
            precision=self.precision,
            scaler=self.scaler,
            max_gradient_norm=self.settings.max_gradient_norm,
            place=f"epoch {self.epoch + 1}, step {self.step + 1}",
        )
        self.schedule.step()
        self.average.update(self.model)
        return _mean_over_processes(values, self.device)

    def _write_cfg(self) -> Path:
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / "model.cfg"
        with replacing(path) as file:
            file.write(self.cfg.encode())
        return path

    def _states(self) -> dict[str, Any]:
        states = {"optimizer": self.optimizer, "schedule": self.schedule, "average": self.average}
        return states if self.scaler is None else {**states, "scaler": self.scaler}

    def _checkpoint(self) -> None:
        if self.rank:
            return
        names = ("epoch", "step", "seconds", "history", "epochs")
        progress = {name: getattr(self, name) for name in names}
        path = self.folder / "last.pt"
        save_checkpoint(path, self.model, self._states(), progress, self._stored_settings())

    def _stored_settings(self) -> dict[str, Any]:
        names = {"class_names": list(self.data.class_names), "photos": len(self.data.train)}
        return {**self.settings.as_dict(), **names, "model.cfg": self.cfg}

    def _compare(self, path: Path, stored: dict[str, Any]) -> None:
        own = self._stored_settings()
        for name in [*own, *stored]:
            if name not in IRRELEVANT and own.get(name) != stored.get(name):
                raise CheckpointError(
                    f"{path} was made with {name} = {stored.get(name)!r}, not {own.get(name)!r}: "
                    "resume with the same settings and data, or choose another folder"
                )


def _mean_over_processes(values: dict[str, float], device: torch.device) -> dict[str, float]:
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return values
    numbers = torch.tensor(list(values.values()), dtype=torch.float64, device=device)
    torch.distributed.all_reduce(numbers)
    means = (numbers / torch.distributed.get_world_size()).tolist()
    return dict(zip(values, means, strict=True))


def _data_parallel(model: Darknet, device: torch.device) -> DistributedDataParallel:
    devices = [device.index] if device.type == "cuda" else None
    return DistributedDataParallel(model, device_ids=devices)
