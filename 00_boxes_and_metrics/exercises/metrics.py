"""Checks of the exercises 00.6 to 00.9, about precision, RoIPool and rotated boxes.

The oracles are this lesson's functions, which its tests compare with slow loops, torchvision and
OpenCV.
"""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor
from torchvision import ops

from common.checking.check import compare_function, compare_value, exercise
from common.checking.sandbox import Attempt
from exercises.rotated_boxes import corners, rotated_iou
from metrics import (
    average_precision_11_points,
    average_precision_101_points,
    average_precision_all_points,
    precision_recall,
)
from roi_pooling import roi_pool

SCORES = np.array([0.95, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3])
IS_CORRECT = np.array([True, True, False, True, False, True, False, False])
NUM_OBJECTS = 6


@exercise("00.6", "Read a table of detections")
def read_a_table(attempt: Attempt) -> None:
    """Precision, recall and the best precision at a recall, for the table in the notebook."""
    precision, recall = precision_recall(SCORES, IS_CORRECT, NUM_OBJECTS)
    above = int((SCORES >= 0.6).sum()) - 1
    p, r, best = precision[above], recall[above], precision[recall >= 0.5].max()
    found = IS_CORRECT[: above + 1].sum() / IS_CORRECT.sum()
    last = precision[-1], recall[-1]
    compare_value(
        attempt,
        (p, r, best),
        {
            "precision and recall are swapped": (r, p, best),
            "recall divides by all objects, also by those that no box finds": (p, found, best),
            "those are the numbers of the whole list: cut it at the score first": (*last, best),
            "the third number is asked at recall 0.5 or higher, not at the score": (p, r, p),
            "the box whose score is exactly the threshold counts": (
                *(precision[above - 1], recall[above - 1]),
                best,
            ),
        },
    )


def curve_cases(generator: np.random.Generator) -> Iterator[dict]:
    """Lists of scored detections in any order, without equal scores."""
    for count in (1, 1, 2, 2, 3, 3, 3, 4, 4, 5, 6, 8, 12, 20, 40):
        is_correct = generator.random(count) < 0.6
        yield {
            "scores": (generator.permutation(count) + 1) / (count + 1),
            "is_correct": is_correct,
            "num_objects": int(is_correct.sum() + generator.integers(1, 3)),
        }


def with_curve(average: Callable, sort: bool = True) -> Callable:
    """Turn an average of a curve into a function of the detections."""

    def way(scores: np.ndarray, is_correct: np.ndarray, num_objects: int) -> float:
        order = scores if sort else np.zeros(len(scores))
        return average(*precision_recall(order, is_correct, num_objects))

    return way


def without_envelope(precision: np.ndarray, recall: np.ndarray) -> float:
    """The area under the saw."""
    return float((np.diff(recall, prepend=0.0) * precision).sum())


@exercise("00.7", "Average precision")
def average_precision(attempt: Attempt) -> None:
    """The exact area under the envelope (VOC 2010)."""
    exact = average_precision_all_points

    def of_found(scores: np.ndarray, is_correct: np.ndarray, num_objects: int) -> float:
        return with_curve(exact)(scores, is_correct, max(int(is_correct.sum()), 1))

    compare_function(
        attempt,
        curve_cases(np.random.default_rng(7)),
        with_curve(exact),
        {
            "the list is not sorted by score": with_curve(exact, sort=False),
            "the area is taken under the raw saw, without the envelope": with_curve(
                without_envelope
            ),
            "recall divides by the objects found: it is all objects, num_objects": of_found,
            "that is the mean of 11 points (VOC 2007)": with_curve(average_precision_11_points),
            "that is the mean of 101 points (COCO)": with_curve(average_precision_101_points),
        },
        tolerance=1e-9,
    )


@exercise("00.8", "Predict what RoIPool reads")
def predict_roi_pool(attempt: Attempt) -> None:
    """First and last column and the pixels they cover, read from our own RoIPool."""
    stride, left, right = 16, 26.0, 90.0
    columns = torch.arange(12.0).expand(1, 12, 12)
    box = torch.tensor([left, left, right, right])
    last = int(roi_pool(columns, box, 1, 1 / stride))
    first = -int(roi_pool(-columns, box, 1, 1 / stride))
    covered = (last - first + 1) * stride
    cut = int(left // stride), int(right // stride)
    compare_value(
        attempt,
        (first, last, covered),
        {
            "the edges are rounded, not cut off": (*cut, (cut[1] - cut[0] + 1) * stride),
            "the last column belongs to the box": (first, last - 1, covered - stride),
            "both columns are right; count the columns, both ends included": (
                *(first, last),
                covered - stride,
            ),
            "both columns are right; the third number is in pixels, not in cells": (
                *(first, last),
                covered // stride,
            ),
            "RoIPool does not read the box itself: that is RoIAlign": (
                *(left / stride, right / stride),
                right - left,
            ),
        },
    )


def rotated_cases(generator: np.random.Generator) -> Iterator[dict]:
    """Pairs of near boxes (cx, cy, w, h, angle), first upright ones, then turned ones."""
    for turn in [0] * 3 + [1] * 25:
        boxes = []
        for _ in range(2):
            centre, extent = generator.uniform(8, 13, 2), generator.uniform(3, 12, 2)
            angle = turn * generator.uniform(-90, 90)
            boxes.append(torch.tensor([*centre, *extent, angle], dtype=torch.float64).round())
        yield {"box_a": boxes[0], "box_b": boxes[1]}


@exercise("00.9", "IoU of rotated boxes", seconds=20)
def iou_of_rotated_boxes(attempt: Attempt) -> None:
    """Two boxes with an angle; counting points on a grid is exact enough."""

    def upright(a: Tensor, b: Tensor) -> float:
        return rotated_iou(a * a.new_tensor([1, 1, 1, 1, 0]), b * b.new_tensor([1, 1, 1, 1, 0]))

    def radians(a: Tensor, b: Tensor) -> float:
        scale = a.new_tensor([1, 1, 1, 1, 180 / np.pi])
        return rotated_iou(a * scale, b * scale)

    def other_way(a: Tensor, b: Tensor) -> float:
        return rotated_iou(a * a.new_tensor([1, 1, 1, 1, -1]), b * b.new_tensor([1, 1, 1, 1, -1]))

    def around(a: Tensor, b: Tensor) -> float:
        hulls = [torch.cat((c.amin(dim=0), c.amax(dim=0)))[None] for c in (corners(a), corners(b))]
        return ops.box_iou(*hulls).item()

    compare_function(
        attempt,
        rotated_cases(np.random.default_rng(9)),
        rotated_iou,
        {
            "the angle is not used": upright,
            "the angle is in degrees; sine and cosine take radians": radians,
            "the boxes turn the other way: y points down, so x goes towards y": other_way,
            "that is the IoU of the upright boxes around both": around,
        },
        tolerance=0.01,
    )
