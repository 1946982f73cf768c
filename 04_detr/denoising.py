"""Denoising queries: boxes of true objects, spoiled, which the decoder has to restore.

Li et al., "DN-DETR" (2022, arXiv:2203.01305). Which object an ordinary query is to find is known
after the matching alone, and that changes from step to step at first. A noisy query's object is
known by construction, so from the first step on the decoder learns how to correct a box. Only
training has them.

Several groups are made, each with every object once. A mask keeps the answers secret: the ordinary
queries see no noisy one, and a group sees no other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

SMALLEST = 1e-3  # side of a noisy box, as a fraction of the picture


def noisy_queries(
    targets: Sequence[Mapping[str, Any]],
    num_classes: int,
    groups: int = 4,
    *,
    box_noise: float = 0.4,
    label_noise: float = 0.2,
) -> dict[str, Any] | None:
    """Spoil the objects of a batch (section 4.2 of the paper).

    Args:
        targets: one a picture, with "boxes_cxcywh" (n, 4) and "classes" (n,).
        num_classes: of the data.
        groups: how often each object is spoiled.
        box_noise: a centre moves by at most this share of half the side, a side changes by at most
            this share of itself.
        label_noise: probability of a class drawn at random.

    Returns:
        N = groups * (most objects of a picture) queries a picture, group by group; the rest of a
        group is padding. "classes" int64 (B, N), "boxes_cxcywh" float32 (B, N, 4), "valid" bool
        (B, N), False in the padding, "objects" int64 (B, N), which count through the objects of
        the whole batch, and "groups". None without groups.
    """
    if not groups:
        return None
    sizes = [len(target["classes"]) for target in targets]
    numbers = torch.arange(sum(sizes), device=targets[0]["classes"].device).split(sizes)
    boxes = _grouped([target["boxes_cxcywh"] for target in targets], groups)  # (B, N, 4)
    classes = _grouped([target["classes"] for target in targets], groups)  # (B, N)
    valid = _grouped([torch.ones_like(one, dtype=torch.bool) for one in numbers], groups)
    centre, side = boxes.split(2, dim=-1)
    shift, growth = (box_noise * (2 * torch.rand_like(side) - 1) for _ in range(2))
    spoiled = torch.cat((centre + shift * side / 2, side * (1 + growth)), dim=-1)
    other = torch.randint_like(classes, num_classes)
    swap = torch.rand(classes.shape, device=classes.device) < label_noise
    return {
        "classes": torch.where(swap, other, classes),
        "boxes_cxcywh": spoiled.clamp(SMALLEST, 1),
        "valid": valid,
        "objects": _grouped(numbers, groups),
        "groups": groups,
    }


def group_mask(groups: int, size: int, num_queries: int, device: Any = None) -> Tensor:
    """Say which query may not see which.

    Args:
        groups: of noisy queries, which come first.
        size: of each group.
        num_queries: ordinary ones, which come last.

    Returns:
        bool (T, T), T = groups * size + num_queries; [i, j] is True where i may not see j. A group
        sees itself and the ordinary queries; these see one another alone.
    """
    numbers = torch.arange(groups, device=device).repeat_interleave(size)
    ordinary = torch.full((num_queries,), -1, device=device)
    group = torch.cat((numbers, ordinary))  # (T,)
    seen = (group[:, None] == group[None, :]) | (group[None, :] == -1)
    return ~seen


def attention_mask(noisy: Mapping[str, Any], num_queries: int) -> Tensor:
    """Return `group_mask` for each picture, bool (B, T, T); padding is seen by itself alone.

    Args:
        noisy: of `noisy_queries`.
        num_queries: ordinary ones.
    """
    valid, groups = noisy["valid"], noisy["groups"]
    blocked = group_mask(groups, valid.shape[1] // groups, num_queries, valid.device)
    padding = torch.nn.functional.pad(~valid, (0, num_queries))  # (B, T)
    alone = torch.eye(len(blocked), dtype=torch.bool, device=valid.device)
    return (blocked | padding[:, None, :]) & ~alone


def _grouped(rows: Sequence[Tensor], groups: int) -> Tensor:
    """Fill up each picture's rows (n, ...) to the longest, and repeat them: (B, N, ...)."""
    padded = pad_sequence(list(rows), batch_first=True)
    return padded.repeat(1, groups, *[1] * (padded.ndim - 2))
