"""The set prediction loss: what a query learns once `matcher.py` has given it an object, or none.

Section 3.1 of "End-to-End Object Detection with Transformers" (arXiv:2005.12872).

    loss = class + l1 + giou, of every stage

- Class: each is a yes-or-no question. A matched query is to answer with the IoU of its box, all
  others with 0: varifocal loss (Zhang et al., 2020, arXiv:2008.13367). DETR itself has
  a softmax with a class "no object".
- Boxes, of matched queries alone: the differences of the four numbers, L1, which a large box has
  larger ones of, and the generalised IoU, which knows no size (Rezatofighi et al., 2019,
  arXiv:1902.09630).

The sums are divided by the number of objects in the batch. Boxes are centre x, centre y, width,
height as fractions of the picture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from matcher import GAMMA, Matches, match, objects_of, to_xyxy

WEIGHTS = {"class": 1.0, "l1": 5.0, "giou": 2.0}  # of the terms of the loss; DETR's for boxes
NEGATIVE = 0.75  # weight of the queries that are to answer with 0
LEAST_QUALITY = 0.05  # of a matched query, however far its box is: else it would learn "nothing"


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
        noisy: what the model was given of `matcher.noisy_queries`.

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
