"""Figures of the two-stage detectors: RPN, the path of the data, and the feature pyramid.

All shapes are seen in lesson 01's small model while it runs; see `network_shapes.py`.
"""

from __future__ import annotations

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torchvision.ops.poolers import LevelMapper

import network_shapes
from figure_style import (
    BLUE,
    GRAY,
    GREEN,
    LIGHT,
    ORANGE,
    PURPLE,
    RED,
    SKY,
    SMALL,
    FigureMaker,
    arrow,
    block,
    by,
    new_card,
    plain_axes,
    rectangle,
)
from lesson_modules import MASK_RCNN

GRID_LEVEL = 1  # of the RPN's three; its map has stride 16


def draw_rpn() -> Figure:
    """One map through the region proposal network, and from its anchors to proposals."""
    shapes = network_shapes.mask_rcnn()
    objectness, offsets = (level[GRID_LEVEL][1:] for level in shapes["rpn.head"])
    channels, rows, columns = shapes["backbone"]["16"][1:]
    total = sum(A * H * W for _, A, H, W in shapes["rpn.head"][0])
    figure = new_card(6.6)
    ax = plain_axes(figure, (0, 0, 1, 1))
    _feature_map(ax, 0.45, 4.55, rows, columns)
    ax.text(1.45, 4.42, f"one map\n{by(channels, rows, columns)}", ha="center", va="top")
    block(ax, 3.0, 4.95, 1.25, 0.9, "3 × 3\nconv", GREEN)
    arrow(ax, (2.5, 5.4), (2.98, 5.4))
    block(ax, 4.85, 5.45, 2.1, 0.95, f"object or not?\n{by(*objectness)}", BLUE)
    block(ax, 4.85, 4.25, 2.1, 0.95, f"4 offsets\n{by(*offsets)}", ORANGE)
    arrow(ax, (4.27, 5.55), (4.83, 5.9))
    arrow(ax, (4.27, 5.25), (4.83, 4.75))
    A = shapes["anchors"]
    steps = (
        (f"{A} anchors a cell; three maps: {total:,} anchors", LIGHT, 2.85),
        ("offsets applied, boxes cut at the border", LIGHT, 1.9),
        ("best scores kept, then NMS", LIGHT, 0.95),
        (f"up to {shapes['most_proposals']} proposals, no class yet", PURPLE, 0.12),
    )
    arrow(ax, (5.9, 4.22), (5.9, 3.46))
    for k, (text, color, y) in enumerate(steps):
        block(ax, 0.45, y, 6.3, 0.58, text, color)
        if k:
            arrow(ax, (3.6, steps[k - 1][2] - 0.02), (3.6, y + 0.6))
    return figure


def _feature_map(ax: Axes, x: float, y: float, rows: int, columns: int) -> None:
    side = 2.0 / columns
    height = rows * side
    for k in range(rows + 1):
        ax.plot([x, x + 2], [y + k * side] * 2, color=LIGHT, linewidth=1)
    for k in range(columns + 1):
        ax.plot([x + k * side] * 2, [y, y + height], color=LIGHT, linewidth=1)
    low, left = y + 8 * side, x + 13 * side
    rectangle(ax, (left, low, left + 3 * side, low + 3 * side), GREEN, linewidth=3)


def draw_data_path() -> Figure:
    """From a photo to boxes, classes and masks, with the shape after each step."""
    shapes = network_shapes.mask_rcnn()
    levels = shapes["backbone"]
    channels = levels["4"][1]
    maps = ",  ".join(by(*shape[2:]) for shape in levels.values())
    scores, offsets = shapes["box_predictor"]
    proposals, classes = shapes["most_proposals"], scores[1]
    figure = new_card(7.7)
    ax = plain_axes(figure, (0, 0, 1, 1))
    block(ax, 0.4, 6.85, 6.4, 0.62, "photo 3 × 240 × 320", LIGHT)
    block(ax, 0.4, 5.45, 6.4, 1.0, f"backbone and pyramid, {channels} channels\n{maps}", GREEN)
    arrow(ax, (3.6, 6.83), (3.6, 6.47))
    block(ax, 0.4, 4.2, 3.5, 0.9, f"RPN (stage 1)\nN ≤ {proposals} proposals", PURPLE)
    arrow(ax, (2.15, 5.43), (2.15, 5.12))
    block(ax, 0.4, 2.75, 3.5, 1.0, f"RoIAlign 7 × 7\n{_shape('N', shapes['box_roi_pool'])}", SKY)
    arrow(ax, (2.15, 4.18), (2.15, 3.77))
    outputs = f"box head (stage 2)\nscores {_shape('N', scores)}\noffsets {_shape('N', offsets)}"
    block(ax, 0.4, 0.95, 3.5, 1.4, outputs, BLUE)
    arrow(ax, (2.15, 2.73), (2.15, 2.37))
    aligned = f"RoIAlign\n{_shape('n', shapes['mask_roi_pool'])}"
    block(ax, 4.3, 2.95, 2.5, 0.9, aligned, ORANGE)
    block(ax, 4.3, 0.95, 2.5, 1.4, f"mask head\n{_shape('n', shapes['mask_predictor'])}", ORANGE)
    arrow(ax, (5.55, 2.93), (5.55, 2.37))
    arrow(ax, (5.55, 5.43), (5.55, 3.87))
    arrow(ax, (3.92, 1.9), (4.6, 2.93), connectionstyle="arc3,rad=-0.1", color=GRAY)
    text = f"n: boxes left after NMS.  {classes} = person + background"
    ax.text(3.6, 0.7, text, ha="center", va="top")
    ax.text(3.6, 0.36, "without the orange part: Faster R-CNN", ha="center", va="top")
    return figure


