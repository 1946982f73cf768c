"""The optimisers of the lessons, by name, for models of which a part is to learn gently."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

FACTORS = (3.4445, -4.7750, 2.0315)  # of the source's polynomial: steep at 0, near 1 at the end
ITERATIONS = 5
MOMENTUM = 0.95  # the source's
SMALLEST_SIDE = 16  # a narrower matrix has too few directions to balance


class Muon(torch.optim.AdamW):
    """AdamW, with Muon's steps for the groups that say so.

    Args:
        groups: dicts with "params", and "muon": True where these are matrices. A group may have
            its own "lr" and "weight_decay".
        lr: learning rate; the root mean square of a Muon step's entries. AdamW's first steps are
            as long, so one rate serves both.
        weight_decay: share of a weight, times the learning rate, that each step takes away.
        momentum: share of a matrix's running mean that each step keeps. Few steps of large
            batches want a shorter memory than the source's.
    """

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        lr: float,
        weight_decay: float = 1e-2,
        momentum: float = MOMENTUM,
    ) -> None:
        own = {"muon": False, "momentum": momentum}
        super().__init__(
            [own | group for group in groups], lr, weight_decay=weight_decay, fused=True
        )
        self._step_supports_amp_scaling = False  # a gradient scaler has to divide beforehand

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        """Change the weights by their gradients; `closure` computes the loss and these first."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        gradients = [
            (matrix, matrix.grad, group)
            for group in self.param_groups
            if group["muon"]
            for matrix in group["params"]
            if matrix.grad is not None
        ]
        for matrix, gradient, group in gradients:
            self._balanced_step(matrix, gradient, group)
            matrix.grad = None  # AdamW leaves it alone
        super().step()
        for matrix, gradient, _ in gradients:
            matrix.grad = gradient
        return loss

    def _balanced_step(self, matrix: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state, keep, rate = self.state[matrix], group["momentum"], group["lr"]
        if not state:  # AdamW expects a "step" in every state that it loads
            state.update(step=torch.zeros(()), mean=torch.zeros_like(matrix))
        state["step"] += 1
        state["mean"].lerp_(gradient, 1 - keep)
        ahead = gradient.lerp(state["mean"], keep)  # Nesterov's momentum, as in the source
        direction = balance(ahead.flatten(1))
        length = rate * max(direction.shape) ** 0.5  # of every singular value
        matrix.mul_(1 - rate * group["weight_decay"])
        matrix.add_(direction.view_as(matrix), alpha=-length)


def balance(matrix: Tensor) -> Tensor:
    """Return nearly U V^T of a matrix U S V^T: its singular values become 0.7 to 1.2.

    A polynomial p(s) = a s + b s^3 + c s^5 of the singular values, applied five times to
    X / |X|, moves them there (the source's Newton-Schulz iteration). It is the same to collect all
    its factors in one small matrix of the shorter side, and to multiply X by that once.

    Args:
        matrix: (m, n), float. Singular values below a 500th of its norm stay smaller.
    """
    if len(matrix) > matrix.shape[1]:
        return balance(matrix.T).T
    a, b, c = FACTORS
    x = matrix / matrix.norm().clamp(min=torch.finfo(matrix.dtype).tiny)  # (m, n)
    squares = x @ x.T  # (m, m): the squared singular values
    identity = torch.eye(len(x), dtype=x.dtype, device=x.device)
    product = identity
    for _ in range(ITERATIONS):
        factor = a * identity + b * squares + c * (squares @ squares)
        product = factor @ product
        squares = factor @ squares @ factor
    return product @ x


def split_matrices(
    parameters: Iterable[nn.Parameter],
) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Part the parameters of new layers into matrices, for Muon, and all others, for AdamW."""
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for one in parameters:
        (matrices if _is_matrix(one.shape) else others).append(one)
    return matrices, others


def _is_matrix(shape: Sequence[int]) -> bool:
    """Tell a matrix, or the kernel of a convolution, from kernels of one channel and vectors."""
    if len(shape) < 2 or shape[1] == 1:
        return False
    return min(shape[0], torch.Size(shape[1:]).numel()) >= SMALLEST_SIDE


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
