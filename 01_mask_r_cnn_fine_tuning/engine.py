"""The training loop of torchvision's detectors.

A detector in training mode takes images and targets and returns a dict of losses. Mask R-CNN has
five: `loss_objectness` and `loss_rpn_box_reg` of the proposal network, `loss_classifier`,
`loss_box_reg` and `loss_mask` of the heads. Their sum is what is minimised.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader

from common.loading import evaluation_loader, mix_seed, training_loader
from common.processes import Processes, one_process
from common.run import Run
from common.training import make_optimizer, warmup_cosine
from dataset import DetectionData
from evaluation import evaluate, to_device, validation_loss
from model import build_model
from settings import Settings


def train(
    settings: Settings,
    data: DetectionData,
    folder: str | Path | None = None,
    *,
    resume: bool = False,
    processes: Processes | None = None,
    **options: Any,
) -> Run:
    """Train a detector as the settings say, and return the finished run with its model.

    Args:
        settings: see `settings.Settings`.
        data: what to learn from, and what to choose the best epoch by.
        folder: gets `last.pt`, all that is needed to go on, and `best.pt`, the model of the epoch
            with the highest AP on the validation pictures. None keeps neither.
        resume: go on from `last.pt`, if it is there.
        processes: of torchrun; None is this one alone, on the GPU if there is one.
        options: `checkpoint_every`, `after_step`, `progress`; see `common.run.Run`.

    Raises:
        NonFiniteLossError: a loss is NaN or infinite; nothing was updated with it.
        CheckpointError: `last.pt` is of another run.
        ValueError: the batch does not fit the data or the processes.
    """
    processes = processes or one_process()
    run, loader, optimizer, schedule = prepare(settings, data, folder, processes, **options)
    if resume:
        run.resume()
    for _ in range(run.epoch, settings.epochs):
        run.model.train()
        for images, targets in run.steps(loader):
            with run.autocast():
                losses = run.network(*to_device(images, targets, processes.device))
            loss = sum(losses.values())
            run.record(loss, losses, [target["path"] for target in targets])
            optimizer.zero_grad()
            run.scaler.scale(loss).backward()
            run.scaler.unscale_(optimizer)
            clip_grad_norm_(run.model.parameters(), settings.max_gradient_norm)
            run.scaler.step(optimizer)
            run.scaler.update()
            schedule.step()
        if processes.rank == 0:
            validate(run, data)
        run.end_epoch()
    return run


def prepare(
    settings: Settings,
    data: DetectionData,
    folder: str | Path | None,
    processes: Processes,
    **options: Any,
) -> tuple[Run, DataLoader, Optimizer, LambdaLR]:
    """Build what the loop needs: the run with its model, the batches, and what changes the weights.

    A backbone that was trained before learns more gently. Arguments and errors as for `train`.
    """
    torch.manual_seed(mix_seed(settings.seed))
    model = build_model(settings, len(data.class_names) + 1).to(processes.device)
    optimizer = make_optimizer(
        model,
        settings.optimizer,
        settings.learning_rate,
        settings.weight_decay,
        model.backbone.body.parameters() if settings.pretrained else (),
        settings.backbone_rate,
    )
    loader = training_loader(
        data.train, settings.batch_size, settings.seed, settings.workers, processes
    )
    schedule = warmup_cosine(optimizer, settings.epochs * len(loader), settings.warmup)
    states = {"optimizer": optimizer, "schedule": schedule}
    run = Run(settings, data.class_names, model, states, folder, processes=processes, **options)
    return run, loader, optimizer, schedule


def validate(run: Run, data: DetectionData) -> None:
    """Measure the model on the validation pictures, and keep it if it is the best so far."""
    most = run.settings.max_detections
    metrics = evaluate(run.model, data.validation, run.progress, most)
    losses = validation_loss(run.model, evaluation_loader(data.validation))
    kind = "segm" if "segm" in metrics else "bbox"
    run.keep({"validation": losses, "metrics": metrics}, metrics[kind]["AP"] or 0.0)
