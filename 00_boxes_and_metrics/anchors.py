"""Anchors: boxes laid out over the image in advance, matched to objects, and corrected by offsets.

A detector does not predict boxes out of nothing. It starts from anchors of a few sizes and shapes
around each cell of a feature map, says which of them hold an object, and by how much they have to
move. Layout, matching and offsets follow Faster R-CNN (Ren et al., 2015, arXiv:1506.01497, section
3.1: equation 2 for the offsets, "Training RPNs" for the matching) in torchvision's conventions:
an aspect ratio is height / width, and the anchors of cell (row, column) are centred on its upper
left corner (column * stride, row * stride).
"""

import math

import torch
from torch import Tensor

from boxes import cxcywh_to_xyxy, xyxy_to_cxcywh

BACKGROUND = -1  # the anchor learns "nothing here"
IGNORED = -2  # the anchor learns nothing

LARGEST_LOG_SCALE = math.log(1000 / 16)  # Detectron's bound: no box grows more than 62.5 times


def base_anchors_xyxy(sizes: list[float], aspect_ratios: list[float]) -> Tensor:
    """Make the anchors of one cell, centred on 0, 0.

    Args:
        sizes: square roots of the areas, in pixels.
        aspect_ratios: height / width.

    Returns:
        float32 (len(aspect_ratios) * len(sizes), 4), whole pixels: all sizes of the first ratio,
        then all sizes of the second, and so on.

    Raises:
        ValueError: a list is empty, or a number is not above 0.
    """
    for name, values in (("sizes", sizes), ("aspect_ratios", aspect_ratios)):
        if not values or min(values) <= 0:
            raise ValueError(f"{name} are {values}; allowed are one or more numbers above 0")
    root = torch.tensor(aspect_ratios, dtype=torch.float32).sqrt()
    size = torch.tensor(sizes, dtype=torch.float32)
    heights = (root[:, None] * size).flatten()  # h / w = ratio and h * w = size^2
    widths = (1 / root[:, None] * size).flatten()
    return (torch.stack((-widths, -heights, widths, heights), dim=1) / 2).round()


def grid_anchors_xyxy(base_xyxy: Tensor, grid_size: tuple[int, int], stride: int) -> Tensor:
    """Put a copy of the base anchors on every cell of a feature map.

    Args:
        base_xyxy: (A, 4), as `base_anchors_xyxy` makes them.
        grid_size: (H, W), rows and columns of the feature map.
        stride: pixels of the image from one cell to the next.

    Returns:
        (H * W * A, 4): row by row, in a row cell by cell, in a cell anchor by anchor.
    """
    H, W = grid_size
    row, column = torch.meshgrid(torch.arange(H), torch.arange(W), indexing="ij")
    corner = torch.stack((column, row, column, row), dim=-1) * stride  # (H, W, 4)
    return (corner[:, :, None, :] + base_xyxy).reshape(-1, 4)


def match(
    iou: Tensor, high_threshold: float, low_threshold: float, keep_best: bool = False
) -> Tensor:
    """Decide for each anchor which object it answers for.

    An anchor takes the object it overlaps most (the first of equals): from `high_threshold` on it
    is positive, below `low_threshold` background, in between it is left out of the loss. With
    `keep_best`, the anchors that overlap an object more than all others do are positive as well,
    however little that is, so that no object goes without. Such an anchor answers for the object
    that it overlaps most itself, which may be another one; torchvision decides the same.

    Args:
        iou: (M, N), M objects and N anchors.
        high_threshold: 0.7 in Faster R-CNN's proposals, 0.5 in its box head.
        low_threshold: at most `high_threshold`; 0.3 and 0.5 there.
        keep_best: also keep each object's best anchors.

    Returns:
        int64 (N,): index of the object, `BACKGROUND` or `IGNORED`. All background for M = 0.

    Raises:
        ValueError: the thresholds are in the wrong order.
    """
    if low_threshold > high_threshold:
        raise ValueError(
            f"low_threshold is {low_threshold}; allowed is at most high_threshold, {high_threshold}"
        )
    if iou.numel() == 0:
        return torch.full((iou.shape[1],), BACKGROUND)
    best, nearest = iou.max(dim=0)  # (N,), (N,)
    matches = nearest.clone()
    matches[best < high_threshold] = IGNORED
    matches[best < low_threshold] = BACKGROUND
    if keep_best:
        is_best = (iou == iou.amax(dim=1, keepdim=True)).any(dim=0)  # (N,)
        matches[is_best] = nearest[is_best]
    return matches


def encode_boxes(
    boxes_xyxy: Tensor, anchors_xyxy: Tensor, weights: tuple[float, ...] = (1, 1, 1, 1)
) -> Tensor:
    """Write boxes as offsets from anchors (Faster R-CNN, equation 2).

        tx = (x - xa) / wa     ty = (y - ya) / ha     tw = log(w / wa)     th = log(h / ha)

    Dividing by the anchor's size makes an error of a tenth of the object count the same for small
    and large ones; the logarithm makes twice and half the size equally far.

    Args:
        boxes_xyxy: (N, 4), with an area.
        anchors_xyxy: (N, 4), with an area.
        weights: factors of tx, ty, tw, th; Fast R-CNN's head uses 10, 10, 5, 5.

    Returns:
        (N, 4): tx, ty, tw, th.
    """
    box, anchor = xyxy_to_cxcywh(boxes_xyxy), xyxy_to_cxcywh(anchors_xyxy)
    shift = (box[:, :2] - anchor[:, :2]) / anchor[:, 2:]
    scale = (box[:, 2:] / anchor[:, 2:]).log()
    return torch.cat((shift, scale), dim=1) * box.new_tensor(weights)


def decode_boxes(
    offsets: Tensor, anchors_xyxy: Tensor, weights: tuple[float, ...] = (1, 1, 1, 1)
) -> Tensor:
    """Move anchors by offsets; undoes `encode_boxes`.

    tw and th are cut at log(1000 / 16), since one wild value would overflow the exponential.

    Args:
        offsets: (N, 4): tx, ty, tw, th.
        anchors_xyxy: (N, 4).
        weights: the same as in `encode_boxes`.

    Returns:
        Boxes xyxy (N, 4), not cut at the image's border.
    """
    shift, scale = (offsets / offsets.new_tensor(weights)).split(2, dim=1)
    anchor = xyxy_to_cxcywh(anchors_xyxy)
    centre = anchor[:, :2] + shift * anchor[:, 2:]
    size = anchor[:, 2:] * scale.clamp(max=LARGEST_LOG_SCALE).exp()
    return cxcywh_to_xyxy(torch.cat((centre, size), dim=1))
