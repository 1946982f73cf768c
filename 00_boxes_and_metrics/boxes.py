"""Boxes: three ways to write one down, and three ways to say how well two of them agree.

IoU is the measure of the detection challenges (Everingham et al., 2010, section 4.2). GIoU is from
Rezatofighi et al., 2019, arXiv:1902.09630, algorithm 1; CIoU from Zheng et al., 2020,
arXiv:1911.08287, section "Complete IoU Loss".

Boxes are float tensors (..., 4) in pixels, x to the right, y down. A format's name is its order of
numbers: `xyxy` is left, top, right, bottom; `xywh` is left, top, width, height; `cxcywh` is centre,
width, height. An edge is a line between pixels, so width is simply x2 - x1.
"""

import math

import torch
from torch import Tensor

EPSILON = 1e-7  # keeps CIoU's quotients finite; torchvision takes the same


def xywh_to_xyxy(boxes_xywh: Tensor) -> Tensor:
    """Convert (..., 4) boxes from left, top, width, height to left, top, right, bottom."""
    x, y, w, h = boxes_xywh.unbind(-1)
    return torch.stack((x, y, x + w, y + h), dim=-1)


def xyxy_to_xywh(boxes_xyxy: Tensor) -> Tensor:
    """Convert (..., 4) boxes from left, top, right, bottom to left, top, width, height."""
    x1, y1, x2, y2 = boxes_xyxy.unbind(-1)
    return torch.stack((x1, y1, x2 - x1, y2 - y1), dim=-1)


def cxcywh_to_xyxy(boxes_cxcywh: Tensor) -> Tensor:
    """Convert (..., 4) boxes from centre x, centre y, width, height to x1, y1, x2, y2."""
    cx, cy, w, h = boxes_cxcywh.unbind(-1)
    return torch.stack((cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2), dim=-1)


