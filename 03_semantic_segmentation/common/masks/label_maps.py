"""Read mask files of any common kind as label maps, with one clear error for the rest.

A label map is uint8 (H, W): each pixel's class 0, 1, ..., or IGNORE_INDEX. What the numbers or
colours in the file mean is said by a `ClassTable`. Nothing is guessed: a number or colour that the
table does not list is an error that names the file, the value and the pixel, unless it is asked to
be ignored.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from common.findings import DataError
from common.mask_files import read_instance_ids
from common.masks import IGNORE_INDEX
from common.masks.class_table import LARGEST_VALUE, ClassTable
from common.masks.levels import cut_jpeg, cut_smoothed, gray_levels

UNKNOWN = ("error", "ignore")
INDEX_MODES = ("1", "L", "P", "I", "I;16", "I;16B", "I;16L", "I;16N")
JPEG_FORMATS = ("JPEG", "MPO")
RGB_WEIGHTS = np.array([65536, 256, 1], dtype=np.int32)  # a colour as one number, 0xRRGGBB
JPEG_MEND = "JPEG mask cut at the middle"
SMOOTHED_MEND = "smoothed mask cut at the middle"
Masks = Path | tuple[Path, ...]  # one file, or one for each object
SHOWN_MEND = "1-bit or palette mask read by the gray levels or colours that it shows"
IGNORED_MEND = "mask with values that the table does not list, which are ignored"


@dataclass(frozen=True)
class Reading:
    """One way to read a mask: its labels, int16 (H, W), -1 where the table lists nothing."""

    labels: np.ndarray
    describe: Callable[[int, int], str]  # what stands at (y, x)
    mend: str = ""

    @property
    def complete(self) -> bool:
        """Tell whether the table lists all that stands there."""
        return bool((self.labels >= 0).all())


def read_label_map(
    path: Path, table: ClassTable, unknown: str = "error", mended: Counter[str] | None = None
) -> np.ndarray:
    """Read a mask file as labels, uint8 (H, W).

    Numbers are read from gray (1, 8, 16 bits) and palette files when the table has values, and
    from RGB files that are gray. Colours are read from RGB files, and from palette files when the
    table has colours only. Transparency is dropped. Where a palette's numbers are not listed but
    what it shows is, that counts. Black-and-white masks that were smoothed along the edges, or
    stored as JPEG, are cut at the middle, if the table is black and white.

    Where the table says that numbers are those of objects, every number but 0 gives label 1.

    Args:
        path: a file stored without loss (PNG, TIFF, BMP ...).
        table: what the numbers or colours mean.
        unknown: "error", or "ignore" to give pixels that the table does not list IGNORE_INDEX.
        mended: counts what was not read as it stands there.

    Raises:
        DataError: the file is missing, damaged, another JPEG, holds a value or colour that the
            table does not list, or is coloured while the table has no colours; or its colour is
            the same everywhere, while its transparency is not.
        PhotoError: a mask of objects cannot be read; see `common.mask_files`.
        ValueError: `unknown` is neither of the two.
    """
    if unknown not in UNKNOWN:
        raise ValueError(f"unknown is {unknown!r}; allowed are {', '.join(UNKNOWN)}")
    if table.objects:
        return (read_instance_ids(path) > 0).astype(np.uint8)
    image = open_mask(path)
    reading = _jpeg(image, path, table) if image.format in JPEG_FORMATS else None
    reading = reading or _best(_readings(image, path, table))
    if not reading.complete and unknown == "error":
        reading = _smoothed(image, table) or reading
    missing = reading.labels < 0
    if missing.any() and unknown == "error":
        raise DataError(_unlisted(path, reading, table))
    if mended is not None:
        kinds = (reading.mend, IGNORED_MEND * bool(missing.any()))
        mended.update(kind for kind in kinds if kind)
    return np.where(missing, IGNORE_INDEX, reading.labels).astype(np.uint8)


def read_object_masks(paths: Sequence[Path], mended: Counter[str] | None = None) -> np.ndarray:
    """Read mask files of single objects as one label map, uint8 (H, W): 1 where any object is.

    Raises:
        DataError: a file is missing, damaged, a JPEG or coloured, holds more than two values, or
            has another size than the others.
    """
    joined = None
    for path in paths:
        levels = gray_levels(open_mask(path, jpeg=False))
        if levels is None or len(values := np.unique(levels)) > 2 or 0 not in values:
            what = "colours" if levels is None else f"the values {values[:5].tolist()}"
            raise DataError(f"{path}: holds {what}; a mask of one object has 0 and one other value")
        if joined is not None and joined.shape != levels.shape:
            raise DataError(f"{path}: has another size than {paths[0]}")
        if mended is not None and not levels.any():
            mended["empty mask of an object"] += 1
        joined = (levels > 0) | (False if joined is None else joined)
    return joined.astype(np.uint8)


def read_instances(mask: Masks) -> np.ndarray:
    """Read the numbers of objects, int32 (H, W), 0 for none: of one file, or a file an object.

    Raises:
        PhotoError: see `common.mask_files`. DataError: see `read_object_masks`.
    """
    if not isinstance(mask, tuple):
        return read_instance_ids(mask)
    numbers = read_object_masks(mask).astype(np.int32)
    for number, path in enumerate(mask, 1):
        numbers[read_object_masks((path,)) > 0] = number
    return numbers


def open_mask(path: Path, jpeg: bool = True) -> Image.Image:
    """Open and decode a mask file.

    Raises:
        DataError: it is missing, no picture, damaged, holds float values, has its mask in the
            transparency; or it is a JPEG and `jpeg` does not allow that.
    """
    try:
        image = Image.open(path)
    except FileNotFoundError:
        raise DataError(f"{path}: this mask does not exist") from None
    except Exception as error:  # the many formats' readers raise errors of any class
        raise DataError(f"{path}: is no readable mask: {error}") from error
    with image:
        if image.format in JPEG_FORMATS and not jpeg:
            raise blurred(path)
        if image.mode == "F":
            raise DataError(f"{path}: holds float values; masks have 1, 8 or 16 bits")
        try:
            image.load()
        except Exception as error:
            raise DataError(f"{path}: is damaged: {error}") from error
        if "A" in image.getbands():
            _check_transparency(image, path)
        return image


def _check_transparency(image: Image.Image, path: Path) -> None:
    *colors, alpha = image.convert("RGBA").getextrema()
    if all(low == high for low, high in colors) and alpha[0] != alpha[1]:
        color = tuple(low for low, _ in colors)
        raise DataError(
            f"{path}: every pixel has the color {color}; the mask stands in the transparency "
            "(alpha) of the file: write it as gray values"
        )


def blurred(path: Path) -> DataError:
    """Return the error of a JPEG that cannot be cut into black and white."""
    return DataError(f"{path}: is a JPEG, which blurs classes; store masks as PNG")


def _best(ways: Iterator[Reading]) -> Reading:
    """Return the first way that is complete, or else the first."""
    first = next(ways)
    return first if first.complete else next((way for way in ways if way.complete), first)


def _readings(image: Image.Image, path: Path, table: ClassTable) -> Iterator[Reading]:
    """Yield the ways to read a mask, the usual one first."""
    indexed = image.mode in INDEX_MODES
    if indexed and table.values is not None:
        yield _from_values(np.asarray(image).astype(np.int64), table)
    levels, shown = gray_levels(image), SHOWN_MEND * (indexed and table.values is not None)
    if table.colors is not None:
        yield _from_colors(np.asarray(image.convert("RGB")).astype(np.int32), table, shown)
    if levels is not None and table.values is not None and image.mode not in ("L", "I"):
        yield _from_values(levels, table, shown)
    if table.values is not None and table.colors is None and levels is None and not indexed:
        raise DataError(
            f"{path}: is a colour mask, but {table.source} gives no colors for the classes"
        )


def _jpeg(image: Image.Image, path: Path, table: ClassTable) -> Reading:
    levels = gray_levels(image) if table.is_black_and_white else None
    cut = None if levels is None else cut_jpeg(levels)
    if cut is None:
        raise blurred(path)
    return _black_and_white(cut, table, JPEG_MEND)


def _smoothed(image: Image.Image, table: ClassTable) -> Reading | None:
    levels = gray_levels(image) if table.is_black_and_white else None
    cut = None if levels is None else cut_smoothed(levels)
    return None if cut is None else _black_and_white(cut, table, SMOOTHED_MEND)


def _black_and_white(levels: np.ndarray, table: ClassTable, mend: str) -> Reading:
    if table.values is not None:
        return _from_values(levels, table, mend)
    return _from_colors(np.repeat(levels[..., None], 3, axis=2), table, mend)


def _from_values(pixels: np.ndarray, table: ClassTable, mend: str = "") -> Reading:
    lookup = np.full(LARGEST_VALUE + 2, -1, np.int16)  # the last entry: beyond the allowed
    lookup[list(table.values or ())] = np.arange(len(table.names))
    lookup[list(table.ignore_values)] = IGNORE_INDEX
    inside = (pixels >= 0) & (pixels <= LARGEST_VALUE)
    labels = lookup[np.where(inside, pixels, LARGEST_VALUE + 1)]  # (H, W)
    return Reading(labels, lambda y, x: f"value {pixels[y, x]}", mend)


def _from_colors(rgb: np.ndarray, table: ClassTable, mend: str = "") -> Reading:
    codes = rgb @ RGB_WEIGHTS  # (H, W)
    found, places = np.unique(codes, return_inverse=True)
    meaning = {color_code(color): k for k, color in enumerate(table.colors or ())}
    meaning |= {color_code(color): IGNORE_INDEX for color in table.ignore_colors}
    lookup = np.array([meaning.get(code, -1) for code in found.tolist()], np.int16)
    labels = lookup[places.reshape(codes.shape)]  # (H, W)
    return Reading(labels, lambda y, x: f"color {tuple(rgb[y, x].tolist())}", mend)


def color_code(color: tuple[int, int, int]) -> int:
    """Return a colour as one number, 0xRRGGBB."""
    red, green, blue = color
    return red * 65536 + green * 256 + blue


def _unlisted(path: Path, reading: Reading, table: ClassTable) -> str:
    missing = reading.labels < 0
    y, x = np.argwhere(missing)[0].tolist()
    return (
        f"{path}: has the {reading.describe(y, x)} at pixel x = {x}, y = {y}, which {table.source} "
        f"does not list ({missing.sum()} such pixels); add it, or choose --unknown-labels ignore"
    )
