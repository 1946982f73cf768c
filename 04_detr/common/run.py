"""Where a training run stands, and what it needs to go on exactly there after a stop.

The loop is a lesson's own, in `engine.py`. A `Run` is what the loop calls beside PyTorch: it counts
the steps, seeds each of them, keeps the losses, writes `last.pt`, and reads it back.

Everything random in a step depends on (seed, epoch, step, rank) alone: not on what ran before it,
and not on how many workers load the data. That is what makes a resumed run exact.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from common.checkpoint import (
    CheckpointError,
    HasState,
    load_checkpoint,
    load_weights,
    restore,
    save_checkpoint,
)
from common.loading import mix_seed
from common.precision import autocast, choose_precision, gradient_scaler
from common.processes import Processes, one_process
from common.settings import fixed_names, plain_values
from common.training import check_finite

PROGRESS = ("epoch", "step", "seconds", "best", "history", "epochs")  # goes into the checkpoints


class Run:
    """The state of a training.

    Args:
        settings: have `seed`, `epochs` and `precision`; see `common.settings`.
        class_names: of the data; a checkpoint keeps them.
        model: on its device.
        states: what else changes in a step, by name: the optimiser, the schedule, averages.
        folder: for the checkpoints; None keeps none.
        processes: this one among all; None is this one alone.
        same: further values that a resumed run has to have again.
        checkpoint_every: also write `last.pt` after every so many steps of an epoch.
        after_step: called with the run after each step, for a live curve.
        progress: show a progress bar on stderr.

    Attributes:
        network: the model to call in the loop; it averages the gradients of several processes.
        scaler: keeps small float16 gradients from becoming 0.
        epoch, step: how many epochs are done, and how many steps of the one after them.
        seconds: spent in steps so far, in all parts of a resumed run; without measuring.
        history: one dict a step: {"epoch", "step", "loss", and each loss term}.
        epochs: one dict for each epoch that was measured.
    """

    def __init__(
        self,
        settings: Any,
        class_names: Iterable[str],
        model: nn.Module,
        states: Mapping[str, HasState],
        folder: str | Path | None = None,
        *,
        processes: Processes | None = None,
        same: Mapping[str, Any] | None = None,
        checkpoint_every: int | None = None,
        after_step: Callable[[Run], None] | None = None,
        progress: bool = True,
    ) -> None:
        self.settings, self.model = settings, model
        self.processes = processes or one_process(next(model.parameters()).device)
        self.folder = Path(folder) if folder is not None else None
        self.checkpoint_every, self.after_step = checkpoint_every, after_step
        self.progress = progress and self.processes.rank == 0
        self.precision = choose_precision(settings.precision, self.processes.device)
        self.scaler = gradient_scaler(self.processes.device, self.precision)
        self.network = self.processes.share(model)
        self._states = {**states, "scaler": self.scaler}
        self._stored = plain_values(settings) | {"class_names": list(class_names)}
        self._same = dict(same or {})
        self.epoch = self.step = 0
        self.seconds, self.best = 0.0, -1.0
        self.history: list[dict[str, Any]] = []
        self.epochs: list[dict[str, Any]] = []

    def steps(self, loader: DataLoader) -> Iterator[Any]:
        """Yield the batches of this epoch that are not done yet, each with its own random seed."""
        loader.batch_sampler.set_position(self.epoch, self.step)
        title = f"epoch {self.epoch + 1}/{self.settings.epochs}"
        options = {"initial": self.step, "disable": not self.progress, "leave": False}
        began = time.perf_counter()
        for batch in (bar := tqdm(loader, title, len(loader), **options)):
            place = (self.epoch, self.step, self.processes.rank)
            torch.manual_seed(mix_seed(self.settings.seed, *place))
            yield batch  # the loop's own lines run here
            self.seconds += time.perf_counter() - began
            self.step += 1
            bar.set_postfix(loss=f"{self.history[-1]['loss']:.3f}", refresh=False)
            if self.checkpoint_every and self.step % self.checkpoint_every == 0:
                self._save("last.pt")
            if self.after_step is not None:
                self.after_step(self)
            began = time.perf_counter()

    def autocast(self) -> contextlib.AbstractContextManager:
        """Return the context in which the network computes in the run's precision."""
        return autocast(self.processes.device, self.precision)

    def record(self, loss: Tensor, terms: Mapping[str, Tensor], pictures: Iterable[object]) -> None:
        """Keep a step's loss and its terms; call it before the weights change.

        Args:
            loss: what is minimised, shape ().
            terms: its parts by name, shape () each.
            pictures: the files of the batch, for the error message.

        Raises:
            NonFiniteLossError: one is NaN or infinite, in this process.
        """
        tensors = [loss, *terms.values()]
        numbers = torch.stack([one.detach().float() for one in tensors]).tolist()  # one wait
        losses = dict(zip(("loss", *terms), numbers, strict=True))
        check_finite(losses, f"epoch {self.epoch + 1}, step {self.step + 1}", pictures)
        losses = self.processes.mean(losses)
        self.history.append({"epoch": self.epoch, "step": self.step, **losses})

    def keep(self, measured: Mapping[str, Any], score: float | None = None) -> None:
        """Remember what was measured after this epoch; write `best.pt` if no score was higher."""
        self.epochs.append({"epoch": self.epoch, **measured})
        if score is not None and score > self.best:
            self.best = score
            self._save("best.pt")

    def end_epoch(self) -> None:
        """Count the epoch and write `last.pt`; all processes meet here."""
        self.epoch, self.step = self.epoch + 1, 0
        self._save("last.pt")
        self.processes.wait()

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
        self._compare(path, checkpoint)
        progress = restore(checkpoint, self.model, self._states)
        for name in PROGRESS:
            setattr(self, name, progress[name])
        return True

    def load_best(self) -> nn.Module:
        """Give the model the weights of `best.pt`, if the run has a folder, and return it."""
        if self.folder is not None:
            load_weights(load_checkpoint(self._path("best.pt")), self.model)
        return self.model

    def _path(self, name: str) -> Path:
        if self.folder is None:
            raise RuntimeError("this run keeps no checkpoints: give it a folder")
        return self.folder / name

    def _save(self, name: str) -> None:
        """Write a checkpoint; only `last.pt` holds what training needs to go on."""
        if self.folder is None or self.processes.rank:
            return
        progress = {one: getattr(self, one) for one in PROGRESS} | {"same": self._same}
        states = self._states if name == "last.pt" else {}
        save_checkpoint(self._path(name), self.model, states, progress, self._stored)

    def _compare(self, path: Path, checkpoint: Mapping[str, Any]) -> None:
        stored = {**checkpoint["settings"], **checkpoint["progress"].get("same", {})}
        own = {**self._stored, **self._same}
        for name in (*fixed_names(self.settings), "class_names", *self._same):
            if own[name] != stored.get(name):
                raise CheckpointError(
                    f"{path} was made with {name} = {stored.get(name)!r}, not {own[name]!r}: "
                    "resume with the same settings and data, or choose another folder"
                )
