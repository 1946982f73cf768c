"""The command, end to end, with a small network of random weights that finds much everywhere."""

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

import detect
import detector
from common.photos import read_photo
from darknet.download import DownloadError
from detector import Detector


@pytest.fixture
def model(small_detector):
    """The options of a model of one's own: --cfg, --weights, --names, --size."""
    files = [text for key, path in small_detector.items() for text in (f"--{key}", str(path))]
    return [*files, "--size", "64", "--device", "cpu"]


def write_photo(path, seed=0, size=(90, 60)):
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 256, (size[1] // 10, size[0] // 10, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize(size).save(path)
    return path


@pytest.fixture
def photo(tmp_path):
    return write_photo(tmp_path / "photo.png")


@pytest.fixture
def folder(tmp_path):
    """Three photos, and a text that is none."""
    place = tmp_path / "holiday"
    place.mkdir()
    for seed, name in enumerate(("c.png", "a.jpg", "b.bmp")):
        write_photo(place / name, seed, (60 + 10 * seed, 80))
    (place / "notes.txt").write_text("not a photo")
    return place


def read_json(path):
    return json.loads(Path(path).read_text())


def check_contract(record, *, frame=False):
    keys = ["file", "width", "height", *(["frame"] if frame else []), "detections"]
    assert list(record) == keys
    assert type(record["file"]) is str
    assert type(record["width"]) is type(record["height"]) is int
    for found in record["detections"]:
        assert list(found) == ["label", "class_name", "score", "box_xyxy"]
        assert found["class_name"] == ("cat", "hot dog")[found["label"] - 1]
        assert type(found["score"]) is float and 0.25 < found["score"] <= 1
        x1, y1, x2, y2 = found["box_xyxy"]
        assert 0 <= x1 <= x2 <= record["width"] and 0 <= y1 <= y2 <= record["height"]
    scores = [found["score"] for found in record["detections"]]
    assert scores == sorted(scores, reverse=True)


def test_photo_to_json(model, photo, tmp_path, capsys):
    target = tmp_path / "found.json"
    assert detect.main([str(photo), *model, "--json", str(target)]) == 0
    (record,) = read_json(target)
    check_contract(record)
    assert (record["file"], record["width"], record["height"]) == (str(photo), 90, 60)
    assert len(record["detections"]) >= 3
    assert {found["class_name"] for found in record["detections"]} == {"cat", "hot dog"}
    best = record["detections"][0]
    line = f"{photo}: {best['class_name']} {best['score']:.2f}, "
    assert capsys.readouterr().out.startswith(line)


def test_json_equals_the_detector(model, photo, tmp_path):
    target = tmp_path / "found.json"
    detect.main([str(photo), *model, "--json", str(target)])
    options = dict(zip(("cfg", "weights", "names"), model[1:6:2], strict=True))
    found = Detector(**options, size=64, device="cpu")(read_photo(photo))
    assert [
        {
            "label": one.class_index + 1,
            "class_name": one.class_name,
            "score": pytest.approx(one.score, abs=1e-5),
            "box_xyxy": pytest.approx(one.box_xyxy, abs=0.01),
        }
        for one in found
    ] == read_json(target)[0]["detections"]


def test_thresholds_are_used(model, photo, tmp_path):
    def count(*options):
        target = tmp_path / "found.json"
        assert detect.main([str(photo), *model, "--json", str(target), *options]) == 0
        return len(read_json(target)[0]["detections"])

    assert count("--score-threshold", "1") == 0
    assert count("--score-threshold", "0.5") < count() < count("--score-threshold", "0.1")
    assert count("--iou-threshold", "0") < count("--iou-threshold", "1")


def test_nothing_found_is_said(model, photo, capsys):
    assert detect.main([str(photo), *model, "--score-threshold", "1"]) == 0
    assert capsys.readouterr().out == f"{photo}: nothing found\n"


def test_folder_and_pattern(model, folder, tmp_path):
    target = tmp_path / "found.json"
    assert detect.main([str(folder), *model, "--json", str(target)]) == 0
    by_folder = read_json(target)
    assert [Path(r["file"]).name for r in by_folder] == ["a.jpg", "b.bmp", "c.png"]
    assert [r["width"] for r in by_folder] == [70, 80, 60]
    pattern = str(folder / "*.[jb]*")
    assert detect.main([pattern, *model, "--json", str(target)]) == 0
    assert read_json(target) == by_folder[:2]


def test_batches_give_what_single_photos_give(model, folder, tmp_path):
    records = []
    for size in ("1", "2", "16"):
        target = tmp_path / f"{size}.json"
        assert detect.main([str(folder), *model, "--batch-size", size, "--json", str(target)]) == 0
        records.append(read_json(target))
    for other in records[1:]:
        for one, two in zip(records[0], other, strict=True):
            assert one["file"] == two["file"]
            for a, b in zip(one["detections"], two["detections"], strict=True):
                assert a["label"] == b["label"]
                assert a["score"] == pytest.approx(b["score"], abs=1e-4)
                assert a["box_xyxy"] == pytest.approx(b["box_xyxy"], abs=0.02)


def test_annotated_photos(model, folder, tmp_path):
    out = tmp_path / "deep" / "out"
    assert detect.main([str(folder), *model, "--out", str(out)]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["a.jpg", "b.png", "c.png"]
    for name, source in (("b.png", "b.bmp"), ("c.png", "c.png")):
        before, after = read_photo(folder / source), read_photo(out / name)
        assert before.shape == after.shape and (before != after).any()


def test_photos_of_one_name_are_numbered(model, tmp_path):
    sources = []
    for seed in range(3):
        (tmp_path / str(seed)).mkdir()
        sources.append(write_photo(tmp_path / str(seed) / "photo.png", seed, (60 + seed, 60)))
    out = tmp_path / "out"
    assert detect.main([*map(str, sources), *model, "--out", str(out)]) == 0
    widths = {path.name: read_photo(path).shape[1] for path in out.iterdir()}
    assert widths == {"photo.png": 60, "photo_2.png": 61, "photo_3.png": 62}


def test_sources_are_never_written_over(model, folder):
    """Also not when --out is their own folder, and a copy's name is that of another source."""
    write_photo(folder / "a_detected.jpg", 5)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert detect.main([str(folder), *model, "--out", str(folder)]) == 0
    after = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert {name: after[name] for name in before} == before
    assert sorted(after.keys() - before.keys()) == [
        "a_detected_2.jpg",
        "a_detected_detected.jpg",
        "b_detected.png",
        "c_detected.png",
    ]


def test_a_source_in_out_from_another_folder_is_kept(model, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    write_photo(one / "p.png", 1)
    write_photo(two / "p.png", 2)
    before = (two / "p.png").read_bytes()
    sources = [str(one / "p.png"), str(two / "p.png")]
    assert detect.main([*sources, *model, "--out", str(two)]) == 0
    assert (two / "p.png").read_bytes() == before
    assert {path.name for path in two.iterdir()} == {"p.png", "p_2.png", "p_detected.png"}


@pytest.mark.parametrize("batch_size", ["1", "3"])
def test_bad_photos_do_not_stop_the_others(model, folder, tmp_path, capsys, batch_size):
    (folder / "aa_empty.jpg").touch()
    (folder / "bb_text.png").write_text("this is a text")
    whole = (folder / "a.jpg").read_bytes()
    (folder / "cc_cut.jpg").write_bytes(whole[: len(whole) // 2])
    missing, target = str(tmp_path / "missing.jpg"), tmp_path / "found.json"
    options = ["--json", str(target), "--batch-size", batch_size]
    assert detect.main([missing, str(folder), *model, *options]) == 1
    names = [Path(r["file"]).name for r in read_json(target)]
    assert names == ["a.jpg", "b.bmp", "c.png"]
    errors = capsys.readouterr().err
    assert f"error: {missing}: there is no such file" in errors
    assert f"error: {folder / 'aa_empty.jpg'}: the file is empty" in errors
    assert f"error: {folder / 'bb_text.png'}: this is not a photo" in errors
    assert f"error: {folder / 'cc_cut.jpg'}: cannot be read" in errors


def test_unusual_photos(model, tmp_path):
    place = tmp_path / "unusual"
    place.mkdir()
    random = np.random.default_rng(0)
    gray = Image.fromarray(random.integers(0, 256, (40, 50), dtype=np.uint8))
    gray.save(place / "gray.png")
    gray.convert("RGBA").save(place / "rgba.png")
    gray.convert("CMYK").save(place / "cmyk.jpg")
    Image.new("RGB", (1, 1), "red").save(place / "dot.png")
    Image.new("RGB", (20_000, 2), "red").save(place / "wide.png")
    target = tmp_path / "found.json"
    assert detect.main([str(place), *model, "--json", str(target)]) == 0
    records = {Path(r["file"]).stem: r for r in read_json(target)}
    assert len(records) == 5
    for record in records.values():
        check_contract(record)
    assert (records["wide"]["width"], records["wide"]["height"]) == (20_000, 2)


@pytest.mark.parametrize("size", [(1, 2000), (2000, 1), (4000, 10), (1200, 2)])
def test_strips_are_photos(model, tmp_path, size):
    path, target = tmp_path / "strip.png", tmp_path / "found.json"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), "uint8")).save(path)
    options = ["--json", str(target), "--out", str(tmp_path / "out"), "--score-threshold", "0.01"]
    assert detect.main([str(path), *model, *options]) == 0
    assert (read_json(target)[0]["width"], read_json(target)[0]["height"]) == size
    assert read_json(target)[0]["detections"]
    assert read_photo(tmp_path / "out/strip.png").shape == (*size[::-1], 3)


@pytest.mark.parametrize("batch_size", ["1", "3"])
def test_a_photo_that_the_model_fails_on_is_one_error(
    model, folder, tmp_path, monkeypatch, capsys, batch_size
):
    original = Detector.preprocess

    def picky(self, photos):
        if any(photo.shape[1] == 80 for photo in photos):  # b.bmp
            raise RuntimeError("not enough memory: you tried to allocate it\nmany lines")
        return original(self, photos)

    monkeypatch.setattr(Detector, "preprocess", picky)
    target = tmp_path / "found.json"
    options = ["--json", str(target), "--batch-size", batch_size]
    assert detect.main([str(folder), *model, *options]) == 1
    assert [Path(r["file"]).name for r in read_json(target)] == ["a.jpg", "c.png"]
    line = f"error: {folder / 'b.bmp'}: not enough memory: you tried to allocate it\n"
    assert capsys.readouterr().err.count(line) == 1


def test_what_is_passed_over_and_stretched_is_said(model, folder, capsys):
    levels = np.linspace(130, 3100, 1200).reshape(30, 40).astype(np.uint16)
    Image.fromarray(levels).save(folder / "d.tif")
    assert detect.main([str(folder), *model]) == 0
    errors = capsys.readouterr().err
    assert f"note: {folder}: 1 file is passed over (notes.txt: no photo by the ending)\n" in errors
    line = f"note: {folder / 'd.tif'}: levels 130 to 3100 of a 12-bit picture were stretched"
    assert errors.count(line) == 1


def test_empty_folder_and_pattern(model, photo, tmp_path, capsys):
    (tmp_path / "nothing").mkdir()
    sources = [str(tmp_path / "nothing"), str(tmp_path / "*.gif"), str(photo)]
    assert detect.main([*sources, *model]) == 1
    captured = capsys.readouterr()
    assert f"{sources[0]}: this folder holds no file that ends in" in captured.err
    assert f"{sources[1]}: no file fits this pattern" in captured.err
    assert captured.out.startswith(f"{photo}: ")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--size", "100"], "size must be a multiple of 16, from 16 to 4096, got 100"),
        (["--size", "0"], "size must be a multiple of 16"),
        (["--size", "8192"], "from 16 to 4096, got 8192"),
        (["--score-threshold", "1.5"], "score_threshold must be from 0 to 1, got 1.5"),
        (["--score-threshold", "nan"], "score_threshold must be from 0 to 1, got nan"),
        (["--iou-threshold", "-1"], "iou_threshold must be from 0 to 1, got -1"),
        (["--device", "toaster"], "device 'toaster' cannot be used"),
        (["--device", "cuda:99"], "device 'cuda:99' cannot be used"),
        (["--precision", "fp16"], "fp16 needs a CUDA GPU"),
    ],
)
def test_options_that_are_not_allowed(model, photo, options, message, capsys):
    assert detect.main([str(photo), *model, *options]) == 2
    captured = capsys.readouterr()
    assert message in captured.err and captured.err.startswith("error: ") and not captured.out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--batch-size", "0"], "--batch-size must be 1 or more, got 0"),
        (["--max-frames", "0"], "--max-frames must be 1 or more, got 0"),
        (["--size", "big"], "'big' is no size"),
        (["--model", "yolov9"], "invalid choice: 'yolov9'"),
        (["--precision", "int4"], "invalid choice: 'int4'"),
        (["--engine", "tensorrt"], "invalid choice: 'tensorrt'"),
    ],
)
def test_wrong_usage(photo, options, message, capsys):
    with pytest.raises(SystemExit) as stop:
        detect.main([str(photo), *options])
    assert stop.value.code == 2 and message in capsys.readouterr().err


