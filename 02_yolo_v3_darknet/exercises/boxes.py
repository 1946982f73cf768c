"""Checks of the exercises 02.5 to 02.8: from raw numbers and input pixels to boxes in the photo.

The oracles are the lesson's `Letterbox` and `decode`, which its tests compare with Darknet, and
torchvision's `batched_nms`.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import batched_nms, box_iou, nms

from boxes import Letterbox, decode, xyxy_to_cxcywh
from common.checking.check import compare_function, exercise
from common.checking.sandbox import Attempt
from darknet.cfg import Yolo


@exercise("02.5", "Find the bug: letterbox")
def find_the_bug_in_letterbox(attempt: Attempt) -> None:
    """Boxes from the network's input back to the photo; the oracle is `Letterbox.to_photo`."""
    generator = np.random.default_rng(5)
    shapes = [(8, 8, 16, 16), (8, 4, 16, 16), (4, 8, 16, 16), (32, 16, 16, 16), (16, 48, 32, 32)]
    shapes += [(64, 48, 32, 32), (50, 20, 32, 32), (20, 50, 32, 32), (640, 427, 416, 416)]
    shapes += [(427, 640, 416, 416), (300, 300, 416, 320), (333, 500, 320, 416)]
    cases = []
    for count in (1, 3, 0):
        for shape in shapes:
            letterbox = Letterbox(*shape)
            inner = torch.tensor(letterbox.inner_size * 2).numpy()
            boxes = np.sort(generator.integers(0, inner[:2] + 1, (count, 2, 2)), axis=1)
            boxes = boxes.reshape(count, 4) + (np.array(shape[2:] * 2) - inner) // 2
            boxes_xyxy = torch.from_numpy(boxes).float()
            cases.append({"boxes_xyxy": boxes_xyxy, "letterbox": letterbox})
    compare_function(
        attempt,
        cases,
        lambda boxes, letterbox: letterbox.to_photo(boxes),
        wrong_inverses(),
        tolerance=1e-4,
    )


