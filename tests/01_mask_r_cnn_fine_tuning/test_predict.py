"""predict.py: photos and films in, drawings and a list out."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco_mask

import predict
from common.checkpoint import save_checkpoint
from common.coco_truth import encode_polygons
from common.drawing import MASK_ALPHA, instance_color
from common.settings import plain_values
from common.video import VideoSource
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


@pytest.fixture
def quick(monkeypatch):
    """In the model's place: finds one person in the middle of every picture, at once."""

    def find(model, image, score_threshold):
        height, width = image.shape[:2]
        masks = torch.zeros(1, height, width, dtype=torch.bool)
        masks[:, height // 4 : -height // 4, width // 4 : -width // 4] = True
        box = [width / 4, height / 4, width * 3 / 4, height * 3 / 4]
        found = {"boxes": torch.tensor([box]), "scores": torch.tensor([0.9]), "masks": masks}
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
    assert Image.open(out / "a.jpg.png").size == (96, 72)
    assert Image.open(out / "b.png.png").size == (80, 60)
    assert not np.array_equal(Image.open(out / "b.png.png"), Image.open(photos / "b.png"))
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
    assert Image.open(out / "aa.png.png").size == size


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
        mask = coco_mask.decode(entry["detections"][0]["segmentation"])
        assert mask.shape == (72, 96)
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


def test_a_film_that_is_cut_off(checkpoint, tmp_path, capsys, quick):
    film = write_film(tmp_path / "film.avi", 8)
    film.write_bytes(film.read_bytes()[: picture_starts(film)[3]])
    assert run(film, checkpoint) == 1
    captured = capsys.readouterr()
    assert [entry["frame"] for entry in json.loads(captured.out)] == [0, 1, 2]
    message = f"error: {film}: is cut off: of 8 frames 5 are missing at the end"
    assert errors_in(captured.err) == [message]


def test_a_frame_that_the_model_fails_on_is_left_out(
    checkpoint, tmp_path, monkeypatch, capsys, quick
):
    original, calls = predict.predict, []

    def picky(*arguments):
        calls.append(1)
        if len(calls) in (2, 4):
            raise RuntimeError("not enough memory\nmany lines")
        return original(*arguments)

    monkeypatch.setattr(predict, "predict", picky)
    film = write_film(tmp_path / "film.avi")
    assert run(film, checkpoint) == 1
    captured = capsys.readouterr()
    assert [entry["frame"] for entry in json.loads(captured.out)] == [0, 2, 4]
    assert errors_in(captured.err) == [f"error: {film}: frame 1 (from 0): not enough memory"]
    assert f"note: {film}: 2 frames failed like that one and are left out" in captured.err


def test_a_folder_of_photos_films_and_bad_files(photos, checkpoint, tmp_path, capsys, quick):
    write_film(photos / "film.avi", 3)
    (photos / "bad.jpg").write_bytes(b"no picture at all")
    (photos / "bad.mp4").write_bytes(b"no film either")
    out, listed = tmp_path / "out", tmp_path / "found.json"
    assert run(photos, checkpoint, "--out", out, "--json", listed) == 1
    entries = json.loads(listed.read_text())
    assert [(Path(entry["file"]).name, entry.get("frame")) for entry in entries] == [
        ("a.jpg", None),
        ("b.png", None),
        ("film.avi", 0),
        ("film.avi", 1),
        ("film.avi", 2),
    ]
    assert sorted(path.name for path in out.iterdir()) == ["a.jpg.png", "b.png.png", "film.mp4"]
    errors = capsys.readouterr().err
    assert "1 file is passed over (notes.txt" in errors
    photo_error, film_error = errors_in(errors)
    assert photo_error.startswith(f"error: {photos / 'bad.jpg'}: this is not a photo")
    assert film_error == f"error: {photos / 'bad.mp4'}: cannot be opened as a video"


def test_several_sources(photos, checkpoint, tmp_path, capsys, quick):
    film, pattern = write_film(tmp_path / "film.avi", 2), f"{photos}/*.png"
    assert run([film, pattern, photos / "a.jpg", tmp_path / "*.gif"], checkpoint) == 1
    captured = capsys.readouterr()
    names = [Path(entry["file"]).name for entry in json.loads(captured.out)]
    assert names == ["b.png", "a.jpg", "film.avi", "film.avi"]
    assert errors_in(captured.err) == [f"error: {tmp_path / '*.gif'}: no file fits this pattern"]
    assert run([tmp_path / "*.gif", tmp_path / "*.bmp"], checkpoint) == 2
    (line,) = errors_in(capsys.readouterr().err)
    assert "*.gif: no file fits this pattern; " in line
    assert "*.bmp: no file fits this pattern" in line


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


def test_drawings_of_one_name_are_numbered(photos, checkpoint, tmp_path, quick):
    (tmp_path / "more").mkdir()
    Image.new("RGB", (30, 20)).save(tmp_path / "more/a.jpg")
    out = tmp_path / "out"
    assert run([photos / "a.jpg", tmp_path / "more/a.jpg"], checkpoint, "--out", out) == 0
    sizes = {path.name: Image.open(path).size for path in out.iterdir()}
    assert sizes == {"a.jpg.png": (96, 72), "a.jpg_2.png": (30, 20)}


def test_a_drawing_that_cannot_be_written_is_one_error(photos, checkpoint, tmp_path, capsys, quick):
    out, listed = tmp_path / "out", tmp_path / "found.json"
    (out / "a.jpg.png").mkdir(parents=True)
    assert run(photos, checkpoint, "--out", out, "--json", listed) == 1
    (line,) = errors_in(capsys.readouterr().err)
    assert line.startswith(f"error: {photos / 'a.jpg'}: ")
    assert [Path(entry["file"]).name for entry in json.loads(listed.read_text())] == ["b.png"]
    assert sorted(path.name for path in out.iterdir()) == ["a.jpg.png", "b.png.png"]


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


def without_holes(mask):
    """A mask, bool (H, W), with its holes filled: what cannot be reached from outside."""
    outside = np.pad(mask.astype(np.uint8, order="C"), 1)
    cv2.floodFill(outside, None, (0, 0), 2, flags=4)
    return outside[1:-1, 1:-1] != 2


def rasterised(polygons, height, width):
    """The mask, bool (H, W), that pycocotools makes of polygons."""
    parts = coco_mask.frPyObjects(polygons, height, width)
    return coco_mask.decode(coco_mask.merge(parts)).astype(bool)


def test_polygons_stand_for_the_masks_without_their_holes(photos, checkpoint, tmp_path):
    """IoU 1 by pycocotools; holes are filled by another algorithm here."""
    found = []
    for form in ("rle", "polygons"):
        listed = tmp_path / f"{form}.json"
        options = ("--score-threshold", 0, "--json", listed, "--masks", form)
        assert run(photos, checkpoint, *options) == 0
        found.append([one for entry in json.loads(listed.read_text()) for one in
                      entry["detections"]])  # fmt: skip
    holes = compared = 0
    for with_runs, with_polygons in zip(*found, strict=True):
        runs, polygons = with_runs.pop("segmentation"), with_polygons.pop("segmentation")
        assert with_runs == with_polygons
        mask = coco_mask.decode(runs).astype(bool)
        if not mask.any():
            assert polygons == []
            continue
        filled, again = without_holes(mask), rasterised(polygons, *mask.shape)
        assert (filled & again).sum() / (filled | again).sum() == 1
        holes += (filled != mask).any()
        compared += 1
    assert compared > 5
    assert holes


def test_polygons_run_along_the_edges_of_pixels():
    assert encode_polygons(np.ones((3, 4), bool)) == [[0, 0, 0, 3, 4, 3, 4, 0]]
    apart = np.zeros((4, 9), bool)
    apart[1, 2] = apart[2:4, 7:9] = True
    expected = [[2, 1, 2, 2, 3, 2, 3, 1], [7, 2, 7, 4, 9, 4, 9, 2]]
    assert sorted(encode_polygons(apart)) == expected
    ring = np.ones((3, 3), bool)
    ring[1, 1] = False
    assert encode_polygons(ring) == [[0, 0, 0, 3, 3, 3, 3, 0]]
    assert encode_polygons(np.zeros((4, 9), bool)) == []


def test_polygons_of_masks_of_any_shape(cases):
    generator = np.random.default_rng(3)
    for case in range(cases(2000)):
        height, width = generator.integers(1, 40, 2)
        noise = generator.random((height, width))
        blobs = cv2.GaussianBlur(noise, (0, 0), 0.5 + case % 4)
        mask = without_holes(blobs.reshape(height, width) > np.quantile(blobs, 0.6))
        if mask.any():
            again = rasterised(encode_polygons(mask), int(height), int(width))
            assert np.array_equal(again, mask), (case, height, width)


def test_each_object_has_a_translucent_mask_an_outline_and_a_colour():
    image = np.full((200, 300, 3), 100, np.uint8)
    masks = torch.zeros(2, 200, 300, dtype=torch.bool)
    masks[0, 60:160, 40:120] = masks[1, 70:150, 180:280] = True
    masks[0, 100:120, 60:90] = False  # a hole
    found = {
        "boxes": torch.tensor([[30.0, 50, 130, 170], [170, 60, 290, 160]]),
        "labels": torch.tensor([1, 1]),
        "scores": torch.tensor([0.9, 0.8]),
        "masks": masks,
    }
    drawn = predict.draw(image, found, ["pedestrian"])
    assert drawn.shape == image.shape
    assert (image == 100).all()
    colors = [np.array(instance_color(k)) for k in range(2)]
    for color, inside, outline, edge in zip(
        colors,
        [(140, 80), (110, 230)],
        [(110, 40), (149, 230)],  # row, column
        [(110, 130), (110, 290)],
        strict=True,
    ):
        assert drawn[inside] == pytest.approx((1 - MASK_ALPHA) * 100 + MASK_ALPHA * color, abs=1)
        assert np.array_equal(drawn[outline], color)
        assert np.array_equal(drawn[edge], color)
    assert np.array_equal(drawn[110, 59], colors[0])  # the outline of the hole
    for untouched in ((110, 75), (190, 150), (110, 150)):
        assert np.array_equal(drawn[untouched], [100, 100, 100])
    plain = predict.draw(image, {**found, "masks": torch.zeros_like(masks)}, ["pedestrian"])
    assert np.array_equal(plain[110, 80], [100, 100, 100])


def test_many_objects_have_different_colours():
    assert len({instance_color(number) for number in range(24)}) == 24
    assert instance_color(24) == instance_color(0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--max-frames", 0), "--max-frames is 0; allowed are 1 and more"),
        (("--masks", "outlines"), "invalid choice: 'outlines'"),
    ],
)
def test_options_that_are_not_allowed(photos, checkpoint, capsys, options, message):
    with pytest.raises(SystemExit) as exit_info:
        run(photos, checkpoint, *options)
    assert exit_info.value.code == 2
    assert message in capsys.readouterr().err


def test_help_says_that_polygons_fill_holes(capsys):
    with pytest.raises(SystemExit):
        predict.main(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "polygons cannot hold the holes of a mask and fill them" in text