@pytest.mark.parametrize("kept", [0, 1, 2])
def test_a_model_needs_all_three_files(model, photo, kept, capsys):
    assert detect.main([str(photo), *model[2 * kept : 2 * kept + 2]]) == 2
    assert "needs all three files: cfg, weights and names" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--cfg", "--weights", "--names"])
def test_a_missing_model_file_is_named(model, photo, option, tmp_path, capsys):
    missing = str(tmp_path / "none")
    assert detect.main([str(photo), *model, option, missing]) == 2
    assert f"error: {missing}" in capsys.readouterr().err


def test_weights_that_cannot_be_had(photo, monkeypatch, capsys):
    def fail(name):
        raise DownloadError(f"{name} cannot be downloaded; put it there by hand")

    monkeypatch.setattr(detector, "fetch", fail)
    assert detect.main([str(photo)]) == 2
    assert "error: yolov3-tiny.weights cannot be downloaded" in capsys.readouterr().err


def test_json_gets_its_folder(model, photo, tmp_path):
    target = tmp_path / "new" / "folder" / "found.json"
    assert detect.main([str(photo), *model, "--json", str(target)]) == 0
    assert len(read_json(target)) == 1


def test_json_that_cannot_be_written_is_told_before_the_work(model, photo, tmp_path, capsys):
    target = photo / "found.json"  # below a file
    assert detect.main([str(photo), *model, "--json", str(target)]) == 2
    captured = capsys.readouterr()
    assert str(photo) in captured.err and not captured.out


