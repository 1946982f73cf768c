"""A running average of a model's weights, which is often better than any single step's."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn


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
