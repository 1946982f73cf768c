"""Read mask files of any common kind as label maps, with one clear error for the rest.

A label map is uint8 (H, W): each pixel's class 0, 1, ..., or IGNORE_INDEX. What the numbers or
colours in the file mean is said by a `ClassTable`. Nothing is guessed: a number or colour that the
table does not list is an error that names the file, the value and the pixel, unless it is asked to
be ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from masks.class_table import (
    IGNORE_INDEX,
    LARGEST_VALUE,
    ClassTable,
    DataError,
    numbered_classes,
)

UNKNOWN = ("error", "ignore")
INDEX_MODES = ("1", "L", "P", "I", "I;16", "I;16B", "I;16L", "I;16N")
RGB_WEIGHTS = np.array([65536, 256, 1], dtype=np.int32)  # a colour as one number, 0xRRGGBB


def read_label_map(path: Path, table: ClassTable, unknown: str = "error") -> np.ndarray:
    """Read a mask file as labels, uint8 (H, W).

    Numbers are read from gray (1, 8, 16 bits) and palette files when the table has values, and
    from RGB files that are gray. Colours are read from RGB files, and from palette files when the
    table has colours only. Transparency is dropped.

    Args:
        path: a file stored without loss (PNG, TIFF, BMP ...).
        table: what the numbers or colours mean.
        unknown: "error", or "ignore" to give pixels that the table does not list IGNORE_INDEX.

    Raises:
        DataError: the file is missing, damaged, a JPEG, holds a value or colour that the table
            does not list, or is coloured while the table has no colours.
        ValueError: `unknown` is neither of the two.
    """
    if unknown not in UNKNOWN:
        raise ValueError(f"unknown is {unknown!r}; allowed are {', '.join(UNKNOWN)}")
    image = _read(path)
    if image.mode in INDEX_MODES and table.values is not None:
        return _from_values(np.asarray(image).astype(np.int64), path, table, unknown)
    rgb = np.asarray(image.convert("RGB")).astype(np.int32)  # (H, W, 3)
    if table.colors is not None:
        return _from_colors(rgb, path, table, unknown)
    if (rgb == rgb[..., :1]).all():
        return _from_values(rgb[..., 0].astype(np.int64), path, table, unknown)
    raise DataError(f"{path} is a colour mask, but {table.source} gives no colors for the classes")


def number_classes(masks: Sequence[Path]) -> ClassTable:
    """Number the classes of index masks that come without a table; unreadable ones are passed over.

    Raises:
        DataError: a mask has a palette or colours, the numbers are not 0, 1, ... and 255, or no
            mask is readable.
    """
    found: set[int] = set()
    broken: DataError | None = None
    for mask in masks:
        try:
            image = _read(mask)
        except DataError as error:
            broken = error
            continue
        kind = "palette" if image.mode == "P" else "color"
        if kind == "palette" or image.mode not in INDEX_MODES:
            raise DataError(
                f"{mask} is a {kind} mask and there is no class table: write classes.json beside "
                "the pictures, which says what its values or colors mean"
            )
        found |= set(np.unique(np.asarray(image).astype(np.int64)).tolist())
    if broken is not None and not found:
        raise broken
    classes = found - {IGNORE_INDEX}
    if len(classes) < 2 or max(classes) != len(classes) - 1:
        raise DataError(
            f"the masks in {masks[0].parent} hold the values {sorted(found)[:20]}; without a class "
            "table they must be 0, 1, ... and 255 for ignored pixels: write classes.json"
        )
    return numbered_classes([f"class {k}" for k in range(len(classes))], str(masks[0].parent))


def _read(path: Path) -> Image.Image:
    try:
        image = Image.open(path)
    except FileNotFoundError:
        raise DataError(f"the mask {path} does not exist") from None
    except Exception as error:  # the many formats' readers raise errors of any class
        raise DataError(f"{path} is no readable mask: {error}") from error
    with image:
        if image.format == "JPEG":
            raise DataError(f"{path} is a JPEG, which blurs classes; store masks as PNG")
        if image.mode == "F":
            raise DataError(f"{path} holds float values; masks have 1, 8 or 16 bits")
        try:
            image.load()
        except Exception as error:
            raise DataError(f"{path} is damaged: {error}") from error
        return image


def _from_values(pixels: np.ndarray, path: Path, table: ClassTable, unknown: str) -> np.ndarray:
    lookup = np.full(LARGEST_VALUE + 2, -1, np.int16)  # the last entry: beyond the allowed
    lookup[list(table.values or ())] = np.arange(len(table.names))
    lookup[list(table.ignore_values)] = IGNORE_INDEX
    inside = (pixels >= 0) & (pixels <= LARGEST_VALUE)
    labels = lookup[np.where(inside, pixels, LARGEST_VALUE + 1)]  # (H, W)
    return _known(labels, path, table, unknown, lambda y, x: f"value {pixels[y, x]}")


def _from_colors(rgb: np.ndarray, path: Path, table: ClassTable, unknown: str) -> np.ndarray:
    codes = rgb @ RGB_WEIGHTS  # (H, W)
    found, places = np.unique(codes, return_inverse=True)
    meaning = {_code(color): k for k, color in enumerate(table.colors or ())}
    meaning |= {_code(color): IGNORE_INDEX for color in table.ignore_colors}
    lookup = np.array([meaning.get(code, -1) for code in found.tolist()], np.int16)
    labels = lookup[places.reshape(codes.shape)]  # (H, W)
    return _known(labels, path, table, unknown, lambda y, x: f"color {tuple(rgb[y, x].tolist())}")


def _code(color: tuple[int, int, int]) -> int:
    red, green, blue = color
    return red * 65536 + green * 256 + blue


def _known(
    labels: np.ndarray,
    path: Path,
    table: ClassTable,
    unknown: str,
    describe: Callable[[int, int], str],
) -> np.ndarray:
    missing = labels < 0
    if missing.any():
        if unknown == "error":
            y, x = np.argwhere(missing)[0].tolist()
            raise DataError(
                f"{path} has the {describe(y, x)} at pixel x = {x}, y = {y}, which {table.source} "
                f"does not list ({missing.sum()} such pixels). Add it, or choose --unknown-labels "
                'ignore (in Python: unknown="ignore")'
            )
        labels = np.where(missing, IGNORE_INDEX, labels)
    return labels.astype(np.uint8)