def test_out_that_is_a_file_fails_and_keeps_the_json(model, photo, tmp_path, capsys):
    target = tmp_path / "found.json"
    options = ["--out", str(photo), "--json", str(target)]
    assert detect.main([str(photo), *model, *options]) == 1
    assert str(photo) in capsys.readouterr().err
    assert len(read_json(target)) == 1


class Screen:
    """Stands for OpenCV's windows; answers with keys."""

    def __init__(self, monkeypatch, keys):
        self.shown, self.keys = [], list(keys)
        monkeypatch.setattr(cv2, "imshow", lambda title, image: self.shown.append(image))
        monkeypatch.setattr(cv2, "waitKey", lambda wait_ms: self.keys.pop(0))


def test_q_stops(model, folder, tmp_path, monkeypatch):
    screen, target = Screen(monkeypatch, [ord("x"), ord("q")]), tmp_path / "found.json"
    assert detect.main([str(folder), *model, "--show", "--json", str(target)]) == 0
    assert len(screen.shown) == 2
    assert [Path(r["file"]).name for r in read_json(target)] == ["a.jpg", "b.bmp"]
    assert screen.shown[0].shape == (80, 70, 3)


def test_the_screen_gets_blue_first(model, tmp_path, monkeypatch):
    Image.new("RGB", (64, 64), (250, 0, 10)).save(tmp_path / "red.png")
    screen = Screen(monkeypatch, [-1])
    options = ["--show", "--score-threshold", "1"]
    assert detect.main([str(tmp_path / "red.png"), *model, *options]) == 0
    assert screen.shown[0][30, 30].tolist() == [10, 0, 250]


