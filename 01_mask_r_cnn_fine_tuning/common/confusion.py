"""Which class is taken for which: the confusion matrix of a detector."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import box_iou


def confusion_matrix(
    truth: dict[str, Any],
    detections: list[dict[str, Any]],
    score_threshold: float = 0.5,
    iou_threshold: float = 0.5,
) -> np.ndarray:
    """Count which class was taken for which; crowd regions are left out.

    Args:
        truth, detections: in COCO's form, see `common.coco_truth`.
        score_threshold: detections that score less are left out.
        iou_threshold: see `count_confusion`.

    Returns:
        int64 (C + 1, C + 1), rows and columns in the order of the truth's categories; see
        `count_confusion`.
    """
    order = {one["id"]: k for k, one in enumerate(truth["categories"])}
    matrix = np.zeros((len(order) + 1, len(order) + 1), np.int64)
    sure = [one for one in detections if one["score"] >= score_threshold]
    sure.sort(key=lambda one: -one["score"])
    objects = [one for one in truth["annotations"] if not one["iscrowd"]]
    by_image = {one["id"]: ([], []) for one in truth["images"]}
    for side, entries in enumerate((sure, objects)):
        for one in entries:
            by_image[one["image_id"]][side].append(one)
    for found, true in by_image.values():
        (found_boxes, found_classes), (true_boxes, true_classes) = (
            _columns(entries, order) for entries in (found, true)
        )
        overlap = box_iou(found_boxes, true_boxes).numpy()  # (M, N)
        matrix += count_confusion(true_classes, found_classes, overlap, len(order), iou_threshold)
    return matrix


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


def _columns(entries: Sequence[dict[str, Any]], order: dict[int, int]) -> tuple[Tensor, np.ndarray]:
    """Return boxes (N, 4) XYXY and classes (N,) from 0 of one image's entries in COCO's form."""
    corners = [(x, y, x + w, y + h) for x, y, w, h in (one["bbox"] for one in entries)]
    boxes_xyxy = torch.tensor(corners, dtype=torch.float32).reshape(-1, 4)
    return boxes_xyxy, np.array([order[one["category_id"]] for one in entries], np.int64)
