"""Pictures that move with sliders in a running notebook, and stand still elsewhere.

A slider needs a running kernel: on GitHub or in a printed page it would be an empty box. Where the
environment variable STILL_PICTURES is set, `explore` draws the picture once, with the sliders'
first values. The tool that executes the stored notebooks sets it.
"""

import os
from collections.abc import Callable

import ipywidgets
import matplotlib.pyplot as plt
from IPython.display import display

STILL_PICTURES = "STILL_PICTURES"
STEPS = 100  # of each slider
DOTS_PER_INCH = 100

Range = tuple[float, float, float]  # first value, lowest, highest


def explore(
    draw: Callable[..., object], figsize: tuple[float, float] = (4.4, 3.8), **ranges: Range
) -> ipywidgets.interactive | None:
    """Show a picture with one slider for each number it depends on.

    Args:
        draw: called as draw(ax, name=value, ...) on new axes, each time a slider was moved.
        figsize: width and height in inches.
        ranges: for each name its first value, lowest and highest value.

    Returns:
        The sliders with the picture, to be the last value of a cell; None where pictures stand
        still: then the picture has been shown.

    Raises:
        ValueError: a first value outside its range.
    """
    for name, (first, low, high) in ranges.items():
        if not low <= first <= high:
            raise ValueError(f"{name} begins at {first}; allowed is {low} to {high}")

    def show(**values: float) -> None:
        fig, ax = plt.subplots(figsize=figsize, dpi=DOTS_PER_INCH, layout="constrained")
        draw(ax, **values)
        display(fig)
        plt.close(fig)  # otherwise it would be shown a second time

    if os.environ.get(STILL_PICTURES):
        show(**{name: first for name, (first, _, _) in ranges.items()})
        return None
    sliders = {
        name: ipywidgets.FloatSlider(
            value=first,
            min=low,
            max=high,
            step=(high - low) / STEPS,
            description=name.replace("_", " "),
            continuous_update=False,
        )
        for name, (first, low, high) in ranges.items()
    }
    return ipywidgets.interactive(show, **sliders)
