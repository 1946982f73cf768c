"""One training step, and what goes with it: learning rate, averaged weights, precision.

Everything here works on a `Darknet`, or on one wrapped for data-parallel training. The recipe is
that of a fine-tuning: AdamW (Loshchilov and Hutter, 2019, arXiv:1711.05101), a short warm-up and
half a cosine for the learning rate, and an average over the weights of the last steps, which is
what is kept in the end.
"""

from __future__ import annotations

import contextlib
import math
from typing import Any

import torch
from torch import Tensor, nn

from batch_loading import Batch
from training_steps import check_finite, update

PRECISIONS = ("auto", "fp32", "fp16", "bf16")
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


def choose_precision(asked: str, device: torch.device) -> str:
    """Return fp32, fp16 or bf16; `auto` is fp16 on a CUDA GPU and fp32 elsewhere.

    Raises:
        ValueError: another word, or fp16 on a CPU.
    """
    if asked not in PRECISIONS:
        raise ValueError(f"precision is {asked!r}; allowed are {', '.join(PRECISIONS)}")
    if asked == "fp16" and device.type != "cuda":
        raise ValueError("precision fp16 needs a CUDA GPU; fp32 and bf16 run on the CPU")
    if asked == "auto":
        return "fp16" if device.type == "cuda" else "fp32"
    return asked


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager:
    """Return the context in which the network computes in this precision."""
    if precision == "fp32":
        return contextlib.nullcontext()
    dtype = {"fp16": torch.float16, "bf16": torch.bfloat16}[precision]
    return torch.autocast(device.type, dtype)


def gradient_scaler(precision: str) -> torch.amp.GradScaler | None:
    """Return what keeps small float16 gradients from becoming 0; None in other precisions."""
    return torch.amp.GradScaler("cuda") if precision == "fp16" else None


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


class AveragedWeights:
    """An exponential moving average of a model's weights and batch norm statistics.

    Single steps jump around the optimum; their average lies closer to it (Polyak and Juditsky,
    1992). While few steps are done, the average forgets faster, or it would hold on to the start:
    after step t its decay is `decay * (1 - exp(-t / ramp))`.

    Args:
        model: what to average; the average starts as a copy of it.
        decay: how much of the average stays at each step, in the long run.
        ramp: after so many steps the decay has reached 63 % of its value.
    """

    def __init__(self, model: nn.Module, decay: float = 0.998, ramp: float = 100.0) -> None:
        self.decay, self.ramp, self.steps = decay, ramp, 0
        self._names = [n for n, t in model.state_dict().items() if t.is_floating_point()]
        self._average = [tensor.clone() for tensor in self._sources(model)]

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move the average towards the model's weights of now."""
        self.steps += 1
        weight = 1 - self.decay * (1 - math.exp(-self.steps / self.ramp))
        torch._foreach_lerp_(self._average, self._sources(model), weight)

    @torch.no_grad()
    def copy_to(self, model: nn.Module) -> None:
        """Overwrite a model's weights with the average."""
        for target, average in zip(self._sources(model), self._average, strict=True):
            target.copy_(average)

    def state_dict(self) -> dict[str, Any]:
        """Return the averages by name, and the number of steps."""
        return {"steps": self.steps, "average": dict(zip(self._names, self._average, strict=True))}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        self.steps = state["steps"]
        for name, average in zip(self._names, self._average, strict=True):
            average.copy_(state["average"][name])

    def _sources(self, model: nn.Module) -> list[Tensor]:
        state = model.state_dict()
        return [state[name] for name in self._names]
