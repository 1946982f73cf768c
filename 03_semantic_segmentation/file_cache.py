"""A cache folder of files that are pinned by their hash, fetched from the first mirror that works.

Whatever a mirror delivers first lies under `NAME.part`. Only a file of the right hash is renamed
to `NAME`, in one step, so a stopped download never looks complete. A `NAME.part` that a
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
from pooch.hashes import hash_algorithm, hash_matches

from mirrors import Mirror, MirrorError

CACHE_VARIABLE = "DETECTION_SEGMENTATION_CACHE"
ALGORITHMS = {"sha256": "SHA-256", "md5": "MD5"}


class DownloadError(OSError):
    """No mirror delivered the file, or the cache folder cannot be used; the text says what to do.

    An `OSError`, like other failures of network and disk, so that `except OSError` covers it.
    """


@dataclass(frozen=True)
class RemoteFile:
    """A file's name, exact size in bytes, hash and mirrors in order of trial.

    `known_hash` is the SHA-256 in hex digits, or "md5:" and the MD5 where no other is published.
    """

    name: str
    size: int
    known_hash: str
    mirrors: tuple[Mirror, ...]

    @property
    def checksum(self) -> str:
        """The hash with the name of its algorithm, to be read by people."""
        return f"{ALGORITHMS[hash_algorithm(self.known_hash)]} {self.known_hash.split(':')[-1]}"

    def matches(self, path: Path) -> bool:
        """Whether a file has the known hash."""
        return hash_matches(str(path), self.known_hash)


def cache_dir() -> Path:
    """The folder of downloaded files: $DETECTION_SEGMENTATION_CACHE or the platform's cache."""
    chosen = os.environ.get(CACHE_VARIABLE)
    folder = Path(chosen) if chosen else pooch.os_cache("detection_segmentation")
    return folder.expanduser().absolute()


def is_cached(remote: RemoteFile, folder: Path | None = None) -> bool:
    """Whether the cache folder, or another one, has the file with the right hash."""
    path = (folder or cache_dir()) / remote.name
    return path.is_file() and remote.matches(path)


def obtain(remote: RemoteFile, progress: bool = True, folder: Path | None = None) -> Path:
    """Return the path of the file in the cache (or another folder), fetched first if need be.

    A file of that name with another content is moved to `NAME.wrong`, with a warning. A `progress`
    bar is drawn on stderr. Raises `DownloadError` when every mirror fails or the cache folder
    cannot be read and written.
    """
    folder = folder or cache_dir()
    try:
        if is_cached(remote, folder):
            return folder / remote.name
        folder.mkdir(parents=True, exist_ok=True)
        with _one_process_at_a_time(folder / f"{remote.name}.lock", progress):
            if not is_cached(remote, folder):
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
        _set_aside(target, remote.checksum)
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
            + [f"({remote.size:,} bytes, {remote.checksum})"]
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
    if remote.matches(part):
        return None
    with part.open("rb") as file:
        head = file.read(512).lstrip().lower()
    if head.startswith((b"<!doctype html", b"<html")):
        return "sent an HTML page instead of the file"
    if part.stat().st_size != remote.size:
        return f"sent {part.stat().st_size:,} bytes instead of {remote.size:,}"
    digest = pooch.file_hash(str(part), alg=hash_algorithm(remote.known_hash))
    return f"sent a file with the hash {digest} instead of {remote.checksum}"


def _set_aside(path: Path, checksum: str) -> None:
    aside = path.with_name(f"{path.name}.wrong")
    path.replace(aside)
    warnings.warn(
        f"{path} does not have the {checksum}: moved to {aside.name} and fetched again",
        stacklevel=5,
    )
