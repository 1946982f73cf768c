"""Find the photos that a source stands for, say what is passed over, and name the drawings."""

import glob
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from common.photos import PHOTO_SUFFIXES, PhotoError, read_photo

# What a file without an ending is looked at for: formats that begin with a clear signature.
SIGNED_FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "JPEG2000")
SILENT = ("thumbs.db", "desktop.ini", "__macosx")  # systems make them; so are names with a dot
NAMED = 3  # of the files that are passed over


def expand_source(source: str, suffixes: Sequence[str] = PHOTO_SUFFIXES) -> list[Path]:
    """The files that a source stands for.

    Args:
        source: a file, a folder (all files in it with one of the endings, and photos without any
            ending), or a pattern such as `trip/*.jpg` (`**` looks into all folders below).
        suffixes: the endings, in small letters, that count in a folder.

    Returns:
        Paths, sorted. A single file is returned whether it exists or not: reading it gives the
        error.

    Raises:
        PhotoError: a folder without such files, or a pattern that fits nothing.
    """
    path = Path(source)
    if path.is_dir():
        files = sorted(file for file in _visible(path) if _counts(file, suffixes))
        if not files:
            endings, note = ", ".join(sorted(suffixes)), passed_over(source, suffixes)
            raise PhotoError(
                f"{source}: this folder holds no file that ends in {endings}"
                + (f"; {note}" if note else "")
            )
        return files
    if any(sign in source for sign in "*?[") and not path.exists():
        names = glob.glob(source, recursive=True)  # noqa: PTH207 (a pattern may be absolute)
        files = sorted(Path(name) for name in names if Path(name).is_file())
        if not files:
            raise PhotoError(f"{source}: no file fits this pattern")
        return files
    return [path]


def passed_over(source: str, suffixes: Sequence[str] = PHOTO_SUFFIXES) -> str | None:
    """Say what of a folder `expand_source` leaves out, in one line; None where that is nothing.

    Hidden files, and those that systems put into folders, are not worth a word.

    Args:
        source, suffixes: as for `expand_source`.
    """
    folder = Path(source)
    if not folder.is_dir():
        return None
    left = sorted(path for path in _visible(folder) if not _counts(path, suffixes))
    files = [path.name for path in left if not path.is_dir()]
    folders = [path.name for path in left if path.is_dir()]
    parts = []
    if files:
        parts.append(
            f"{_count(files, 'file')} passed over ({_some(files)}: no photo by the ending)"
        )
    if folders:
        pattern = folder / "**" / "*.jpg"
        parts.append(
            f"{_count(folders, 'folder')} passed over ({_some(folders)}): "
            f"for the photos in them use a pattern, '{pattern}'"
        )
    return f"{source}: {'; '.join(parts)}" if parts else None


def _visible(folder: Path) -> Iterator[Path]:
    """Yield what a folder holds, without what only systems look at."""
    for path in folder.iterdir():
        if not path.name.startswith(".") and path.name.lower() not in SILENT:
            yield path


def _counts(path: Path, suffixes: Sequence[str]) -> bool:
    """Tell whether a file of a folder is wanted: by its ending, or without one by its content."""
    if path.is_dir():
        return False
    return path.suffix.lower() in suffixes or (not path.suffix and _begins_as_photo(path))


def _begins_as_photo(path: Path) -> bool:
    try:
        with Image.open(path, formats=SIGNED_FORMATS):
            return True
    except Exception:  # the readers of the many formats raise errors of any class
        return False


def _count(names: Sequence[str], what: str) -> str:
    return f"1 {what} is" if len(names) == 1 else f"{len(names)} {what}s are"


def _some(names: Sequence[str]) -> str:
    return ", ".join([*names[:NAMED], *(["..."] if len(names) > NAMED else [])])


class FreeNames:
    """Paths for drawings: each gets one of its own, and never that of a source.

    Args:
        folder: where the drawings go; it is made with the first path.
        sources: the files that are read, wherever they lie.
    """

    def __init__(self, folder: str | Path, sources: Iterable[str | Path]) -> None:
        self.folder = Path(folder)
        self._sources = {Path(source).resolve() for source in sources}
        self._taken: set[Path] = set()

    def free_path(self, name: str, source_folder: Path | None = None) -> Path:
        """Return a path in the folder; drawings of one name are numbered: `_2`, `_3`, ...

        Args:
            name: the name that is wanted, with its ending.
            source_folder: of the source; where the drawing goes there too, `_detected` is added.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        stem, suffix = Path(name).stem, Path(name).suffix
        if source_folder is not None and source_folder.resolve() == self.folder.resolve():
            stem = f"{stem}_detected"
        path, number = self.folder / f"{stem}{suffix}", 1
        while path in self._taken or path.resolve() in self._sources:
            number += 1
            path = self.folder / f"{stem}_{number}{suffix}"
        self._taken.add(path)
        return path


def reason(error: Exception) -> str:
    """Say in one line why a photo failed; libraries say it in many lines, or in none."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__


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
