"""Checks of the exercises 02.9 and 02.10: which predictions learn an object, and which nothing.

The oracle is the lesson's `build_targets`, whose gradients its tests compare with Darknet's; a test
compares the rule of 02.10 with it.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import box_iou

from anchors import shape_iou
from common.checking.check import compare_function, exercise
from common.checking.sandbox import Attempt
from darknet.cfg import Yolo
from targets import build_targets

STRIDES = (8, 16, 32)  # of the maps of anchors 0 to 2, 3 to 5 and 6 to 8
PUBLISHED = "10,13 16,30 33,23 30,61 62,45 59,119 116,90 156,198 373,326"


def responsible(box_cxcywh: Tensor, anchors_wh: Tensor, input_size: int) -> tuple[int, int, int]:
    """Anchor, row and column, as `build_targets` chooses them for the full network's maps."""
    numbers = tuple(anchors_wh.flatten().tolist())
    blocks = [
        Yolo(line=0, mask=(k, k + 1, k + 2), anchors=numbers, classes=1, num=9) for k in (6, 3, 0)
    ]
    sides = [input_size // stride for stride in reversed(STRIDES)]
    targets = torch.cat((torch.zeros(2), box_cxcywh))[None]
    found = build_targets(
        [torch.zeros(1, 18, side, side) for side in sides],
        blocks,
        targets,
        (input_size, input_size),
        ignore_thresholds=[1.0] * 3,
        truth_thresholds=[1.0] * 3,
    )
    block, one = next((b, one) for b, one in zip(blocks, found, strict=True) if len(one.row))
    return block.mask[one.anchor.item()], one.row.item(), one.column.item()


@exercise("02.9", "Who answers for the object?")
def who_answers(attempt: Attempt) -> None:
    """Anchor, row and column; the oracle is the lesson's `build_targets`."""
    generator = np.random.default_rng(8)
    published = [[float(side) for side in pair.split(",")] for pair in PUBLISHED.split()]
    cases = []
    for input_size in (416, 320, 608) * 8:
        size = np.exp(generator.uniform(np.log(8), np.log(0.8 * input_size), 2)).round()
        lowest = size // 2
        middle = np.floor(generator.uniform(lowest, input_size - lowest - 1)) + 0.5
        anchors = torch.tensor(published)
        if len(cases) >= 12:  # any anchors, from small to large
            anchors = torch.from_numpy(generator.integers(8, 300, (9, 2))).float()
            anchors = anchors[anchors.prod(dim=1).argsort()]
        box_cxcywh = torch.from_numpy(np.concatenate((middle, size)) / input_size).float()
        case = {"box_cxcywh": box_cxcywh, "anchors_wh": anchors, "input_size": input_size}
        cases.append(case)
    compare_function(attempt, cases, responsible, wrong_places(), tolerance=0)


def wrong_places() -> dict[str, Callable]:
    """Reasons and functions of the usual wrong ways to choose anchor and cell."""

    def way(
        choose: Callable[[Tensor, Tensor], Tensor] = shape_iou,
        strides: tuple[int, ...] = STRIDES,
        unit: Callable[[int], float] = float,
        order: tuple[int, int] = (1, 0),
    ) -> Callable:
        def place(box: Tensor, anchors: Tensor, input_size: int) -> tuple[int, int, int]:
            anchor = int(choose(box[None, 2:] * unit(input_size), anchors)[0].argmax())
            cell = (box[:2] * (input_size // strides[anchor // 3])).long().tolist()
            return anchor, cell[order[0]], cell[order[1]]

        return place

    def in_its_map(box: Tensor, anchors: Tensor, input_size: int) -> tuple[int, int, int]:
        anchor, row, column = responsible(box, anchors, input_size)
        return anchor % 3, row, column

    def area(sizes: Tensor, anchors: Tensor) -> Tensor:
        return -(sizes.prod(dim=1)[:, None] - anchors.prod(dim=1)).abs()

    return {
        "row and column are swapped: y gives the row": way(order=(0, 1)),
        "the fine map has the small anchors: stride 8 belongs to anchors 0 to 2": way(
            strides=STRIDES[::-1]
        ),
        "the box is in fractions, the anchors in pixels: bring both to one unit": way(
            unit=lambda input_size: 1.0
        ),
        "width and height are swapped": way(lambda s, a: shape_iou(s.flip(1), a)),
        "the distance in pixels does not decide: the IoU of the shapes does": way(
            lambda s, a: -torch.cdist(s, a)
        ),
        "the difference of the sides does not decide: the IoU of the shapes does": way(
            lambda s, a: -torch.cdist(s, a, p=1)
        ),
        "the area alone does not decide: the IoU of the shapes does": way(area),
        "that is the worst anchor": way(lambda s, a: -shape_iou(s, a)),
        "always stride 32: each group of three anchors has its own map": way(strides=(32,) * 3),
        "always stride 8: each group of three anchors has its own map": way(strides=(8,) * 3),
        "asked is the anchor's place among all nine, not in its map": in_its_map,
    }


def what_is_learned(
    predicted_xyxy: Tensor,
    priors_xyxy: Tensor,
    answering: Tensor,
    objects_xyxy: Tensor,
    ignore_thresh: float,
) -> Tensor:
    """Objectness (N,) that predictions learn: 1, 0, or -1 for those that are ignored."""
    overlap = box_iou(predicted_xyxy, objects_xyxy)  # (N, M)
    ignored = (overlap > ignore_thresh).any(dim=1)
    learned = -ignored.long()
    learned[answering] = 1
    return learned


@exercise("02.10", "What is ignored")
def what_is_ignored(attempt: Attempt) -> None:
    """Which objectness is learned; a test compares the oracle with `build_targets`."""
    generator = np.random.default_rng(10)
    cases = []
    for count, things in [(1, 1), (2, 1), (3, 1), (3, 0), (4, 2), (6, 2), (12, 3)] * 6:
        sides = generator.integers(8, 14, (things, 2))
        corners = generator.integers(0, 12, (things, 2))
        objects = np.concatenate((corners, corners + sides), axis=1)
        known = objects if things else np.array([[2, 2, 12, 12]])
        boxes = known[generator.integers(0, len(known), (2, count))]
        boxes = boxes + generator.integers(-2, 3, (2, count, 4))  # (predicted and prior, N, 4)
        cases.append(
            {
                "predicted_xyxy": torch.from_numpy(boxes[0]).float(),
                "priors_xyxy": torch.from_numpy(boxes[1]).float(),
                "answering": torch.from_numpy(generator.permutation(count)[:things]),
                "objects_xyxy": torch.from_numpy(objects).float().reshape(-1, 4),
                "ignore_thresh": float(generator.choice([0.503, 0.607, 0.701])),
            }
        )
    compare_function(attempt, cases, what_is_learned, wrong_objectness(), tolerance=0)


def judged(
    boxes: Callable[[Tensor, Tensor], Tensor] = lambda predicted, priors: predicted,
    choose: Callable[[Tensor, float], Tensor] = lambda iou, limit: (iou > limit).any(dim=1),
    answers_last: bool = True,
) -> Callable:
    """`what_is_learned` in its steps, some of them changed."""

    def learned_otherwise(
        predicted: Tensor, priors: Tensor, answering: Tensor, objects: Tensor, limit: float
    ) -> Tensor:
        ignored = choose(box_iou(boxes(predicted, priors), objects), limit)
        learned = torch.zeros(len(predicted), dtype=torch.long)
        steps = [(ignored, -1), (answering, 1)]
        for where, value in steps if answers_last else reversed(steps):
            learned[where] = value
        return learned

    return learned_otherwise


def wrong_objectness() -> dict[str, Callable]:
    """Reasons and functions of the usual wrong ways to tell what objectness is learned."""
    return {
        "that is the paper's rule: Darknet looks at the predicted box, not at the prior": judged(
            boxes=lambda predicted, priors: priors
        ),
        "that is the paper's rule, with its 0.5: Darknet compares the predicted box": judged(
            boxes=lambda predicted, priors: priors,
            choose=lambda iou, limit: (iou > 0.5).any(dim=1),
        ),
        "the 0.5 is the paper's: here the limit is ignore_thresh": judged(
            choose=lambda iou, limit: (iou > 0.5).any(dim=1)
        ),
        "the predictions that answer learn 1: their numbers are in answering": (
            lambda predicted, priors, answering, objects, limit: what_is_learned(
                predicted, priors, answering[:0], objects, limit
            )
        ),
        "a prediction that answers learns 1, however well its box lies": judged(answers_last=False),
        "an overlap above the threshold is ignored, one below it learns 0": judged(
            choose=lambda iou, limit: (iou < limit).any(dim=1)
        ),
        "-1 and 0 are swapped: what lies on an object is ignored": judged(
            choose=lambda iou, limit: ~(iou > limit).any(dim=1)
        ),
        "one object is enough: the largest overlap counts, not the mean": judged(
            choose=lambda iou, limit: iou.mean(dim=1) > limit
        ),
        "one object is enough: the largest overlap counts, not the sum": judged(
            choose=lambda iou, limit: iou.sum(dim=1) > limit
        ),
        "one object is enough, not all of them": judged(
            choose=lambda iou, limit: (iou > limit).all(dim=1)
        ),
        "nothing is ignored here": judged(choose=lambda iou, limit: iou.new_zeros(len(iou)).bool()),
        "any overlap is ignored here: the threshold decides": judged(
            choose=lambda iou, limit: (iou > 0).any(dim=1)
        ),
    }