def test_without_a_screen(model, photo, tmp_path, monkeypatch, capsys):
    def fail(title, image):
        raise cv2.error("no display")

    monkeypatch.setattr(cv2, "imshow", fail)
    target = tmp_path / "found.json"
    assert detect.main([str(photo), *model, "--show", "--json", str(target)]) == 1
    assert "--show needs a screen; use --out" in capsys.readouterr().err
    assert len(read_json(target)) == 1


def test_ctrl_c_keeps_what_was_found(model, folder, tmp_path, monkeypatch, capsys):
    original, calls = detect.describe, []

    def interrupted(name, detections):
        calls.append(name)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(name, detections)

    monkeypatch.setattr(detect, "describe", interrupted)
    target = tmp_path / "found.json"
    assert detect.main([str(folder), *model, "--json", str(target)]) == 2
    assert "stopped; what was found so far is kept" in capsys.readouterr().err
    assert [Path(r["file"]).name for r in read_json(target)] == ["a.jpg", "b.bmp"]


def test_as_a_program(model, photo, tmp_path):
    (tmp_path / "bad.jpg").touch()
    command = [sys.executable, detect.__file__, "bad.jpg", "photo.png", *model, "--json", "o.json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert "error: bad.jpg: the file is empty" in done.stderr
    assert done.stdout.startswith("photo.png: ")
    assert read_json(tmp_path / "o.json")[0]["file"] == "photo.png"


def test_names_that_the_console_cannot_show(model, tmp_path):
    """As on Windows, where a console or a file has an encoding of 256 signs."""
    write_photo(tmp_path / "\u3042.png")
    command = [sys.executable, detect.__file__, "\u3042.png", *model, "--json", "o.json"]
    environment = {**os.environ, "PYTHONIOENCODING": "cp1252", "PYTHONUTF8": "0"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(b"\\u3042.png: ")
    assert read_json(tmp_path / "o.json")[0]["file"] == "\u3042.png"


def test_help_teaches(capsys):
    with pytest.raises(SystemExit) as stop:
        detect.main(["--help"])
    assert stop.value.code == 0
    out = capsys.readouterr().out
    assert "examples:" in out and "--score-threshold" in out
