"""Find and read photos, whatever the files on a reader's disk are like."""

import glob
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

PHOTO_SUFFIXES = frozenset(".jpg .jpeg .png .bmp .webp .tif .tiff .gif .ppm .pgm".split())
VIDEO_SUFFIXES = frozenset(".mp4 .avi .mov .mkv .webm .m4v .mpg .mpeg .wmv .mjpeg".split())
MAX_PHOTO_PIXELS = 150_000_000  # 450 MB as RGB


class PhotoError(ValueError):
    """A photo that cannot be read; the message names the file and says why."""


def read_photo(path: str | Path) -> np.ndarray:
    """Read a photo as it is meant to be seen.

    Gray, palette, 16-bit, CMYK and transparent files become RGB (transparency is dropped), and the
    camera's rotation (EXIF orientation) is applied. Of an animation the first frame is read.

    Args:
        path: a file in any format that Pillow reads.

    Returns:
        uint8 (H, W, 3), RGB.

    Raises:
        PhotoError: the file is missing, empty, cut off, no image, or has over 150 million pixels.
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
                return np.array(_to_rgb(ImageOps.exif_transpose(image)))
    except PhotoError:
        raise
    except FileNotFoundError as error:
        raise PhotoError(f"{path}: there is no such file") from error
    except UnidentifiedImageError as error:
        empty = Path(path).stat().st_size == 0
        raise PhotoError(
            f"{path}: {'the file is empty' if empty else 'this is not a photo'}"
        ) from error
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise PhotoError(f"{path}: cannot be read ({error})") from error


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit gray, which convert() would clip at 255
        levels = np.asarray(image).astype(np.float64)
        scale = 257 if levels.max(initial=0) > 255 else 1
        return Image.fromarray((levels / scale).clip(0, 255).astype(np.uint8)).convert("RGB")
    return image.convert("RGB")


def is_video(source: str | Path) -> bool:
    """Whether a source is a video file, by its ending."""
    return Path(source).suffix.lower() in VIDEO_SUFFIXES


def expand_source(source: str) -> list[Path]:
    """The files that a source stands for.

    Args:
        source: a file, a folder (all photos and videos in it, by name), or a pattern such as
            `trip/*.jpg` (`**` looks into all folders below).

    Returns:
        Paths, sorted. A single file is returned whether it exists or not: reading it gives the
        error.

    Raises:
        PhotoError: a folder without photos or videos, or a pattern that fits nothing.
    """
    path = Path(source)
    if path.is_dir():
        wanted = PHOTO_SUFFIXES | VIDEO_SUFFIXES
        files = sorted(file for file in path.iterdir() if file.suffix.lower() in wanted)
        if not files:
            endings = ", ".join(sorted(wanted))
            raise PhotoError(f"{source}: this folder holds no photo or video ({endings})")
        return files
    if any(sign in source for sign in "*?[") and not path.exists():
        names = glob.glob(source, recursive=True)  # noqa: PTH207 (a pattern may be absolute)
        files = sorted(Path(name) for name in names if Path(name).is_file())
        if not files:
            raise PhotoError(f"{source}: no file fits this pattern")
        return files
    return [path]
