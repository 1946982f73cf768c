"""Figures of semantic segmentation: FCN's coarse maps, U-Net, atrous convolution, losses."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure

import network_shapes
from figure_style import (
    BLUE,
    FONT,
    GRAY,
    GREEN,
    INK,
    LIGHT,
    OCHRE,
    ORANGE,
    PURPLE,
    RED,
    SMALL,
    FigureMaker,
    arrow,
    block,
    by,
    new_card,
    picture_axes,
    plain_axes,
)
from lesson_modules import SEMANTIC
from street_scene import predictions, scene, semantic_map

RATES = (1, 2, 3)
REACH = 4  # cells that the atrous figure shows to each side
ALMOST_SURE = 0.9
LIGHT_LETTERS_ABOVE = 0.7  # share of a cell of the confusion matrix


def class_names() -> tuple[str, ...]:
    """The classes of the street scenes, in the order of their labels."""
    return SEMANTIC.load("common.street.scenes").SEMANTIC_CLASSES


def draw_fcn() -> Figure:
    """The true label map, and the most frequent class in cells of 8, 16 and 32 pixels."""
    truth = torch.from_numpy(scene().semantic)
    colorize = SEMANTIC.load("common.masks.overlays").colorize
    figure = new_card(5.9)
    for k, cell in enumerate((1, 8, 16, 32)):
        labels = coarsest(truth, cell)
        matrix = SEMANTIC.load("metrics").ConfusionMatrix(len(class_names()))
        matrix.update(labels, truth)
        row, column = divmod(k, 2)
        place = (0.02 + 0.485 * column, 0.52 - 0.49 * row, 0.475, 0.41)
        ax = picture_axes(figure, place, (320, 240))
        ax.imshow(colorize(labels.numpy()), extent=(0, 320, 240, 0), interpolation="nearest")
        title = f"cells of {cell}: {matrix.mean_iou():.2f}" if k else "truth: mean IoU 1"
        ax.set_title(title, fontsize=FONT)
    return figure


def coarsest(labels: torch.Tensor, cell: int) -> torch.Tensor:
    """Replace every cell x cell block of a label map (H, W) by its most frequent class."""
    one_hot = F.one_hot(labels.long(), len(class_names())).permute(2, 0, 1)[None].float()
    best = F.avg_pool2d(one_hot, cell, ceil_mode=True).argmax(1)[0]  # (H / cell, W / cell)
    height, width = labels.shape
    return best.repeat_interleave(cell, 0).repeat_interleave(cell, 1)[:height, :width]


def draw_unet() -> Figure:
    """The encoder's maps down, the decoder's up, and the skip connections between them."""
    shapes = network_shapes.unet()
    encoder, up = shapes["encoder"], shapes["up"][::-1]
    figure = new_card(6.5)
    ax = plain_axes(figure, (0, 0, 1, 1))
    step, height = 1.02, 0.66
    ax.text(1.75, 6.32, f"picture {by(*shapes['input'][1:])}", ha="center", va="top")
    ax.text(5.45, 6.32, f"logits {by(*shapes['head'][1:])}", ha="center", va="top")
    arrow(ax, (1.75, 6.05), (1.75, 5.77))
    arrow(ax, (5.45, 5.77), (5.45, 6.05), PURPLE)
    ax.text(5.6, 5.91, "1 × 1", va="center")
    for k, shape in enumerate(encoder):
        y = 5.1 - step * k
        last = k == len(encoder) - 1
        x = 3.6 if last else 1.75 + 0.12 * k
        block(ax, x - 1.15, y, 2.3, height, by(*shape[1:]), GREEN)
        if k:
            start = 1.75 + 0.12 * (k - 1)
            arrow(ax, (start, y + step - 0.02), (max(start, x - 1.0), y + height + 0.02), RED)
        if not last:
            right = 5.45 - 0.12 * k
            block(ax, right - 1.15, y, 2.3, height, by(*up[k][1:]), BLUE)
            arrow(ax, (x + 1.17, y + height / 2), (right - 1.17, y + height / 2), ORANGE)
            below = 4.6 if k == len(encoder) - 2 else right - 0.12
            arrow(ax, (below, y - step + height + 0.02), (min(right, below + 0.12), y - 0.02), BLUE)
    ax.text(0.25, 0.72, "down:\n2 × 2 pooling", color=RED, va="center", linespacing=1.2)
    ax.text(6.95, 0.72, "up × 2", color=BLUE, va="center", ha="right")
    ax.text(
        3.6,
        0.32,
        "across: the encoder's map is put beside it",
        ha="center",
        va="center",
        color=OCHRE,
    )
    return figure


def draw_atrous() -> Figure:
    """Which cells one output reads, seen by the gradient of a real convolution."""
    figure = new_card(3.75)
    side = 2 * REACH + 1
    for k, rate in enumerate(RATES):
        image = torch.zeros(1, 1, side, side, requires_grad=True)
        output = F.conv2d(image, torch.ones(1, 1, 3, 3), padding=rate, dilation=rate)
        output[0, 0, REACH, REACH].backward()
        rows, columns = image.grad[0, 0].nonzero().T.numpy()
        ax = picture_axes(figure, (0.025 + 0.325 * k, 0.30, 0.30, 0.58), (side, side))
        for line in range(1, side):
            ax.axvline(line, color=LIGHT, linewidth=0.8)
            ax.axhline(line, color=LIGHT, linewidth=0.8)
        ax.plot(columns + 0.5, rows + 0.5, "s", color=BLUE, markersize=11)
        ax.plot(REACH + 0.5, REACH + 0.5, "s", color=RED, markersize=11)
        ax.set_title(f"rate {rate}", fontweight="bold")
        span = int(rows.max() - rows.min()) + 1
        text = f"{by(span, span)} cells"
        figure.text(0.175 + 0.325 * k, 0.27, text, ha="center", va="top")
    rates = ", ".join(map(str, network_shapes.deeplab()["rates"]))
    text = f"nine weights each; DeepLabV3 in lesson 03: {rates}"
    figure.text(0.5, 0.06, text, ha="center", va="bottom", fontsize=SMALL)
    return figure


def draw_losses() -> Figure:
    """Cross-entropy and focal loss of one pixel, by lesson 03's functions."""
    losses = SEMANTIC.load("losses")
    probability = torch.linspace(0.02, 0.999, 120)
    figure = new_card(3.3)
    ax = figure.add_axes((0.12, 0.2, 0.85, 0.74))
    curves = ((0.0, BLUE, "cross-entropy (γ = 0)"), (2.0, ORANGE, "focal, γ = 2"))
    for gamma, color, name in curves:
        values = [_loss_of(losses, p, gamma) for p in probability]
        ax.plot(probability, values, color=color, linewidth=3, label=name)
    sure = [_loss_of(losses, torch.tensor(ALMOST_SURE), gamma) for gamma, _, _ in curves]
    ax.plot([ALMOST_SURE] * 2, sure, "o", color=INK)
    text = f"p = {ALMOST_SURE}: {sure[0]:.3f} against {sure[1]:.4f}"
    ax.annotate(
        text,
        (ALMOST_SURE, sure[0]),
        (0.98, 1.25),
        ha="right",
        arrowprops={"arrowstyle": "-", "color": GRAY, "shrinkB": 4},
    )
    ax.set(xlabel="probability p of the true class", ylim=(0, 4), xlim=(0, 1))
    ax.set(yticks=range(5), xticks=(0, 0.5, 1))
    ax.legend(loc="upper right", borderpad=0)
    return figure


