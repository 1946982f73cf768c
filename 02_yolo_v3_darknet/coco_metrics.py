"""COCO's box metrics, by COCO's own code.

AP is the mean over ten IoU thresholds 0.50, 0.55 ... 0.95 of the area under the precision-recall
curve, averaged over the classes; AP50 and AP75 are at one threshold. All of it is computed by
pycocotools (Lin et al., "Microsoft COCO", 2014, arXiv:1405.0312).
"""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

STATISTICS = (
    "AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large",
    "AR1", "AR10", "AR100", "AR_small", "AR_medium", "AR_large",
)  # fmt: skip


def coco_metrics(
    truth: dict[str, Any], detections: list[dict[str, Any]]
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Measure detections against the truth, both in COCO's own form.

    Args:
        truth: a dict with "images", "annotations" and "categories", as in COCO's files.
        detections: dicts with "image_id", "category_id", "bbox" (x, y, width, height in pixels)
            and "score".

    Returns:
        The metrics {"bbox": {"AP": ..., "AP50": ..., ...}, "per_class": {name: {"bbox": {"AP",
        "AP50", "AP75"}}}}, values 0..1, or None where there is no object to measure with (COCO's
        -1); and the precision-recall curve of each class at IoU 0.5: the precision, float64
        (101,), at recall 0, 0.01 ... 1, or -1 where there is no object.
    """
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its tables
        ground_truth = COCO()
        ground_truth.dataset = truth
        ground_truth.createIndex()
        found = _load_results(ground_truth, detections)
        measured = COCOeval(ground_truth, found, "bbox")
        measured.evaluate()
        measured.accumulate()
        measured.summarize()
    values = [None if value < 0 else float(value) for value in measured.stats]
    names = {category["id"]: category["name"] for category in truth["categories"]}
    # precision (T, R, K, A, M) at all areas and 100 detections; K follows the sorted ids
    of_class = {
        names[key]: measured.eval["precision"][:, :, k, 0, -1]
        for k, key in enumerate(measured.params.catIds)
    }
    metrics = {
        "bbox": dict(zip(STATISTICS, values, strict=True)),
        "per_class": {name: {"bbox": _of_class(p)} for name, p in of_class.items()},
    }
    return metrics, {name: precision[0] for name, precision in of_class.items()}


def format_metrics(metrics: dict[str, Any]) -> str:
    """Lay metrics out as a table: one line for all classes, then one a class."""
    rows = [("all", metrics), *metrics["per_class"].items()]
    width = max(len(name) for name, _ in rows)
    columns = ("AP", "AP50", "AP75")
    lines = [" " * width + "".join(f"{'box ' + name:>11}" for name in columns)]
    for name, values in rows:
        cells = [_cell(values["bbox"].get(column)) for column in columns]
        lines.append(f"{name:<{width}}" + "".join(f"{cell:>11}" for cell in cells))
    return "\n".join(lines)


def _load_results(ground_truth: COCO, detections: list[dict[str, Any]]) -> COCO:
    if detections:
        return ground_truth.loadRes([dict(one) for one in detections])
    found = COCO()  # loadRes refuses an empty list
    found.dataset = {**ground_truth.dataset, "annotations": []}
    found.createIndex()
    return found


def _of_class(precision: np.ndarray) -> dict[str, float | None]:
    """AP, AP50 and AP75 of one class from its precision (T, R)."""
    return {"AP": _mean(precision), "AP50": _mean(precision[0]), "AP75": _mean(precision[5])}


def _mean(precision: np.ndarray) -> float | None:
    valid = precision[precision > -1]
    return float(valid.mean()) if valid.size else None


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
