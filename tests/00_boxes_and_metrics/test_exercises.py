"""The exercises: solutions pass, blanks do not, and usual wrong ways get their reason."""

from typing import ClassVar

import cv2
import numpy as np
import pytest
import torch

from exercises.rotated_boxes import rotated_iou
from notebook_suite import ExerciseSuite, NotebookSuite


class TestNotebooks(NotebookSuite):
    pass


class TestExercises(ExerciseSuite):
    """Every exercise of the lesson."""

    REASONS: ClassVar = {
        "00.1": [
            "the union counts the shared part twice",
            "that is Dice",
            "without + 1",
            "not yet divided",
        ],
        "00.2": ["that is the way back", "twice the IoU", "plus one intersection, not two"],
        "00.3": [
            "a gap counts as a negative width",
            "the union counts the shared part twice",
            "without + 1",
            "only box i of a with box i of b",
        ],
        "00.4": ["half a cell off", "column by column", "it is the stride"],
        "00.5": ["class after class", "ordered by index", "count inside each class"],
        "00.6": [
            "precision and recall are swapped",
            "recall divides by all objects",
            "the numbers of the whole list",
        ],
        "00.7": [
            "not sorted by score",
            "without the envelope",
            "by the objects found",
            "11 points",
        ],
        "00.8": ["rounded, not cut off", "in pixels, not in cells", "that is RoIAlign"],
        "00.9": [
            "the angle is not used",
            "in degrees",
            "the other way",
            "upright boxes around both",
        ],
    }


@pytest.mark.parametrize("turned", [False, True])
def test_rotated_iou_is_opencv_s(turned: bool) -> None:
    generator = np.random.default_rng(0)
    for _ in range(300):
        boxes = generator.uniform([0, 0, 4, 4, -90], [10, 10, 15, 15, 90], (2, 5))
        boxes[:, 4] *= turned
        a, b = ((box[:2], box[2:4], box[4]) for box in boxes.tolist())
        _, points = cv2.rotatedRectangleIntersection(a, b)
        shared = 0.0 if points is None else cv2.contourArea(cv2.convexHull(points))
        union = boxes[:, 2:4].prod(axis=1).sum() - shared
        ours = rotated_iou(*torch.from_numpy(boxes))
        assert ours == pytest.approx(shared / union, abs=2e-4)  # OpenCV's are float32
