"""Precision, recall and average precision (AP), in the three ways in which AP is computed.

A detector gives scored boxes. Going down the list from the best score, each box is right or wrong;
precision is the share of right ones so far, recall the share of objects found so far. AP is the
area under precision as a function of recall. The challenges differ in how they take that area, and
in what happens to a box whose object is taken:

    VOC 2007 (Everingham et al., 2010, section 4.2): the mean of 11 values.
    VOC 2010 to 2012 (its development kit): the exact area of the steps.
    COCO (Lin et al., 2014, and its evaluation code): the mean of 101 values; see coco_metrics.py.
"""

import numpy as np
import torch

from boxes import box_iou

Boxes = dict[str, np.ndarray]  # one image: "boxes" xyxy (N, 4), "labels" (N,), "scores" (N,), ...


def precision_recall(
    scores: np.ndarray, is_correct: np.ndarray, num_objects: int
) -> tuple[np.ndarray, np.ndarray]:
    """Follow precision and recall down the list of detections.

    Args:
        scores: float (N,), in any order; equal scores keep theirs.
        is_correct: bool (N,), which detections found an object.
        num_objects: how many objects there are; above 0.

    Returns:
        Precision and recall, float64 (N,) each, after each detection from the best score down.

    Raises:
        ValueError: num_objects is not above 0: recall has no meaning then.
    """
    if num_objects <= 0:
        raise ValueError(f"num_objects is {num_objects}; allowed are whole numbers above 0")
    order = np.argsort(-np.asarray(scores), kind="stable")
    found = np.cumsum(np.asarray(is_correct, dtype=bool)[order])
    return found / np.arange(1, len(order) + 1), found / num_objects


def envelope(precision: np.ndarray) -> np.ndarray:
    """Replace each precision (N,) by the best one at the same or a higher recall.

    The raw curve is a saw: it falls with each wrong box and climbs with the next right one. The
    envelope answers "what precision can I have if I want at least this recall?".
    """
    return np.maximum.accumulate(precision[::-1])[::-1]


def sample(precision: np.ndarray, recall: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Read the envelope at given recalls (R,); 0 beyond the last recall that is reached."""
    padded = np.append(envelope(precision), 0.0)
    return padded[np.searchsorted(recall, points, side="left")]


def average_precision_11_points(precision: np.ndarray, recall: np.ndarray) -> float:
    """AP of VOC 2007: the mean of the envelope at recall 0, 0.1, ... 1.

    Args:
        precision: (N,), as `precision_recall` returns it.
        recall: (N,), the same.
    """
    return float(sample(precision, recall, np.arange(11) / 10).mean())


def average_precision_all_points(precision: np.ndarray, recall: np.ndarray) -> float:
    """AP of VOC 2010 to 2012: the exact area under the envelope; arguments as above."""
    steps = np.diff(recall, prepend=0.0)
    return float((steps * envelope(precision)).sum())


def average_precision_101_points(precision: np.ndarray, recall: np.ndarray) -> float:
    """AP of COCO at one IoU threshold: the mean at recall 0, 0.01, ... 1; arguments as above."""
    return float(sample(precision, recall, np.linspace(0, 1, 101)).mean())


def match_voc(iou: np.ndarray, iou_threshold: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """Decide which detections of one image and class are correct, by VOC's rule.

    Each detection looks only at the object that it overlaps most. If a better scored detection has
    that object already, this one is wrong, even where it overlaps a second object well enough.

    Args:
        iou: (D, G), detections from the best score down, objects in any order.
        iou_threshold: an object counts above it, not at it, as VOC's paper says (section 4.2) with
            0.5; the program of its development kit counts 0.5 itself, too.

    Returns:
        bool (D,), which are correct, and int64 (D,), the object of each or -1.
    """
    nearest = np.full(len(iou), -1)
    for d, row in enumerate(iou):
        if row.size and row.max() > iou_threshold:
            nearest[d] = row.argmax()
    taken: set[int] = set()
    is_correct = np.zeros(len(iou), dtype=bool)
    for d, g in enumerate(nearest.tolist()):
        is_correct[d] = g >= 0 and g not in taken
        taken.add(g)
    return is_correct, nearest


def voc_curve(
    targets: list[Boxes], predictions: list[Boxes], label: int, iou_threshold: float = 0.5
) -> tuple[np.ndarray, np.ndarray]:
    """Precision and recall of one class over a data set, by VOC's rules.

    Objects marked "difficult" neither count as objects nor make the detections on them wrong.

    Args:
        targets: one dict per image: "boxes" float (G, 4) xyxy in pixels, "labels" int (G,) and, if
            there are any, "difficult" bool (G,).
        predictions: one dict per image, in the same order: "boxes" (D, 4), "labels" (D,), "scores".
        label: the class.
        iou_threshold: see `match_voc`.

    Returns:
        See `precision_recall`.

    Raises:
        ValueError: the lists differ in length, or no object of this class counts.
    """
    check_same_images(targets, predictions)
    scores, correct, num_objects = [], [], 0
    for target, prediction in zip(targets, predictions, strict=True):
        own = target["labels"] == label
        difficult = target.get("difficult", np.zeros(len(own), dtype=bool))[own].astype(bool)
        mine = np.flatnonzero(prediction["labels"] == label)
        mine = mine[np.argsort(-prediction["scores"][mine], kind="stable")]
        iou = overlaps(prediction["boxes"][mine], target["boxes"][own])
        is_correct, nearest = match_voc(iou, iou_threshold)
        counts = ~np.append(difficult, False)[nearest]  # the last entry is for "no object", -1
        scores.append(prediction["scores"][mine][counts])
        correct.append(is_correct[counts])
        num_objects += int((~difficult).sum())
    return precision_recall(np.concatenate(scores), np.concatenate(correct), num_objects)


def overlaps(boxes_a_xyxy: np.ndarray, boxes_b_xyxy: np.ndarray) -> np.ndarray:
    """IoU of all pairs (N, M) in float64, from NumPy arrays (N, 4) and (M, 4)."""
    a, b = (torch.as_tensor(boxes, dtype=torch.float64) for boxes in (boxes_a_xyxy, boxes_b_xyxy))
    return box_iou(a, b).numpy()


def check_same_images(targets: list[Boxes], predictions: list[Boxes]) -> None:
    """Raise ValueError unless there is one prediction per target, and at least one of them."""
    if len(targets) != len(predictions) or not targets:
        raise ValueError(
            f"{len(targets)} targets and {len(predictions)} predictions; "
            "allowed is one of each for every image, and one image at least"
        )
