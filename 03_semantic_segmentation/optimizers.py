"""The optimisers of the lessons, by name, for models of which a part is to learn gently."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from muon import MOMENTUM, Muon, split_matrices

OPTIMIZERS = ("muon", "adamw", "sgd")


def make_optimizer(
    name: str,
    model: nn.Module,
    gentle: Iterable[tuple[Iterable[nn.Parameter], float]],
    rate: float,
    weight_decay: float,
    momentum: float = MOMENTUM,
) -> torch.optim.Optimizer:
    """Return an optimiser over the trainable parameters of a model.

    Args:
        name: "muon"; "adamw"; or "sgd", with momentum 0.9.
        model: frozen parameters are left out.
        gentle: pairs of parameters, which Muon leaves to AdamW, and their learning rate.
        rate: learning rate of all other parameters.
        weight_decay: as the optimiser takes it.
        momentum: of Muon.

    Raises:
        ValueError: another name.
    """
    careful = [
        {"params": [one for one in parameters if one.requires_grad], "lr": its_rate}
        for parameters, its_rate in gentle
    ]
    apart = {one for group in careful for one in group["params"]}
    plain = [one for one in model.parameters() if one.requires_grad and one not in apart]
    if name == "muon":
        matrices, others = split_matrices(plain)
        groups = _filled({"params": matrices, "muon": True}, {"params": others}, *careful)
        return Muon(groups, rate, weight_decay, momentum)
    groups = _filled({"params": plain}, *careful)
    if name == "adamw":
        return torch.optim.AdamW(groups, rate, weight_decay=weight_decay, fused=True)
    if name == "sgd":
        return torch.optim.SGD(groups, rate, momentum=0.9, weight_decay=weight_decay)
    raise ValueError(f"optimizer is {name!r}; allowed are {', '.join(OPTIMIZERS)}")


def _filled(*groups: dict) -> list[dict]:
    return [group for group in groups if group["params"]]
