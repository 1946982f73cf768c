"""Which query learns which object: chosen by cost, or known from the start.

Section 3.1 of "End-to-End Object Detection with Transformers" (arXiv:2005.12872): a cost says how
badly each query fits each object; the Hungarian method (here scipy's) finds the pairs of least cost
in all, one query for each object. That a second query on the same object is told "nothing" is why
no suppression is needed.

Which object an ordinary query is to find is known after the matching alone, and that changes from
step to step at first. A denoising query (Li et al., "DN-DETR", 2022, arXiv:2203.01305) is a true
box, spoiled, which the decoder has to restore: its object is known by construction, so from the
first step on the decoder learns how to correct a box. Only training has them. Several groups are
made, each with every object once. A mask keeps the answers secret: the ordinary queries see no
noisy one, and a group sees no other.

Boxes are centre x, centre y, width, height as fractions of the picture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torchvision.ops import box_convert, generalized_box_iou

COSTS = {"class": 2.0, "l1": 5.0, "giou": 2.0}  # of the matching; Deformable DETR's
ALPHA, GAMMA = 0.25, 2.0  # of the focal cost: weight of a "yes", and how little the sure ones count
NO_NUMBER = 1e6  # cost in place of NaN: the loss itself says that the network has lost its numbers
SMALLEST = 1e-3  # side of a noisy box, as a fraction of the picture


class Matches(NamedTuple):
    """Pairs of a query and an object, int64 (P,) each; `object` counts through the whole batch."""

    stage: Tensor
    picture: Tensor
    query: Tensor
    object: Tensor


def cost_matrix(
    logits: Tensor, boxes_cxcywh: Tensor, classes: Tensor, target_boxes_cxcywh: Tensor
) -> Tensor:
    """Return how badly each query fits each object; less is better.

    The class costs what the focal loss (arXiv:1708.02002) would rise by a "yes" in place of a "no".

    Args:
        logits: (..., Q, C).
        boxes_cxcywh: (..., Q, 4).
        classes: int64 (K,), of the objects.
        target_boxes_cxcywh: (K, 4).

    Returns:
        (..., Q, K).
    """
    score = logits.sigmoid()
    yes = -ALPHA * (1 - score) ** GAMMA * F.logsigmoid(logits)
    no = -(1 - ALPHA) * score**GAMMA * F.logsigmoid(-logits)
    distance = torch.cdist(boxes_cxcywh, target_boxes_cxcywh, p=1)
    overlap = generalized_box_iou(
        to_xyxy(boxes_cxcywh.flatten(0, -2)), to_xyxy(target_boxes_cxcywh)
    )
    return (
        COSTS["class"] * (yes - no)[..., classes]
        + COSTS["l1"] * distance
        - COSTS["giou"] * overlap.view_as(distance)
    )


def assign(cost: Tensor | np.ndarray) -> tuple[Tensor, Tensor]:
    """Choose pairs of the least cost in all.

    Args:
        cost: (Q, K), of queries and objects.

    Returns:
        Queries and objects, int64 (min(Q, K),) each, by ascending query. No number comes twice.
    """
    queries, objects = linear_sum_assignment(cost)
    return torch.from_numpy(queries), torch.from_numpy(objects)


@torch.no_grad()
def match(logits: Tensor, boxes_cxcywh: Tensor, targets: Sequence[Mapping[str, Any]]) -> Matches:
    """Choose a query for each object, in each stage and picture.

    Args:
        logits: (S, B, Q, C).
        boxes_cxcywh: (S, B, Q, 4).
        targets: B, with "boxes_cxcywh" (n, 4) and "classes" (n,).
    """
    sizes = [len(target["classes"]) for target in targets]
    starts = np.cumsum([0, *sizes])
    cost = cost_matrix(logits, boxes_cxcywh, *objects_of(targets))  # (S, B, Q, K)
    cost = cost.nan_to_num(NO_NUMBER).cpu()
    pairs = [torch.zeros(4, 0, dtype=torch.int64)]
    for stage in range(len(cost)):
        for picture, own in enumerate(cost[stage].split(sizes, dim=-1)):
            queries, objects = assign(own[picture])
            place = torch.tensor([[stage], [picture]]).expand(2, len(queries))
            pairs.append(torch.cat((place, queries[None], objects[None] + starts[picture])))
    return Matches(*torch.cat(pairs, dim=1).to(logits.device))


def objects_of(targets: Sequence[Mapping[str, Any]]) -> tuple[Tensor, Tensor]:
    """Return the classes (K,) and boxes (K, 4) of all objects of a batch."""
    classes, boxes = ([target[key] for target in targets] for key in ("classes", "boxes_cxcywh"))
    return torch.cat(classes), torch.cat(boxes)


def to_xyxy(boxes_cxcywh: Tensor) -> Tensor:
    """Turn centres and sides (..., 4) into edges x1, y1, x2, y2."""
    return box_convert(boxes_cxcywh, "cxcywh", "xyxy")


def noisy_queries(
    targets: Sequence[Mapping[str, Any]],
    num_classes: int,
    groups: int = 4,
    *,
    box_noise: float = 0.4,
    label_noise: float = 0.2,
) -> dict[str, Any] | None:
    """Spoil the objects of a batch (section 4.3 of DN-DETR).

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
    """Say which query may not see which (section 4.4 of DN-DETR).

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
