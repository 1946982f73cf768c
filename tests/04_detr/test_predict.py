"""predict.py: photos and films in, drawings and a list out; nothing is suppressed."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

import predict
from common.checkpoint import save_checkpoint
from common.settings import plain_values
from common.video import VideoSource
from detr import build_model
from settings import make_settings

SIZE = (72, 96)


def make_model():
    torch.manual_seed(0)
    settings = make_settings("street", pretrained=False, image_size=SIZE)
    model = build_model(settings, 1).eval()
    for head in model.box_heads:
        torch.nn.init.normal_(head[-1].weight, std=0.1)
    return model, settings


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A detector with random weights, saved as a training run saves it."""
    model, settings = make_model()
    stored = {**plain_values(settings), "class_names": ["pedestrian"]}
    return save_checkpoint(tmp_path_factory.mktemp("run") / "best.pt", model, settings=stored)


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


@pytest.fixture
def quick(monkeypatch):
    """In the model's place: finds one person in the middle of every picture, at once."""

    def find(model, image, size, score_threshold):
        height, width = image.shape[:2]
        box = [width / 4, height / 4, width * 3 / 4, height * 3 / 4]
        found = {"boxes": torch.tensor([box]), "scores": torch.tensor([0.9])}
        return {**found, "labels": torch.tensor([1])}

    monkeypatch.setattr(predict, "predict", find)


def run(source, checkpoint, *more):
    """Run the command on a source, or on a list of them."""
    sources = source if isinstance(source, list) else [source]
    return predict.main([*map(str, sources), "--checkpoint", str(checkpoint), *map(str, more)])


