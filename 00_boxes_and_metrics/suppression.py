"""Non-maximum suppression: one box per object out of many that say the same.

The greedy algorithm is older than the networks (Felzenszwalb et al., 2010, use it).
Soft-NMS is Bodla et al., 2017, arXiv:1704.04503, section 4: equations for a linear and a Gaussian
decay.
"""

import math

import numpy as np
import torch
from torch import Tensor

from boxes import box_iou


def nms(boxes_xyxy: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Keep the best box, drop all that overlap it too much, go on with the best of the rest.

    Args:
        boxes_xyxy: (N, 4), pixels.
        scores: (N,).
        iou_threshold: a box goes when its IoU with a kept one is above it.

    Returns:
        int64 indices of the kept boxes, best first; of equal scores the earlier box comes first.
    """
    order = scores.argsort(descending=True, stable=True)
    overlaps = (box_iou(boxes_xyxy[order], boxes_xyxy[order]) > iou_threshold).numpy()  # (N, N)
    dropped = np.zeros(len(order), dtype=bool)
    kept = []
    for i in range(len(order)):
        if not dropped[i]:
            kept.append(i)
            dropped |= overlaps[i]
    return order[kept]


def class_aware_nms(
    boxes_xyxy: Tensor, scores: Tensor, labels: Tensor, iou_threshold: float
) -> Tensor:
    """Suppress within each class: a rider may not delete the horse.

    Args:
        boxes_xyxy: (N, 4), pixels.
        scores: (N,).
        labels: int64 (N,).
        iou_threshold: see `nms`.

    Returns:
        int64 indices of the kept boxes, best first; of equal scores the earlier box comes first.
    """
    kept = torch.zeros(len(labels), dtype=torch.bool)
    for label in labels.unique():
        members = (labels == label).nonzero()[:, 0]
        kept[members[nms(boxes_xyxy[members], scores[members], iou_threshold)]] = True
    indices = kept.nonzero()[:, 0]
    return indices[scores[indices].argsort(descending=True, stable=True)]


def soft_nms(
    boxes_xyxy: Tensor,
    scores: Tensor,
    score_threshold: float,
    method: str = "gaussian",
    iou_threshold: float = 0.3,
    sigma: float = 0.5,
) -> tuple[Tensor, Tensor]:
    """Lower the scores of overlapping boxes instead of dropping them.

    Two people who stand close have boxes that overlap: NMS loses one of them, Soft-NMS ranks it
    lower. With the best box taken, each remaining score s becomes, with IoU o,

        linear:    s * (1 - o) where o > iou_threshold      gaussian:  s * exp(-o^2 / sigma)

    The linear decay takes all of a score only at IoU 1, the Gaussian one never.

    Args:
        boxes_xyxy: (N, 4), pixels.
        scores: (N,) in [0, 1].
        score_threshold: a box goes when its lowered score is below it.
        method: "linear" or "gaussian".
        iou_threshold: from where the linear decay acts.
        sigma: the width of the Gaussian decay, above 0.

    Returns:
        int64 indices (K,) in the order of choice, and their lowered scores (K,).

    Raises:
        ValueError: an unknown method, or sigma is not above 0.
    """
    if method not in ("linear", "gaussian"):
        raise ValueError(f"method is {method!r}; allowed are 'linear' and 'gaussian'")
    if sigma <= 0:
        raise ValueError(f"sigma is {sigma}; allowed are numbers above 0")
    overlaps = box_iou(boxes_xyxy, boxes_xyxy)
    decay = 1 - overlaps * (overlaps > iou_threshold)
    if method == "gaussian":
        decay = (-overlaps.square() / sigma).exp()
    scores, waiting = scores.clone(), torch.ones(len(scores), dtype=torch.bool)
    chosen, final = [], []
    while waiting.any():
        best = int(scores.masked_fill(~waiting, -math.inf).argmax())
        if scores[best] < score_threshold:
            break
        chosen.append(best)
        final.append(scores[best])
        waiting[best] = False
        scores[waiting] *= decay[best, waiting]
    return torch.tensor(chosen, dtype=torch.int64), scores.new_tensor(final)
