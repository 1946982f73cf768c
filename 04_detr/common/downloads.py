"""A cache folder of files that are pinned by their hash, fetched from the first mirror that works.

Whatever a mirror delivers first lies under `NAME.part`. Only a file of the right hash is renamed
to `NAME`, in one step, so a stopped download never looks complete. A `NAME.part` that a
stopped download left is continued, from any mirror. One process at a time works on a file
(`NAME.lock`); others wait and use its result.
"""

import os
import shutil
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import BinaryIO, Protocol

import pooch
import requests
from filelock import FileLock, Timeout
from pooch.hashes import hash_algorithm, hash_matches
from tqdm import tqdm

ATTEMPTS_PER_MIRROR = 10


class MirrorError(Exception):
    """One mirror did not deliver; the text is the reason."""


class Mirror(Protocol):
    """A place that may have the file. Its `str()` names it in reports."""

    def deliver(self, part: Path, size: int, progress: bool) -> None:
        """Fill the existing file `part`, of `size` bytes when complete, or raise `MirrorError`."""


@dataclass(frozen=True)
class HttpMirror:
    """A web address. `timeout` is (to connect, without any data) in seconds."""

    url: str
    timeout: tuple[float, float] = (5.0, 20.0)

    def __str__(self) -> str:
        return self.url

    def deliver(self, part: Path, size: int, progress: bool) -> None:
        """Download, and continue a broken transfer for as long as each attempt brings data."""
        for _ in range(ATTEMPTS_PER_MIRROR):
            before = part.stat().st_size
            try:
                return self._continue(part, size, progress)
            except requests.HTTPError as error:
                response = error.response
                raise MirrorError(f"HTTP {response.status_code} {response.reason}") from error
            except requests.RequestException as error:
                reason = f"{_root_cause(error)} (has {part.stat().st_size:,} of {size:,} bytes)"
                if part.stat().st_size <= before:
                    break
        raise MirrorError(reason)

    def _continue(self, part: Path, size: int, progress: bool) -> None:
        start = part.stat().st_size
        start = start if start < size else 0
        # A compressed transfer could neither be continued nor checked by its length.
        headers = {"Accept-Encoding": "identity"}
        if start:
            headers["Range"] = f"bytes={start}-"
        with part.open("r+b") as file, _Bar(file, start, size, part.stem, progress) as bar:

            def check_and_seek(response: requests.Response, **_: object) -> None:
                if response.is_redirect:
                    return
                response.raise_for_status()
                begin = start if response.status_code == requests.codes.partial_content else 0
                _check_headers(response, size - begin)
                response.raw.enforce_content_length = True  # not the default of urllib3 1
                file.seek(begin)
                file.truncate()

            pooch.HTTPDownloader(
                progressbar=bar,
                chunk_size=1 << 16,
                timeout=self.timeout,
                headers=headers,
                hooks={"response": check_and_seek},
            )(self.url, file, None)


class _Bar(tqdm):
    """A progress bar of the bytes in the file, those of an earlier run included.

    pooch counts whole chunks of the present transfer, and restarts the bar at its end.
    """

    def __init__(self, file: BinaryIO, start: int, size: int, name: str, progress: bool) -> None:
        self._file, self._size = file, size
        look = {"desc": name, "unit": "B", "unit_scale": True, "delay": 0.5}
        super().__init__(total=size, initial=start, disable=not progress, **look)

    def update(self, n: float | None = 1) -> bool | None:
        self.total = self._size
        return super().update(self._file.tell() - self.n)

    def reset(self, total: float | None = None) -> None:
        """Keep the count."""


def _check_headers(response: requests.Response, expected_bytes: int) -> None:
    if "html" in response.headers.get("Content-Type", ""):
        raise MirrorError("answered with an HTML page instead of the file")
    offered = response.headers.get("Content-Length", "")
    if offered.isdigit() and int(offered) != expected_bytes:
        raise MirrorError(f"offers {int(offered):,} bytes instead of {expected_bytes:,}")


def _root_cause(error: BaseException) -> str:
    """Name the innermost failure: requests and urllib3 wrap it in several layers of text."""
    root, inner = error, error.__context__
    while inner is not None:
        if isinstance(inner, OSError | HTTPException):
            root = inner
        inner = inner.__context__
    return f"{type(root).__name__}: {root}"


@dataclass(frozen=True)
class LocalCopy:
    """A file that another program may have installed on this machine."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    def deliver(self, part: Path, size: int, progress: bool) -> None:
        """Copy the file."""
        if not self.path.is_file():
            raise MirrorError("not on this machine")
        shutil.copyfile(self.path, part)


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
