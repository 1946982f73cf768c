"""Gray levels of black-and-white masks: as they are meant, and smoothed ones cut at the middle.

A JPEG changes the levels a little, and most along the edges; a painting program that smooths
(antialiasing), or a resize, mixes black and white there. Where that is plainly all that happened,
cutting at the middle gives back what was painted.
"""

from __future__ import annotations

import cv2
import numpy as np
from PIL import Image

MIDDLE = 128
NEAR_AN_END = 48  # levels that a JPEG's black and white stay within, but for a few pixels
MOST_BETWEEN = 0.1  # share of the pixels that may have levels of the middle half
MOST_STRAY = 0.05  # share of the pixels between black and white that may stand beside no edge
SMOOTHED_EDGE, JPEG_EDGE = 2, 8  # pixels to each side of an edge that may be changed
MOST_COLOR = 16  # difference of the channels that a gray JPEG stored as RGB may have


def gray_levels(image: Image.Image) -> np.ndarray | None:
    """Return what a file shows in gray levels, integers (H, W), or None for colours.

    White of a 1-bit file is 255, and a palette counts if all its colours that occur are gray.
    """
    if image.mode in ("1", "L") or image.mode.startswith("I"):
        return np.asarray(image.convert("L") if image.mode == "1" else image).astype(np.int64)
    rgb = np.asarray(image.convert("RGB")).astype(np.int64)  # (H, W, 3)
    allowed = MOST_COLOR if image.format in ("JPEG", "MPO") else 0
    if (rgb.max(axis=2) - rgb.min(axis=2)).max() > allowed:
        return None
    return rgb[..., 1]


def cut_jpeg(levels: np.ndarray) -> np.ndarray | None:
    """Return 0 and 255, cut at the middle, or None where the levels are not in two clusters."""
    dark, bright = levels < NEAR_AN_END, levels > 255 - NEAR_AN_END
    between = ~dark & ~bright
    stray = between & ~_at_an_edge(dark, bright, JPEG_EDGE)
    if between.mean() >= MOST_BETWEEN or stray.sum() > MOST_STRAY * between.sum():
        return None
    return np.where(levels < MIDDLE, 0, 255)


def cut_smoothed(levels: np.ndarray) -> np.ndarray | None:
    """Return 0 and 255, cut at the middle, or None where other levels stand beside no edge."""
    black, white = levels == 0, levels == 255
    middle = (levels >= MIDDLE // 2) & (levels < MIDDLE // 2 + MIDDLE)
    stray = ~black & ~white & ~_at_an_edge(black, white, SMOOTHED_EDGE)
    if middle.mean() >= MOST_BETWEEN or stray.any():
        return None
    return np.where(levels < MIDDLE, 0, 255)


def _at_an_edge(dark: np.ndarray, bright: np.ndarray, reach: int) -> np.ndarray:
    """Tell for each pixel, bool (H, W), whether both kinds lie within `reach` pixels of it."""
    around = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
    near = [cv2.dilate(one.astype(np.uint8), around) for one in (dark, bright)]
    return (near[0] & near[1]).astype(bool)
