"""Figures of boxes, feature maps and curves. Each function draws onto the axes it is given.

The colours are three of the colour-blind-safe ones of Okabe and Ito ("Color Universal Design",
2008).
"""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from boxes import box_iou, complete_box_iou, generalized_box_iou
from metrics import envelope

ORANGE, BLUE, GREEN = "#e69f00", "#0072b2", "#009e73"
Boxes = Sequence[Sequence[float]] | np.ndarray | torch.Tensor

DOTS_PER_INCH = 100
PANEL_WIDTH, WIDEST = 3.4, 10.0  # inches


def panels(
    rows: int, columns: int, height: float, width: float = PANEL_WIDTH, sharey: bool = False
) -> np.ndarray:
    """Make a figure with equal panels, wide enough to judge what they show.

    Args:
        rows: of panels.
        columns: of panels; more than two become narrower, so that the figure stays 10 inches wide.
        height: of one row, in inches.
        width: of one panel, in inches.
        sharey: one y axis for all panels of a row.

    Returns:
        The axes: (columns,) for one row, (rows, columns) for several.
    """
    size = (min(width * columns, WIDEST), height * rows)
    _, axes = plt.subplots(
        rows, columns, figsize=size, dpi=DOTS_PER_INCH, sharey=sharey, layout="constrained",
        squeeze=False,
    )  # fmt: skip
    return axes[0] if rows == 1 else axes


def draw_boxes(ax: Axes, boxes_xyxy: Boxes, color: str = BLUE, **style: object) -> Axes:
    """Draw the outlines of boxes (N, 4), in the coordinates of the axes.

    Args:
        ax: the axes to draw onto.
        boxes_xyxy: (N, 4).
        color: of the outlines.
        style: further properties of matplotlib's Rectangle, such as `linestyle`.

    Returns:
        The same axes.
    """
    for x1, y1, x2, y2 in np.asarray(boxes_xyxy, dtype=float):
        options = {"fill": False, "color": color, "linewidth": 1.5, **style}
        ax.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, **options))
    return ax


def draw_photo(ax: Axes, image: np.ndarray, title: str = "") -> Axes:
    """Show a photo, uint8 (H, W) or (H, W, 3); pixel (0, 0) covers the square from 0 to 1."""
    H, W = image.shape[:2]
    ax.imshow(image, cmap="gray", extent=(0, W, H, 0), vmin=0, vmax=255)
    ax.set(xticks=[], yticks=[], title=title)
    return ax


def draw_masks(ax: Axes, masks: np.ndarray, alpha: float = 0.6) -> Axes:
    """Lay masks, bool (N, H, W), over a photo, each in a colour of its own."""
    H, W = masks.shape[1:]
    colors = plt.get_cmap("hsv")(np.arange(len(masks)) * 7 % len(masks) / len(masks))
    overlay = np.zeros((H, W, 4))
    for mask, color in zip(masks, colors, strict=True):
        overlay[mask] = (*color[:3], alpha)
    ax.imshow(overlay, extent=(0, W, H, 0), interpolation="none")
    return ax


def draw_pair(ax: Axes, box_a_xyxy: Sequence[float], box_b_xyxy: Sequence[float]) -> Axes:
    """Draw two boxes, their intersection and the smallest box around both; the title measures.

    Args:
        ax: the axes to draw onto.
        box_a_xyxy: x1, y1, x2, y2 in pixels.
        box_b_xyxy: the same.

    Returns:
        The same axes, equally scaled, y down.
    """
    a, b = np.asarray(box_a_xyxy, dtype=float), np.asarray(box_b_xyxy, dtype=float)
    low, high = np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])
    if (high > low).all():
        draw_boxes(ax, [[*low, *high]], GREEN, fill=True, alpha=0.4)
    hull = [*np.minimum(a[:2], b[:2]), *np.maximum(a[2:], b[2:])]
    draw_boxes(ax, [hull], "gray", linestyle=":")
    draw_boxes(ax, [a], BLUE, linewidth=2.5)
    draw_boxes(ax, [b], ORANGE, linewidth=2.5)
    pair = torch.from_numpy(a)[None], torch.from_numpy(b)[None]
    iou, giou, ciou = (
        function(*pair).item() for function in (box_iou, generalized_box_iou, complete_box_iou)
    )
    ax.set_title(f"IoU {iou:.2f}\nGIoU {giou:.2f}, CIoU {ciou:.2f}", fontsize=10)
    ax.set(xticks=[], yticks=[], aspect="equal")
    margin = 3
    ax.set(xlim=(hull[0] - margin, hull[2] + margin), ylim=(hull[3] + margin, hull[1] - margin))
    return ax


