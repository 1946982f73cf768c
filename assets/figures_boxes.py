"""Figures of the small algorithms: IoU, anchors and their matching, NMS, RoIPool and RoIAlign.

Every number is computed by lesson 00's own functions.
"""

from __future__ import annotations

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figure_style import (
    BLUE,
    FONT,
    GRAY,
    GREEN,
    INK,
    LIGHT,
    OCHRE,
    ORANGE,
    RED,
    SMALL,
    FigureMaker,
    by,
    new_card,
    picture_axes,
    rectangle,
    rectangles,
    silhouette,
)
from lesson_modules import BOXES
from street_scene import outlines, true_objects

STRIDE = 16  # of the map whose anchors are drawn
ANCHOR_SIZES, ANCHOR_RATIOS = (40.0, 72.0, 128.0), (0.5, 1.0, 2.5)
HIGH, LOW = 0.7, 0.3  # Faster R-CNN, section 3.1
CANDIDATES_ABOVE, NMS_THRESHOLD = 0.78, 0.3


def draw_iou() -> Figure:
    """Three pairs of boxes; lesson 00's drawing function measures them."""
    figure = new_card(2.55)
    drawing = BOXES.load("drawing")
    for k, other in enumerate([(10, 0, 30, 20), (5, 4, 25, 24), (27, 0, 47, 20)]):
        ax = figure.add_axes((0.03 + 0.323 * k, 0.03, 0.295, 0.54))
        drawing.draw_pair(ax, (0, 0, 20, 20), other)
        iou, rest = ax.get_title().split("\n")
        ax.set_title("")
        middle = 0.1775 + 0.323 * k
        figure.text(middle, 0.93, iou, ha="center", va="top", fontweight="bold")
        lines = rest.replace(", ", "\n").replace("-", "−")
        figure.text(middle, 0.83, lines, ha="center", va="top", linespacing=1.2)
        ax.set_frame_on(False)
        ax.set(xlim=(-1, 48), ylim=(25, -1), anchor="N")
    return figure