def _loss_of(losses: object, probability: torch.Tensor, gamma: float) -> float:
    """The focal loss of one pixel of two classes whose true class has this probability."""
    logits = torch.stack((probability.log(), (1 - probability).log())).view(1, 2, 1, 1)
    return losses.focal_loss(logits, torch.zeros(1, 1, 1, dtype=torch.long), gamma).item()


def draw_confusion() -> Figure:
    """Lesson 03's prediction of the scene as a confusion matrix, with each class's IoU."""
    names = class_names()
    truth = torch.from_numpy(scene().semantic)
    matrix = SEMANTIC.load("metrics").ConfusionMatrix(len(names))
    matrix.update(torch.from_numpy(semantic_map(predictions())).long(), truth)
    counts = matrix.counts.numpy().astype(float)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    K = len(names)
    figure = new_card(6.3)
    ax = figure.add_axes((0.2, 0.04, 0.64, 0.64 * 7.2 / 6.3))
    ax.pcolormesh(np.arange(K), np.arange(K), share, cmap="Blues", vmin=0, vmax=1.3)
    ax.set_ylim(K - 0.5, -0.5)
    for row, column in np.argwhere(share >= 0.005):
        text = f"{share[row, column]:.2f}".removeprefix("0") if share[row, column] < 1 else "1"
        color = "white" if share[row, column] > LIGHT_LETTERS_ABOVE else INK
        ax.text(column, row, text, ha="center", va="center", fontsize=SMALL, color=color)
    iou = ["–" if np.isnan(value) else f"{value:.2f}" for value in matrix.iou().tolist()]
    for k in range(K):
        ax.text(K - 0.3, k, iou[k], va="center", fontweight="bold", color=BLUE)
    ax.text(K - 0.3, -0.75, "IoU", va="bottom", fontweight="bold", color=BLUE)
    ax.set_xticks(range(K), names, rotation=60, ha="left", rotation_mode="anchor")
    ax.set_yticks(range(K), names)
    ax.xaxis.tick_top()
    ax.tick_params(length=0)
    ax.set_ylabel("true class")
    figure.text(0.2, 0.955, f"predicted as …      mean IoU {matrix.mean_iou():.2f}", ha="left")
    return figure


MAKERS = (
    FigureMaker("fcn.png", draw_fcn, "a label map in cells of 8, 16 and 32 pixels"),
    FigureMaker("unet.svg", draw_unet, "U-Net with the shapes of lesson 03"),
    FigureMaker("atrous.svg", draw_atrous, "which cells a kernel reads at rates 1, 2 and 3"),
    FigureMaker("losses.svg", draw_losses, "cross-entropy and focal loss of one pixel"),
    FigureMaker("confusion.svg", draw_confusion, "confusion matrix of one predicted scene"),
)
