"""Draw label maps: as colours, over a photo, and onto matplotlib axes.

The first colours are those of Okabe and Ito ("Color Universal Design", 2008), which readers with
any kind of colour vision can tell apart. A class always has the same colour.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Patch
from PIL import Image

from common.masks import IGNORE_INDEX

# RGB: sky blue, gray, green, yellow, dark gray, vermilion, blue, purple, orange, black
PALETTE = (
    (86, 180, 233),
    (170, 170, 170),
    (0, 158, 115),
    (240, 228, 66),
    (85, 85, 85),
    (213, 94, 0),
    (0, 114, 178),
    (204, 121, 167),
    (230, 159, 0),
    (0, 0, 0),
)
IGNORED_COLOR = (255, 255, 255)
ALPHA = 0.5


def label_color(label: int) -> tuple[int, int, int]:
    """Return the colour of a class: RGB, 0 to 255; after the tenth they repeat, darker."""
    if label == IGNORE_INDEX:
        return IGNORED_COLOR
    darkness = 1 + label // len(PALETTE)
    red, green, blue = PALETTE[label % len(PALETTE)]
    return red // darkness, green // darkness, blue // darkness


def palette_image(labels: np.ndarray) -> Image.Image:
    """Return a label map, uint8 (H, W), as a palette picture: pixels are labels, shown in colours.

    Saved as PNG, it is read back as labels by `common.masks.label_maps`, or by `numpy.array`.
    """
    picture = Image.fromarray(labels)
    picture.putpalette([level for label in range(256) for level in label_color(label)])
    return picture


def colorize(labels: np.ndarray) -> np.ndarray:
    """Return a label map, uint8 (H, W), as colours, uint8 (H, W, 3), RGB."""
    table = np.array([label_color(label) for label in range(256)], np.uint8)
    return table[labels]


def overlay(image: np.ndarray, labels: np.ndarray, alpha: float = ALPHA) -> np.ndarray:
    """Lay a label map (H, W) over an image, uint8 (H, W, 3), RGB; ignored pixels stay as they are.

    Raises:
        ValueError: their sizes differ.
    """
    if image.shape[:2] != labels.shape:
        raise ValueError(f"the image is {image.shape[:2]}, but the label map {labels.shape}")
    mixed = (1 - alpha) * image + alpha * colorize(labels)
    mixed = np.where((labels == IGNORE_INDEX)[..., None], image, mixed)
    return mixed.round().astype(np.uint8)


def show_labels(
    ax: Axes, labels: np.ndarray, image: np.ndarray | None = None, title: str = ""
) -> Axes:
    """Show a label map, over its image where one is given; return the axes."""
    ax.imshow(colorize(labels) if image is None else overlay(image, labels))
    ax.set(xticks=[], yticks=[], title=title)
    return ax


def legend_handles(class_names: Sequence[str]) -> list[Patch]:
    """Return a coloured patch for each class, for `ax.legend(handles=...)`."""
    colors = [[value / 255 for value in label_color(k)] for k in range(len(class_names))]
    return [Patch(color=c, label=name) for c, name in zip(colors, class_names, strict=True)]
