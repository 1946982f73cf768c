"""The optimisers of the lessons, by name, for models of which a part is to learn gently."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from muon import Muon, split_matrices

OPTIMIZERS = ("muon", "adamw", "sgd")


def make_optimizer(
    name: str,
    model: nn.Module,
    gentle: Iterable[nn.Parameter],
    rate: float,
    gentle_rate: float,
    weight_decay: float,
    momentum: float = 0.95,
) -> torch.optim.Optimizer:
    """Return an optimiser over the trainable parameters of a model.

    Args:
        name: "muon"; "adamw"; or "sgd", with momentum 0.9.
        model: frozen parameters are left out.
        gentle: those of its parameters that Muon leaves to AdamW.
        rate, gentle_rate: learning rates of the other parameters, and of the gentle ones.
        weight_decay: as the optimiser takes it.
        momentum: of Muon.

    Raises:
        ValueError: another name.
    """
    known = set(gentle)
    trained = [one for one in model.parameters() if one.requires_grad]
    new = [one for one in trained if one not in known]
    old = {"params": [one for one in trained if one in known], "lr": gentle_rate}
    if name == "muon":
        matrices, others = split_matrices(new)
        groups = _filled({"params": matrices, "muon": True}, {"params": others}, old)
        return Muon(groups, rate, weight_decay, momentum)
    groups = _filled({"params": new}, old)
    if name == "adamw":
        return torch.optim.AdamW(groups, rate, weight_decay=weight_decay, fused=True)
    if name == "sgd":
        return torch.optim.SGD(groups, rate, momentum=0.9, weight_decay=weight_decay)
    raise ValueError(f"optimizer is {name!r}; allowed are {', '.join(OPTIMIZERS)}")


def _filled(*groups: dict) -> list[dict]:
    return [group for group in groups if group["params"]]
