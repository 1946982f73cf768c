"""Pictures and mask files of any common kind as arrays, with one clear error for the rest.

Phone photos are often stored lying down with a note (EXIF orientation) on how to turn them.
They are turned here, unless the annotation gives the size of the picture as it is stored: then
the boxes were drawn on the unturned pixels, which are the ones returned.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from annotation_records import AnnotationError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
EXIF_ORIENTATION = 0x0112
SIXTEEN_BIT_MODES = ("I", "I;16", "I;16B", "I;16L", "I;16N")


def image_size(path: Path, stated: tuple[int, int] | None = None) -> tuple[int, int]:
    """Read `(width, height)` of a picture from its header, turned upright by its EXIF note.

    Args:
        path: the picture.
        stated: the size an annotation gives; the stored, unturned size may match it instead.

    Raises:
        AnnotationError: the file is missing, no picture, or of another size than `stated`.
    """
    with _opened(path) as image:
        size = _fitting_size(image, stated)
    if stated is not None and size != tuple(stated):
        raise AnnotationError(
            f"{path} is {size[0]} x {size[1]} pixels, but the annotation says "
            f"{stated[0]} x {stated[1]}"
        )
    return size


def read_image(path: Path, size: tuple[int, int] | None = None) -> np.ndarray:
    """Read a picture as RGB, uint8, shape (H, W, 3).

    Gray, palette, transparent (the transparency is ignored), CMYK and 16-bit files are converted;
    16-bit values are divided by 256.

    Args:
        path: the picture.
        size: `(width, height)` it must have, as `image_size` checks it.

    Raises:
        AnnotationError: the file is missing, damaged, of another size, or holds float values.
    """
    with _opened(path) as image:
        if image.mode == "F":
            raise AnnotationError(f"{path} holds float values; 8 or 16 bits are allowed")
        turn = size is None or _fitting_size(image, size) == _upright_size(image)
        try:
            if turn:
                ImageOps.exif_transpose(image, in_place=True)
            rgb = _to_rgb(image)
        except Exception as error:  # the decoders of the many formats raise errors of any class
            raise AnnotationError(f"{path} is damaged: {error}") from error
    if size is not None and rgb.shape[1::-1] != tuple(size):
        raise AnnotationError(
            f"{path} is {rgb.shape[1]} x {rgb.shape[0]} pixels, not {size[0]} x {size[1]}"
        )
    return rgb


def read_instance_ids(path: Path) -> np.ndarray:
    """Read a mask file as instance numbers, int32, shape (H, W); 0 is the background.

    Gray (1, 8 or 16 bits) and palette files hold the number itself. In RGB and RGBA files every
    colour but black is one instance, numbered red + 256 green + 65536 blue.

    Raises:
        AnnotationError: the file is missing, damaged, or a JPEG, whose compression invents
            instances along every edge.
    """
    with _opened(path) as image:
        if image.format == "JPEG":
            raise AnnotationError(f"{path} is a JPEG; a mask must be stored without loss (PNG)")
        try:
            if image.mode not in ("1", "L", "P", *SIXTEEN_BIT_MODES):
                colours = np.asarray(image.convert("RGB")).astype(np.int32)  # (H, W, 3)
                return colours @ np.array([1, 256, 65536], dtype=np.int32)  # (H, W)
            return np.asarray(image).astype(np.int32)  # (H, W)
        except Exception as error:
            raise AnnotationError(f"{path} is damaged: {error}") from error


def _opened(path: Path) -> Image.Image:
    try:
        return Image.open(path)
    except FileNotFoundError:
        raise AnnotationError(f"image {path} does not exist") from None
    except Exception as error:
        raise AnnotationError(f"{path} is no readable image: {error}") from error


def _upright_size(image: Image.Image) -> tuple[int, int]:
    try:
        lying = image.getexif().get(EXIF_ORIENTATION) in (5, 6, 7, 8)
    except Exception:  # a damaged EXIF block says nothing about the picture itself
        lying = False
    return image.size[::-1] if lying else image.size


def _fitting_size(image: Image.Image, stated: tuple[int, int] | None) -> tuple[int, int]:
    upright = _upright_size(image)
    if stated is not None and image.size == tuple(stated) != upright:
        return image.size
    return upright


def _to_rgb(image: Image.Image) -> np.ndarray:
    if image.mode in SIXTEEN_BIT_MODES:
        gray = np.clip(np.asarray(image).astype(np.int64) >> 8, 0, 255).astype(np.uint8)  # (H, W)
        return np.repeat(gray[:, :, None], 3, axis=2)  # (H, W, 3)
    if "transparency" in image.info:
        image = image.convert("RGBA")
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))  # (H, W, 3)
