"""COCO's metrics of boxes and masks, by COCO's own code.

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

from common.choices import MAX_DETECTIONS

STATISTICS = (
    "AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large",
    "AR1", "AR10", "AR100", "AR_small", "AR_medium", "AR_large",
)  # fmt: skip


def coco_metrics(
    truth: dict[str, Any],
    detections: list[dict[str, Any]],
    max_detections: int = MAX_DETECTIONS,
) -> dict[str, Any]:
    """Measure detections against the truth, both in COCO's own form.

    Args:
        truth: a dict with "images", "annotations" and "categories", as in COCO's files.
        detections: dicts with "image_id", "category_id", "score", and "bbox" (x, y, width, height
            in pixels) or "segmentation" (a mask as RLE) or both.
        max_detections: the best so many of a picture and class count. Numbers are COCO's with 100.

    Returns:
        {"bbox": {"AP": ..., "AP50": ..., ...}, "segm": the same if there are masks, "per_class":
        {name: {"bbox": {"AP", "AP50", "AP75"}, "segm": ...}}}. Values are 0..1, or None where
        there is no object to measure with (COCO's -1). Recall has the number of detections in its
        name: "AR1", "AR10", "AR100".
    """
    return summarize(run_coco(truth, detections, max_detections))


def run_coco(
    truth: dict[str, Any],
    detections: list[dict[str, Any]],
    max_detections: int = MAX_DETECTIONS,
) -> dict[str, COCOeval]:
    """Return COCO's finished evaluation of the boxes, "bbox", and of the masks, if any, "segm".

    Args:
        truth, detections, max_detections: as for `coco_metrics`.
    """
    masks = any("segmentation" in one for one in truth["annotations"] + detections)
    measured = {}
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its tables
        ground_truth = COCO()
        ground_truth.dataset = truth
        ground_truth.createIndex()
        for kind in ("bbox", "segm") if masks else ("bbox",):
            found = _load_results(ground_truth, detections, kind)
            one = measured[kind] = COCOeval(ground_truth, found, kind)
            one.params.maxDets = [min(limit, max_detections) for limit in (1, 10, max_detections)]
            one.evaluate()
            one.accumulate()
            one.summarize()
            if max_detections != MAX_DETECTIONS:  # of AP alone, summarize() looks at 100 always
                overall = _mean(one.eval["precision"][..., 0, -1])
                one.stats[0] = -1 if overall is None else overall
    return measured


def summarize(measured: dict[str, COCOeval]) -> dict[str, Any]:
    """Return the numbers of `run_coco`'s evaluations as `coco_metrics` describes them."""
    per_class: dict[str, dict[str, Any]] = {name: {} for name in _precision(measured["bbox"])}
    metrics: dict[str, Any] = {"per_class": per_class}
    for kind, one in measured.items():
        values = [None if value < 0 else float(value) for value in one.stats]
        metrics[kind] = dict(zip(_statistics(one), values, strict=True))
        for name, precision in _precision(one).items():
            per_class[name][kind] = {
                "AP": _mean(precision),
                "AP50": _mean(precision[0]),
                "AP75": _mean(precision[5]),
            }
    return metrics


def precision_curves(measured: COCOeval) -> dict[str, np.ndarray]:
    """Return the precision-recall curve of each class at IoU 0.5.

    Returns:
        By class name the precision, float64 (101,), at recall 0, 0.01 ... 1, or -1 where there is
        no object.
    """
    return {name: precision[0] for name, precision in _precision(measured).items()}


def format_metrics(metrics: dict[str, Any]) -> str:
    """Lay metrics out as a table: one line for all classes, then one a class."""
    kinds = [kind for kind in ("bbox", "segm") if kind in metrics]
    columns = [(kind, name) for kind in kinds for name in ("AP", "AP50", "AP75")]
    heads = [f"{'box' if kind == 'bbox' else 'mask'} {name}" for kind, name in columns]
    rows = [("all", metrics), *metrics["per_class"].items()]
    width = max(len(name) for name, _ in rows)
    lines = [" " * width + "".join(f"{head:>11}" for head in heads)]
    for name, values in rows:
        cells = [_cell(values[kind].get(statistic)) for kind, statistic in columns]
        lines.append(f"{name:<{width}}" + "".join(f"{cell:>11}" for cell in cells))
    return "\n".join(lines)


def _load_results(ground_truth: COCO, detections: list[dict[str, Any]], kind: str) -> COCO:
    if not detections:  # loadRes refuses an empty list
        found = COCO()
        found.dataset = {**ground_truth.dataset, "annotations": []}
        found.createIndex()
        return found
    # Where an entry has both, loadRes takes its area from the box: wrong for masks.
    other = "bbox" if kind == "segm" else "segmentation"
    entries = [{key: one[key] for key in one if key != other} for one in detections]
    return ground_truth.loadRes(entries)


def _statistics(measured: COCOeval) -> list[str]:
    """Name the twelve numbers of an evaluation, in its order."""
    recalls = (f"AR{limit}" for limit in measured.params.maxDets)
    return [*STATISTICS[:6], *recalls, *STATISTICS[9:]]


def _precision(measured: COCOeval) -> dict[str, np.ndarray]:
    """Return each class's precision (T, R) at all areas and the most detections, by its name."""
    names = {one["id"]: one["name"] for one in measured.cocoGt.dataset["categories"]}
    precision = measured.eval["precision"]  # (T, R, K, A, M), K follows the sorted ids
    return {names[key]: precision[:, :, k, 0, -1] for k, key in enumerate(measured.params.catIds)}


def _mean(precision: np.ndarray) -> float | None:
    valid = precision[precision > -1]
    return float(valid.mean()) if valid.size else None


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
