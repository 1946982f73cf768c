"""The figures that a training leaves behind: curves, precision over recall, confusion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from common.loss_curves import plot_losses, write_figure

MOST_CURVES = 10  # classes with a curve of their own


def plot_growth(ax: Axes, epochs: Sequence[Mapping[str, Any]]) -> Axes:
    """Draw AP and AP50 over the epochs that were measured.

    Args:
        ax: where to draw.
        epochs: dicts with "epoch" (from 0) and "bbox".
    """
    x = [one["epoch"] + 1 for one in epochs]
    for name in ("AP50", "AP"):
        ax.plot(x, [one["bbox"][name] or 0.0 for one in epochs], marker="o", label=name)
    ax.set(xlabel="epoch", ylabel="on the validation photos", ylim=(0, 1))
    ax.legend(loc="lower right")
    return ax


def plot_precision(ax: Axes, curves: Mapping[str, np.ndarray]) -> Axes:
    """Draw precision over recall at IoU 0.5 of each class; of many classes, only the mean.

    Args:
        ax: where to draw.
        curves: precision (101,) by class name, as `precision_curves` returns them.
    """
    recall = np.linspace(0, 1, 101)
    known = {name: curve for name, curve in curves.items() if (curve > -1).all()}
    if known:
        mean = np.mean(list(known.values()), axis=0)
        ax.plot(recall, mean, color="black", linewidth=2, label=f"mean {mean.mean():.3f}")
    for name, curve in known.items() if len(known) <= MOST_CURVES else ():
        ax.plot(recall, curve, label=f"{name} {curve.mean():.3f}")
    ax.set(xlabel="recall", ylabel="precision at IoU 0.5", xlim=(0, 1), ylim=(0, 1.02))
    if known:
        ax.legend(loc="lower left", title="AP50")
    return ax


def plot_confusion(ax: Axes, matrix: np.ndarray, class_names: Sequence[str]) -> Axes:
    """Draw a confusion matrix; colours are shares of each row, numbers are counts.

    Args:
        ax: where to draw.
        matrix: int (C + 1, C + 1), as `confusion_matrix` returns it.
        class_names: of the first C rows and columns.
    """
    shares = matrix / matrix.sum(axis=1, keepdims=True).clip(min=1)
    ax.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    ticks = range(len(matrix))
    ax.set_xticks(ticks, [*class_names, "missed"], rotation=90)
    ax.set_yticks(ticks, [*class_names, "nothing"])
    ax.set(xlabel="found as", ylabel="is")
    if len(matrix) <= MOST_CURVES + 1:
        for (row, column), count in np.ndenumerate(matrix):
            color = "white" if shares[row, column] > 0.5 else "black"
            ax.text(column, row, str(count), ha="center", va="center", color=color)
    return ax


def write_figures(
    folder: Path,
    history: Sequence[Mapping[str, float]],
    epochs: Sequence[Mapping[str, Any]],
    curves: Mapping[str, np.ndarray],
    matrix: np.ndarray,
    class_names: Sequence[str],
) -> list[Path]:
    """Write curves.png, precision_recall.png and confusion.png and return their paths."""
    figure = Figure(figsize=(10, 4))
    left, right = figure.subplots(1, 2)
    plot_losses(left, history)
    plot_growth(right, epochs)
    side = min(10.0, 4 + 0.25 * len(matrix))
    single = {"precision_recall.png": Figure(figsize=(6, 5)), "confusion.png": Figure((side, side))}
    plot_precision(single["precision_recall.png"].subplots(), curves)
    plot_confusion(single["confusion.png"].subplots(), matrix, class_names)
    figures = {"curves.png": figure, **single}
    return [write_figure(one, folder / name) for name, one in figures.items()]
