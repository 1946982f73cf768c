"""Places that a pinned file can be had from: web addresses, other programs on the machine.

A mirror writes the file's bytes to a path it is given, or raises `MirrorError` with the reason.
It need not check them: `file_cache.obtain` does, and goes on with the next mirror.
"""

import shutil
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import BinaryIO, Protocol

import pooch
import requests
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