def write_film(path, frames=5, code="MJPG"):
    """A film of 96 x 72 pixels, ten frames a second, each lighter than the one before."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*code), 10, (96, 72))
    if not writer.isOpened():
        pytest.skip("this OpenCV writes no such films")
    noise = np.random.default_rng(0).integers(-9, 10, (72, 96, 3))
    for number in range(frames):
        writer.write((noise + 20 + 15 * number).astype(np.uint8))
    writer.release()
    return path


def frames_of(path):
    source = VideoSource(path)
    try:
        return list(source), source.frames_per_second
    finally:
        source.close()


def picture_starts(film):
    """Where the JPEGs begin that a film consists of."""
    content = film.read_bytes()
    return [k for k in range(len(content)) if content.startswith(b"\xff\xd8\xff", k)]


def errors_in(text):
    return [line for line in text.splitlines() if line.startswith("error: ")]


def test_folder_gives_a_list_and_drawings(photos, checkpoint, tmp_path):
    out, listed = tmp_path / "out", tmp_path / "new" / "found.json"
    code = run(photos, checkpoint, "--score-threshold", 0, "--json", listed, "--out", out)
    assert code == 0
    assert sorted(p.name for p in out.iterdir()) == ["a.jpg.png", "b.png.png"]
    assert Image.open(out / "b.png.png").size == (80, 60)
    assert not np.array_equal(Image.open(out / "b.png.png"), Image.open(photos / "b.png"))
    first, second = json.loads(listed.read_text())
    assert (first["width"], first["height"]) == (96, 72)
    assert second["file"] == str(photos / "b.png")
    assert len(first["detections"]) == 30  # every query's, whatever overlaps
    for one in first["detections"]:
        assert (one["label"], one["class_name"]) == (1, "pedestrian")
        x1, y1, x2, y2 = one["box_xyxy"]
        assert 0 <= x1 < x2 <= 96
        assert 0 <= y1 < y2 <= 72


@pytest.mark.parametrize("shape", [(72, 96), (144, 192), (300, 100)])
def test_boxes_are_in_pixels_of_the_photo(shape):
    """The same picture in another size gives the same boxes, scaled."""
    model, _ = make_model()
    photo = np.random.default_rng(0).integers(0, 255, (*shape, 3), dtype=np.uint8)
    photo = cv2.GaussianBlur(photo, (0, 0), 9)
    scale = min(72 / shape[0], 96 / shape[1])
    small = cv2.resize(photo, (round(shape[1] * scale), round(shape[0] * scale)),
                       interpolation=cv2.INTER_AREA)  # fmt: skip
    large, other = (predict.predict(model, one, SIZE, 0.0) for one in (photo, small))
    torch.testing.assert_close(large["boxes"] * scale, other["boxes"], rtol=0, atol=0.5)
    assert large["scores"].tolist() == sorted(large["scores"].tolist(), reverse=True)


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
    """Scaled to fit, most would have no row left."""
    pixels = np.random.default_rng(1).integers(0, 255, (*size[::-1], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(photos / "aa.png")
    listed, out = tmp_path / "found.json", tmp_path / "out"
    assert run(photos, checkpoint, "--score-threshold", 0, "--json", listed, "--out", out) == 0
    entries = json.loads(listed.read_text())
    assert [Path(entry["file"]).name for entry in entries] == ["a.jpg", "aa.png", "b.png"]
    width, height = size
    assert (entries[1]["width"], entries[1]["height"]) == size
    for one in entries[1]["detections"]:
        x1, y1, x2, y2 = one["box_xyxy"]
        assert 0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height
    assert Image.open(out / "aa.png.png").size == size


def test_a_photo_that_the_model_fails_on_is_one_error(photos, checkpoint, monkeypatch, capsys):
    original = predict.predict

    def picky(model, image, size, score_threshold):
        if image.shape == (72, 96, 3):  # a.jpg
            raise RuntimeError("not enough memory\nmany lines")
        return original(model, image, size, score_threshold)

    monkeypatch.setattr(predict, "predict", picky)
    assert run(photos, checkpoint) == 1
    captured = capsys.readouterr()
    assert f"error: {photos / 'a.jpg'}: not enough memory\n" in captured.err
    assert [entry["file"] for entry in json.loads(captured.out)] == [str(photos / "b.png")]


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


@pytest.mark.parametrize("code", ["MJPG", "mp4v"])
def test_film_gives_an_entry_a_frame_and_a_drawn_film(checkpoint, tmp_path, code):
    film = write_film(tmp_path / ("film.avi" if code == "MJPG" else "film.mp4"), 3, code)
    out, listed = tmp_path / "out", tmp_path / "found.json"
    code = run(film, checkpoint, "--score-threshold", 0, "--json", listed, "--out", out)
    assert code == 0
    entries = json.loads(listed.read_text())
    assert [entry["frame"] for entry in entries] == [0, 1, 2]
    for entry in entries:
        assert list(entry) == ["file", "width", "height", "frame", "detections"]
        assert (entry["file"], entry["width"], entry["height"]) == (str(film), 96, 72)
        assert entry["detections"]
    assert [path.name for path in out.iterdir()] == ["film.mp4"]
    (before, _), (after, rate) = frames_of(film), frames_of(out / "film.mp4")
    assert rate == 10
    assert len(after) == 3
    for old, new in zip(before, after, strict=True):
        assert old.shape == new.shape
        assert np.abs(old.astype(int) - new).max() > 60


def test_max_frames_holds_for_each_film(checkpoint, tmp_path, capsys, quick):
    films = [write_film(tmp_path / name) for name in ("a.avi", "b.avi")]
    assert run(films, checkpoint, "--max-frames", 2) == 0
    entries = json.loads(capsys.readouterr().out)
    assert [(Path(one["file"]).name, one["frame"]) for one in entries] == [
        ("a.avi", 0),
        ("a.avi", 1),
        ("b.avi", 0),
        ("b.avi", 1),
    ]


def test_a_damaged_frame_is_one_frame(checkpoint, tmp_path, capsys, quick):
    film, out = write_film(tmp_path / "film.avi"), tmp_path / "out"
    content, start = bytearray(film.read_bytes()), picture_starts(film)[2]
    content[start : start + 300] = bytes(300)
    film.write_bytes(content)
    listed = tmp_path / "found.json"
    assert run(film, checkpoint, "--out", out, "--json", listed) == 1
    assert [entry["frame"] for entry in json.loads(listed.read_text())] == [0, 1, 3, 4]
    assert len(frames_of(out / "film.mp4")[0]) == 4
    message = f"error: {film}: frame 2 (from 0) cannot be read; the others were"
    assert errors_in(capsys.readouterr().err) == [message]


def test_no_source_is_written_over(photos, checkpoint, quick):
    write_film(photos / "film.mp4", 2, "mp4v")
    write_film(photos / "film_detected.mp4", 2, "mp4v")
    Image.new("RGB", (20, 10)).save(photos / "a.jpg.png")
    before = {path.name: path.read_bytes() for path in photos.iterdir()}
    assert run(photos, checkpoint, "--out", photos) == 0
    after = {path.name: path.read_bytes() for path in photos.iterdir()}
    assert {name: after[name] for name in before} == before
    assert sorted(after.keys() - before.keys()) == [
        "a.jpg.png.png",
        "a.jpg_2.png",
        "b.png.png",
        "film_detected_2.mp4",
        "film_detected_detected.mp4",
    ]


def test_ctrl_c_keeps_what_was_listed(photos, checkpoint, tmp_path, monkeypatch, capsys, quick):
    original, calls = predict.predict, []

    def stopped(*arguments):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(predict, "predict", stopped)
    film, out, listed = write_film(tmp_path / "film.avi"), tmp_path / "out", tmp_path / "found.json"
    assert run([photos / "a.jpg", film], checkpoint, "--out", out, "--json", listed) == 2
    assert "stopped; what was listed so far is kept" in capsys.readouterr().err
    frames = [entry.get("frame") for entry in json.loads(listed.read_text())]
    assert frames == [None, 0, 1]
    assert sorted(path.name for path in out.iterdir()) == ["a.jpg.png", "film.mp4"]
    assert len(frames_of(out / "film.mp4")[0]) == 2
