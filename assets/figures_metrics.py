"""Figures of detection metrics, on lesson 00's photo of coins: AP, and COCO's thresholds."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from figure_style import (
    BLUE,
    FONT,
    INK,
    ORANGE,
    SMALL,
    FigureMaker,
    arrow,
    new_card,
    plain_axes,
    rectangle,
)
from lesson_modules import BOXES

ONE_SIZE, SOME_SIZES = (20,), (16, 20, 24, 28, 32)  # radii of the discs, pixels
SCORE_THRESHOLD, NMS_THRESHOLD = 0.5, 0.3
CURVE_AT = 0.85  # IoU at which the curve is drawn


@cache
def coin_results() -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The coins, and what two detectors found: one with discs of one size, one with several."""
    with BOXES:
        coins = BOXES.load("coins")
        image, masks = coins.load_coins()
        boxes = BOXES.load("common.mask_boxes").masks_to_boxes_xyxy(masks).astype(float)
        target = {"boxes": boxes, "labels": np.ones(len(boxes), int)}
        found = []
        for radii in (ONE_SIZE, SOME_SIZES):
            boxes, scores = coins.correlate_discs(image, SCORE_THRESHOLD, radii)
            tensors = torch.from_numpy(boxes), torch.from_numpy(scores)
            kept = BOXES.load("suppression").nms(*tensors, NMS_THRESHOLD).numpy()
            labels = np.ones(len(kept), int)
            found.append({"boxes": boxes[kept], "scores": scores[kept], "labels": labels})
    return target, found


def draw_precision_recall() -> Figure:
    """One curve, and AP from 11 and from 101 points."""
    metrics, drawing = BOXES.load("metrics"), BOXES.load("drawing")
    target, (_, some_sizes) = coin_results()
    curve = metrics.voc_curve([target], [some_sizes], label=1, iou_threshold=CURVE_AT)
    ways = (
        ("11 points (VOC)", metrics.average_precision_11_points, np.arange(11) / 10),
        ("101 points (COCO)", metrics.average_precision_101_points, np.linspace(0, 1, 101)),
    )
    figure = new_card(4.2)
    for k, (name, average, points) in enumerate(ways):
        ax = figure.add_axes((0.11 + 0.47 * k, 0.29, 0.40, 0.52))
        drawing.draw_precision_recall(ax, *curve, points, "")
        ax.set_title(f"{name}\nAP {average(*curve):.3f}", fontsize=FONT, linespacing=1.2)
        ax.set(xticks=(0, 0.5, 1), yticks=(0, 0.5, 1), ylabel="" if k else "precision")
        ax.set_yticklabels([] if k else ["0", "0.5", "1"])
    handles, labels = ax.get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="lower center",
        ncol=3,
        fontsize=SMALL,
        columnspacing=1,
        handlelength=1.2,
    )
    return figure


def draw_thresholds() -> Figure:
    """What IoU 0.5, 0.75 and 0.95 look like, and the AP of two detectors at COCO's thresholds."""
    figure = new_card(5.6)
    ax = plain_axes(figure, (0, 0.62, 1, 0.36), ylim=(2.0, 0))
    for k, iou in enumerate((0.5, 0.75, 0.95)):
        _pair_with(ax, 0.35 + 2.35 * k, 0.6, 1.25, iou)
    coco = BOXES.load("coco_metrics")
    target, found = coin_results()
    ax = figure.add_axes((0.12, 0.155, 0.85, 0.42))
    names = ("one disc size", f"{len(SOME_SIZES)} disc sizes")
    curves: list[np.ndarray] = []
    for name, one, color in zip(names, found, (ORANGE, BLUE), strict=True):
        result = coco.evaluate_coco([target], [one])
        at_each = result.precision[:, :, 0, 0, -1].mean(axis=1)
        mean = result.summary()["AP"]
        ax.plot(
            coco.IOU_THRESHOLDS,
            at_each,
            "o-",
            color=color,
            linewidth=3,
            markersize=8,
            label=f"{name}: AP {mean:.3f}",
        )
        ax.axhline(mean, color=color, linestyle=":", linewidth=2)
        curves.append(at_each)
    gaps = curves[1] - curves[0]
    widest = int(gaps.argmax())
    ends = [(coco.IOU_THRESHOLDS[widest], curve[widest]) for curve in curves]
    arrow(ax, *ends, arrowstyle="<|-|>")
    ax.text(ends[1][0] + 0.008, ends[1][1] + 0.01, f"{gaps[widest]:.2f}", va="bottom")
    ax.set(xlabel="IoU threshold", ylabel="AP there", ylim=(-0.03, 1.04), yticks=(0, 0.5, 1))
    ax.set_xticks(coco.IOU_THRESHOLDS[::2])
    ax.legend(loc="lower left", borderpad=0)
    return figure


def _pair_with(ax: Any, x: float, y: float, side: float, iou: float) -> None:
    """Draw a square and a copy moved to the right so far that they have this IoU; measure it."""
    shift = side * (1 - iou) / (1 + iou)
    pair = torch.tensor([[x, y, x + side, y + side], [x + shift, y, x + shift + side, y + side]])
    measured = BOXES.load("boxes").box_iou(pair[:1].double(), pair[1:].double()).item()
    rectangle(ax, pair[0], ORANGE, linewidth=3)
    rectangle(ax, pair[1], BLUE, linewidth=3)
    middle = (x + x + side + shift) / 2
    ax.text(middle, y - 0.12, f"IoU {measured:.2f}", ha="center", va="bottom", color=INK)


MAKERS = (
    FigureMaker("precision_recall.svg", draw_precision_recall, "precision, recall and two APs"),
    FigureMaker("coco_thresholds.svg", draw_thresholds, "COCO's ten IoU thresholds"),
)
