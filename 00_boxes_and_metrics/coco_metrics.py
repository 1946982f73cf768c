"""COCO's evaluation from scratch: twelve numbers that say how good a detector is.

The rules are those of COCO's own code (Lin et al., 2014, arXiv:1405.0312, and pycocotools'
cocoeval.py), and the numbers are equal to its numbers:

- AP is the mean over 10 IoU thresholds, 0.50, 0.55, ... 0.95, over the classes, and over 101
  recalls.
- A detection takes the free object that it overlaps most. Where the best one is taken, it may have
  the next, unlike in VOC.
- A crowd is an area of objects too many to outline one by one. It is no object to be found. Any
  number of detections may lie in it: they are ignored, neither right nor wrong. Overlap with a
  crowd is measured by the detection's own area.
- For AP of small, medium or large objects, the other objects are ignored in the same way, and so
  are the detections without an object whose own area is out of the range.
- At most the 100 best detections of each image and class count.
"""

from dataclasses import dataclass

import numpy as np
import torch

from boxes import box_area, intersection_and_union
from masks import mask_intersections
from metrics import Boxes, check_same_images, precision_recall, sample

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)
AREA_RANGES = {  # square pixels, ends included
    "all": (0, 1e5**2),
    "small": (0, 32**2),
    "medium": (32**2, 96**2),
    "large": (96**2, 1e5**2),
}
MAX_DETECTIONS = (1, 10, 100)
LARGEST_THRESHOLD = 1 - 1e-10  # even at a threshold of 1, equal boxes match

ABSENT = -1.0  # what COCO gives where there is no object to find


@dataclass(frozen=True)
class ImageOfClass:
    """One image and one class: what the matching needs.

    Attributes:
        overlap: (D, G), detections from the best score down.
        scores: (D,).
        detection_area: (D,), square pixels.
        object_area: (G,), square pixels.
        crowd: bool (G,).
    """

    overlap: np.ndarray
    scores: np.ndarray
    detection_area: np.ndarray
    object_area: np.ndarray
    crowd: np.ndarray


@dataclass(frozen=True)
class CocoResult:
    """Everything COCO computes.

    Attributes:
        labels: the K classes that occur in the targets.
        precision: (10, 101, K, 4, 3): IoU threshold, recall, class, area range, max. detections.
        recall: (10, K, 4, 3), the highest recall that is reached.
        Both are `ABSENT` where a class has no object of that area.
    """

    labels: list[int]
    precision: np.ndarray
    recall: np.ndarray

    def summary(self) -> dict[str, float]:
        """The twelve numbers of COCO's table, by name; -1 where there is no such object."""
        areas = list(AREA_RANGES)

        def ap(area: str = "all", threshold: slice | int = slice(None)) -> float:
            return _mean_of_present(self.precision[threshold, ..., areas.index(area), -1])

        def ar(area: str = "all", limit: int = -1) -> float:
            return _mean_of_present(self.recall[..., areas.index(area), limit])

        numbers = {"AP": ap(), "AP50": ap(threshold=0), "AP75": ap(threshold=5)}
        numbers |= {f"AP_{area}": ap(area) for area in areas[1:]}
        numbers |= {f"AR{limit}": ar(limit=i) for i, limit in enumerate(MAX_DETECTIONS)}
        return numbers | {f"AR_{area}": ar(area) for area in areas[1:]}


def _mean_of_present(values: np.ndarray) -> float:
    present = values[values > ABSENT]
    return float(present.mean()) if present.size else ABSENT


