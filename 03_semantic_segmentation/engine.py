"""The training loop of the models that give a class to every pixel.

A model takes images (B, 3, H, W), float in 0..1, and gives a dict with "out": logits (B, K, H, W),
and perhaps "aux", a helper's logits. `losses.total_loss` is what is minimised.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader

from common.loading import mix_seed, training_loader
from common.processes import Processes, one_process
from common.run import Run
from common.training import make_optimizer, warmup_cosine
from dataset import SegmentationData, count_pixels
from evaluation import evaluate
from losses import balanced_class_weights, total_loss
from networks.models import build_model, pretrained_parameters
from settings import Settings


def train(
    settings: Settings,
    data: SegmentationData,
    folder: str | Path | None = None,
    *,
    resume: bool = False,
    processes: Processes | None = None,
    **options: Any,
) -> Run:
    """Train a model as the settings say, and return the finished run with it.

    Args:
        settings: see `settings.Settings`.
        data: what to learn from, and what to choose the best epoch by.
        folder: gets `last.pt`, all that is needed to go on, and `best.pt`, the model of the epoch
            with the highest mean IoU on the validation pictures. None keeps neither.
        resume: go on from `last.pt`, if it is there.
        processes: of torchrun; None is this one alone, on the GPU if there is one.
        options: `checkpoint_every`, `after_step`, `progress`; see `common.run.Run`.

    Raises:
        NonFiniteLossError: a loss is NaN or infinite; nothing was updated with it.
        CheckpointError: `last.pt` is of another run.
        ValueError: the batch does not fit the data, the processes or the model.
    """
    processes = processes or one_process()
    device, class_weights = processes.device, weigh_classes(settings, data, processes.device)
    run, loader, optimizer, schedule = prepare(settings, data, folder, processes, **options)
    if resume:
        run.resume()
    for _ in range(run.epoch, settings.epochs):
        run.model.train()
        for images, targets in run.steps(loader):
            labels = targets["labels"].to(device)
            with run.autocast():
                outputs = run.network(images.to(device))
            loss, terms = total_loss(outputs, labels, settings.loss_weights, class_weights)
            run.record(loss, terms, targets["path"])
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
    data: SegmentationData,
    folder: str | Path | None,
    processes: Processes,
    **options: Any,
) -> tuple[Run, DataLoader, Optimizer, LambdaLR]:
    """Build what the loop needs: the run with its model, the batches, and what changes the weights.

    An encoder that was trained before learns more gently. Arguments and errors as for `train`.
    """
    check_batch(settings, processes.world_size)
    torch.manual_seed(mix_seed(settings.seed))
    model = build_model(
        settings.model,
        len(data.class_names),
        settings.pretrained,
        settings.half_size,
        settings.skips,
    ).to(processes.device)
    optimizer = make_optimizer(
        model,
        settings.optimizer,
        settings.learning_rate,
        settings.weight_decay,
        pretrained_parameters(model) if settings.pretrained else (),
        settings.encoder_rate,
    )
    loader = training_loader(
        data.train, settings.batch_size, settings.seed, settings.workers, processes
    )
    schedule = warmup_cosine(optimizer, settings.epochs * len(loader), settings.warmup)
    states = {"optimizer": optimizer, "schedule": schedule}
    run = Run(settings, data.class_names, model, states, folder, processes=processes, **options)
    return run, loader, optimizer, schedule


def validate(run: Run, data: SegmentationData) -> None:
    """Measure the model on the validation pictures, and keep it if it is the best so far."""
    metrics = evaluate(run.model, data.validation, run.settings.window, run.progress)
    run.keep({"metrics": metrics}, metrics["mean_iou"] or 0.0)


def weigh_classes(
    settings: Settings, data: SegmentationData, device: torch.device
) -> torch.Tensor | None:
    """Return the weights of the classes in the loss, (K,); None where all count alike."""
    if not settings.balance_classes:
        return None
    return balanced_class_weights(count_pixels(data.train)).to(device)


def check_batch(settings: Settings, world_size: int) -> None:
    """Refuse a batch that a model cannot normalise: DeepLab's has a map of one pixel.

    Raises:
        ValueError: a process would get a single picture.
    """
    if settings.model in ("deeplabv3", "smp_deeplabv3plus") and (
        settings.batch_size < 2 * world_size
    ):
        raise ValueError(
            f"batch_size is {settings.batch_size} for {world_size} process(es); {settings.model} "
            "needs 2 pictures in each, since it normalises a map of one pixel over the batch"
        )
