"""A cache folder of files that are pinned by their hash, fetched from the first mirror that works.

Whatever a mirror delivers first lies under `NAME.part`. Only a file of the right SHA-256 is
renamed to `NAME`, in one step, so a stopped download never looks complete. A `NAME.part` that a
stopped download left is continued, from any mirror. One process at a time works on a file
(`NAME.lock`); others wait and use its result.
"""

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pooch
from filelock import FileLock, Timeout

from mirrors import Mirror, MirrorError

CACHE_VARIABLE = "DETECTION_SEGMENTATION_CACHE"


class DownloadError(OSError):
    """No mirror delivered the file, or the cache folder cannot be used; the text says what to do.

    An `OSError`, like other failures of network and disk, so that `except OSError` covers it.
    """


@dataclass(frozen=True)
class RemoteFile:
    """A file's name, exact size in bytes, SHA-256 (hex digits) and mirrors in order of trial."""

    name: str
    size: int
    sha256: str
    mirrors: tuple[Mirror, ...]


def cache_dir() -> Path:
    """The folder of downloaded files: $DETECTION_SEGMENTATION_CACHE or the platform's cache."""
    chosen = os.environ.get(CACHE_VARIABLE)
    folder = Path(chosen) if chosen else pooch.os_cache("detection_segmentation")
    return folder.expanduser().absolute()


def is_cached(remote: RemoteFile) -> bool:
    """Whether the cache folder has the file with the right SHA-256."""
    path = cache_dir() / remote.name
    return path.is_file() and pooch.file_hash(str(path), alg="sha256") == remote.sha256


def obtain(remote: RemoteFile, progress: bool = True) -> Path:
    """Return the path of the file in the cache, fetched first if it is not there.

    A file of that name with another content is moved to `NAME.wrong`, with a warning. A `progress`
    bar is drawn on stderr. Raises `DownloadError` when every mirror fails or the cache folder
    cannot be read and written.
    """
    folder = cache_dir()
    try:
        if is_cached(remote):
            return folder / remote.name
        folder.mkdir(parents=True, exist_ok=True)
        with _one_process_at_a_time(folder / f"{remote.name}.lock", progress):
            if not is_cached(remote):
                _fetch(remote, folder / remote.name, progress)
    except DownloadError:
        raise
    except OSError as error:
        raise DownloadError(
            f"cannot use the cache folder {folder}: {error}. Name a folder that can be written"
            f" in the environment variable {CACHE_VARIABLE}."
        ) from error
    return folder / remote.name


@contextmanager
def _one_process_at_a_time(lock_path: Path, progress: bool) -> Iterator[None]:
    lock_path.open("ab").close()  # a lock that must not be written may wait for ever on Windows
    lock = FileLock(lock_path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if progress:
            print(f"Waiting for another process to finish {lock_path.stem} ...", file=sys.stderr)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _fetch(remote: RemoteFile, target: Path, progress: bool) -> None:
    if target.exists():
        _set_aside(target, remote.sha256)
    part = target.with_name(f"{target.name}.part")
    if part.exists() and part.stat().st_size >= remote.size:
        if _fault(part, remote) is None:  # stopped just before it was renamed
            part.replace(target)
            return
        part.unlink()
    failures = []
    for mirror in remote.mirrors:
        part.touch()
        reason = _try_mirror(mirror, remote, part, progress)
        if reason is None:
            part.replace(target)
            return
        failures.append(f"  - {mirror}: {reason}")
    if part.exists() and part.stat().st_size == 0:
        part.unlink()
    raise DownloadError(
        "\n".join(
            [f"{remote.name} could not be fetched. Tried:", *failures]
            + [f"Get it elsewhere and put it here by hand: {target}"]
            + [f"({remote.size:,} bytes, SHA-256 {remote.sha256})"]
        )
    )


def _try_mirror(mirror: Mirror, remote: RemoteFile, part: Path, progress: bool) -> str | None:
    """Return None when `part` now has the right content, else the reason why not."""
    is_continued = part.stat().st_size > 0
    try:
        mirror.deliver(part, remote.size, progress)
    except MirrorError as error:
        return str(error)
    fault = _fault(part, remote)
    if fault is None:
        return None
    part.unlink()
    part.touch()
    # The first bytes came from elsewhere, and may be the wrong ones.
    return _try_mirror(mirror, remote, part, progress) if is_continued else fault


def _fault(part: Path, remote: RemoteFile) -> str | None:
    digest = pooch.file_hash(str(part), alg="sha256")
    if digest == remote.sha256:
        return None
    with part.open("rb") as file:
        head = file.read(512).lstrip().lower()
    if head.startswith((b"<!doctype html", b"<html")):
        return "sent an HTML page instead of the file"
    if part.stat().st_size != remote.size:
        return f"sent {part.stat().st_size:,} bytes instead of {remote.size:,}"
    return f"sent a file of SHA-256 {digest} instead of {remote.sha256}"


def _set_aside(path: Path, sha256: str) -> None:
    aside = path.with_name(f"{path.name}.wrong")
    path.replace(aside)
    warnings.warn(
        f"{path} does not have the SHA-256 {sha256}: moved to {aside.name} and fetched again",
        stacklevel=5,
    )
