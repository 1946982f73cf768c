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
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from anchors import anchor_recall, kmeans_anchors
from batches.loading import Batch, TrainingBatches
from common.averaged_weights import AveragedWeights
from common.coco_metrics import precision_curves, run_coco, summarize
from common.files import replacing
from common.precision import autocast, choose_precision, gradient_scaler
from common.resumable_run import RecordStep, ResumableRun
from common.training import check_finite, data_parallel, mean_over_ranks, update, warmup_cosine
from darknet.network import Darknet
from darknet.pretrained import base_cfg, start
from darknet.save import save_darknet
from dataset import DetectionData, PhotoSet
from evaluation import coco_detections, coco_truth, confusion_matrix, find_all
from losses import YoloLoss
from make_cfg import make_cfg
from settings import YoloSettings
from speed.winograd_training import use_winograd


def choose_cfg(
    settings: YoloSettings, train: PhotoSet, fitted: np.ndarray | None = None
) -> tuple[str, str]:
    """Return the text of the network's cfg, and one line about its anchors.

    Args:
        settings: its `base`, sizes, `anchors` and `seed` count.
        train: the photos whose boxes the anchors are to suit.
        fitted: (K, 2), anchors in pixels that k-means has found already; None looks for them.

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
        cfg = make_cfg(path, classes, anchors=None, size=settings.final_size)
        return cfg, f"{before} by more than half; kept, {reason}"
    new = kmeans_anchors(sizes, len(old), seed=settings.seed) if fitted is None else fitted
    cfg = make_cfg(path, classes, anchors=new, size=settings.final_size)
    return cfg, f"{before} by more than half, the fitted ones {anchor_recall(sizes, new):.0%}"


class YoloRun(ResumableRun):
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
        anchors: (K, 2), in pixels, fitted to the boxes already; by default they are fitted here.

    Attributes:
        notes: lines about the start, for the reader.
        history: one dict a step: {"epoch", "step", "loss", "box", "objectness", "class"}.
        epochs: one dict for each measured epoch: {"epoch", "bbox", "seconds"}.
        seconds: how long was trained so far, in all parts of a resumed run.
        averaged: the network with the averaged weights; up to date after `fit` and `resume`.
    """

    PROGRESS = ("epoch", "step", "seconds", "history", "epochs")
    # Where the numbers come from, not what they are:
    IRRELEVANT = ("pretrained", "evaluate_every")

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
        anchors: np.ndarray | None = None,
    ) -> None:
        super().__init__(settings, data, folder, device, rank, progress)
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
        self.cfg, note = choose_cfg(settings, data.train, anchors)
        self.notes = [note]
        self.steps_per_epoch = len(self.batches)
        self.seconds = 0.0
        self._build(world_size)

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
        self.wrapped = data_parallel(model, self.device) if world_size > 1 else model
        self.loss = YoloLoss(
            model,
            box_loss=settings.box_loss,
            positive_iou=settings.positive_iou,
            neighbours=settings.neighbours,
        )
        self.optimizer = make_optimizer(model, settings.learning_rate, settings.weight_decay)
        total = settings.epochs * self.steps_per_epoch
        warmup = min(round(settings.warmup * total), total - 1)
        self.schedule = warmup_cosine(self.optimizer, total, warmup, LAST_RATE)
        self.scaler = gradient_scaler(self.precision)
        self.average = AveragedWeights(model, settings.average_decay)

    def resume(self) -> bool:
        """Go on from `last.pt`, with the averaged weights; see `ResumableRun.resume`."""
        resumed = super().resume()
        if resumed:
            self.average.copy_to(self.averaged)
        return resumed

    def measure(self) -> tuple[dict[str, Any], dict[str, np.ndarray], np.ndarray]:
        """Measure the averaged weights on the test photos.

        Returns:
            The metrics and the precision curves of `common.coco_metrics`, and the confusion matrix.
        """
        photos = self.data.test
        found = find_all(self.averaged, photos, self.settings.final_size, progress=self.progress)
        measured = run_coco(coco_truth(photos), coco_detections(photos, found))
        matrix = confusion_matrix(photos, found)
        return summarize(measured), precision_curves(measured["bbox"]), matrix

    def save(self) -> Path:
        """Write model.cfg, model.weights (the averaged ones) and model.names; return the second."""
        seen = len(self.history) * self.settings.batch_size
        self.averaged.header = dataclasses.replace(self.averaged.header, seen=seen)
        names = [name.strip() for name in self.data.class_names]
        save_darknet(self.averaged, names, self.folder)
        return self.folder / "model.weights"

    def _open_batches(self) -> TrainingBatches:
        return self.batches

    def _train_epoch(self, batches: TrainingBatches, record: RecordStep) -> None:
        mosaic = self.epoch < self.settings.first_plain_epoch
        rest = batches.epoch(self.epoch, self.step, mosaic)
        name = f"epoch {self.epoch + 1}/{self.settings.epochs}"
        options = {"initial": self.step, "disable": not self.progress, "leave": False}
        bar = tqdm(rest, name, self.steps_per_epoch, **options)
        began = time.perf_counter()
        for batch in bar:
            values = self._train_step(batch)
            began, before = time.perf_counter(), began
            self.seconds += began - before  # with waiting for photos, without measuring
            bar.set_postfix(loss=f"{values['loss']:.2f}", refresh=False)
            record(self.step, values)

    def _finish_epoch(self) -> None:
        self.average.copy_to(self.averaged)
        if self.rank == 0 and self.settings.is_measured(self.epoch):
            measured = {"epoch": self.epoch, "bbox": self.measure()[0]["bbox"]}
            self.epochs.append({**measured, "seconds": self.seconds})

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
        return mean_over_ranks(values, self.device)

    def _write_cfg(self) -> Path:
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / "model.cfg"
        with replacing(path) as file:
            file.write(self.cfg.encode())
        return path

    def _states(self) -> dict[str, Any]:
        return {**super()._states(), "average": self.average}

    def _stored_settings(self) -> dict[str, Any]:
        own = {"photos": len(self.data.train), "model.cfg": self.cfg}
        return {**super()._stored_settings(), **own}