def wrong_inverses() -> dict[str, Callable[[Tensor, Letterbox], Tensor]]:
    """Reasons and functions of the usual wrong ways out of the letterbox."""

    def parts(letterbox: Letterbox) -> tuple[Tensor, Tensor]:
        inner = torch.tensor(letterbox.inner_size * 2).float()
        outer = torch.tensor((letterbox.width, letterbox.height) * 2)
        photo = torch.tensor((letterbox.photo_width, letterbox.photo_height) * 2)
        return inner / photo, (outer - inner) / 2

    def way(formula: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Callable:
        return lambda boxes, letterbox: formula(boxes, *parts(letterbox))

    def one_scale(boxes: Tensor, letterbox: Letterbox) -> Tensor:
        _, bar = parts(letterbox)
        sides = (letterbox.width, letterbox.photo_width, letterbox.height, letterbox.photo_height)
        return (boxes - bar) / min(sides[0] / sides[1], sides[2] / sides[3])

    return {
        "the bars are measured in input pixels: they come off before the scale does": way(
            lambda boxes, scale, bar: boxes / scale - bar
        ),
        "the bars are still in it": way(lambda boxes, scale, bar: boxes / scale),
        "both bars came off: only the left and the upper one lie before the photo": way(
            lambda boxes, scale, bar: (boxes - 2 * bar) / scale
        ),
        "the left bar came off y and the upper one off x": way(
            lambda boxes, scale, bar: (boxes - bar[[1, 0, 1, 0]]) / scale
        ),
        "that is the way into the network's input": way(
            lambda boxes, scale, bar: boxes * scale + bar
        ),
        "the scale goes the wrong way": way(lambda boxes, scale, bar: (boxes - bar) * scale),
        "the bars have the wrong sign": way(lambda boxes, scale, bar: (boxes + bar) / scale),
        "where the bars add up to an odd number, half a pixel counts: do not cut it off": way(
            lambda boxes, scale, bar: (boxes - bar.floor()) / scale
        ),
        "the inner size is cut to whole pixels: each side has its own scale": one_scale,
    }


def decoded(values: Tensor, column: int, row: int, anchor_wh: Tensor, stride: int) -> Tensor:
    """The box (4,), xyxy, of the last cell of the smallest map that has it; see `boxes.decode`."""
    H, W = row + 1, column + 1
    raw = torch.zeros(1, 6, H, W)
    raw[0, :4, row, column] = values
    block = Yolo(line=0, mask=(0,), anchors=tuple(anchor_wh.tolist()), classes=1, num=1)
    return decode(raw, block, (H * stride, W * stride)).boxes_xyxy[-1]


@exercise("02.6", "Decode one prediction")
def decode_one_prediction(attempt: Attempt) -> None:
    """Four raw numbers to a box; the oracle is the lesson's `decode`."""
    generator = np.random.default_rng(6)
    cases = [
        {
            "values": torch.from_numpy(generator.integers(-3, 4, 4) / 2).float(),
            "column": int(generator.integers(0, 13)),
            "row": int(generator.integers(0, 13)),
            "anchor_wh": torch.from_numpy(generator.integers(4, 90, 2) * 2).float(),
            "stride": int(generator.choice([8, 16, 32])),
        }
        for _ in range(15)
    ]
    compare_function(attempt, cases, decoded, wrong_decodings(), tolerance=1e-4)


def _box(centre: Tensor, size: Tensor) -> Tensor:
    return torch.cat((centre - size / 2, centre + size / 2))


def wrong_decodings() -> dict[str, Callable]:
    """Reasons and functions of the usual wrong ways to decode."""

    def way(formula: Callable) -> Callable:
        def decode_wrongly(t: Tensor, column: int, row: int, anchor: Tensor, stride: int) -> Tensor:
            cell = torch.tensor([column, row]).float()
            centre, size = (t[:2].sigmoid() + cell) * stride, anchor * t[2:].exp()
            return formula(t, cell, anchor, stride, centre, size)

        return decode_wrongly

    return {
        "the offset in the cell goes through the logistic function": way(
            lambda t, cell, anchor, stride, centre, size: _box((t[:2] + cell) * stride, size)
        ),
        "the column gives x, the row gives y": way(
            lambda t, cell, anchor, stride, centre, size: _box(
                (t[:2].sigmoid() + cell.flip(0)) * stride, size
            )
        ),
        "the size is the anchor times an exponential, not a logistic function": way(
            lambda t, cell, anchor, stride, centre, size: _box(centre, anchor * t[2:].sigmoid())
        ),
        "the size is the anchor times an exponential, not times the number itself": way(
            lambda t, cell, anchor, stride, centre, size: _box(centre, anchor * t[2:])
        ),
        "the anchor is already in pixels: the stride is for the centre": way(
            lambda t, cell, anchor, stride, centre, size: _box(centre, size * stride)
        ),
        "the centre is in cells: the stride makes pixels of it": way(
            lambda t, cell, anchor, stride, centre, size: _box(centre / stride, size)
        ),
        "only the offset has been multiplied by the stride, not the cell": way(
            lambda t, cell, anchor, stride, centre, size: _box(
                t[:2].sigmoid() * stride + cell, size
            )
        ),
        "the box reaches half its size to each side of the centre, not all of it": way(
            lambda t, cell, anchor, stride, centre, size: _box(centre, 2 * size)
        ),
        "the anchor's width and height are swapped": way(
            lambda t, cell, anchor, stride, centre, size: _box(centre, anchor.flip(0) * t[2:].exp())
        ),
        "that is centre and size: asked are two corners": way(
            lambda t, cell, anchor, stride, centre, size: xyxy_to_cxcywh(_box(centre, size))
        ),
        "the first corner is the centre": way(
            lambda t, cell, anchor, stride, centre, size: torch.cat((centre, centre + size))
        ),
    }


def scores_of(values: Tensor) -> Tensor:
    """Scores (N, C) of predictions (N, 5 + C), by `boxes.decode`."""
    count, C = len(values), values.shape[1] - 5
    block = Yolo(line=0, mask=(0,), anchors=(1.0, 1.0), classes=C, num=1)
    found = decode(values.T.reshape(1, 5 + C, 1, count), block, (1, max(count, 1)))
    return found.objectness[:, None] * found.class_probabilities


@exercise("02.7", "Find the bug: class scores")
def find_the_bug_in_scores(attempt: Attempt) -> None:
    """Scores of independent classes; the oracle is the lesson's `decode`."""
    generator = np.random.default_rng(7)
    sizes = [(1, 1)] * 3 + [(1, 2)] * 5 + [(2, 2), (2, 3), (3, 2), (4, 5), (6, 80)]
    cases = [
        {"values": torch.from_numpy(generator.integers(-3, 4, (n, 5 + count))).float()}
        for n, count in sizes
    ]
    compare_function(
        attempt,
        cases,
        scores_of,
        {
            "classes do not compete: one box may be two things at once": lambda v: (
                v[:, 4:5].sigmoid() * v[:, 5:].softmax(dim=1)
            ),
            "classes do not compete, and objectness is a factor as well": lambda v: v[
                :, 5:
            ].softmax(dim=1),
            "objectness is a factor of the score as well": lambda v: v[:, 5:].sigmoid(),
            "objectness is still raw: it needs its own logistic function": lambda v: (
                v[:, 4:5] * v[:, 5:].sigmoid()
            ),
            "two factors, each with its own logistic function, not one of the product": lambda v: (
                v[:, 4:5] * v[:, 5:]
            ).sigmoid(),
            "two factors, each with its own logistic function, not one of the sum": lambda v: (
                v[:, 4:5] + v[:, 5:]
            ).sigmoid(),
            "objectness is number 4, counted from 0": lambda v: (
                v[:, 3:4].sigmoid() * v[:, 5:].sigmoid()
            ),
            "the scores of one prediction need not add up to anything": lambda v: (
                scores_of(v) / scores_of(v).sum(dim=1, keepdim=True)
            ),
        },
    )


def detections_of(
    boxes_xyxy: Tensor, scores: Tensor, score_threshold: float, iou_threshold: float
) -> Tensor:
    """Rows (box, class), int64 (K, 2), best first, of boxes (N, 4) with scores (N, C)."""
    pairs = (scores > score_threshold).nonzero()
    number, label = pairs.unbind(dim=1)
    return pairs[batched_nms(boxes_xyxy[number], scores[number, label], label, iou_threshold)]


@exercise("02.8", "From scores to detections")
def from_scores_to_detections(attempt: Attempt) -> None:
    """Thresholds and suppression of independent classes; the oracle is `batched_nms`."""
    generator = np.random.default_rng(8)
    cases = []
    for count, classes in [(1, 2), (2, 1), (2, 2)] * 3 + [(3, 2), (4, 2), (5, 3), (8, 4)] * 4:
        corner = generator.integers(0, 5, (count, 2))
        boxes = np.concatenate((corner, corner + generator.integers(6, 12, (count, 2))), axis=1)
        scores = generator.permutation(count * classes).reshape(count, classes) + 1.0
        scores /= count * classes + 1
        lowest = float(generator.choice([0.125, 0.25, 0.5]))  # exact in float32
        scores.flat[np.abs(scores - lowest).argmin()] = lowest  # not above, so no candidate
        cases.append(
            {
                "boxes_xyxy": torch.from_numpy(boxes).float(),
                "scores": torch.from_numpy(scores).float(),
                "score_threshold": lowest,
                "iou_threshold": float(generator.choice([0.303, 0.451, 0.607])),
            }
        )
    compare_function(attempt, cases, detections_of, wrong_detections(), tolerance=0)


def wrong_detections() -> dict[str, Callable]:
    """Reasons and functions of the usual wrong ways from scores to detections."""

    def one_class(boxes: Tensor, scores: Tensor, lowest: float, limit: float) -> Tensor:
        best = scores * (scores == scores.amax(dim=1, keepdim=True))
        return detections_of(boxes, best, lowest, limit)

    def all_classes(boxes: Tensor, scores: Tensor, lowest: float, limit: float) -> Tensor:
        pairs = (scores > lowest).nonzero()
        number, label = pairs.unbind(dim=1)
        return pairs[nms(boxes[number], scores[number, label], limit)]

    def chain(boxes: Tensor, scores: Tensor, lowest: float, limit: float) -> Tensor:
        pairs = detections_of(boxes, scores, lowest, 1.0)  # all of them, best first
        number, label = pairs.unbind(dim=1)
        above = (box_iou(boxes[number], boxes[number]) > limit) & (label[:, None] == label)
        return pairs[~above.triu(diagonal=1).any(dim=0)]

    return {
        "a box may be two things at once: each class above the threshold counts": one_class,
        "classes do not compete: a box suppresses boxes of its own class alone": all_classes,
        "a box that was dropped drops nothing: compare with those that stay": chain,
        "nothing has been suppressed": lambda boxes, scores, lowest, limit: detections_of(
            boxes, scores, lowest, 1.0
        ),
        "scores below the threshold are still in it": lambda boxes, scores, lowest, limit: (
            detections_of(boxes, scores, 0.0, limit)
        ),
        "a score at the threshold is not above it": lambda boxes, scores, lowest, limit: (
            detections_of(boxes, scores, lowest - 1e-6, limit)
        ),
        "the best comes first": lambda *inputs: (
            lambda pairs: pairs[(pairs[:, 0] * 1000 + pairs[:, 1]).argsort()]
        )(detections_of(*inputs)),
        "the best comes first, not class by class": lambda *inputs: (
            lambda pairs: pairs[pairs[:, 1].argsort(stable=True)]
        )(detections_of(*inputs)),
        "asked is (box, class), in this order": lambda *inputs: detections_of(*inputs).flip(1),
        "an overlap above the threshold drops a box, one below it does not": (
            lambda boxes, scores, lowest, limit: detections_of(boxes, scores, lowest, 1 - limit)
        ),
    }
