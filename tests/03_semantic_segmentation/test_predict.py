"""The command that predicts: what it writes, prints and refuses."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import predict
from common.checkpoint import CheckpointError, save_checkpoint
from common.masks.class_table import ClassTable
from common.masks.label_maps import read_label_map
from common.masks.overlays import label_color
from common.settings import plain_values
from networks.models import build_model, load_model
from settings import make_settings


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    settings = make_settings("street", model="unet", window=(16, 20))
    stored = {**plain_values(settings), "class_names": ["ground", "thing", "sky"]}
    path = tmp_path_factory.mktemp("checkpoint") / "best.pt"
    return save_checkpoint(path, build_model("unet", 3), settings=stored)


def photo(path: Path, size=(30, 21)) -> Path:
    generator = np.random.default_rng(1)
    Image.fromarray(generator.integers(0, 256, (*size[::-1], 3), dtype=np.uint8)).save(path)
    return path


def test_predict_writes_label_maps_overlays_and_json(checkpoint, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    originals = {photo(folder / name): None for name in ("a.png", "b.bmp")}
    originals = {path: path.read_bytes() for path in originals}
    (folder / "c.jpg").write_text("no photo")
    out, found = tmp_path / "out", tmp_path / "new" / "found.json"
    arguments = [str(folder), "--checkpoint", str(checkpoint)]
    assert predict.main([*arguments, "--out", str(out), "--json", str(found)]) == 1
    assert {path.name for path in out.iterdir()} == {
        f"{name}.{kind}.png" for name in ("a.png", "b.bmp") for kind in ("overlay", "labels")
    }
    entries = json.loads(found.read_text())
    assert [Path(one["file"]).name for one in entries] == ["a.png", "b.bmp"]
    for entry in entries:
        labels = np.array(Image.open(out / f"{Path(entry['file']).name}.labels.png"))
        assert labels.shape == (21, 30) == (entry["height"], entry["width"])
        counts = {one["label"]: one["pixels"] for one in entry["classes"]}
        assert counts == {k: (labels == k).sum() for k in np.unique(labels).tolist()}
        assert sum(one["share"] for one in entry["classes"]) == pytest.approx(1)
        assert {one["class_name"] for one in entry["classes"]} <= {"ground", "thing", "sky"}
    assert all(path.read_bytes() == content for path, content in originals.items())


def test_label_maps_have_a_palette_and_are_read_back(checkpoint, tmp_path):
    path, out = photo(tmp_path / "one.png"), tmp_path / "out"
    assert predict.main([str(path), "--checkpoint", str(checkpoint), "--out", str(out)]) == 0
    stored = Image.open(out / "one.png.labels.png")
    labels = np.array(stored)
    assert stored.mode == "P" and labels.dtype == np.uint8
    expected = np.array([label_color(label) for label in range(256)], np.uint8)[labels]
    assert np.array_equal(np.array(stored.convert("RGB")), expected)
    table = ClassTable(("ground", "thing", "sky"), (0, 1, 2))
    assert np.array_equal(read_label_map(out / "one.png.labels.png", table), labels)


def test_areas_as_a_table(checkpoint, tmp_path):
    (tmp_path / "photos").mkdir()
    names, areas = ("a, b.png", "c.png"), tmp_path / "new" / "areas.csv"
    for name in names:
        photo(tmp_path / "photos" / name)
    out = ["--out", str(tmp_path / "out"), "--csv", str(areas)]
    assert predict.main([str(tmp_path / "photos"), "--checkpoint", str(checkpoint), *out]) == 0
    with areas.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["file", "label", "class_name", "pixels", "share"]
    assert [row["class_name"] for row in rows] == ["ground", "thing", "sky"] * 2
    for row in rows:
        labels = np.array(Image.open(tmp_path / "out" / f"{Path(row['file']).name}.labels.png"))
        assert int(row["pixels"]) == (labels == int(row["label"])).sum()
        assert float(row["share"]) == pytest.approx(int(row["pixels"]) / 630, abs=1e-6)


def test_predict_prints_and_takes_any_size(checkpoint, tmp_path, capsys):
    path = photo(tmp_path / "one.png", (1, 1))
    assert predict.main([str(path), "--checkpoint", str(checkpoint)]) == 0
    entry = json.loads(capsys.readouterr().out)[0]
    assert (entry["width"], entry["classes"][0]["pixels"]) == (1, 1)


@pytest.mark.parametrize("size", [(1, 2000), (2000, 1), (400, 2)])
def test_strips_are_photos(checkpoint, tmp_path, size):
    path, found = photo(tmp_path / "strip.png", size), tmp_path / "found.json"
    options = ["--checkpoint", str(checkpoint), "--json", str(found), "--out", str(tmp_path / "o")]
    assert predict.main([str(path), *options]) == 0
    (entry,) = json.loads(found.read_text())
    assert (entry["width"], entry["height"]) == size
    assert sum(one["pixels"] for one in entry["classes"]) == size[0] * size[1]
    assert Image.open(tmp_path / "o/strip.png.labels.png").size == size


def test_a_photo_that_the_model_fails_on_is_one_error(checkpoint, tmp_path, monkeypatch, capsys):
    original = predict.predict_labels

    def picky(model, pixels, window, overlap):
        if pixels.shape[-1] == 31:
            raise RuntimeError("not enough memory\nmany lines")
        return original(model, pixels, window, overlap)

    monkeypatch.setattr(predict, "predict_labels", picky)
    for name, width in (("a.png", 30), ("b.png", 31), ("c.png", 32)):
        photo(tmp_path / name, (width, 21))
    (tmp_path / "notes.docx").touch()
    assert predict.main([str(tmp_path), "--checkpoint", str(checkpoint)]) == 1
    captured = capsys.readouterr()
    assert f"error: {tmp_path / 'b.png'}: not enough memory\n" in captured.err
    assert f"note: {tmp_path}: 1 file is passed over (notes.docx: no photo by" in captured.err
    assert [Path(one["file"]).name for one in json.loads(captured.out)] == ["a.png", "c.png"]


def test_a_photo_without_an_ending(checkpoint, tmp_path, capsys):
    photo(tmp_path / "one.png").rename(tmp_path / "one")
    for source in (tmp_path / "one", tmp_path):
        assert predict.main([str(source), "--checkpoint", str(checkpoint)]) == 0
        assert json.loads(capsys.readouterr().out)[0]["width"] == 30


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("missing/*.jpg", "no file fits this pattern"),
        ("empty", "this folder holds no file that ends in"),
        ("twice/**/*.png", "another photo of"),
    ],
)
def test_predict_without_photos(checkpoint, tmp_path, capsys, source, message):
    (tmp_path / "empty").mkdir()
    for name in ("a", "b"):
        (tmp_path / "twice" / name).mkdir(parents=True)
        photo(tmp_path / "twice" / name / "same.png")
    assert predict.main([str(tmp_path / source), "--checkpoint", str(checkpoint)]) == 2
    assert message in capsys.readouterr().err


def test_predict_refuses_bad_options(checkpoint, tmp_path, capsys):
    path = photo(tmp_path / "one.png")
    for option, message in (
        (["--overlap", "1"], "allowed are 0 to below 1"),
        (["--window", "0", "5"], "both sides have to be at least 1 pixel"),
    ):
        with pytest.raises(SystemExit) as exit_info:
            predict.main([str(path), "--checkpoint", str(checkpoint), *option])
        assert exit_info.value.code == 2
        assert message in capsys.readouterr().err
    assert predict.main([str(path), "--checkpoint", str(tmp_path / "no.pt")]) == 2
    assert "there is no checkpoint" in capsys.readouterr().err


def test_foreign_checkpoint_is_refused(tmp_path):
    path = save_checkpoint(tmp_path / "x.pt", nn.Linear(1, 1), settings={"a": 1})
    with pytest.raises(CheckpointError, match="checkpoint of another program"):
        load_model(path)
