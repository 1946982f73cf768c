"""How good a label map is: the confusion matrix, and the metrics that are read from it.

Row t, column p of the matrix counts the pixels of the true class t that were given the class p.
With the diagonal as right answers, a class's true positives are its diagonal entry, its false
negatives the rest of its row, its false positives the rest of its column.

IoU (Jaccard index) = TP / (TP + FP + FN). Dice (F1) = 2 TP / (2 TP + FP + FN).

A class that neither occurs nor is predicted has no IoU: it is NaN, and means leave it out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from common.masks import IGNORE_INDEX

NEAR = 2.0  # pixels from a boundary


class ConfusionMatrix:
    """Count pixels by true and predicted class over any number of pictures.

    Args:
        num_classes: K.
        ignore_index: the label of pixels that are not counted.

    Attributes:
        counts: int64 (K, K) on the CPU; rows are true classes, columns predictions.
    """

    def __init__(self, num_classes: int, ignore_index: int = IGNORE_INDEX) -> None:
        self.num_classes, self.ignore_index = num_classes, ignore_index
        self.counts = torch.zeros(num_classes, num_classes, dtype=torch.int64)

    def update(self, predicted: Tensor, labels: Tensor) -> None:
        """Add label maps of one shape; `labels` may hold ignored pixels, `predicted` none.

        Raises:
            ValueError: the shapes differ, or an entry is no class.
        """
        if predicted.shape != labels.shape:
            raise ValueError(
                f"predicted is {tuple(predicted.shape)}, but labels is {tuple(labels.shape)}"
            )
        counted = labels != self.ignore_index
        pair = torch.stack([labels[counted].long(), predicted[counted].long()])  # (2, N)
        if pair.numel() and not 0 <= pair.min() <= pair.max() < self.num_classes:
            raise ValueError(
                f"classes {pair.min().item()} to {pair.max().item()} in a label map; allowed are "
                f"0 to {self.num_classes - 1}"
            )
        codes = pair[0] * self.num_classes + pair[1]
        counts = torch.bincount(codes, minlength=self.num_classes**2)
        self.counts += counts.view(self.num_classes, self.num_classes).cpu()

    def iou(self) -> Tensor:
        """Return each class's IoU, float64 (K,); NaN where the class does not appear at all."""
        right, union = self._right_and_union()
        return right / union  # 0 / 0 is NaN

    def dice(self) -> Tensor:
        """Return each class's Dice coefficient, float64 (K,); NaN as for `iou`."""
        right, union = self._right_and_union()
        return 2 * right / (union + right)

    def mean_iou(self) -> float:
        """Return the mean IoU of the classes that appear; NaN where nothing was counted."""
        return self.iou().nanmean().item()

    def pixel_accuracy(self) -> float:
        """Return the share of pixels that are right; NaN where nothing was counted."""
        return (self.counts.diag().sum().double() / self.counts.sum()).item()

    def _right_and_union(self) -> tuple[Tensor, Tensor]:
        right = self.counts.diag().double()
        return right, self.counts.sum(0) + self.counts.sum(1) - right


def distance_to_boundary(labels: np.ndarray) -> np.ndarray:
    """Return float32 (H, W): pixels from each pixel to the closest one of another label.

    Infinite where all labels of the map, uint8 (H, W), are the same.
    """
    if (labels == labels.flat[0]).all():
        return np.full(labels.shape, np.inf, np.float32)
    distance = np.zeros(labels.shape, np.float32)
    for label in np.unique(labels):
        inside = (labels == label).astype(np.uint8)
        to_others = cv2.distanceTransform(inside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        distance += to_others * inside
    return distance


class BoundaryErrors:
    """Count wrong pixels close to the boundaries of the truth, and away from them.

    Args:
        reach: pixels up to this far from one of another class are close.
        ignore_index: the label of pixels that are not counted.
    """

    def __init__(self, reach: float = NEAR, ignore_index: int = IGNORE_INDEX) -> None:
        self.reach, self.ignore_index = reach, ignore_index
        self.wrong, self.pixels = np.zeros(2, np.int64), np.zeros(2, np.int64)  # near, far

    def update(self, predicted: Tensor, labels: Tensor) -> None:
        """Add label maps (H, W) of one shape; `labels` may hold ignored pixels."""
        true, found = labels.numpy(), predicted.numpy()
        near, counted = distance_to_boundary(true) <= self.reach, true != self.ignore_index
        for place, group in enumerate((near & counted, ~near & counted)):
            self.wrong[place] += (true != found)[group].sum()
            self.pixels[place] += group.sum()

    def shares(self) -> tuple[float, float]:
        """Return the wrong share of the pixels near boundaries, and of the others; NaN of none."""
        near, far = (int(w) / int(n) if n else float("nan")
                     for w, n in zip(self.wrong, self.pixels, strict=True))  # fmt: skip
        return near, far


def summarize(matrix: ConfusionMatrix, class_names: Sequence[str]) -> dict[str, Any]:
    """Return the metrics as plain values; None stands for "does not appear".

    Returns:
        {"mean_iou", "mean_dice", "pixel_accuracy": floats, "per_class": {name: IoU}}.
    """
    per_class = dict(zip(class_names, map(_plain, matrix.iou().tolist()), strict=True))
    return {
        "mean_iou": _plain(matrix.mean_iou()),
        "mean_dice": _plain(matrix.dice().nanmean().item()),
        "pixel_accuracy": _plain(matrix.pixel_accuracy()),
        "per_class": per_class,
    }


def format_metrics(metrics: dict[str, Any]) -> str:
    """Return the metrics as a few lines of text."""
    width = max(map(len, metrics["per_class"]))
    lines = [f"{name:{width}}  {_shown(iou)}" for name, iou in metrics["per_class"].items()]
    summary = f"mean IoU {_shown(metrics['mean_iou'])}, pixel accuracy "
    return "\n".join([*lines, summary + _shown(metrics["pixel_accuracy"])])


def _plain(value: float) -> float | None:
    return None if value != value else value  # NaN is no number for JSON


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
