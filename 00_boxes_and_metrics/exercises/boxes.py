"""Checks of the exercises 00.1 to 00.5, about boxes, anchors and suppression.

The oracles are torchvision's functions; for anchors it is this lesson's, which its tests compare
with torchvision's.
"""

import numpy as np
import torch
from torch import Tensor
from torchvision import ops

from anchors import grid_anchors_xyxy
from common.checking.check import compare_function, compare_value, exercise
from common.checking.sandbox import Attempt
from suppression import class_aware_nms, nms


def random_boxes(generator: np.random.Generator, count: int) -> Tensor:
    """Boxes (count, 4), xyxy, float32 of whole pixels: easy to follow by hand."""
    corner = generator.integers(0, 12, (count, 2))
    extent = generator.integers(2, 12, (count, 2))
    return torch.from_numpy(np.concatenate((corner, corner + extent), axis=1)).float()


def iou_parts(a: Tensor, b: Tensor, more: float = 0, least: float = 0) -> tuple[Tensor, ...]:
    """Intersection and areas of all pairs; `more` is added to each side, gaps count `least`."""
    low, high = torch.maximum(a[:, None, :2], b[:, :2]), torch.minimum(a[:, None, 2:], b[:, 2:])
    intersection = (high - low + more).clamp(min=least).prod(dim=-1)
    areas = [(boxes[:, 2:] - boxes[:, :2] + more).prod(dim=-1) for boxes in (a, b)]
    return intersection, areas[0][:, None], areas[1]


@exercise("00.1", "IoU by hand")
def iou_by_hand(attempt: Attempt) -> None:
    """One number for the two boxes that the notebook draws."""
    a, b = torch.tensor([[0.0, 0, 10, 10]]), torch.tensor([[4.0, 2, 12, 10]])
    shared, area_a, area_b = (part.item() for part in iou_parts(a, b))
    with_edges = [part.item() for part in iou_parts(a, b, more=1)]
    compare_value(
        attempt,
        ops.box_iou(a, b).item(),
        {
            "that is the area of the intersection, not yet divided by the union": shared,
            "the union counts the shared part twice": shared / (area_a + area_b),
            "that is Dice: twice the intersection over the sum of both areas": 2
            * shared
            / (area_a + area_b),
            "that is the share of box a that is covered": shared / area_a,
            "that is the share of box b that is covered": shared / area_b,
            "an edge is a line, not a pixel: a width is x2 - x1, without + 1": with_edges[0]
            / (with_edges[1] + with_edges[2] - with_edges[0]),
        },
    )


@exercise("00.2", "Dice from IoU")
def dice_from_iou(attempt: Attempt) -> None:
    """A tensor of IoUs; the oracle counts pixels of masks."""
    generator = np.random.default_rng(2)
    shared = [torch.from_numpy(generator.integers(0, 9, n) / 8.0) for n in (1, 1, 2, 3, 20)]
    cases = [{"iou": s / (2 - s)} for s in (torch.ones(1), torch.zeros(1), *shared)]

    def oracle(iou: Tensor) -> Tensor:
        union, intersection = torch.full_like(iou, 720720), iou * 720720  # pixels
        return 2 * intersection / (union + intersection)

    compare_function(
        attempt,
        cases,
        oracle,
        {
            "that is the way back: it gives the IoU of a Dice": lambda iou: iou / (2 - iou),
            "twice the IoU: the sum of both areas is larger than the union": lambda iou: 2 * iou,
            "that is the IoU itself": lambda iou: iou,
            "the sum of both areas is the union plus one intersection, not two": lambda iou: (
                2 * iou / (1 + 2 * iou)
            ),
        },
    )


@exercise("00.3", "IoU of many boxes")
def iou_of_many_boxes(attempt: Attempt) -> None:
    """All pairs (N, M); the oracle is torchvision's."""
    generator = np.random.default_rng(3)
    sizes = [(1, 1)] * 8 + [(1, 2), (2, 1), (2, 2), (3, 2), (5, 7), (0, 3), (3, 0)]
    cases = [
        {"boxes_a_xyxy": random_boxes(generator, n), "boxes_b_xyxy": random_boxes(generator, m)}
        for n, m in sizes
    ]

    def without_clamp(a: Tensor, b: Tensor) -> Tensor:
        shared, area_a, area_b = iou_parts(a, b, least=-np.inf)
        return shared / (area_a + area_b - shared)

    def with_edges(a: Tensor, b: Tensor) -> Tensor:
        shared, area_a, area_b = iou_parts(a, b, more=1)
        return shared / (area_a + area_b - shared)

    def shared_twice(a: Tensor, b: Tensor) -> Tensor:
        shared, area_a, area_b = iou_parts(a, b)
        return shared / (area_a + area_b)

    compare_function(
        attempt,
        cases,
        ops.box_iou,
        {
            "boxes that do not touch: a gap counts as a negative width": without_clamp,
            "the union counts the shared part twice": shared_twice,
            "an edge is a line, not a pixel: a width is x2 - x1, without + 1": with_edges,
            "rows and columns are swapped: boxes a are the rows": lambda a, b: ops.box_iou(b, a),
            "only box i of a with box i of b: all pairs are asked": lambda a, b: ops.box_iou(
                a, b
            ).diagonal(),
        },
    )