def draw_anchors() -> Figure:
    """The anchors of one cell, and which anchors of the whole map answer for the people."""
    anchors, boxes = BOXES.load("anchors"), BOXES.load("boxes")
    people = [one for one in true_objects() if one["class_name"] == "person"]
    objects = torch.tensor([one["box_xyxy"] for one in people], dtype=torch.float32)
    base = anchors.base_anchors_xyxy(list(ANCHOR_SIZES), list(ANCHOR_RATIOS))  # (9, 4)
    H, W = 240 // STRIDE, 320 // STRIDE
    grid = anchors.grid_anchors_xyxy(base, (H, W), STRIDE)  # (H * W * 9, 4)
    inside = (grid[:, :2] >= 0).all(1) & (grid[:, 2] <= 320) & (grid[:, 3] <= 240)
    iou = boxes.box_iou(objects, grid[inside])
    matches = anchors.match(iou, HIGH, LOW, keep_best=True)
    counts = [int(x.sum()) for x in (matches >= 0, matches == anchors.IGNORED, matches == -1)]
    figure = new_card(4.3)
    left, right = (
        picture_axes(figure, (0.025 + 0.49 * k, 0.36, 0.46, 0.577), (320, 240)) for k in (0, 1)
    )
    _grid(left, H, W)
    middle = len(base) * (W * (H // 2) + W // 2)
    for k, box in enumerate(grid[middle : middle + len(base)].tolist()):
        rectangle(left, box, (RED, BLUE, GREEN)[k // len(ANCHOR_SIZES)])
    for one in people:
        silhouette(right, outlines(one["mask"]))
    for box in grid[inside][matches >= 0].tolist():
        rectangle(right, box, BLUE)
    for box in objects.tolist():
        rectangle(right, box, ORANGE, linewidth=3, linestyle="--")
    left_text = f"one cell: {len(ANCHOR_SIZES)} sizes × {len(ANCHOR_RATIOS)} shapes\n"
    left_text += f"map: {by(H, W, len(base))}\n= {len(grid):,} anchors"
    right_text = f"{counts[0]} positive (blue)\n{counts[1]} ignored\n{counts[2]:,} background\n"
    right_text += f"{int((~inside).sum()):,} over the border: left out"
    for x, text in ((0.255, left_text), (0.745, right_text)):
        figure.text(x, 0.325, text, ha="center", va="top", linespacing=1.2)
    return figure


def _grid(ax: Axes, rows: int, columns: int) -> None:
    (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    for k in range(1, columns):
        ax.axvline(left + (right - left) * k / columns, color=LIGHT, linewidth=0.7)
    for k in range(1, rows):
        ax.axhline(top + (bottom - top) * k / rows, color=LIGHT, linewidth=0.7)


def draw_suppression() -> Figure:
    """All boxes that look like a coin, and those that NMS leaves."""
    with BOXES:
        coins = BOXES.load("coins")
        image, masks = coins.load_coins()
        found, scores = coins.correlate_discs(image, CANDIDATES_ABOVE)
        tensors = torch.from_numpy(found), torch.from_numpy(scores)
        kept = BOXES.load("suppression").nms(*tensors, NMS_THRESHOLD).numpy()
    figure = new_card(3.5)
    height, width = image.shape
    for k, (boxes, text) in enumerate(
        ((found, f"{len(found)} candidates"), (found[kept], f"{len(kept)} after NMS"))
    ):
        ax = picture_axes(figure, (0.025 + 0.485 * k, 0.03, 0.465, 0.83), (width, height))
        for mask in masks:
            silhouette(ax, outlines(mask))
        rectangles(ax, boxes, BLUE, linewidth=1.6 if k else 0.7, alpha=1 if k else 0.5)
        ax.set_title(text, fontsize=FONT)
    return figure


def draw_roi() -> Figure:
    """RoIPool rounds a box to cells, RoIAlign reads between them; the edges' errors as it moves."""
    figure = new_card(7.2)
    roi = torch.tensor([0.6, 0.6, 3.4, 3.4])
    _draw_rounding(figure, roi)
    _draw_error(figure)
    return figure


def _draw_rounding(figure: Figure, roi: torch.Tensor) -> None:
    pooling = BOXES.load("roi_pooling")
    ramp = torch.arange(36.0).view(1, 6, 6)
    first, last = (pooling._round_half_away(float(v)) for v in (roi[0], roi[2]))  # noqa: SLF001
    results = (
        ("RoIPool", pooling.roi_pool(ramp, roi, 2, 1.0), ORANGE),
        ("RoIAlign", pooling.roi_align(ramp, roi, 2, 1.0, samples=2), BLUE),
    )
    for k, (name, pooled, color) in enumerate(results):
        ax = picture_axes(figure, (0.06 + 0.49 * k, 0.615, 0.40, 0.325), (6, 6))
        _grid(ax, 6, 6)
        for row in range(6):
            for column in range(6):
                value = f"{ramp[0, row, column]:.0f}"
                place = {"ha": "center", "va": "center", "fontsize": SMALL, "color": GRAY}
                ax.text(column + 0.5, row + 0.5, value, **place)
        rectangle(ax, roi, INK, linestyle="--")
        if k == 0:
            rectangle(ax, (first, first, last + 1, last + 1), color, linewidth=3)
        else:
            places = pooling._places(roi[0], roi[2] - roi[0], 2, 2)  # noqa: SLF001
            ax.plot(*torch.meshgrid(places, places, indexing="ij"), "x", color=color, mew=2.5)
        ax.set_title(name, fontweight="bold", color=BLUE if k else OCHRE)
        numbers = ", ".join(f"{value:.3g}" for value in pooled.flatten().tolist())
        ax.text(3, 6.15, f"2 × 2 bins: {numbers}", ha="center", va="top", fontsize=SMALL)


def _draw_error(figure: Figure) -> None:
    """How far the edges that are read lie from a box's own, as the box moves.

    RoIPool's maximum over a map of the cells' left edges is that of the last column it reads; over
    the negative map, that of the first. RoIAlign's mean over a map of the cells' middles is the
    middle of the box, if it reads neither too far to one side nor to the other.
    """
    pooling = BOXES.load("roi_pooling")
    lefts = (STRIDE * torch.arange(24.0)).expand(1, 24, 24).contiguous()
    moves = torch.arange(0, 48.1, 0.25)
    rois = [torch.tensor([80 + m, 96, 144 + m, 160]) for m in moves.tolist()]
    scale = 1 / STRIDE
    first = -torch.cat([pooling.roi_pool(-lefts, r, 1, scale).flatten() for r in rois])
    last = torch.cat([pooling.roi_pool(lefts, r, 1, scale).flatten() for r in rois]) + STRIDE
    middles = lefts + STRIDE / 2
    middle = torch.cat([pooling.roi_align(middles, r, 1, scale, 2).flatten() for r in rois])
    errors = (
        ("RoIPool, right edge", last - (144 + moves), OCHRE, "."),
        ("RoIPool, left edge", first - (80 + moves), ORANGE, "."),
        ("RoIAlign", middle - (112 + moves), BLUE, "-"),
    )
    ax = figure.add_axes((0.14, 0.105, 0.82, 0.40))
    for name, error, color, line in errors:
        low, high = (round(value) for value in (error.min().item(), error.max().item()))
        span = f"{low} to {high}".replace("-", "−") if low != high else f"{high}"
        label = f"{name}: {span}"
        ax.plot(moves, error, line, color=color, label=label, linewidth=3, markersize=5)
    ax.set(xlabel="box moved by, pixels", ylabel="error, pixels", ylim=(-10, 52))
    ax.set(yticks=(-8, 0, 8, 16, 24), xticks=(0, 16, 32, 48))
    ax.legend(loc="upper left", borderpad=0, handlelength=1)


def draw_mask_measures() -> Figure:
    """IoU and Dice of one person's mask and a moved copy."""
    masks = BOXES.load("masks")
    person = max(true_objects(), key=lambda one: one["mask"].sum())["mask"]
    shifts = np.arange(0, 41, 2)
    moved = np.stack([np.roll(person, shift, axis=1) for shift in shifts])
    iou, dice = masks.mask_iou(person[None], moved)[0], masks.mask_dice(person[None], moved)[0]
    figure = new_card(3.3)
    ax = figure.add_axes((0.13, 0.2, 0.84, 0.74))
    ax.plot(shifts, dice, color=ORANGE, lw=3, label="Dice D = 2J / (1 + J)")
    ax.plot(shifts, iou, color=BLUE, lw=3, label="IoU J = D / (2 − D)")
    ax.plot(shifts, 2 * iou / (1 + iou), ".", color=INK, label="D, computed from J")
    ax.set(xlabel="mask moved by, pixels", ylim=(0, 1.03), xlim=(0, 40), yticks=(0, 0.5, 1))
    ax.legend(loc="upper right", borderpad=0)
    return figure


MAKERS = (
    FigureMaker("iou.svg", draw_iou, "IoU, GIoU and CIoU of three pairs of boxes"),
    FigureMaker("anchors.svg", draw_anchors, "the anchors of a cell, and what each one learns"),
    FigureMaker("nms.svg", draw_suppression, "non-maximum suppression on a photo of coins"),
    FigureMaker("roi_align.svg", draw_roi, "RoIPool against RoIAlign, with the error in pixels"),
    FigureMaker("iou_dice.svg", draw_mask_measures, "IoU and Dice of masks, one from the other"),
)