def _shape(first: str, shape: tuple[int, ...]) -> str:
    """Write a shape whose first number depends on the photo."""
    return f"{first} × {by(*shape[1:])}"


def draw_fpn() -> Figure:
    """The backbone's maps, their sums from coarse to fine, and the pyramid made of the sums."""
    shapes = network_shapes.mask_rcnn()
    bodies = [shape[1:] for shape in shapes["backbone.body"]]
    levels = [shape[1:] for shape in shapes["backbone"].values()]
    strides = list(shapes["backbone"])
    sums = [shape[1:] for shape in shapes["backbone.inner"]]
    figure = new_card(5.6)
    ax = plain_axes(figure, (0, 0, 1, 1))
    columns = ((1.15, "backbone"), (3.62, "sums"), (6.08, "pyramid"))
    for x, name in columns:
        ax.text(x, 5.4, name, ha="center", va="top", fontweight="bold")
    for k, maps in enumerate(zip(bodies, sums, levels, strict=True)):
        y = 0.25 + 1.25 * k
        for (x, _), shape, color in zip(columns, maps, (GREEN, SKY, BLUE), strict=True):
            text = f"{by(*shape)}\nstride {strides[k]}" if color == GREEN else by(*shape)
            block(ax, x - 0.85, y, 1.7, 0.8, text, color)
        for x, kernel in ((2.38, "1 × 1"), (4.85, "3 × 3")):
            arrow(ax, (x - 0.36, y + 0.4), (x + 0.36, y + 0.4))
            ax.text(x, y + 0.47, kernel, ha="center", va="bottom", fontsize=SMALL)
        if k:
            arrow(ax, (1.15, y - 0.43), (1.15, y - 0.02), GREEN)
            arrow(ax, (3.62, y - 0.02), (3.62, y - 0.43), RED)
            ax.text(3.74, y - 0.22, "enlarge, add", va="center")
    return figure


def draw_levels() -> Figure:
    """From which map of the pyramid a box is read, by torchvision's own rule."""
    sides = torch.arange(16, 900, 2.0)
    boxes = torch.stack((0 * sides, 0 * sides, sides, sides), dim=1)
    ours = MASK_RCNN.load("model").CANONICAL_SCALE
    figure = new_card(2.9)
    ax = figure.add_axes((0.12, 0.25, 0.85, 0.68))
    for scale, color, label in ((224, ORANGE, "paper: 224"), (ours, BLUE, f"lesson 01: {ours}")):
        levels = LevelMapper(2, 5, canonical_scale=scale)([boxes]) + 2
        ax.plot(sides, 2.0 ** levels.numpy(), color=color, linewidth=3, label=label)
    ax.set_xscale("log", base=2)
    ax.set_yscale("log", base=2)
    ax.set(xlabel="√(width × height) of the box, pixels", ylabel="stride")
    ax.set_xticks(2 ** np.arange(5, 10), [str(2**k) for k in range(5, 10)])
    ax.set_yticks([4, 8, 16, 32], ["4", "8", "16", "32"])
    ax.minorticks_off()
    ax.legend(loc="upper left", borderpad=0)
    return figure


MAKERS = (
    FigureMaker("rpn.svg", draw_rpn, "the region proposal network, with the shapes of lesson 01"),
    FigureMaker("mask_r_cnn.svg", draw_data_path, "the data path of Faster and Mask R-CNN"),
    FigureMaker("fpn.svg", draw_fpn, "the feature pyramid of lesson 01"),
    FigureMaker("fpn_levels.svg", draw_levels, "which map of the pyramid a box is read from"),
)
