"""The curve of every loss over the steps, and figures written to files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from common.files import replacing

SMOOTHING = 10  # steps that a point of the curve is averaged over


def plot_losses(ax: Axes, history: Sequence[Mapping[str, float]]) -> Axes:
    """Draw each loss over the steps, smoothed.

    Args:
        ax: where to draw.
        history: one dict a step, "loss" and its terms; "epoch" and "step" are not drawn.
    """
    for name in history[0]:
        if name in ("epoch", "step"):
            continue
        values = np.array([one[name] for one in history], np.float64)
        width = min(SMOOTHING, len(values))
        smooth = np.convolve(values, np.full(width, 1 / width), "valid")
        ax.plot(np.arange(width, len(values) + 1), smooth, label=name)
    ax.set(xlabel="step", ylabel=f"loss, mean of {width} steps", yscale="log")
    above = {"loc": "lower center", "bbox_to_anchor": (0.5, 1.0)}  # it would hide curves inside
    ax.legend(ncols=3, fontsize="small", frameon=False, **above)
    return ax


def write_figure(figure: Figure, path: Path) -> Path:
    """Write a figure as a PNG, the whole of it or nothing, and return its path."""
    FigureCanvasAgg(figure)  # needs no screen, and leaves the notebook's own figures alone
    with replacing(path) as file:
        figure.savefig(file, format="png", dpi=110, bbox_inches="tight")
    return path
