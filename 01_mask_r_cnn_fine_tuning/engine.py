"""The training loop for torchvision's detectors, and a whole run.

A detector in training mode takes images and targets and returns a dict of losses. Mask R-CNN has
five: `loss_objectness` and `loss_rpn_box_reg` of the proposal network, `loss_classifier`,
`loss_box_reg` and `loss_mask` of the heads. Here stands what is learned from a batch, their sum;
the steps themselves are in `common/epochs.py`.

`TrainingRun` is a whole run: the model and its optimiser, seeded batches, checkpoints, metrics. In
its folder it keeps

- `last.pt`: everything that is needed to go on,
- `best.pt`: the model of the epoch with the highest validation AP, for `predict.py`.
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
from common.parallel_batches import BatchGradients, divisible
from common.resumable_run import RecordStep, ResumableRun
from common.training import data_parallel, mean_losses, mixed_precision, warmup_cosine
from evaluation import Batch, evaluate, to_device, validation_loss
from model import backbone_parameters, build_model, mask_head_parameters
from proposal_sampling import drawing_from, use_own_samplers
from settings import Settings
from splits import TrainingData

ADVICE = "Check their boxes and masks, or lower the learning rate"


def train_one_epoch(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Iterable[Batch],
    *,
    loss_weights: Mapping[str, float] | None = None,
    parts: int = 1,
    scaler: torch.amp.GradScaler | None = None,
    **loop: Any,
) -> dict[str, float]:
    """Train on every batch once and return the mean of each loss, and their sum as "loss".

    Args:
        model: a torchvision detector, or one wrapped for data-parallel training.
        optimizer: over the model's trainable parameters.
        batches: (images, targets) as `DetectorItems.collate` makes them; images float in 0..1.
        loss_weights: factors of single loss terms in the sum; 1 where none is given.
        parts: of a batch, computed side by side on a CPU; see `common.parallel_batches`.
        scaler, loop: schedule, seeds, progress and more; see `common.epochs.train_batches`.

    Raises:
        NonFiniteLossError: a loss is NaN or infinite; nothing was updated with it.
        ValueError: there is no batch.
    """
    device = next(model.parameters()).device
    weights = loss_weights or {}
    if parts > 1 and divisible(model):
        use_own_samplers(model)

    def losses(detector: nn.Module, part: tuple) -> dict[str, Tensor]:
        images, targets, *seed = part  # a whole batch has none
        half = torch.autocast("cuda", torch.float16, enabled=scaler is not None)
        with drawing_from(*seed), half:
            terms = detector(*to_device(images, targets, device))
        loss = sum(value * weights.get(name, 1.0) for name, value in terms.items())
        return {"loss": loss, **terms}

    gradients = BatchGradients(model, losses, divide, parts, scaler)
    return train_batches(
        model, optimizer, batches, gradients, _shown, ADVICE, scaler=scaler, **loop
    )


def divide(batch: Batch, parts: int) -> list[tuple]:
    """Cut a batch into equal parts, each with a random seed; none where it does not divide."""
    images, targets = batch
    size, rest = divmod(len(images), parts)
    if rest:
        return []
    seeds = torch.randint(2**63 - 1, (parts,)).tolist()  # of the step's own generator
    places = [slice(k * size, (k + 1) * size) for k in range(parts)]
    return [(images[at], targets[at], seed) for at, seed in zip(places, seeds, strict=True)]


def _shown(batch: Batch) -> str:
    """Name the pictures of a batch, for an error message."""
    return "images " + ", ".join(str(one.get("path", one["image_id"])) for one in batch[1])


class TrainingRun(ResumableRun):
    """Train a detector as `settings` say; call `fit`, then `test`.

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
    """Return the optimiser that the settings name; see `common.optimizers.make_optimizer`.

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
