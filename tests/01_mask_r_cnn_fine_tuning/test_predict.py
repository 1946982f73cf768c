"""predict.py: photos in, drawings and a list out."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco_mask

import predict
from common.checkpoint import save_checkpoint
from common.settings import plain_values
from model import build_model
from settings import make_settings


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A detector with random weights, saved as a training run saves it."""
    torch.manual_seed(0)
    settings = make_settings("street", pretrained=False, image_size=(72, 96))
    stored = {**plain_values(settings), "class_names": ["pedestrian"]}
    path = tmp_path_factory.mktemp("run") / "best.pt"
    return save_checkpoint(path, build_model(settings, 2), settings=stored)


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    generator = np.random.default_rng(0)
    for name, size in (("a.jpg", (72, 96)), ("b.png", (60, 80))):
        pixels = generator.integers(0, 255, (*size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)
    (folder / "notes.txt").write_text("no photo")
    return folder


def run(source, checkpoint, *more):
    return predict.main([str(source), "--checkpoint", str(checkpoint), *map(str, more)])


def test_folder_gives_a_list_and_drawings(photos, checkpoint, tmp_path):
    out, listed = tmp_path / "out", tmp_path / "new" / "found.json"
    code = run(photos, checkpoint, "--score-threshold", 0, "--json", listed, "--out", out)
    assert code == 0
    assert sorted(p.name for p in out.iterdir()) == ["a.jpg.png", "b.png.png"]
    assert Image.open(out / "b.png.png").width > 500
    first, second = json.loads(listed.read_text())
    assert (first["width"], first["height"]) == (96, 72)
    assert second["file"] == str(photos / "b.png")
    assert first["detections"]
    for one in first["detections"]:
        assert (one["label"], one["class_name"]) == (1, "pedestrian")
        assert 0 <= one["score"] <= 1
        x1, y1, x2, y2 = one["box_xyxy"]
        assert 0 <= x1 < x2 <= 96
        assert 0 <= y1 < y2 <= 72
        assert coco_mask.decode(one["segmentation"]).shape == (72, 96)


def test_threshold_leaves_out_what_scores_less(photos, checkpoint, capsys):
    assert run(photos / "a.jpg", checkpoint, "--score-threshold", 0) == 0
    scores = [one["score"] for one in json.loads(capsys.readouterr().out)[0]["detections"]]
    middle = sum(sorted(scores)[len(scores) // 2 - 1 :][:2]) / 2
    assert run(photos / "a.jpg", checkpoint, "--score-threshold", middle) == 0
    kept = [one["score"] for one in json.loads(capsys.readouterr().out)[0]["detections"]]
    assert kept == [score for score in scores if score >= middle]
    assert 0 < len(kept) < len(scores)


def test_pattern_and_an_unreadable_photo(photos, checkpoint, capsys):
    (photos / "c.png").write_bytes(b"no picture at all")
    assert run(f"{photos}/*.png", checkpoint) == 1
    captured = capsys.readouterr()
    assert "c.png: this is not a photo" in captured.err
    assert [entry["file"] for entry in json.loads(captured.out)] == [str(photos / "b.png")]


@pytest.mark.parametrize("size", [(1, 2000), (2000, 1), (4000, 10), (192, 2), (96, 1), (1, 1)])
def test_strips_are_photos(photos, checkpoint, tmp_path, size):
    """The model scales them to 96 pixels, which would leave no row of most of them."""
    pixels = np.random.default_rng(1).integers(0, 255, (*size[::-1], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(photos / "aa.png")
    listed, out = tmp_path / "found.json", tmp_path / "out"
    assert run(photos, checkpoint, "--score-threshold", 0, "--json", listed, "--out", out) == 0
    entries = json.loads(listed.read_text())
    assert [Path(entry["file"]).name for entry in entries] == ["a.jpg", "aa.png", "b.png"]
    width, height = size
    assert (entries[1]["width"], entries[1]["height"]) == size
    assert entries[1]["detections"]
    for one in entries[1]["detections"]:
        x1, y1, x2, y2 = one["box_xyxy"]
        assert 0 <= x1 <= x2 <= width and 0 <= y1 <= y2 <= height
        assert coco_mask.decode(one["segmentation"]).shape == (height, width)
    assert Image.open(out / "aa.png.png").size > (1, 1)


def test_a_photo_that_the_model_fails_on_is_one_error(photos, checkpoint, monkeypatch, capsys):
    original = predict.predict

    def picky(model, image, score_threshold):
        if image.shape == (72, 96, 3):  # a.jpg
            raise RuntimeError("not enough memory\nmany lines")
        return original(model, image, score_threshold)

    monkeypatch.setattr(predict, "predict", picky)
    assert run(photos, checkpoint) == 1
    captured = capsys.readouterr()
    assert f"error: {photos / 'a.jpg'}: not enough memory\n" in captured.err
    assert [entry["file"] for entry in json.loads(captured.out)] == [str(photos / "b.png")]


def test_what_is_passed_over_and_stretched_is_said(photos, checkpoint, capsys):
    levels = np.linspace(130, 3100, 1200).reshape(30, 40).astype(np.uint16)
    Image.fromarray(levels).save(photos / "c.tif")
    assert run(photos, checkpoint) == 0
    errors = capsys.readouterr().err
    assert f"note: {photos}: 1 file is passed over (notes.txt: no photo by the ending)" in errors
    assert f"note: {photos / 'c.tif'}: levels 130 to 3100 of a 12-bit picture were" in errors


def test_no_photo(checkpoint, tmp_path, capsys):
    assert run(tmp_path / "*.jpg", checkpoint) == 2
    assert "*.jpg: no file fits this pattern" in capsys.readouterr().err


def test_no_checkpoint(photos, tmp_path, capsys):
    assert run(photos, tmp_path / "x.pt") == 2
    assert "there is no checkpoint" in capsys.readouterr().err


def test_threshold_out_of_range(photos, checkpoint, capsys):
    with pytest.raises(SystemExit) as exit_info:
        run(photos, checkpoint, "--score-threshold", 1.5)
    assert exit_info.value.code == 2
    assert "--score-threshold is 1.5; allowed are 0 to 1" in capsys.readouterr().err