def draw_deltas(
    ax: Axes,
    anchor_xyxy: Sequence[float] | torch.Tensor,
    box_xyxy: Sequence[float] | torch.Tensor,
    deltas: Sequence[float] | torch.Tensor,
) -> Axes:
    """Draw an anchor (blue), a box (orange), and the way of the centre; the title has the deltas.

    Args:
        ax: the axes to draw onto.
        anchor_xyxy: x1, y1, x2, y2 in pixels.
        box_xyxy: the same.
        deltas: tx, ty, tw, th.

    Returns:
        The same axes, equally scaled.
    """
    anchor, box = np.asarray(anchor_xyxy, dtype=float), np.asarray(box_xyxy, dtype=float)
    draw_boxes(ax, [anchor], BLUE, linewidth=2.5, label="anchor")
    draw_boxes(ax, [box], ORANGE, linewidth=2.5, label="box")
    start, end = (tuple((one[:2] + one[2:]) / 2) for one in (anchor, box))
    ax.annotate("", end, start, arrowprops={"arrowstyle": "->", "shrinkA": 0, "shrinkB": 0})
    ax.set_title("tx {:.0f}, ty {:.0f}, tw {:.3f}, th {:.0f}".format(*map(float, deltas)))
    ax.set(aspect="equal")
    ax.legend(loc="upper right")
    return ax


def draw_kept(
    ax: Axes, boxes_xyxy: Boxes, names: Sequence[str], kept: Sequence[int], title: str = ""
) -> Axes:
    """Draw named boxes: solid those that suppression keeps, dotted those that it removes.

    Args:
        ax: the axes to draw onto.
        boxes_xyxy: (N, 4) in pixels, up to three boxes: each has a colour.
        names: (N,), for the legend.
        kept: indices of the boxes that stay.
        title: above the axes.

    Returns:
        The same axes, equally scaled, y down.
    """
    boxes, stay = np.asarray(boxes_xyxy, dtype=float), {int(i) for i in kept}
    for i, (name, color) in enumerate(zip(names, (BLUE, GREEN, ORANGE), strict=False)):
        style = {"linewidth": 2.5} if i in stay else {"linestyle": ":"}
        draw_boxes(ax, boxes[i : i + 1], color, label=name, **style)
    low, high = boxes.min(axis=0)[:2] - 5, boxes.max(axis=0)[2:] + 5
    ax.set(xlim=(low[0], high[0] + 60), ylim=(high[1], low[1]), aspect="equal", title=title)
    ax.set(xticks=[], yticks=[])
    ax.legend(loc="center right")
    return ax


def draw_map(
    ax: Axes,
    values: np.ndarray | torch.Tensor,
    box_xyxy: Sequence[float] | torch.Tensor,
    title: str = "",
) -> Axes:
    """Show a small feature map (H, W) as numbered cells with a box over it, in cells."""
    values = np.asarray(values)
    H, W = values.shape
    ax.imshow(values, cmap="Blues", extent=(0, W, H, 0), vmax=values.max() * 1.6)
    for row, column in np.ndindex(H, W):
        text = f"{values[row, column]:g}"
        ax.text(column + 0.2, row + 0.8, text, ha="center", va="center", fontsize=8)
    ax.set(xticks=range(W + 1), yticks=range(H + 1), title=title)
    ax.grid(color="white", linewidth=1)
    ax.tick_params(length=0, labelsize=7)
    return draw_boxes(ax, [np.asarray(box_xyxy)], "#d55e00", linewidth=2.5)


def draw_precision_recall(
    ax: Axes, precision: np.ndarray, recall: np.ndarray, points: np.ndarray, title: str = ""
) -> Axes:
    """Draw the measured points of a curve, its envelope, and where the envelope is read.

    Args:
        ax: the axes to draw onto.
        precision: (N,), as `metrics.precision_recall` returns it.
        recall: (N,), the same.
        points: (R,), the recalls at which AP reads the envelope.
        title: above the axes.

    Returns:
        The same axes.
    """
    steps = np.concatenate(([0], recall, [recall[-1], 1]))
    upper = np.concatenate((envelope(precision)[:1], envelope(precision), [0, 0]))
    ax.fill_between(steps, upper, step="pre", color=BLUE, alpha=0.15)
    ax.step(steps, upper, color=BLUE, where="pre", label="envelope")
    ax.plot(recall, precision, ".-", color=ORANGE, linewidth=1, label="each detection")
    read = np.append(envelope(precision), 0)[np.searchsorted(recall, points)]
    ax.plot(points, read, "o", color=BLUE, markersize=4, fillstyle="none", label="read here")
    ax.set(xlabel="recall", ylabel="precision", title=title, xlim=(-0.02, 1.02), ylim=(0, 1.07))
    return ax
