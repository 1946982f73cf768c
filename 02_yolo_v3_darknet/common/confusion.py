"""Which class is taken for which: the confusion matrix of a detector."""

from __future__ import annotations

import numpy as np


def count_confusion(
    true_classes: np.ndarray,
    found_classes: np.ndarray,
    overlap: np.ndarray,
    num_classes: int,
    iou_threshold: float = 0.5,
) -> np.ndarray:
    """Count the detections of one picture by true and found class.

    Each detection takes, best first, the free object it overlaps most, whatever its class.

    Args:
        true_classes: int (N,), 0 .. C - 1.
        found_classes: int (M,), 0 .. C - 1, the highest score first.
        overlap: (M, N), IoU of each detection with each object.
        num_classes: C.
        iou_threshold: a detection that overlaps no free object so much is made up.

    Returns:
        int64 (C + 1, C + 1): row = true class, column = found class. The last row counts
        detections where nothing is, the last column objects that were missed.
    """
    matrix = np.zeros((num_classes + 1, num_classes + 1), np.int64)
    free = np.ones(len(true_classes), bool)
    for row, label in zip(overlap, found_classes, strict=True):
        candidates = np.where(free, row, -1.0)
        best = int(candidates.argmax()) if len(candidates) else -1
        if best >= 0 and candidates[best] >= iou_threshold:
            free[best] = False
            matrix[true_classes[best], label] += 1
        else:
            matrix[num_classes, label] += 1
    np.add.at(matrix, (true_classes[free], num_classes), 1)
    return matrix
