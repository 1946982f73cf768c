"""What all figures share: size, colours, the light card, and how they are saved.

A figure is a light card with round corners and nothing around it, so it is readable on a white
page and on a black one. It is 7.2 inches wide; on a phone that shows it 360 pixels wide, FONT
becomes 10 pixels and SMALL 9.

The colours are the colour-blind-safe ones of Okabe and Ito ("Color Universal Design", 2008).
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, PathPatch, Polygon, Rectangle
from matplotlib.path import Path
from matplotlib.text import Text
from matplotlib.transforms import Affine2D
from PIL import Image, PngImagePlugin

ORANGE, SKY, GREEN, BLUE = "#e69f00", "#56b4e9", "#009e73", "#0072b2"
RED, PURPLE, GRAY, LIGHT = "#d55e00", "#cc79a7", "#8a8a8a", "#d9d9d4"
INK, CARD, EDGE = "#222222", "#fcfbf7", "#c9c8c2"
OCHRE = "#8a5f00"  # orange, dark enough for letters
OBJECT_COLORS = (ORANGE, SKY, GREEN, RED, PURPLE, BLUE, "#f0e442")

WIDTH = 7.2  # inches
FONT, SMALL = 15, 13.5  # points
ROUND = 0.12  # inches, radius of the card's corners
PNG_DPI = 115
PNG_COLORS = 128  # and one more for "transparent"

SETTINGS = {
    "font.family": "DejaVu Sans",  # comes with matplotlib, so every machine has it
    "font.size": FONT,
    "axes.titlesize": FONT,
    "axes.labelsize": FONT,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "legend.fontsize": SMALL,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": GRAY,
    "axes.facecolor": "none",
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "svg.hashsalt": "figures",
    "svg.fonttype": "path",  # letters as outlines: no reader needs the font
    "path.simplify": False,
}


@dataclass(frozen=True)
class FigureMaker:
    """One figure of the notes.

    Attributes:
        name: of the file in assets/, with its ending.
        draw: makes the figure.
        shows: one line, for `--list`.
    """

    name: str
    draw: Callable[[], Figure]
    shows: str

    def save(self) -> bytes:
        """Draw the figure and return the bytes of its file."""
        with mpl.rc_context(SETTINGS):
            figure = self.draw()
            return as_svg(figure) if self.name.endswith(".svg") else as_png(figure)


def new_card(height: float, width: float = WIDTH) -> Figure:
    """Make an empty card of this height and width in inches."""
    figure = Figure(figsize=(width, height))
    figure.patch.set_alpha(0)
    inset = 0.7  # points, half of the edge and a little
    card = FancyBboxPatch(
        (inset, inset),
        width * 72 - 2 * inset,
        height * 72 - 2 * inset,
        boxstyle=f"round,pad=0,rounding_size={ROUND * 72}",
        facecolor=CARD,
        edgecolor=EDGE,
        linewidth=1,
        zorder=-10,
        transform=Affine2D().scale(1 / 72) + figure.dpi_scale_trans,
    )
    figure.add_artist(card)
    return figure


def plain_axes(
    figure: Figure,
    place: Sequence[float],
    xlim: tuple[float, float] | None = None,
    ylim: tuple[float, float] | None = None,
) -> Axes:
    """Add axes without frame and ticks.

    Args:
        figure: the card.
        place: left, bottom, width, height, as fractions of the card.
        xlim: left and right; default are the place's own inches, from 0.
        ylim: bottom and top; the same.
    """
    ax = figure.add_axes(tuple(place))
    width, height = figure.get_size_inches()
    ax.set(xlim=xlim or (0, place[2] * width), ylim=ylim or (0, place[3] * height))
    ax.axis("off")
    return ax


def picture_axes(figure: Figure, place: Sequence[float], size: tuple[float, float]) -> Axes:
    """Add axes in the pixels of a picture of (width, height): y down, a thin frame, no ticks."""
    ax = figure.add_axes(tuple(place))
    ax.set(xlim=(0, size[0]), ylim=(size[1], 0), xticks=[], yticks=[], aspect="equal")
    for spine in ax.spines.values():
        spine.set(visible=True, color=GRAY)
    return ax


def block(
    ax: Axes, x: float, y: float, width: float, height: float, text: str, color: str = LIGHT
) -> None:
    """Draw a labelled box; x, y is its lower left corner."""
    ax.add_patch(
        FancyBboxPatch(
            (x, y),
            width,
            height,
            boxstyle="round,pad=0,rounding_size=0.06",
            facecolor=mpl.colors.to_rgba(color, 0.28),
            edgecolor=color,
            linewidth=1.5,
        )
    )
    ax.text(x + width / 2, y + height / 2, text, ha="center", va="center", linespacing=1.25)


def arrow(
    ax: Axes,
    start: tuple[float, float],
    end: tuple[float, float],
    color: str = INK,
    **style: object,
) -> None:
    """Draw an arrow between two points of the axes."""
    options = {"arrowstyle": "-|>", "mutation_scale": 16, "linewidth": 1.6, "shrinkA": 0}
    options |= {"shrinkB": 0, "color": color}
    ax.add_patch(FancyArrowPatch(start, end, **(options | style)))


def rectangle(ax: Axes, box_xyxy: Iterable[float], color: str, **style: object) -> None:
    """Draw the outline of a box, x1, y1, x2, y2."""
    x1, y1, x2, y2 = (float(value) for value in box_xyxy)
    options = {"fill": False, "edgecolor": color, "linewidth": 2} | style
    ax.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, **options))


def rectangles(ax: Axes, boxes_xyxy: np.ndarray, color: str, **style: object) -> None:
    """Draw many boxes (N, 4) as one path, which keeps the file small."""
    x1, y1, x2, y2 = np.asarray(boxes_xyxy, dtype=float).T.round(1)
    corners = np.stack((x1, y1, x2, y1, x2, y2, x1, y2, x1, y1), axis=1).reshape(-1, 5, 2)
    outline = Path.make_compound_path(*(Path(one, closed=True) for one in corners))
    ax.add_patch(PathPatch(outline, **({"fill": False, "edgecolor": color} | style)))


def silhouette(ax: Axes, polygons: Iterable[np.ndarray], color: str = "#b9b8b2") -> None:
    """Fill the outlines (N, 2) of an object."""
    for polygon in polygons:
        ax.add_patch(Polygon(polygon, closed=True, facecolor=color, edgecolor="none"))


def by(*sides: int) -> str:
    """Write sizes as people do: 13 x 13."""
    return " × ".join(f"{side:,}" for side in sides)


def texts(figure: Figure) -> list[str]:
    """All words of a figure, in the order in which they are drawn."""
    return [one.get_text() for one in figure.findobj(Text) if one.get_visible() and one.get_text()]


def as_svg(figure: Figure) -> bytes:
    """Return the figure as SVG; drawn twice, the bytes are the same."""
    buffer = io.BytesIO()
    metadata = {"Date": None, "Creator": None}
    figure.savefig(buffer, format="svg", metadata=metadata, facecolor="none")
    lines = buffer.getvalue().decode().splitlines()
    return "".join(f"{line.rstrip()}\n" for line in lines).encode()


def as_png(figure: Figure) -> bytes:
    """Return the figure as a PNG of few colours, one of them transparent, with its words in it."""
    canvas = FigureCanvasAgg(figure)
    figure.set_dpi(PNG_DPI)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())
    picture = Image.fromarray(np.ascontiguousarray(pixels[..., :3]))
    small = picture.quantize(PNG_COLORS, method=Image.Quantize.MEDIANCUT, kmeans=2)
    indices = np.asarray(small).copy()
    indices[pixels[..., 3] < 128] = PNG_COLORS
    result = Image.fromarray(indices)
    result.putpalette((small.getpalette() + [0] * 768)[: 3 * PNG_COLORS] + [255] * 3)
    about = PngImagePlugin.PngInfo()
    about.add_itxt("words", "\n".join(texts(figure)))
    buffer = io.BytesIO()
    result.save(buffer, "PNG", optimize=True, transparency=PNG_COLORS, pnginfo=about)
    return buffer.getvalue()
