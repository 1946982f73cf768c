"""Overlap of two rotated boxes, by clipping one convex polygon at the edges of the other.

The clipping is Sutherland and Hodgman's (1974), the area is the shoelace formula. A rotated box
is (cx, cy, w, h, angle): pixels and degrees, turned from x towards y, clockwise on the screen.
"""

import torch
from torch import Tensor


def corners(box: Tensor) -> Tensor:
    """Return the corners (4, 2) of a rotated box (5,), in the order in which x turns to y."""
    cx, cy, w, h, angle = box.double()
    turn = torch.deg2rad(angle)
    along = torch.stack((turn.cos(), turn.sin())) * w / 2
    across = torch.stack((-turn.sin(), turn.cos())) * h / 2
    offsets = torch.stack((-along - across, along - across, along + across, across - along))
    return offsets + torch.stack((cx, cy))


def cross(u: Tensor, v: Tensor) -> Tensor:
    """The third component of the cross product of two vectors (..., 2)."""
    return u[..., 0] * v[..., 1] - u[..., 1] * v[..., 0]


def clip(polygon: Tensor, start: Tensor, end: Tensor) -> Tensor:
    """Keep the part of a convex polygon (N, 2) on the inner side of the line from start to end."""
    kept = []
    sides = cross(end - start, polygon - start)  # (N,), 0 or more inside
    for i in range(len(polygon)):
        before, here = sides[i - 1], sides[i]
        if (before >= 0) != (here >= 0):
            kept.append(polygon[i - 1] + (polygon[i] - polygon[i - 1]) * before / (before - here))
        if here >= 0:
            kept.append(polygon[i])
    return torch.stack(kept) if kept else polygon[:0]


def polygon_area(polygon: Tensor) -> float:
    """Area of a polygon (N, 2) in square pixels; 0 for none."""
    return cross(polygon, polygon.roll(-1, dims=0)).sum().abs().item() / 2


def rotated_iou(box_a: Tensor, box_b: Tensor) -> float:
    """Intersection over union of two rotated boxes.

    Args:
        box_a: (5,): cx, cy, w, h in pixels with w, h above 0; angle in degrees.
        box_b: (5,), the same.
    """
    shape, edges = corners(box_a), corners(box_b)
    for i in range(4):
        shape = clip(shape, edges[i - 1], edges[i])
    shared = polygon_area(shape)
    return shared / (polygon_area(corners(box_a)) + polygon_area(edges) - shared)
