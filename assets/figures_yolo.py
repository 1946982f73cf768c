"""Figures of YOLOv3: one object on the grid, the three output scales, Darknet-53.

Layers, shapes and anchors come from lesson 02's darknet/networks/yolov3.cfg.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

import network_shapes
from figure_style import (
    BLUE,
    GREEN,
    INK,
    LIGHT,
    OCHRE,
    ORANGE,
    RED,
    SKY,
    SMALL,
    FigureMaker,
    arrow,
    block,
    by,
    new_card,
    picture_axes,
    plain_axes,
    rectangle,
    silhouette,
)
from lesson_modules import YOLO
from street_scene import outlines, true_objects

SIDE = 416  # pixels of the network's input
SCALE_COLORS = (RED, BLUE, GREEN)


def outputs() -> list[Any]:
    """The planned [yolo] layers, from coarse to fine."""
    return [layer for layer in network_shapes.yolo_layers() if layer.kind == "yolo"]


def anchors_of(layer: Any) -> list[tuple[float, float]]:
    """Widths and heights of the anchors of one output, in pixels of the input."""
    pairs = list(zip(layer.block.anchors[::2], layer.block.anchors[1::2], strict=True))
    return [pairs[k] for k in layer.block.mask]


def draw_grid() -> Figure:
    """One object: its best anchor decides the scale, its centre the cell."""
    letterbox = YOLO.load("boxes").Letterbox(320, 240, SIDE, SIDE)
    people = [one for one in true_objects() if one["class_name"] == "person"]
    one = max(people, key=lambda person: person["mask"].sum())
    x1, y1, x2, y2 = _to_input(letterbox, one["box_xyxy"])
    sizes = torch.tensor([anchor for layer in outputs() for anchor in anchors_of(layer)])
    overlap = YOLO.load("anchors").shape_iou(torch.tensor([[x2 - x1, y2 - y1]]), sizes)[0]
    best = int(overlap.argmax())
    cells = outputs()[best // 3].out_shape[1]
    stride = SIDE // cells
    x, y = (x1 + x2) / 2, (y1 + y2) / 2
    column, row = int(x // stride), int(y // stride)
    figure = new_card(4.1)
    ax = picture_axes(figure, (0.02, 0.035, 0.53, 0.93), (SIDE, SIDE))
    for other in true_objects():
        for outline in outlines(other["mask"]):
            points = torch.from_numpy(np.tile(outline, 2))  # (N, 4): x, y, x, y
            silhouette(ax, [letterbox.to_network(points)[:, :2].numpy()], "#cfcec8")
    for k in range(1, cells):
        ax.axvline(k * stride, color=LIGHT, linewidth=0.8)
        ax.axhline(k * stride, color=LIGHT, linewidth=0.8)
    cell = (column * stride, row * stride, (column + 1) * stride, (row + 1) * stride)
    rectangle(ax, cell, RED, fill=True, facecolor=RED, alpha=0.7)
    rectangle(ax, (x1, y1, x2, y2), ORANGE, linewidth=3)
    width, height = sizes[best].tolist()
    size = by(int(width), int(height))
    rectangle(
        ax,
        (x - width / 2, y - height / 2, x + width / 2, y + height / 2),
        BLUE,
        linestyle="--",
        linewidth=2.5,
    )
    lines = (
        (f"object {x2 - x1:.0f} × {y2 - y1:.0f}", OCHRE),
        (f"best of {len(sizes)} anchors\n{size}, IoU {overlap[best]:.2f}", BLUE),
        (f"its map: {by(cells, cells)}\nstride {stride}", INK),
        (f"cell of the centre\nrow {row}, column {column}", RED),
    )
    for k, (text, color) in enumerate(lines):
        figure.text(0.585, 0.93 - 0.235 * k, text, va="top", color=color, linespacing=1.3)
    return figure


def _to_input(letterbox: Any, box_xyxy: list[int]) -> list[float]:
    return letterbox.to_network(torch.tensor([box_xyxy], dtype=torch.float32))[0].tolist()


def draw_scales() -> Figure:
    """The three maps with their anchors and shapes."""
    figure = new_card(4.35)
    total = 0
    for k, layer in enumerate(outputs()):
        channels, cells, _ = layer.out_shape
        total += cells * cells * len(layer.block.mask)
        ax = picture_axes(figure, (0.025 + 0.325 * k, 0.405, 0.30, 0.49), (SIDE, SIDE))
        for line in range(1, cells):
            for draw in (ax.axvline, ax.axhline):
                draw(line * SIDE / cells, color=LIGHT, linewidth=0.5)
        for width, height in anchors_of(layer):
            edges = ((SIDE + s * side) / 2 for s in (-1, 1) for side in (width, height))
            rectangle(ax, edges, SCALE_COLORS[k], linewidth=2.5)
        ax.set_title(f"stride {SIDE // cells}", fontweight="bold")
        sizes = "\n".join(by(int(w), int(h)) for w, h in anchors_of(layer))
        x = 0.175 + 0.325 * k
        figure.text(x, 0.375, by(channels, cells, cells), ha="center", va="top", fontsize=SMALL)
        figure.text(x, 0.305, sizes, ha="center", va="top", color=SCALE_COLORS[k], linespacing=1.15)
    block_ = outputs()[0].block
    channels = f"{channels} = {len(block_.mask)} × (5 + {block_.classes})"
    figure.text(0.5, 0.035, f"{channels} channels;  {total:,} boxes in all", ha="center")
    return figure


def _stages() -> list[tuple[tuple[int, ...], int]]:
    """Darknet-53's stages: the shape of each map size, and how many shortcuts it has."""
    layers = network_shapes.yolo_layers()
    last = max(layer.index for layer in layers if layer.kind == "shortcut")
    stages: dict[int, list[Any]] = {}
    for layer in layers[: last + 1]:
        stages.setdefault(layer.out_shape[1], []).append(layer)
    return [
        (own[-1].out_shape, sum(layer.kind == "shortcut" for layer in own))
        for own in stages.values()
    ]


