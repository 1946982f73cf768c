"""Download the Penn-Fudan pedestrian pictures, once, checked by checksum and by count.

170 street pictures with a mask for every pedestrian (Wang, Shi, Song and Shen, "Object detection
combining recognition and segmentation", ACCV 2007). The paper labels 345 pedestrians. The release
adds small and hidden ones, listed in its own `added-object-list.txt`, so that its masks hold 423.
"""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np

from common.downloads import DownloadError, HttpMirror, RemoteFile, cache_dir, obtain
from common.mask_files import read_instance_ids

PENN_FUDAN = RemoteFile(
    "PennFudanPed.zip",
    53_723_336,
    "md5:5aaa3dee905cef73325923716e38fc6d",
    (HttpMirror("https://www.cis.upenn.edu/~jshi/ped_html/PennFudanPed.zip", (10.0, 60.0)),),
)
FOLDER_NAME = "PennFudanPed"
NUM_IMAGES = 170
NUM_PEDESTRIANS = 423  # 345 of the paper and those of added-object-list.txt
LARGEST_UNPACKED = 2**30  # the archive unpacks to about 52 MB


class PennFudanError(ValueError):
    """Say why the pictures cannot be had, and what can be done instead."""


def fetch_penn_fudan(
    folder: str | Path | None = None,
    *,
    remote: RemoteFile = PENN_FUDAN,
    num_images: int = NUM_IMAGES,
    num_pedestrians: int = NUM_PEDESTRIANS,
) -> Path:
    """Return the folder with PNGImages and PedMasks; download and unpack it the first time.

    Args:
        folder: where the archive and the pictures are kept; by default
            `common.downloads.cache_dir()`.
        remote: the archive, with its size, checksum and address.
        num_images: how many pictures there must be.
        num_pedestrians: how many pedestrians their masks must hold together.

    Raises:
        PennFudanError: no network, another file than expected, or other counts.
    """
    cache = Path(folder) if folder is not None else cache_dir()
    target = cache / FOLDER_NAME
    if target.is_dir():
        _check_counts(target, num_images, num_pedestrians)
        return target
    try:
        archive = obtain(remote, folder=cache)
    except DownloadError as error:
        raise PennFudanError(
            f"{error}\nOr use --preset street, which needs no download."
        ) from error
    with tempfile.TemporaryDirectory(dir=cache, prefix="unpacking-") as temporary:
        _unpack(archive, Path(temporary))
        unpacked = Path(temporary) / FOLDER_NAME
        _check_counts(unpacked, num_images, num_pedestrians)
        try:
            unpacked.replace(target)
        except OSError:
            if not target.is_dir():  # else another process was first
                raise
    return target


def count_pedestrians(folder: Path) -> tuple[int, int]:
    """Count the pictures in PNGImages and the pedestrians in PedMasks.

    Raises:
        AnnotationError: a mask cannot be read.
    """
    images = len(list((folder / "PNGImages").glob("*.png")))
    masks = sorted((folder / "PedMasks").glob("*_mask.png"))
    return images, sum(np.count_nonzero(np.unique(read_instance_ids(mask))) for mask in masks)


def _check_counts(folder: Path, num_images: int, num_pedestrians: int) -> None:
    images, pedestrians = count_pedestrians(folder)
    if (images, pedestrians) != (num_images, num_pedestrians):
        raise PennFudanError(
            f"{folder} has {images} images and {pedestrians} pedestrians instead of {num_images} "
            f"and {num_pedestrians}; delete the folder to have it unpacked again"
        )


def _unpack(archive: Path, folder: Path) -> None:
    """Unpack plain files that stay inside the folder; refuse everything else before writing."""
    try:
        with zipfile.ZipFile(archive) as packed:
            members = [member for member in packed.infolist() if not member.is_dir()]
            if sum(member.file_size for member in members) > LARGEST_UNPACKED:
                raise PennFudanError(
                    f"{archive} would unpack to more than {LARGEST_UNPACKED} bytes"
                )
            for member in members:
                _check_member(member, archive)
            for member in members:
                path = folder / member.filename
                path.parent.mkdir(parents=True, exist_ok=True)
                with packed.open(member) as source, path.open("wb") as sink:
                    shutil.copyfileobj(source, sink)
    except (zipfile.BadZipFile, EOFError) as error:
        raise PennFudanError(f"{archive} is no intact ZIP archive: {error}") from error


def _check_member(member: zipfile.ZipInfo, archive: Path) -> None:
    name = member.filename
    link = (member.external_attr >> 16) & 0o170000 == 0o120000
    for kind in (PurePosixPath(name), PureWindowsPath(name)):
        if link or kind.is_absolute() or kind.drive or ".." in kind.parts:
            raise PennFudanError(f"{archive} holds {name!r}, which would leave its folder")
