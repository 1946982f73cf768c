"""The registry of files, the sample photos and the command."""

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from common.downloads import HttpMirror, RemoteFile
from darknet import download
from darknet.download import fetch

CONTENT = hashlib.shake_256(b"weights").digest(300_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
NAME = "small.weights"


LESSON = Path(download.__file__).parents[1]


def test_unknown_name_is_refused(cache):
    with pytest.raises(ValueError, match=r"unknown file 'yolov4.weights'; known are yolov3.weig"):
        fetch("yolov4.weights")


def test_registry_is_complete_and_pinned():
    weights = ["yolov3.weights", "yolov3-tiny.weights", "yolov3-spp.weights"]
    photos = ["dog.jpg", "eagle.jpg", "giraffe.jpg", "horses.jpg", "kite.jpg", "person.jpg"]
    assert list(download.FILES) == weights + photos
    assert len({remote.known_hash for remote in download.FILES.values()}) == 9
    for name, remote in download.FILES.items():
        assert remote.name == name and remote.mirrors
        assert len(bytes.fromhex(remote.known_hash)) == 32


@pytest.mark.parametrize("name", ["dog.jpg", "kite.jpg"])
def test_photos_of_an_installed_darknet_are_used(cache, name):
    copy = download.FILES[name].mirrors[0]
    if not copy.path.is_file():
        pytest.skip(f"{copy} is not there")
    assert fetch(name, progress=False).stat().st_size == download.FILES[name].size


def test_sample_photos_are_real_files_of_packages():
    sizes = {name: Image.open(path).size for name, path in download.sample_photos().items()}
    assert sizes == {
        "coffee": (600, 400),
        "motorcycle_left": (741, 500),
        "chelsea": (451, 300),
        "astronaut": (512, 512),
        "grace_hopper": (512, 600),
    }


def test_sample_photo_of_a_missing_package_names_it(monkeypatch):
    gone = {"coffee": ("scikit-image", "no_such_module", "data/coffee.png")}
    monkeypatch.setattr(download, "_PACKAGE_PHOTOS", gone)
    with pytest.raises(FileNotFoundError, match="module no_such_module .* --upgrade scikit-image"):
        download.sample_photos()


def test_command_fetches_and_prints_the_paths(register, cache, capsys):
    register("good")
    assert download.main([NAME]) == 0
    assert capsys.readouterr().out.strip() == str(cache / NAME)


def test_command_goes_on_after_a_failure(register, server, cache, capsys, monkeypatch):
    register("missing")
    other = RemoteFile("b.jpg", len(CONTENT), SHA256, (HttpMirror(f"{server.url}/good"),))
    monkeypatch.setitem(download.FILES, "b.jpg", other)
    assert download.main([NAME, "b.jpg"]) == 1
    printed = capsys.readouterr()
    assert printed.out.strip() == str(cache / "b.jpg")
    assert f"error: {NAME} could not be fetched" in printed.err


def test_command_fetches_all(register, cache, capsys, monkeypatch):
    register("good")
    monkeypatch.setattr(download, "FILES", {NAME: download.FILES[NAME]})
    assert download.main(["--all"]) == 0
    assert capsys.readouterr().out.strip() == str(cache / NAME)


def test_command_lists(register, cache, capsys):
    register("good")
    fetch(NAME, progress=False)
    capsys.readouterr()
    assert download.main(["--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"cache folder: {cache}"
    assert [line.split()[0] for line in lines[1:]] == list(download.FILES)
    cached = [line.split()[0] for line in lines[1:] if " cached " in line]
    assert cached == [NAME]


@pytest.mark.parametrize("arguments", [[], ["nothing.weights"], ["--no-such-option"]])
def test_wrong_usage_of_the_command(cache, arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        download.main(arguments)
    assert stopped.value.code == 2
    assert "usage: " in capsys.readouterr().err


def test_stopped_command_says_how_to_go_on(register, capsys, monkeypatch):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    register("good")
    monkeypatch.setattr(download, "obtain", interrupt)
    assert download.main([NAME]) == 2
    assert "the same command continues" in capsys.readouterr().err


def test_help_explains(cache):
    command = [sys.executable, "-m", "darknet.download", "--help"]
    result = subprocess.run(command, cwd=LESSON, capture_output=True, text=True)
    assert result.returncode == 0
    for word in ("yolov3-tiny.weights", "DETECTION_SEGMENTATION_CACHE", "exit code", str(cache)):
        assert word in result.stdout