def draw_darknet() -> Figure:
    """The backbone's stages, the neck with its two ways up, and the outputs."""
    stages = _stages()
    layers = network_shapes.yolo_layers()
    last = max(layer.index for layer in layers if layer.kind == "shortcut")
    convolutions = sum(layer.kind == "convolutional" for layer in layers[: last + 1])
    figure = new_card(7.4)
    ax = plain_axes(figure, (0, 0, 1, 1))
    title = {"ha": "center", "va": "top", "fontweight": "bold"}
    ax.text(1.3, 7.3, f"Darknet-53:\n{convolutions} convolutions", **title)
    ax.text(3.72, 4.02, "neck", **title)
    ax.text(6.05, 4.02, "outputs", **title)
    for k, (shape, blocks) in enumerate(stages):
        y = 5.85 - 1.13 * k
        words = f"{by(*shape)}\n" + (f"{blocks} × block" if blocks else "3 × 3 convolution")
        block(ax, 0.25, y, 2.1, 0.76, words, GREEN)
        if k:
            arrow(ax, (1.3, y + 1.13), (1.3, y + 0.78))
    for k, (output, neck) in enumerate(zip(outputs(), _necks(), strict=True)):
        y = 0.2 + 1.13 * k
        block(ax, 2.8, y, 1.85, 0.76, by(*neck), ORANGE)
        block(ax, 5.1, y, 1.9, 0.76, by(*output.out_shape), SKY)
        arrow(ax, (2.37, y + 0.38), (2.78, y + 0.38))
        arrow(ax, (4.67, y + 0.38), (5.08, y + 0.38))
        if k:
            arrow(ax, (3.0, y - 0.35), (3.0, y - 0.02), RED)
            ax.text(3.12, y - 0.18, "1 × 1, twice the size, join", va="center", fontsize=SMALL)
    return figure


def _necks() -> list[tuple[int, ...]]:
    """The map that each output is made of, by two convolutions; the way up starts there too."""
    layers = network_shapes.yolo_layers()
    return [layers[layer.index - 3].out_shape for layer in outputs()]


MAKERS = (
    FigureMaker("yolo_grid.svg", draw_grid, "which cell and anchor of YOLOv3 answer for an object"),
    FigureMaker("yolo_scales.svg", draw_scales, "YOLOv3's three output scales and nine anchors"),
    FigureMaker("darknet53.svg", draw_darknet, "Darknet-53 and the way back up"),
)
