"""The training loop of YOLOv3, and what it starts from and leaves behind.

The weights at the end of the schedule are the result. None are picked by their score.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader

from anchors import anchor_recall, kmeans_anchors
from common.coco_metrics import coco_metrics
from common.loading import mix_seed, training_loader
from common.processes import Processes, one_process
from common.run import Run
from common.training import make_optimizer, warmup_cosine
from darknet.make_cfg import make_cfg, write_cfg
from darknet.network import Darknet
from darknet.pretrained import base_cfg, start
from darknet.save import save_darknet
from dataset import DetectionData, PhotoSet, TrainingPhotos
from evaluation import collect
from losses import YoloLoss
from settings import Settings

LAST_RATE = 0.01  # share of the learning rate that is left at the end of the schedule
STEPS_PER_SIZE = 10  # with several input sizes: so many batches of one size, as in Darknet


def train(
    settings: Settings,
    data: DetectionData,
    folder: str | Path,
    *,
    resume: bool = False,
    checkpoint_every: int | None = None,
    processes: Processes | None = None,
    after_step: Callable[[Run], None] | None = None,
    progress: bool = True,
    anchors: np.ndarray | None = None,
) -> Run:
    """Train a detector and return the finished run with its model.

    Args:
        resume: go on from `last.pt`, if it is there.
        settings, data, folder, anchors, processes: see `prepare`.
        checkpoint_every, after_step, progress: see `common.run.Run`.

    Raises:
        ValueError: see `prepare`; its class is `NonFiniteLossError` or `CheckpointError` later on.
    """
    options = {"checkpoint_every": checkpoint_every, "after_step": after_step, "progress": progress}
    run, loader, yolo_loss, optimizer, schedule = prepare(
        settings, data, folder, anchors, processes or one_process(), **options
    )
    if resume:
        run.resume()
    for _ in range(run.epoch, settings.epochs):
        run.model.train()
        for images, targets, paths in run.steps(loader):
            size = size_of_step(settings, run.epoch, run.step)
            with run.autocast():
                outputs = run.network(to_input(images, run.processes.device, size))
            losses = yolo_loss(outputs, targets, size)
            loss = sum(losses.values())
            run.record(loss, losses, paths)
            optimizer.zero_grad()
            run.scaler.scale(loss).backward()
            run.scaler.unscale_(optimizer)
            clip_grad_norm_(run.model.parameters(), settings.max_gradient_norm)
            run.scaler.step(optimizer)
            run.scaler.update()
            schedule.step()
        if run.processes.rank == 0 and settings.is_measured(run.epoch):
            validate(run, data.validation)
        run.end_epoch()
    return run


def prepare(
    settings: Settings,
    data: DetectionData,
    folder: str | Path,
    anchors: np.ndarray | None,
    processes: Processes,
    **options: Any,
) -> tuple[Run, DataLoader, YoloLoss, Optimizer, LambdaLR]:
    """Build what the loop needs: the run with its model, the batches, and what changes the weights.

    Args:
        settings: see `settings.Settings`.
        data: what to learn from, and what to draw the curves on.
        folder: gets `model.cfg` now, and `last.pt`, all that is needed to go on, in each epoch.
        anchors: (K, 2), in pixels, fitted to the boxes already; None fits them.
        processes: those of torchrun, or this one alone.
        options: of `common.run.Run`.

    Raises:
        ValueError: the batch does not fit the photos or the processes, the base is not known, or
            the weights to start from fit neither (a `DarknetFileError`).
    """
    model, notes = processes.in_turn(lambda: build_model(settings, data.train, folder, anchors))
    if processes.rank == 0:
        print("\n".join(notes))
    model.to(processes.device, memory_format=torch.channels_last)
    yolo_loss = YoloLoss(model, box_loss=settings.box_loss, positive_iou=settings.positive_iou)
    optimizer = make_optimizer(
        model, settings.optimizer, settings.learning_rate, settings.weight_decay
    )
    photos = TrainingPhotos(data.train, settings.size, settings.augmentation)
    loader = training_loader(
        photos, settings.batch_size, settings.seed, settings.workers, processes
    )
    steps = settings.epochs * len(loader)
    schedule = warmup_cosine(optimizer, steps, settings.warmup, LAST_RATE)
    states = {"optimizer": optimizer, "schedule": schedule}
    same = {"photos": len(data.train), "model.cfg": model.cfg_path.read_text(encoding="utf-8")}
    options |= {"processes": processes, "same": same}
    run = Run(settings, data.class_names, model, states, folder, **options)
    return run, loader, yolo_loss, optimizer, schedule


def build_model(
    settings: Settings, photos: PhotoSet, folder: str | Path, anchors: np.ndarray | None = None
) -> tuple[Darknet, list[str]]:
    """Write `model.cfg` into the folder, and build its network with the first weights.

    Returns:
        The network, and lines that say which anchors and weights it has.

    Raises:
        ValueError: the base is not known.
        DarknetFileError: the weights to start from do not fit.
    """
    cfg, note = choose_cfg(settings, photos, anchors)
    path = Path(folder) / "model.cfg"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_cfg(path, cfg)
    torch.manual_seed(mix_seed(settings.seed))
    model = Darknet(path)
    objects = len(photos.sizes_wh(settings.size)) / len(photos)
    return model, [note, start(model, settings.base, settings.pretrained, max(objects, 0.1))]


def choose_cfg(
    settings: Settings, photos: PhotoSet, fitted: np.ndarray | None = None
) -> tuple[str, str]:
    """Return the text of the network's cfg, and one line about its anchors.

    Args:
        settings: its `base`, sizes, `anchors` and `seed` count.
        photos: whose boxes the anchors are to suit.
        fitted: (K, 2), anchors in pixels that k-means has found already; None looks for them.

    Raises:
        ValueError: the base is not known.
    """
    path = base_cfg(settings.base)
    known = max(Darknet(path).outputs, key=lambda output: len(output.anchors)).anchors
    old = np.array(known, np.float64).reshape(-1, 2)
    sizes = photos.sizes_wh(settings.size)
    before = f"anchors: those of {path.name} overlap {anchor_recall(sizes, old):.0%} of the boxes"
    classes = len(photos.class_names)
    if settings.anchors == "base" or len(np.unique(sizes, axis=0)) < len(old):
        reason = "as asked for" if settings.anchors == "base" else "too few boxes to fit others"
        cfg = make_cfg(path, classes, anchors=None, size=settings.final_size)
        return cfg, f"{before} by more than half; kept, {reason}"
    new = kmeans_anchors(sizes, len(old), seed=settings.seed) if fitted is None else fitted
    cfg = make_cfg(path, classes, anchors=new, size=settings.final_size)
    return cfg, f"{before} by more than half, the fitted ones {anchor_recall(sizes, new):.0%}"


def size_of_step(settings: Settings, epoch: int, step: int) -> tuple[int, int]:
    """Return the input size (height, width) of a step; the same in all processes."""
    turn = mix_seed(settings.seed, epoch, step // STEPS_PER_SIZE)
    return settings.sizes[turn % len(settings.sizes)]


def to_input(images: Tensor, device: torch.device, size: tuple[int, int]) -> Tensor:
    """Turn uint8 images (B, 3, H, W) into the network's float32 input (B, 3, *size), 0..1."""
    moved = images.to(device, non_blocking=True)
    scaled = moved.to(torch.float32, memory_format=torch.channels_last).div_(255)
    if scaled.shape[2:] == size:
        return scaled
    return F.interpolate(scaled, size, mode="bilinear", align_corners=False)


def validate(run: Run, photos: PhotoSet) -> None:
    """Measure the model on the validation photos, for the curve over the epochs."""
    size, most = run.settings.final_size, run.settings.max_detections
    truth, detections = collect(run.model, photos, size, run.progress, most)
    metrics = coco_metrics(truth, detections, most)
    run.keep({"bbox": metrics["bbox"]})


def save_model(run: Run, class_names: Sequence[str]) -> Path:
    """Write model.cfg, model.weights and model.names of a finished run; return the second."""
    seen = len(run.history) * run.settings.batch_size
    run.model.header = dataclasses.replace(run.model.header, seen=seen)
    save_darknet(run.model, [name.strip() for name in class_names], run.folder)
    return run.folder / "model.weights"
