"""Checks of single values of a label file: numbers, boxes, class names.

A detector that meets a class number it has no output for, a NaN or a box without area stops with
an index error far from the cause, or learns nothing and says nothing. So every value is checked
once, while the file and the line are still known.
"""

from __future__ import annotations

import math
import re
import reprlib
from collections.abc import Callable, Sequence
from pathlib import Path

from common.findings import DataError

# Annotation tools round: up to one pixel over the border is cut off, more is reported.
BORDER_TOLERANCE = 1.0
# Thinner boxes can lose their area to rounding when float32 pixels are scaled.
SMALLEST_SIDE = 0.01
LARGEST_ID = 2**63 - 1
LARGEST_IMAGE_SIDE = 65535
# At most 40 digits in a row: an expression without bound needs quadratic time on a long one.
NUMBER = re.compile(r"[+-]?(\d{1,40}(\.\d{0,40})?|\.\d{1,40})([eE][+-]?\d{1,3})?", re.ASCII)
FLAGS = {"0": 0, "1": 1, "false": 0, "true": 1, "no": 0, "yes": 1}
Mend = Callable[[str], None]


class AnnotationError(DataError):
    """Say which annotation or folder cannot be used, and why."""


def shown(value: object) -> str:
    """Quote a value for an error message, short enough for one line."""
    return reprlib.repr(value)


def number(value: object, name: str) -> float:
    """Return a finite float from a JSON number, or from text that is nothing but one number.

    Raises:
        AnnotationError: it is something else, NaN or infinite.
    """
    if isinstance(value, str) and NUMBER.fullmatch(value.strip()):
        value = float(value)
    if isinstance(value, str) and value.strip().lower().lstrip("+-") in ("nan", "inf", "infinity"):
        raise AnnotationError(f"{name} is {shown(value)}, not a finite number")
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise AnnotationError(f"{name} is {shown(value)}, not a number")
    if not abs(value) < 1e12:
        raise AnnotationError(f"{name} is {shown(value)}, not a finite number")
    return float(value)


def whole_number(value: object, name: str, low: int, high: int = LARGEST_ID) -> int:
    """Return an int between `low` and `high`, both allowed, from 7, 7.0, "7" or "7.0".

    Raises:
        AnnotationError: it is no whole number or lies outside.
    """
    whole = value
    if isinstance(whole, str) and re.fullmatch(r"\s*[+-]?\d{1,19}\s*", whole, re.ASCII):
        whole = int(whole)
    elif isinstance(whole, str) and NUMBER.fullmatch(whole.strip()):
        whole = float(whole)
    if isinstance(whole, float) and abs(whole) < 2**53 and whole == int(whole):
        whole = int(whole)
    if isinstance(whole, bool) or not isinstance(whole, int):
        raise AnnotationError(f"{name} is {shown(value)}, not a whole number")
    if not low <= whole <= high:
        raise AnnotationError(f"{name} is {shown(value)}; allowed is {low} to {high}")
    return whole


def flag(value: object, name: str) -> int:
    """Return 0 or 1 from 0, 1, true, false, the same as text, or nothing at all (0).

    Raises:
        AnnotationError: it is something else.
    """
    if value is None:
        return 0
    if isinstance(value, str) and value.strip().lower() in FLAGS:
        return FLAGS[value.strip().lower()]
    return int(value) if isinstance(value, bool) else whole_number(value, name, 0, 1)


def side(value: object) -> int | None:
    """Return a width or height in pixels, or None where a tool has not written the real one.

    Tools write 0, -1, null or nothing for a size they do not know.

    Raises:
        AnnotationError: it is no number, or too large.
    """
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    known = whole_number(round(number(value, "size")), "size", -1, LARGEST_IMAGE_SIDE)
    return known if known > 0 else None


def ordered(box_xyxy: Sequence[float], mend: Mend) -> tuple[float, float, float, float]:
    """Return the box with its corners in order: left, top, right, bottom."""
    x1, y1, x2, y2 = box_xyxy
    if x2 < x1 or y2 < y1:
        mend("corners of a box put in order")
    return min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)


def check_box(
    box_xyxy: Sequence[float], width: int, height: int
) -> tuple[float, float, float, float]:
    """Return the box cut to the image, which may take off up to `BORDER_TOLERANCE` pixels a side.

    Args:
        box_xyxy: left, top, right, bottom edge in pixels.
        width: the image's width in pixels.
        height: the image's height in pixels.

    Raises:
        AnnotationError: an edge is not finite, there is no area, or the box leaves the image.
    """
    text = "(" + ", ".join(f"{edge:.6g}" for edge in box_xyxy) + ")"
    if not all(math.isfinite(edge) for edge in box_xyxy):
        raise AnnotationError(f"box {text} is not finite")
    x1, y1, x2, y2 = box_xyxy
    if x2 - x1 < SMALLEST_SIDE or y2 - y1 < SMALLEST_SIDE:
        raise AnnotationError(f"box {text} has no area (x1, y1, x2, y2 in pixels)")
    if x2 <= 0 or y2 <= 0 or x1 >= width or y1 >= height:
        raise AnnotationError(f"box {text} lies outside the {width} x {height} image")
    if max(-x1, -y1, x2 - width, y2 - height) > BORDER_TOLERANCE:
        raise AnnotationError(f"box {text} leaves the {width} x {height} image")
    cut = (max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height)))
    if cut[2] - cut[0] < SMALLEST_SIDE or cut[3] - cut[1] < SMALLEST_SIDE:
        raise AnnotationError(f"box {text} has no area inside the {width} x {height} image")
    return cut


def check_class_names(names: Sequence[object], source: Path | str) -> tuple[str, ...]:
    """Return the names as a tuple: at least one, none empty, none twice, all printable text.

    White space around a name is no part of it.

    Raises:
        AnnotationError: a name breaks one of these.
    """
    if not names:
        raise AnnotationError(f"{source}: no class is named")
    kept: list[str] = []
    for index, name in enumerate(names):
        stripped = name.strip() if isinstance(name, str) else ""
        if not stripped or not stripped.isprintable():
            raise AnnotationError(f"{source}: class name {index} is {shown(name)}")
        if stripped in kept:
            raise AnnotationError(f"{source}: class name {shown(stripped)} appears twice")
        kept.append(stripped)
    return tuple(kept)
