"""Find and read photos, whatever the files on a reader's disk are like.

Phones and cameras often store a photo lying down, with a note (EXIF orientation) on how to turn
it. Photos are turned here, unless an annotation gives the size of the photo as it is stored: then
the boxes were drawn on the unturned pixels, and those are returned.
"""

import glob
import warnings
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

PHOTO_SUFFIXES = (
    *(".jpg", ".jpeg", ".png", ".bmp", ".webp"),
    *(".tif", ".tiff", ".gif", ".ppm", ".pgm"),
)
MAX_PHOTO_PIXELS = 150_000_000  # 450 MB as RGB
EXIF_ORIENTATION = 0x0112
LYING = (5, 6, 7, 8)  # the orientations that swap width and height
LARGEST_LEVEL = 65535  # of 16 bits


class PhotoError(ValueError):
    """A photo that cannot be read or used; the message names the file and says why."""


def read_photo(path: str | Path, size: tuple[int, int] | None = None) -> np.ndarray:
    """Read a photo as it is meant to be seen.

    Gray, palette, 16-bit, CMYK and transparent files become RGB. Transparency is dropped, and
    16-bit levels are divided by 257, which takes 65535 to 255. The camera's rotation (EXIF
    orientation) is applied. Of an animation the first frame is read.

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
        turned = _checked_size(path, image, size) == _upright_size(image)
        if turned and _orientation(image) != 1:
            image = ImageOps.exif_transpose(image)
        return _to_rgb(path, image)


def photo_size(path: str | Path, size: tuple[int, int] | None = None) -> tuple[int, int]:
    """Read `(width, height)` in pixels of the array that `read_photo` returns, from the header.

    Raises:
        PhotoError: the file is missing, empty, no image, of another size than `size`, or has over
            150 million pixels.
    """
    with open_photo(path) as image:
        return _checked_size(path, image, size)


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
            with Image.open(path) as image:
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
        return image.getexif().get(EXIF_ORIENTATION, 1)
    except Exception:  # a damaged EXIF block says nothing about the photo itself
        return 1


def _to_rgb(path: str | Path, image: Image.Image) -> np.ndarray:
    if image.mode == "F":
        raise PhotoError(f"{path}: holds float values; levels of 8 or 16 bits are allowed")
    if image.mode.startswith("I"):  # 16-bit gray, which convert() would clip at 255
        levels = np.asarray(image).astype(np.int64)  # (H, W)
        if levels.min() < 0 or levels.max() > LARGEST_LEVEL:
            raise PhotoError(
                f"{path}: holds levels from {levels.min()} to {levels.max()}; "
                f"0 to {LARGEST_LEVEL} are allowed"
            )
        gray = np.rint(levels / 257).astype(np.uint8)  # (H, W)
        return np.repeat(gray[:, :, None], 3, axis=2)  # (H, W, 3)
    if "transparency" in image.info:  # else Pillow warns about some palettes
        image = image.convert("RGBA")
    return np.array(image.convert("RGB"))  # (H, W, 3)


def expand_source(source: str, suffixes: Sequence[str] = PHOTO_SUFFIXES) -> list[Path]:
    """The files that a source stands for.

    Args:
        source: a file, a folder (all files in it with one of the endings), or a pattern such as
            `trip/*.jpg` (`**` looks into all folders below).
        suffixes: the endings, in small letters, that count in a folder.

    Returns:
        Paths, sorted. A single file is returned whether it exists or not: reading it gives the
        error.

    Raises:
        PhotoError: a folder without such files, or a pattern that fits nothing.
    """
    path = Path(source)
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix.lower() in suffixes)
        if not files:
            endings = ", ".join(sorted(suffixes))
            raise PhotoError(f"{source}: this folder holds no file that ends in {endings}")
        return files
    if any(sign in source for sign in "*?[") and not path.exists():
        names = glob.glob(source, recursive=True)  # noqa: PTH207 (a pattern may be absolute)
        files = sorted(Path(name) for name in names if Path(name).is_file())
        if not files:
            raise PhotoError(f"{source}: no file fits this pattern")
        return files
    return [path]


def batches(items: Iterable, size: int) -> Iterator[list]:
    """Cut a stream into lists of `size` items; the last may be shorter."""
    batch = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def load_photos(paths: list[Path]) -> Iterator[tuple[Path, np.ndarray | PhotoError]]:
    """Read photos in the background, a few ahead; a bad one comes as its error."""

    def load(path: Path) -> np.ndarray | PhotoError:
        try:
            return read_photo(path)
        except PhotoError as error:
            return error

    with ThreadPoolExecutor(2) as pool:
        for group in batches(paths, 16):
            yield from zip(group, pool.map(load, group), strict=True)
