"""The set prediction loss: who learns which object, and what a query learns then.

Section 3.1 of "End-to-End Object Detection with Transformers" (arXiv:2005.12872). A cost says how
badly each query fits each object; the Hungarian method (here scipy's) finds the pairs of least cost
in all, one query for each object. That a second query on the same object is told "nothing" is why
no suppression is needed.

    loss = class + l1 + giou, of every stage

- Class: each is a yes-or-no question. A matched query is to answer with the IoU of its box, all
  others with 0: varifocal loss (Zhang et al., 2020, arXiv:2008.13367, equation 2). DETR itself has
  a softmax with a class "no object".
- Boxes, of matched queries alone: the differences of the four numbers, L1, which a large box has
  larger ones of, and the generalised IoU, which knows no size (Rezatofighi et al., 2019,
  arXiv:1902.09630).

The sums are divided by the number of objects in the batch. Boxes are centre x, centre y, width,
height as fractions of the picture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torchvision.ops import box_convert, generalized_box_iou

WEIGHTS = {"class": 1.0, "l1": 5.0, "giou": 2.0}  # of the terms of the loss; DETR's for boxes
COSTS = {"class": 2.0, "l1": 5.0, "giou": 2.0}  # of the matching; Deformable DETR's
ALPHA, GAMMA = 0.25, 2.0  # of the focal cost: weight of a "yes", and how little the sure ones count
NEGATIVE = 0.75  # weight of the queries that are to answer with 0
LEAST_QUALITY = 0.05  # of a matched query, however far its box is: else it would learn "nothing"
NO_NUMBER = 1e6  # cost in place of NaN: the loss itself says that the network has lost its numbers


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


def iou_and_giou(boxes_cxcywh: Tensor, others_cxcywh: Tensor) -> tuple[Tensor, Tensor]:
    """Return the IoU, 0..1, and the generalised IoU, -1..1, of boxes row by row.

    Generalised: less the share of the smallest box around both that neither covers. Where two boxes
    do not touch, it grows as they come nearer, while the IoU stays 0.

    Args:
        boxes_cxcywh, others_cxcywh: (P, 4), with sides above 0.
    """
    low, high = to_xyxy(boxes_cxcywh).split(2, dim=-1)
    other_low, other_high = to_xyxy(others_cxcywh).split(2, dim=-1)
    both = (high.minimum(other_high) - low.maximum(other_low)).clamp(min=0).prod(dim=-1)
    around = (high.maximum(other_high) - low.minimum(other_low)).prod(dim=-1)
    either = (high - low).prod(dim=-1) + (other_high - other_low).prod(dim=-1) - both
    iou = both / either
    return iou, iou - (around - either) / around


def varifocal(logits: Tensor, quality: Tensor) -> Tensor:
    """Return the varifocal loss of each answer.

    Args:
        logits: any shape.
        quality: the same shape, 0..1: what the answer ought to be; 0 of all that is not matched.
    """
    doubt = NEGATIVE * logits.detach().sigmoid() ** GAMMA  # a sure "no" counts little
    weight = torch.where(quality > 0, quality, doubt)
    return weight * F.binary_cross_entropy_with_logits(logits, quality, reduction="none")


def detr_loss(
    outputs: Mapping[str, Any],
    targets: Sequence[Mapping[str, Any]],
    noisy: Mapping[str, Any] | None = None,
) -> dict[str, Tensor]:
    """Return the terms of the loss, shape () each; their sum is what is minimised.

    Args:
        outputs: of `detr.DETR`.
        targets: one a picture, with "boxes_cxcywh" float32 (n, 4) and "classes" int64 (n,).
        noisy: what the model was given of `denoising.noisy_queries`.

    Returns:
        "class", "l1" and "giou", and with noisy queries "denoising_class", "denoising_l1" and
        "denoising_giou": sums over the stages and pictures, times WEIGHTS, for each object.
    """
    matches = match(outputs["logits"], outputs["boxes_cxcywh"], targets)
    classes, _ = objects = objects_of(targets)
    count = max(len(classes), 1)
    losses = _terms(outputs, matches, objects, None, count)
    if noisy is None:
        return losses
    denoised, valid = outputs["denoised"], noisy["valid"]
    everywhere = valid.expand(len(denoised["logits"]), *valid.shape)  # (L, B, N)
    stage, picture, query = everywhere.nonzero(as_tuple=True)
    known = Matches(stage, picture, query, noisy["objects"][picture, query])
    terms = _terms(denoised, known, objects, valid, count * noisy["groups"])
    return losses | {f"denoising_{name}": value for name, value in terms.items()}


def objects_of(targets: Sequence[Mapping[str, Any]]) -> tuple[Tensor, Tensor]:
    """Return the classes (K,) and boxes (K, 4) of all objects of a batch."""
    classes, boxes = ([target[key] for target in targets] for key in ("classes", "boxes_cxcywh"))
    return torch.cat(classes), torch.cat(boxes)


def to_xyxy(boxes_cxcywh: Tensor) -> Tensor:
    """Turn centres and sides (..., 4) into edges x1, y1, x2, y2."""
    return box_convert(boxes_cxcywh, "cxcywh", "xyxy")


def _terms(
    answers: Mapping[str, Tensor],
    matches: Matches,
    objects: tuple[Tensor, Tensor],
    valid: Tensor | None,
    count: int,
) -> dict[str, Tensor]:
    """The three terms of matched queries; `valid` (B, N) says which answers count at all."""
    logits, place = answers["logits"], (matches.stage, matches.picture, matches.query)
    classes, boxes_cxcywh = (one[matches.object] for one in objects)  # (P,), (P, 4)
    found = answers["boxes_cxcywh"][place]  # (P, 4)
    iou, giou = iou_and_giou(found, boxes_cxcywh)
    quality = torch.zeros_like(logits)
    quality[(*place, classes)] = iou.detach().clamp(min=LEAST_QUALITY)
    answer = varifocal(logits, quality)
    if valid is not None:
        answer = answer * valid[..., None]
    sums = {"class": answer.sum(), "l1": (found - boxes_cxcywh).abs().sum()}
    sums["giou"] = (1 - giou).sum()
    return {name: WEIGHTS[name] * value / count for name, value in sums.items()}