def evaluate_coco(
    targets: list[Boxes], predictions: list[Boxes], kind: str = "boxes"
) -> CocoResult:
    """Evaluate detections by COCO's rules.

    Args:
        targets: one dict per image: "boxes" float (G, 4) xyxy in pixels, "labels" int (G,);
            optional "iscrowd" bool (G,), "area" float (G,) in square pixels (COCO takes the mask's
            area; default is the box's, or the mask's if kind is "masks"), "masks" bool (G, H, W).
        predictions: one dict per image, in the same order: "boxes" (D, 4), "labels" (D,),
            "scores" (D,), and "masks" (D, H, W) if kind is "masks".
        kind: "boxes" or "masks", what is compared.

    Raises:
        ValueError: an unknown kind, or lists that differ in length.
    """
    if kind not in ("boxes", "masks"):
        raise ValueError(f"kind is {kind!r}; allowed are 'boxes' and 'masks'")
    check_same_images(targets, predictions)
    labels = np.unique(np.concatenate([target["labels"] for target in targets])).tolist()
    shape = (len(labels), len(AREA_RANGES), len(MAX_DETECTIONS))
    precision = np.full((len(IOU_THRESHOLDS), len(RECALLS), *shape), ABSENT)
    recall = np.full((len(IOU_THRESHOLDS), *shape), ABSENT)
    for k, label in enumerate(labels):
        pairs = zip(targets, predictions, strict=True)
        images = [compare(target, prediction, label, kind) for target, prediction in pairs]
        for a, area_range in enumerate(AREA_RANGES.values()):
            for t, threshold in enumerate(IOU_THRESHOLDS):
                matched = [match_coco(image, threshold, area_range) for image in images]
                for m, limit in enumerate(MAX_DETECTIONS):
                    curve = _curve(images, matched, limit)
                    if curve:
                        precision[t, :, k, a, m] = sample(*curve, RECALLS)
                        recall[t, k, a, m] = curve[1][-1] if len(curve[1]) else 0
    return CocoResult(labels, precision, recall)


def compare(target: Boxes, prediction: Boxes, label: int, kind: str) -> ImageOfClass:
    """Pick one class of one image and measure all overlaps; arguments as in `evaluate_coco`."""
    own = np.flatnonzero(target["labels"] == label)
    mine = np.flatnonzero(prediction["labels"] == label)
    mine = mine[np.argsort(-prediction["scores"][mine], kind="stable")][: MAX_DETECTIONS[-1]]
    intersection, areas, object_areas = _intersections(prediction[kind][mine], target[kind][own])
    crowd = target.get("iscrowd", np.zeros(len(target["labels"])))[own].astype(bool)
    union = areas[:, None] + object_areas * ~crowd - intersection * ~crowd  # (D, G)
    return ImageOfClass(
        overlap=intersection / np.maximum(union, np.finfo(float).tiny),
        scores=prediction["scores"][mine],
        detection_area=areas,
        object_area=target["area"][own] if "area" in target else object_areas,
        crowd=crowd,
    )


def _intersections(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Intersections (D, G) and areas (D,), (G,) in square pixels, of boxes or of masks."""
    if a.ndim == 2:  # boxes are (D, 4), masks (D, H, W)
        first, second = (torch.as_tensor(boxes, dtype=torch.float64) for boxes in (a, b))
        intersection, _ = intersection_and_union(first, second)
        return intersection.numpy(), box_area(first).numpy(), box_area(second).numpy()
    return mask_intersections(a, b)


def match_coco(
    image: ImageOfClass, threshold: float, area_range: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray, int]:
    """Give each detection of one image and class its object, from the best score down.

    A detection takes the object it overlaps most of those that are free and count; only without
    one of these does it take one that is ignored. Of equal overlaps the later object is taken.

    Args:
        image: the overlaps and areas.
        threshold: the least overlap.
        area_range: objects whose area is outside are ignored, as crowds are.

    Returns:
        bool (D,) which detections are correct, bool (D,) which are ignored, and how many objects
        count.
    """
    low, high = area_range
    counts = ~image.crowd & (image.object_area >= low) & (image.object_area <= high)
    free = np.ones(len(counts), dtype=bool)
    outside = (image.detection_area < low) | (image.detection_area > high)
    correct, ignored = np.zeros(len(outside), dtype=bool), outside.copy()
    usable = image.overlap >= min(threshold, LARGEST_THRESHOLD)  # (D, G)
    for d in np.flatnonzero(usable.any(axis=1)):
        choice = usable[d] & free
        if (choice & counts).any():
            choice &= counts
        if choice.any():
            overlap = np.where(choice, image.overlap[d], -1)
            best = len(overlap) - 1 - overlap[::-1].argmax()
            free[best] = image.crowd[best]  # a crowd is never used up
            correct[d], ignored[d] = counts[best], not counts[best]
    return correct, ignored, int(counts.sum())


def _curve(
    images: list[ImageOfClass], matched: list[tuple[np.ndarray, np.ndarray, int]], limit: int
) -> tuple[np.ndarray, np.ndarray] | None:
    """Precision and recall over all images; None where no object counts."""
    num_objects = sum(count for _, _, count in matched)
    if not num_objects:
        return None
    scores = np.concatenate([image.scores[:limit] for image in images])
    correct = np.concatenate([correct[:limit] for correct, _, _ in matched])
    counts = ~np.concatenate([ignored[:limit] for _, ignored, _ in matched])
    return precision_recall(scores[counts], correct[counts], num_objects)
