"""A training run that can be stopped at any step and goes on as if nothing had happened.

`ResumableRun` holds what no run depends on the network for: counting steps and epochs, writing
`last.pt`, reading it back, and refusing one that other settings made. A lesson's own run derives
from it, builds its model, and says what an epoch is.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from common.checkpoint import CheckpointError, load_checkpoint, restore, save_checkpoint

RecordStep = Callable[[int, dict[str, float]], None]


class ResumableRun:
    """What all training runs share; a lesson's own class builds `model` and the rest.

    Args:
        settings: has `epochs` and `as_dict()`.
        data: has `class_names`.
        folder: for the checkpoints; None keeps none.
        device: where to train.
        rank: this process's number.
        progress: show progress bars on stderr.

    Attributes:
        epoch, step: how many epochs are done, and how many steps of the one after them.
        history: one dict a step: {"epoch", "step", "loss", and each loss term}.
        epochs: one dict for each epoch that was measured.
        model, wrapped: the network, and the same wrapped for data-parallel training.
        optimizer, schedule, scaler: of the training; the scaler may be None.
        steps_per_epoch: in each process.
    """

    PROGRESS: tuple[str, ...] = ("epoch", "step", "history", "epochs")  # goes into last.pt
    IRRELEVANT: tuple[str, ...] = ()  # settings that a resumed run may change

    model: nn.Module
    wrapped: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    scaler: torch.amp.GradScaler | None
    steps_per_epoch: int

    def __init__(
        self,
        settings: Any,
        data: Any,
        folder: str | Path | None,
        device: torch.device | str,
        rank: int,
        progress: bool,
    ) -> None:
        self.settings, self.data, self.device = settings, data, torch.device(device)
        self.folder = Path(folder) if folder is not None else None
        self.rank, self.progress = rank, progress and rank == 0
        self.epoch = self.step = 0
        self.history: list[dict[str, Any]] = []
        self.epochs: list[dict[str, Any]] = []

    def resume(self) -> bool:
        """Go on from `last.pt`; return False where there is none yet.

        Raises:
            CheckpointError: the file is unreadable, or of a run with other settings or data.
            RuntimeError: the run has no folder.
        """
        path = self._path("last.pt")
        if not path.is_file():
            return False
        checkpoint = load_checkpoint(path)
        self._compare_settings(path, checkpoint["settings"])
        progress = restore(checkpoint, self.model, self._states())
        for name in self.PROGRESS:
            setattr(self, name, progress[name])
        return True

    def fit(
        self,
        checkpoint_every: int | None = None,
        after_step: Callable[[Any], None] | None = None,
    ) -> list[dict[str, Any]]:
        """Train until all epochs are done and return `epochs`.

        Args:
            checkpoint_every: also write `last.pt` after every so many steps of an epoch.
            after_step: called with the run after each step, for a live curve.

        Raises:
            NonFiniteLossError: see `common.training.check_finite`.
        """

        def record(step: int, losses: dict[str, float]) -> None:
            self.step = step + 1
            self.history.append({"epoch": self.epoch, "step": step, **losses})
            if checkpoint_every and self.step % checkpoint_every == 0:
                self._save("last.pt")
            if after_step is not None:
                after_step(self)

        batches = self._open_batches()
        while self.epoch < self.settings.epochs:
            if self.step < self.steps_per_epoch:
                self._train_epoch(batches, record)
            self._finish_epoch()
            self.epoch, self.step = self.epoch + 1, 0
            self._save("last.pt")
            if self.wrapped is not self.model:
                torch.distributed.barrier()
        return self.epochs

    def _open_batches(self) -> Any:
        """Return what `_train_epoch` draws its batches from; kept for the whole of `fit`."""
        raise NotImplementedError

    def _train_epoch(self, batches: Any, record: RecordStep) -> None:
        """Train from `self.step` to the end of an epoch; `record` each step and its losses."""
        raise NotImplementedError

    def _finish_epoch(self) -> None:
        """Measure what the epoch has brought."""
        raise NotImplementedError

    def _states(self) -> dict[str, Any]:
        states = {"optimizer": self.optimizer, "schedule": self.schedule}
        return states if self.scaler is None else {**states, "scaler": self.scaler}

    def _stored_settings(self) -> dict[str, Any]:
        return {**self.settings.as_dict(), "class_names": list(self.data.class_names)}

    def _path(self, name: str) -> Path:
        if self.folder is None:
            raise RuntimeError(
                f"this run keeps no checkpoints: give {type(self).__name__} a folder"
            )
        return self.folder / name

    def _save(self, name: str) -> None:
        """Write a checkpoint; only `last.pt` holds what training needs to go on."""
        if self.folder is None or self.rank:
            return
        progress = {name: getattr(self, name) for name in self.PROGRESS}
        states = self._states() if name == "last.pt" else {}
        save_checkpoint(self._path(name), self.model, states, progress, self._stored_settings())

    def _compare_settings(self, path: Path, stored: dict[str, Any]) -> None:
        own = self._stored_settings()
        for name in [*own, *stored]:
            if name not in self.IRRELEVANT and own.get(name) != stored.get(name):
                raise CheckpointError(
                    f"{path} was made with {name} = {stored.get(name)!r}, not {own.get(name)!r}: "
                    "resume with the same settings and data, or choose another folder"
                )