LAST_RATE = 0.01  # share of the learning rate that is left at the end of the schedule
ADVICE = "Check their boxes, or lower the learning rate"


def training_step(
    model: nn.Module,
    loss: nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    *,
    precision: str = "fp32",
    scaler: torch.amp.GradScaler | None = None,
    max_gradient_norm: float | None = None,
    place: str = "",
) -> dict[str, float]:
    """Learn from one batch and return the loss terms, with their sum as "loss".

    Args:
        model: in training mode.
        loss: a `YoloLoss`.
        optimizer: over the model's parameters.
        batch: the photos and their boxes.
        precision: fp32, or fp16 or bf16 for the convolutions.
        scaler: the gradient scaler that fp16 needs; see `gradient_scaler`.
        max_gradient_norm: a longer gradient is shortened to this.
        place: where in the run this is, for the error message.

    Raises:
        NonFiniteLossError: a term is NaN or infinite; nothing was learned from the batch.
    """
    device = next(model.parameters()).device
    images = to_input(batch.images, device)
    with autocast(device, precision):
        outputs = model(images)
    terms = loss(outputs, batch.targets.to(device), tuple(images.shape[2:]))
    total = sum(terms.values())
    numbers = torch.stack([total.detach(), *(term.detach() for term in terms.values())]).tolist()
    values = dict(zip(("loss", *terms), numbers, strict=True))
    check_finite(values, place, f"photos {', '.join(batch.names)}", ADVICE)
    update(model, optimizer, total, scaler, max_gradient_norm)
    return values


def to_input(images: Tensor, device: torch.device) -> Tensor:
    """Turn uint8 images (B, 3, H, W) into the network's float32 input, 0..1, channels last."""
    moved = images.to(device, non_blocking=True)
    return moved.to(torch.float32, memory_format=torch.channels_last).div_(255)


def make_optimizer(
    model: nn.Module, learning_rate: float, weight_decay: float
) -> torch.optim.AdamW:
    """Return AdamW over all parameters; the decay is for kernels, not for biases and batch norm."""
    kernels = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [
        {"params": kernels, "weight_decay": weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, learning_rate, fused=True)
