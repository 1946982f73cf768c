"""Draw boxes and masks: onto matplotlib axes for figures, into pixels for photos and videos.

The colours are the colour-blind-safe ones of Okabe and Ito ("Color Universal Design", 2008). A
class always has the same colour, and its name is written beside it, since 80 classes share eight
colours. Where each object has a mask, a colour of its own keeps it apart from its neighbours.
"""

from collections.abc import Sequence

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

# RGB: orange, sky blue, green, yellow, blue, vermilion, purple, gray
PALETTE = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
    (153, 153, 153),
)
MASK_ALPHA = 0.5
SHADES = (1.0, 0.7, 0.4)  # of each colour, for objects that have their own


def class_color(label: int) -> tuple[int, int, int]:
    """The colour of a class: RGB, 0 to 255."""
    return PALETTE[label % len(PALETTE)]


def instance_color(number: int) -> tuple[int, int, int]:
    """The colour of object 0, 1, ... of a picture: RGB, 0 to 255; 24 of them, then they repeat."""
    shade = SHADES[number // len(PALETTE) % len(SHADES)]
    red, green, blue = PALETTE[number % len(PALETTE)]
    return round(shade * red), round(shade * green), round(shade * blue)


def text_color(background: tuple[int, int, int]) -> tuple[int, int, int]:
    """Black or white, whichever is read better on the background (RGB, 0 to 255)."""
    red, green, blue = background
    return (0, 0, 0) if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else (255, 255, 255)


def caption(label: int, score: float | None, class_names: Sequence[str] | None) -> str:
    """The text beside a box: class name (its number where there are no names) and score."""
    name = class_names[label] if class_names is not None else str(label)
    return name if score is None else f"{name} {score:.2f}"


def draw_detections(
    ax: Axes,
    image: np.ndarray,
    boxes_xyxy: Sequence[Sequence[float]] | np.ndarray,
    labels: Sequence[int] | np.ndarray,
    scores: Sequence[float] | np.ndarray | None = None,
    masks: np.ndarray | None = None,
    class_names: Sequence[str] | None = None,
    title: str = "",
) -> Axes:
    """Show an image with boxes, captions and, where given, masks.

    Args:
        ax: where to draw; its ticks are switched off.
        image: uint8 (H, W, 3), RGB.
        boxes_xyxy: (N, 4), pixels of the image.
        labels: (N,) whole numbers; they choose the colour and index `class_names`.
        scores: (N,) in [0, 1], written to two decimals; None for ground truth.
        masks: bool or 0/1 (N, H, W), laid over the image half transparent.
        class_names: name of each label.
        title: above the image.

    Returns:
        The same axes.
    """
    ax.imshow(image)
    ax.set(xticks=[], yticks=[], title=title)
    if masks is not None and len(masks):
        ax.imshow(_mask_overlay(masks, labels))
    scores = [None] * len(labels) if scores is None else scores
    for (x1, y1, x2, y2), label, score in zip(boxes_xyxy, labels, scores, strict=True):
        rgb = class_color(int(label))
        color, ink = np.array(rgb) / 255, np.array(text_color(rgb)) / 255
        ax.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, color=color, linewidth=2))
        above = y1 > 0.06 * len(image)  # a caption above the image's edge would be cut off
        ax.text(
            max(x1, 0),
            y1 if above else max(y1, 0),
            caption(int(label), score, class_names),
            color=ink,
            fontsize=8,
            verticalalignment="bottom" if above else "top",
            clip_on=True,
            bbox={"facecolor": color, "edgecolor": "none", "pad": 1},
        )
    return ax


def _mask_overlay(masks: np.ndarray, labels: Sequence[int] | np.ndarray) -> np.ndarray:
    """RGBA uint8 (H, W, 4): each mask in its class's colour, transparent elsewhere."""
    overlay = np.zeros((*np.asarray(masks).shape[1:], 4), dtype=np.uint8)
    for mask, label in zip(masks, labels, strict=True):
        overlay[np.asarray(mask, dtype=bool)] = (*class_color(int(label)), int(255 * MASK_ALPHA))
    return overlay


def annotate(
    image: np.ndarray,
    boxes_xyxy: Sequence[Sequence[float]] | np.ndarray,
    labels: Sequence[int] | np.ndarray,
    scores: Sequence[float] | np.ndarray | None = None,
    class_names: Sequence[str] | None = None,
    masks: np.ndarray | None = None,
    colors: Sequence[tuple[int, int, int]] | None = None,
) -> np.ndarray:
    """Draw masks with their outlines, boxes and captions into the pixels of a copy.

    Args:
        image, boxes_xyxy, labels, scores, class_names, masks: as in `draw_detections`.
        colors: N of RGB, 0 to 255, one for each object; None for the colours of the classes.

    Returns:
        uint8 (H, W, 3), RGB.
    """
    canvas = np.ascontiguousarray(image).copy()
    height, width = canvas.shape[:2]
    line = max(1, round(min(height, width) / 250))
    size = max(0.35, min(height, width) / 900)
    scores = [None] * len(labels) if scores is None else scores
    colors = [class_color(int(label)) for label in labels] if colors is None else colors
    if masks is not None:
        for mask, color in zip(masks, colors, strict=True):
            _lay_mask(canvas, mask, color, line)
    for box, label, score, color in zip(boxes_xyxy, labels, scores, colors, strict=True):
        x1, y1, x2, y2 = (round(float(value)) for value in box)
        cv2.rectangle(canvas, (x1, y1), (x2, y2), color, line)
        text = caption(int(label), score, class_names)
        (w, h), below = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, size, line)
        left = max(0, min(x1, width - w))
        foot = y1 - below if y1 > h + 2 * below else min(y1 + h + below, height - below)
        cv2.rectangle(canvas, (left, foot - h - below), (left + w, foot + below), color, -1)
        ink = text_color(color)
        cv2.putText(
            canvas, text, (left, foot), cv2.FONT_HERSHEY_SIMPLEX, size, ink, line, cv2.LINE_AA
        )
    return canvas


def _lay_mask(canvas: np.ndarray, mask: np.ndarray, color: tuple[int, int, int], line: int) -> None:
    """Lay a mask (H, W) over the canvas, half transparent, and draw its outlines, holes' too."""
    pixels = np.ascontiguousarray(mask, dtype=np.uint8)
    x, y, width, height = cv2.boundingRect(pixels)
    if not width:  # a mask without a pixel
        return
    place = slice(y, y + height), slice(x, x + width)  # a photo is large, and most objects are not
    inside, below = pixels[place] > 0, canvas[place]
    below[inside] = np.rint((1 - MASK_ALPHA) * below[inside] + MASK_ALPHA * np.array(color))
    outlines, _ = cv2.findContours(
        pixels[place], cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE, offset=(x, y)
    )
    cv2.drawContours(canvas, outlines, -1, color, line)