def xyxy_to_cxcywh(boxes_xyxy: Tensor) -> Tensor:
    """Convert (..., 4) boxes from x1, y1, x2, y2 to centre x, centre y, width, height."""
    x1, y1, x2, y2 = boxes_xyxy.unbind(-1)
    return torch.stack(((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1), dim=-1)


def check_boxes_xyxy(boxes_xyxy: Tensor) -> Tensor:
    """Return the boxes if they are usable.

    Args:
        boxes_xyxy: float (N, 4), pixels.

    Raises:
        ValueError: another shape; numbers that are not finite; x1 > x2 or y1 > y2, which is what
            boxes of another format look like. The message names the first bad box.
    """
    if boxes_xyxy.ndim != 2 or boxes_xyxy.shape[1] != 4:
        raise ValueError(f"boxes have shape {tuple(boxes_xyxy.shape)}; allowed is (N, 4)")
    bad = ~boxes_xyxy.isfinite().all(dim=1) | (boxes_xyxy[:, :2] > boxes_xyxy[:, 2:]).any(dim=1)
    if bad.any():
        first = int(bad.nonzero()[0])
        raise ValueError(
            f"box {first} is {boxes_xyxy[first].tolist()}; allowed are finite numbers with "
            "x1 <= x2 and y1 <= y2 (is it in another format, such as xywh?)"
        )
    return boxes_xyxy


def box_area(boxes_xyxy: Tensor) -> Tensor:
    """Return the areas (N,) in square pixels of boxes (N, 4)."""
    return (boxes_xyxy[:, 2] - boxes_xyxy[:, 0]) * (boxes_xyxy[:, 3] - boxes_xyxy[:, 1])


def intersection_and_union(boxes_a_xyxy: Tensor, boxes_b_xyxy: Tensor) -> tuple[Tensor, Tensor]:
    """Measure the overlap of all pairs.

    Args:
        boxes_a_xyxy: (N, 4), with x1 <= x2 and y1 <= y2.
        boxes_b_xyxy: (M, 4), the same.

    Returns:
        Intersection (N, M) and union (N, M) in square pixels.
    """
    low = torch.maximum(boxes_a_xyxy[:, None, :2], boxes_b_xyxy[None, :, :2])  # (N, M, 2)
    high = torch.minimum(boxes_a_xyxy[:, None, 2:], boxes_b_xyxy[None, :, 2:])  # (N, M, 2)
    width, height = (high - low).clamp(min=0).unbind(-1)  # a gap is not a negative overlap
    intersection = width * height  # (N, M)
    union = box_area(boxes_a_xyxy)[:, None] + box_area(boxes_b_xyxy)[None, :] - intersection
    return intersection, union


def quotient(numerator: Tensor, denominator: Tensor) -> Tensor:
    """Divide; 0 where both are 0."""
    return numerator / denominator.clamp(min=torch.finfo(denominator.dtype).tiny)


def box_iou(boxes_a_xyxy: Tensor, boxes_b_xyxy: Tensor) -> Tensor:
    """Intersection over union of all pairs: 0 for no overlap, 1 for the same box.

    Args:
        boxes_a_xyxy: (N, 4), with x1 <= x2 and y1 <= y2.
        boxes_b_xyxy: (M, 4), the same.

    Returns:
        (N, M) in [0, 1]; 0 where both boxes have no area (torchvision has NaN there).
    """
    return quotient(*intersection_and_union(boxes_a_xyxy, boxes_b_xyxy))


def enclosing_size(boxes_a_xyxy: Tensor, boxes_b_xyxy: Tensor) -> Tensor:
    """Width and height (N, M, 2) of the smallest box around each pair."""
    low = torch.minimum(boxes_a_xyxy[:, None, :2], boxes_b_xyxy[None, :, :2])
    high = torch.maximum(boxes_a_xyxy[:, None, 2:], boxes_b_xyxy[None, :, 2:])
    return high - low


def generalized_box_iou(boxes_a_xyxy: Tensor, boxes_b_xyxy: Tensor) -> Tensor:
    """GIoU of all pairs: IoU less the empty share of the smallest box around both.

    IoU is 0 for all boxes that do not touch, however far apart. GIoU still tells near from far, so
    it can be a loss (Rezatofighi et al., 2019, algorithm 1).

    Args:
        boxes_a_xyxy: (N, 4), with x1 <= x2 and y1 <= y2.
        boxes_b_xyxy: (M, 4), the same.

    Returns:
        (N, M) in [-1, 1].
    """
    intersection, union = intersection_and_union(boxes_a_xyxy, boxes_b_xyxy)
    hull = enclosing_size(boxes_a_xyxy, boxes_b_xyxy).prod(dim=-1)  # (N, M)
    return quotient(intersection, union) - quotient(hull - union, hull)


def complete_box_iou(boxes_a_xyxy: Tensor, boxes_b_xyxy: Tensor) -> Tensor:
    """CIoU of all pairs: IoU less a term for the centres and one for the shapes.

    The centres' squared distance is divided by the squared diagonal of the box around both. `v`
    compares width / height as angles; its weight `alpha` grows with the overlap, so that boxes
    first meet and then take on each other's shape. `alpha` counts as a constant when gradients are
    taken, as in the paper.

    Args:
        boxes_a_xyxy: (N, 4), with x1 < x2 and y1 < y2.
        boxes_b_xyxy: (M, 4), the same.

    Returns:
        (N, M), at most 1.
    """
    iou = box_iou(boxes_a_xyxy, boxes_b_xyxy)
    diagonal = enclosing_size(boxes_a_xyxy, boxes_b_xyxy).square().sum(dim=-1)  # (N, M), squared
    a, b = xyxy_to_cxcywh(boxes_a_xyxy), xyxy_to_cxcywh(boxes_b_xyxy)
    distance = (a[:, None, :2] - b[None, :, :2]).square().sum(dim=-1)  # (N, M), squared
    angle_a, angle_b = (torch.atan2(boxes[:, 2], boxes[:, 3]) for boxes in (a, b))
    v = 4 / math.pi**2 * (angle_a[:, None] - angle_b[None, :]).square()  # (N, M)
    with torch.no_grad():
        alpha = v / (1 - iou + v + EPSILON)
    return iou - distance / (diagonal + EPSILON) - alpha * v
