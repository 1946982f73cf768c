"""The training loop of DETR.

The model answers, the loss says how good that is; noisy queries come with the batch. That is all
the loop has beside PyTorch's own lines.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader

from common.loading import evaluation_loader, mix_seed, training_loader
from common.processes import Processes, one_process
from common.run import Run
from common.training import make_optimizer, warmup_cosine
from common.validation import mean_losses, to_device
from dataset import DetectionData
from detr import DETR, build_model
from evaluation import BATCH_SIZE, evaluate, to_input
from losses import detr_loss
from matcher import noisy_queries
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
        folder: gets `last.pt`, to go on from, and `best.pt`, of the epoch with the highest AP on
            the validation pictures. None keeps neither.
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
            targets = to_device(targets, processes.device)
            noisy = noisy_queries(targets, len(data.class_names), settings.denoising)
            with run.autocast():
                outputs = run.network(to_input(images, processes.device), noisy)
            losses = detr_loss(outputs, targets, noisy)
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
    model = build_model(settings, len(data.class_names)).to(processes.device)
    optimizer = make_optimizer(
        model,
        settings.optimizer,
        settings.learning_rate,
        settings.weight_decay,
        model.body.parameters() if settings.pretrained else (),
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
    metrics = evaluate(run.model, data.validation, run.progress, run.settings.max_detections)
    losses = validation_loss(run.model, evaluation_loader(data.validation, BATCH_SIZE))
    run.keep({"validation": losses, "metrics": metrics}, metrics["bbox"]["AP"] or 0.0)


@torch.no_grad()
def validation_loss(model: DETR, batches: Iterable[tuple[Tensor, Any]]) -> dict[str, float]:
    """Return the mean of every loss term over the batches, and their sum as "loss".

    There are no noisy queries in it.

    Raises:
        ValueError: there is no batch.
    """
    device, training = next(model.parameters()).device, model.training

    def losses_of(images: Tensor, targets: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        return detr_loss(model(to_input(images, device)), to_device(targets, device))

    model.eval()
    try:
        return mean_losses(batches, losses_of)
    finally:
        model.train(training)
