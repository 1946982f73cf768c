"""COCO's two mask notations, polygons and run lengths (RLE), checked and drawn by pycocotools.

pycocotools trusts what it is given: run lengths that do not add up, or a corner a billion pixels
away, make its C code write past its memory or ask for all of it. So both are checked first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from pycocotools import mask as mask_utils

from common.labels.records import ObjectRecord
from common.labels.values import (
    BORDER_TOLERANCE,
    AnnotationError,
    number,
    shown,
    whole_number,
)

LONGEST_RUN_CODE = 12  # characters of 5 bits: more than a 32-bit run length needs


def check_segmentation(segmentation: Any, width: int, height: int) -> Any:
    """Return a segmentation that can be drawn, or None for an empty one.

    Args:
        segmentation: list of polygons, RLE dict with "size" [H, W] and "counts" (a list, or the
            compressed text), None or an empty list.
        width: the image's width in pixels.
        height: the image's height in pixels.

    Returns:
        The polygons as lists of floats, or an RLE with compressed `counts` as bytes.

    Raises:
        AnnotationError: a wrong type, a polygon that leaves the image or has fewer than three
            corners, run lengths that do not fill the image, or a mask without a single pixel.
    """
    if segmentation is None or segmentation == []:
        return None
    if isinstance(segmentation, list):
        checked = [_check_polygon(polygon, width, height) for polygon in segmentation]
    elif isinstance(segmentation, dict):
        checked = _check_rle(segmentation, width, height)
    else:
        raise AnnotationError(f"segmentation is {shown(segmentation)}, not polygons or RLE")
    if mask_area(checked, width, height) == 0:
        raise AnnotationError("the mask has no area: it covers no pixel")
    return checked


def mask_area(segmentation: Any, width: int, height: int) -> int:
    """Count the pixels a checked segmentation covers."""
    return int(mask_utils.area(_rle(segmentation, width, height)))


def mask_box(segmentation: Any, width: int, height: int) -> tuple[float, float, float, float]:
    """Return the box around a checked segmentation: left, top, right, bottom edge in pixels."""
    if isinstance(segmentation, list):
        xs = [x for polygon in segmentation for x in polygon[0::2]]
        ys = [y for polygon in segmentation for y in polygon[1::2]]
        return min(xs), min(ys), max(xs), max(ys)
    x, y, w, h = mask_utils.toBbox(_rle(segmentation, width, height)).tolist()
    return x, y, x + w, y + h


def decode_masks(objects: Sequence[ObjectRecord], width: int, height: int) -> np.ndarray:
    """Draw the objects' segmentations, as uint8 0 or 1, shape (N, H, W), in the given order."""
    if not objects:
        return np.zeros((0, height, width), np.uint8)
    rles = [_rle(one.segmentation, width, height) for one in objects]
    return np.ascontiguousarray(mask_utils.decode(rles).transpose(2, 0, 1))  # (N, H, W)


def _rle(segmentation: Any, width: int, height: int) -> dict[str, Any]:
    if isinstance(segmentation, dict):
        return segmentation
    return mask_utils.merge(mask_utils.frPyObjects(segmentation, height, width))


def _check_polygon(polygon: Any, width: int, height: int) -> list[float]:
    if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2:
        raise AnnotationError(f"polygon {shown(polygon)} is not x, y of three or more corners")
    corners = [number(value, "polygon coordinate") for value in polygon]
    for values, size in ((corners[0::2], width), (corners[1::2], height)):
        if min(values) < -BORDER_TOLERANCE or max(values) > size + BORDER_TOLERANCE:
            raise AnnotationError(f"polygon {shown(polygon)} leaves the {width} x {height} image")
    return corners


def _check_rle(rle: dict[str, Any], width: int, height: int) -> dict[str, Any]:
    for key in ("size", "counts"):
        if key not in rle:
            raise AnnotationError(f"the RLE has no {key!r}")
    if rle["size"] != [height, width]:
        raise AnnotationError(f"RLE size is {shown(rle['size'])}, not [{height}, {width}]")
    compressed = isinstance(rle["counts"], str)
    runs = _decompress(rle["counts"]) if compressed else rle["counts"]
    if not isinstance(runs, list) or not runs:
        raise AnnotationError(f"RLE counts are {shown(runs)}, not run lengths")
    total = sum(whole_number(run, "run length", 0, width * height) for run in runs)
    if total != width * height:
        raise AnnotationError(f"the run lengths add up to {total}, not {width} x {height} pixels")
    if compressed:
        return {"size": [height, width], "counts": rle["counts"].encode("ascii")}
    return mask_utils.frPyObjects({"size": [height, width], "counts": runs}, height, width)


def _decompress(text: str) -> list[int]:
    """Undo COCO's text code: 5 bits a character, low ones first, from the third run a difference.

    Bit 5 of a character says that more follow; bit 4 of the last one is the sign.
    """
    runs: list[int] = []
    value = shift = 0
    for character in text:
        code = ord(character) - 48
        if not 0 <= code < 64 or shift >= 5 * LONGEST_RUN_CODE:
            raise AnnotationError(f"RLE counts {shown(text)} are not COCO's compressed text")
        value |= (code & 0x1F) << shift
        shift += 5
        if not code & 0x20:
            value -= (1 << shift) if code & 0x10 else 0
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    if shift:
        raise AnnotationError(f"RLE counts {shown(text)} end in the middle of a number")
    return runs


def rows_to_rle(
    values: Sequence[int],
    runs: Sequence[int],
    box_xywh: tuple[int, int, int, int],
    size_wh: tuple[int, int],
) -> dict[str, Any]:
    """Return runs of pixels, row by row inside a box, as COCO's run lengths of the whole image.

    Args:
        values: 0 or 1 of each run.
        runs: their lengths; they fill the box.
        box_xywh: left, top, width and height of the box in pixels.
        size_wh: width and height of the image.
    """
    left, top, width, height = box_xywh
    plane = np.zeros((size_wh[1], size_wh[0]), np.uint8, order="F")  # (H, W)
    plane[top : top + height, left : left + width] = np.repeat(values, runs).reshape(height, width)
    rle = mask_utils.encode(plane)
    return {"size": list(rle["size"]), "counts": rle["counts"].decode("ascii")}
