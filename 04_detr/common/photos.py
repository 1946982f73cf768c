"""Read photos, whatever the files on a reader's disk are like.

Phones and cameras often store a photo lying down, with a note (EXIF orientation) on how to turn
it. Photos are turned here, unless an annotation gives the size of the photo as it is stored: then
the boxes were drawn on the unturned pixels, and those are returned.
"""

import importlib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError, features

PHOTO_SUFFIXES = tuple(
    """.jpg .jpeg .jpe .jfif .pjpeg .pjp .png .bmp .dib .webp .tif .tiff .gif .ppm .pgm .pbm .pnm
    .avif .heic .heif .jp2 .j2k .tga .mpo""".split()
)
MAX_PHOTO_PIXELS = 150_000_000  # 450 MB as RGB
EXIF_ORIENTATION = 0x0112
LYING = (5, 6, 7, 8)  # the orientations that swap width and height
LARGEST_LEVEL = 65535  # of 16 bits
FEW_BITS = (8, 10, 12)  # of data that is kept in 16 bits
TAIL_BYTES = 65_536  # where the end marker is looked for: cameras append data after it

# Formats that may need another package: its module, what registers it, what to install.
PLUGINS = {
    "AVIF": ("pillow_avif", None, "Pillow 11.3 or newer, or the package pillow-avif-plugin"),
    "HEIC": ("pillow_heif", "register_heif_opener", "the package pillow-heif"),
}
BRANDS = {
    "AVIF": (b"avif", b"avis"),
    "HEIC": (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"),
}


class PhotoError(ValueError):
    """A photo that cannot be read or used; the message names the file and says why."""


def read_photo(path: str | Path, size: tuple[int, int] | None = None) -> np.ndarray:
    """Read a photo as it is meant to be seen.

    Gray, palette, 16-bit, CMYK and transparent files become RGB. Transparency is dropped, and
    16-bit levels are divided by 257, which takes 65535 to 255; levels of up to 12 bits in a 16-bit
    file are stretched, from the lowest to the highest, to 0 to 255 (`photo_note` says so). The
    camera's rotation (EXIF orientation) is applied. Of an animation the first frame is read.

    Args:
        path: a file in any format that Pillow reads.
        size: `(width, height)` in pixels that the photo must have, turned or as it is stored;
            decides between the two.

    Returns:
        uint8 (H, W, 3), RGB.

    Raises:
        PhotoError: the file is missing, empty, cut off, no image, of another size, has over
            150 million pixels, or levels that are no whole numbers of 8 or 16 bits.
    """
    with open_photo(path) as image:
        image.load()  # before the orientation is asked for, which may hide an error
        turned = _checked_size(path, image, size) == _upright_size(image)
        if turned and _orientation(image) != 1:
            image = ImageOps.exif_transpose(image)
        return _to_rgb(path, image)


def photo_note(path: str | Path) -> str | None:
    """Say how `read_photo` changes the levels of a photo beyond its format, or None.

    Only 16-bit gray files are decoded for it.

    Raises:
        PhotoError: see `read_photo`.
    """
    with open_photo(path) as image:
        if not _is_deep(image):
            return None
        lowest, highest, bits = _level_range(_levels(path, image))
    if bits is None:
        return None
    return (
        f"{path}: levels {lowest} to {highest} of a {bits}-bit picture were stretched to 0 to 255"
    )


def photo_size(path: str | Path, size: tuple[int, int] | None = None) -> tuple[int, int]:
    """Read `(width, height)` in pixels of the array that `read_photo` returns, from the header.

    Raises:
        PhotoError: the file is missing, empty, no image, of another size than `size`, or has over
            150 million pixels.
    """
    with open_photo(path) as image:
        return _checked_size(path, image, size)


def check_photo(
    path: str | Path, size: tuple[int, int] | None = None, decode: bool = False
) -> tuple[int, int]:
    """Read what `photo_size` reads, and find files that are cut off, mostly without decoding them.

    A file that has the end marker of its format is taken for whole. One that has not, or is of a
    format without a marker, is decoded.

    Args:
        path, size: as for `photo_size`.
        decode: decode every file: finds damage in the middle too.

    Raises:
        PhotoError: as `photo_size`, or the file is cut off or damaged, or its levels are not those
            of `read_photo`.
    """
    with open_photo(path) as image:
        whole = _has_its_end(Path(path), image.format)
        if decode or not whole:
            try:
                image.load()
            except Exception as error:  # the decoders raise errors of any class
                what = "damaged" if whole else "cut off or damaged"
                raise PhotoError(f"{path}: the file is {what} ({error})") from error
        if image.mode in ("F", "I"):  # their levels may be out of bounds
            _to_rgb(path, image)
        return _checked_size(path, image, size)


def _has_its_end(path: Path, form: str | None) -> bool:
    """Tell whether a file has the end marker of its format; False where there is none to see."""
    length = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(12)
        start = _jpeg_data_start(file) if form in ("JPEG", "MPO") else 0
        file.seek(max(start, length - TAIL_BYTES))
        tail = file.read()
    if form in ("JPEG", "MPO"):  # a thumbnail inside has a marker too, before the data
        return start > 0 and b"\xff\xd9" in tail
    if form == "PNG":
        return b"IEND\xae\x42\x60\x82" in tail
    if form == "GIF":
        return tail.rstrip(b"\0").endswith(b"\0;")
    if form == "WEBP":
        return 8 + int.from_bytes(head[4:8], "little") <= length
    return form == "BMP" and int.from_bytes(head[2:6], "little") == length


def _jpeg_data_start(file: BinaryIO) -> int:
    """Return where the first scan of a JPEG begins, or 0 if that is not to be seen."""
    file.seek(2)
    while True:
        marker = file.read(4)
        if len(marker) < 4 or marker[0] != 0xFF:
            return 0
        if marker[1] == 0xDA:
            return file.tell()
        file.seek(int.from_bytes(marker[2:], "big") - 2, 1)


@contextmanager
def open_photo(path: str | Path) -> Iterator[Image.Image]:
    """Open an image file, of which Pillow has read the header, for a block.

    Raises:
        PhotoError: the file cannot be opened or is too large, or decoding it in the block failed.
    """
    try:
        with warnings.catch_warnings():
            # The limit below is ours; Pillow's own warning comes earlier and its error later.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with _open_image(path) as image:
                if image.width * image.height > MAX_PHOTO_PIXELS:
                    raise PhotoError(
                        f"{path}: {image.width} x {image.height} pixels are more than the "
                        f"{MAX_PHOTO_PIXELS:,} that are allowed"
                    )
                yield image
    except PhotoError:
        raise
    except FileNotFoundError as error:
        raise PhotoError(f"{path}: there is no such file") from error
    except UnidentifiedImageError as error:
        empty = Path(path).stat().st_size == 0
        raise PhotoError(
            f"{path}: {'the file is empty' if empty else 'this is not a photo'}"
        ) from error
    except Exception as error:  # the decoders of the many formats raise errors of any class
        raise PhotoError(f"{path}: cannot be read ({error})") from error


def _open_image(path: str | Path) -> Image.Image:
    """Open an image file, with the help of another package if it needs one that is there."""
    try:
        return Image.open(path)
    except UnidentifiedImageError:
        form = _needs_plugin(path)
        if form is None:
            raise
        module, register, package = PLUGINS[form]
        try:
            plugin = importlib.import_module(module)
        except ImportError as error:
            message = f"{path}: to read photos of the format {form}, install {package}"
            raise PhotoError(message) from error
        if register:
            getattr(plugin, register)()
        return Image.open(path)


def _needs_plugin(path: str | Path) -> str | None:
    """Return the format, of those in PLUGINS, that the first bytes of a file name."""
    with Path(path).open("rb") as file:
        head = file.read(64)
    brands = head[8 : int.from_bytes(head[:4], "big")] if head[4:8] == b"ftyp" else b""
    for form, names in BRANDS.items():
        if any(name in brands for name in names):
            return None if form == "AVIF" and features.check("avif") else form
    return None


def _checked_size(
    path: str | Path, image: Image.Image, size: tuple[int, int] | None
) -> tuple[int, int]:
    upright = _upright_size(image)
    if size is None or tuple(size) == upright:
        return upright
    if tuple(size) == image.size:
        return image.size
    raise PhotoError(
        f"{path}: is {upright[0]} x {upright[1]} pixels, "
        f"but its annotation says {size[0]} x {size[1]}"
    )


def _upright_size(image: Image.Image) -> tuple[int, int]:
    return image.size[::-1] if _orientation(image) in LYING else image.size


def _orientation(image: Image.Image) -> int:
    try:
        if image.format == "PNG" and not _has_late_exif(image):
            # Its own getexif() would decode all pixels, to look behind them.
            return Image.Image.getexif(image).get(EXIF_ORIENTATION, 1)
        return image.getexif().get(EXIF_ORIENTATION, 1)
    except Exception:  # a damaged EXIF block says nothing about the photo itself
        return 1


def _has_late_exif(image: Image.Image) -> bool:
    """Tell whether EXIF data stands behind the pixels of a PNG."""
    with Path(image.filename).open("rb") as file:
        file.seek(max(0, file.seek(0, 2) - TAIL_BYTES))
        tail = file.read()
    return b"eXIf" in tail or b"Raw profile type exif" in tail


def _is_deep(image: Image.Image) -> bool:
    return image.mode.startswith("I")  # gray of 16 bits, or of 32


def _levels(path: str | Path, image: Image.Image) -> np.ndarray:
    """Return the levels of a deep gray image, int64 (H, W), 0 to 65535."""
    levels = np.asarray(image).astype(np.int64)
    if levels.min() < 0 or levels.max() > LARGEST_LEVEL:
        raise PhotoError(
            f"{path}: holds levels from {levels.min()} to {levels.max()}; "
            f"0 to {LARGEST_LEVEL} are allowed"
        )
    return levels


def _level_range(levels: np.ndarray) -> tuple[int, int, int | None]:
    """Return the lowest and the highest level, and of how many bits they are if that is few."""
    lowest, highest = int(levels.min()), int(levels.max())
    few = (bits for bits in FEW_BITS if highest < 2**bits)
    return lowest, highest, next(few, None) if lowest < highest else None


def _to_rgb(path: str | Path, image: Image.Image) -> np.ndarray:
    if image.mode == "F":
        raise PhotoError(f"{path}: holds float values; levels of 8 or 16 bits are allowed")
    if _is_deep(image):  # convert() would clip it at 255
        levels = _levels(path, image)
        lowest, highest, bits = _level_range(levels)
        scaled = levels / 257 if bits is None else (levels - lowest) * 255 / (highest - lowest)
        gray = np.rint(scaled).astype(np.uint8)  # (H, W)
        return np.repeat(gray[:, :, None], 3, axis=2)  # (H, W, 3)
    if "transparency" in image.info:  # else Pillow warns about some palettes
        image = image.convert("RGBA")
    return np.array(image.convert("RGB"))  # (H, W, 3)