@exercise("00.4", "Find the bug: anchors")
def find_the_bug_in_anchors(attempt: Attempt) -> None:
    """The order and the place of all anchors; the oracle is this lesson's function."""
    generator = np.random.default_rng(4)
    grids = [(1, 1), (1, 2), (2, 1), (2, 2), (2, 3), (4, 3)]
    cases = [
        {"base_xyxy": random_boxes(generator, count), "grid_size": grid, "stride": stride}
        for grid in grids
        for count, stride in ((1, 8), (2, 16))
    ]

    def swapped(base: Tensor, grid: tuple[int, int], stride: int) -> Tensor:
        boxes = grid_anchors_xyxy(torch.zeros(1, 4), grid, stride)[:, [1, 0, 3, 2]]
        return (boxes[:, None] + base).reshape(-1, 4)

    def column_by_column(base: Tensor, grid: tuple[int, int], stride: int) -> Tensor:
        boxes = grid_anchors_xyxy(base, grid, stride).unflatten(0, (*grid, len(base)))
        return boxes.transpose(0, 1).reshape(-1, 4)

    def by_anchor(base: Tensor, grid: tuple[int, int], stride: int) -> Tensor:
        boxes = grid_anchors_xyxy(base, grid, stride).unflatten(0, (-1, len(base)))
        return boxes.transpose(0, 1).reshape(-1, 4)

    compare_function(
        attempt,
        cases,
        grid_anchors_xyxy,
        {
            "x and y are swapped: the row of a cell gives y, its column x": swapped,
            "the order is column by column: asked is row by row": column_by_column,
            "the order is anchor by anchor: asked is cell by cell": by_anchor,
            "the step from cell to cell is 1 pixel: it is the stride": lambda base, grid, stride: (
                grid_anchors_xyxy(base, grid, 1)
            ),
            "half a cell off: the anchors stand on the cell's upper left corner": (
                lambda base, grid, stride: grid_anchors_xyxy(base, grid, stride) + stride / 2
            ),
        },
    )


@exercise("00.5", "Find the bug: NMS")
def find_the_bug_in_nms(attempt: Attempt) -> None:
    """Suppression within each class; the oracle is torchvision's `batched_nms`."""
    generator = np.random.default_rng(5)
    cases = [
        {
            "boxes_xyxy": random_boxes(generator, n),
            "scores": torch.from_numpy(generator.permutation(n) + 1).float() / (n + 1),
            "labels": torch.from_numpy(generator.integers(1, 4, n)),
            "iou_threshold": 0.3,
        }
        for n in (1, 2, 2, 2, 2, 3, 3, 3, 4, 5, 8, 12, 20, 0)
    ]

    def by_class(boxes: Tensor, scores: Tensor, labels: Tensor, iou_threshold: float) -> Tensor:
        kept = class_aware_nms(boxes, scores, labels, iou_threshold)
        return torch.cat([kept[labels[kept] == label] for label in labels.unique()])

    def inside_class(boxes: Tensor, scores: Tensor, labels: Tensor, iou_threshold: float) -> Tensor:
        own = (labels == label for label in labels.unique())
        return torch.cat([nms(boxes[mask], scores[mask], iou_threshold) for mask in own])

    compare_function(
        attempt,
        cases,
        ops.batched_nms,
        {
            "the labels are not used: a box of another class suppresses": (
                lambda boxes, scores, labels, limit: nms(boxes, scores, limit)
            ),
            "the right boxes, class after class: asked is the best score first": by_class,
            "the indices count inside each class: asked are those among all boxes": inside_class,
            "the right boxes, ordered by index: asked is the best score first": (
                lambda *inputs: class_aware_nms(*inputs).sort().values
            ),
            "those are the boxes that go: asked are those that stay": lambda *inputs: torch.tensor(
                sorted(set(range(len(inputs[1]))) - set(class_aware_nms(*inputs).tolist()))
            ),
        },
    )
