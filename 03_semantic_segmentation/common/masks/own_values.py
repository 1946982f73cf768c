"""The classes of masks that come without a class table, where their values leave no doubt.

- Index masks of 0, 1, ... (and 255 for ignored pixels): numbered classes.
- Masks of two values, 0 and 1 or 0 and the largest: background and foreground.
- Masks in Pascal VOC's folder and colours: the classes of Pascal VOC.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from common.findings import DataError
from common.masks import IGNORE_INDEX
from common.masks.class_table import (
    BLACK_AND_WHITE,
    LARGEST_VALUE,
    ClassTable,
    numbered_classes,
    voc_colors,
    voc_table,
)
from common.masks.label_maps import JPEG_FORMATS, RGB_WEIGHTS, blurred, color_code, open_mask
from common.masks.levels import cut_jpeg, gray_levels

TWO_CLASSES = ("background", "foreground")
BRIGHT_VALUES = (1, BLACK_AND_WHITE[1], LARGEST_VALUE)
VALUES_SHOWN = 20


def number_classes(masks: Sequence[Path], voc: bool = False) -> tuple[ClassTable, str | None]:
    """Name the classes of masks that come without a table; unreadable ones are passed over.

    Args:
        masks: the files, one or more.
        voc: they stand in a folder as Pascal VOC has it.

    Returns:
        The classes, and a line about them for the reader, or None.

    Raises:
        DataError: a mask has a palette or colours, the values leave a doubt, or no mask is
            readable.
    """
    found: set[int] = set()
    colored: list[tuple[Path, str]] = []
    is_voc, broken, jpeg = voc, None, None
    for mask in masks:
        try:
            image = open_mask(mask)
            levels = _levels(image, mask)
        except DataError as error:
            broken = broken or error
            continue
        jpeg = mask if image.format in JPEG_FORMATS else jpeg
        is_voc = is_voc and _in_voc_colors(image)
        if levels is None:
            colored.append((mask, "palette" if image.mode == "P" else "color"))
        else:
            found |= set(np.unique(levels).tolist())
    if is_voc and colored:
        return voc_table(), "the classes and colours are Pascal VOC's"
    if colored:
        mask, kind = colored[0]
        raise DataError(
            f"{mask} is a {kind} mask and there is no class table: write classes.json beside "
            "the pictures, which says what its values or colors mean"
        )
    if broken is not None and not found:
        raise broken
    if jpeg is not None and len(found) == 1:  # numbers such as 0, 1, 2 are all dark
        raise blurred(jpeg)
    return _from_found(found, masks[0].parent)


def _from_found(found: set[int], folder: Path) -> tuple[ClassTable, str | None]:
    brightest = max(found)
    if found == {0, brightest} and brightest in BRIGHT_VALUES:
        note = f"0 is background, {brightest} is foreground: a class table gives them other names"
        return ClassTable(TWO_CLASSES, (0, brightest), source=str(folder)), note
    classes = found - {IGNORE_INDEX}
    if len(classes) < 2 or max(classes) != len(classes) - 1:
        shown = sorted(found)
        more = ", ..." if len(shown) > VALUES_SHOWN else ""
        raise DataError(
            f"the masks in {folder} hold the values [{str(shown[:VALUES_SHOWN])[1:-1]}{more}]; "
            "without a class table they must be 0, 1, ... and 255 for ignored pixels, or 0 and "
            "255 alone: write classes.json"
        )
    return numbered_classes([f"class {k}" for k in range(len(classes))], str(folder)), None


def _levels(image: Image.Image, mask: Path) -> np.ndarray | None:
    """Return the values of a mask that shows gray levels, (H, W); None for colours."""
    levels = gray_levels(image)
    if levels is None or image.format not in JPEG_FORMATS:
        return levels
    cut = cut_jpeg(levels)
    if cut is None:
        raise blurred(mask)
    return cut


def _in_voc_colors(image: Image.Image) -> bool:
    """Tell whether all colours that occur are Pascal VOC's, and numbers have their own ones."""
    named, colors = [*range(len(voc_table().names)), IGNORE_INDEX], voc_colors(256)
    if image.mode == "P":
        palette = image.getpalette() or []
        found = np.unique(np.asarray(image)).tolist()
        return all(k in named and palette[3 * k : 3 * k + 3] == [*colors[k]] for k in found)
    if image.mode not in ("RGB", "RGBA"):
        return False
    codes = np.unique(np.asarray(image.convert("RGB")).astype(np.int32) @ RGB_WEIGHTS)
    return set(codes.tolist()) <= {color_code(colors[k]) for k in named}
