"""The training loop: batch after batch, whatever is learned from them.

Everything random in a step depends on (seed, epoch, step, rank) alone: not on what ran before it,
and not on how many workers load the data. That is what makes a resumed run exact.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler
from tqdm import tqdm

from common.loading import mix_seed
from common.training import apply_gradients, check_finite, mean_losses, mean_over_ranks, rank

AfterStep = Callable[[int, dict[str, float]], None]


def train_batches(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Iterable[Any],
    gradients: Callable[[Any], dict[str, float]],
    shown: Callable[[Any], str],
    advice: str,
    *,
    schedule: LRScheduler | None = None,
    scaler: torch.amp.GradScaler | None = None,
    max_gradient_norm: float | None = None,
    epoch: int = 0,
    first_step: int = 0,
    seed: int | None = None,
    after_step: AfterStep | None = None,
    progress: bool = True,
) -> dict[str, float]:
    """Train on every batch once and return the mean of each loss, and their sum as "loss".

    Args:
        model, optimizer: the network, perhaps wrapped for several processes; its optimiser.
        batches: of any kind that `gradients` takes.
        gradients: sets the parameters' gradients by a batch; see `common.parallel_batches`.
        shown: names the pictures of a batch, and `advice` says what to try, if a loss is NaN.
        schedule: stepped after every batch; `common.training.warmup_cosine` makes one.
        scaler: turns on mixed precision, on CUDA; `common.training.mixed_precision` makes one.
        max_gradient_norm: gradients longer than this are shortened to it.
        epoch, first_step: where in the run the first batch is; they go into the seeds.
        seed: set the random generators anew for each step; None leaves them alone.
        after_step: called with (step, losses); losses are means over all processes.
        progress: show a progress bar on stderr.

    Raises:
        NonFiniteLossError: a loss is NaN or infinite; nothing was updated with it.
        ValueError: there is no batch.
    """
    device = next(model.parameters()).device
    steps, bar = [], tqdm(batches, f"epoch {epoch + 1}", disable=not progress, leave=False)
    for step, batch in enumerate(bar, start=first_step):
        if seed is not None:
            torch.manual_seed(mix_seed(seed, epoch, step, rank()))
        terms = gradients(batch)
        check_finite(terms, f"epoch {epoch + 1}, step {step + 1}", shown(batch), advice)
        apply_gradients(model, optimizer, scaler, max_gradient_norm, schedule)
        steps.append(mean_over_ranks(terms, device))
        bar.set_postfix(loss=f"{steps[-1]['loss']:.3f}", refresh=False)
        if after_step is not None:
            after_step(step, steps[-1])
    return mean_losses(steps)
