"""Photos with more objects than detections that are kept and measured."""

import json

import numpy as np
import pytest
from PIL import Image

import evaluate
from darknet.network import Darknet
from dataset import load_test_photos
from evaluation import collect, find_all


@pytest.fixture
def crowd(tmp_path):
    """One photo with three objects, labelled in COCO's format."""
    folder = tmp_path / "data"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((64, 64)).save(folder / "a.png")
    boxes = [[5, 5, 20, 20], [35, 5, 20, 20], [5, 35, 20, 20]]
    objects = [
        {"id": k + 1, "image_id": 1, "category_id": 1, "bbox": box, "area": 400, "iscrowd": 0}
        for k, box in enumerate(boxes)
    ]
    content = {
        "images": [{"id": 1, "file_name": "a.png", "width": 64, "height": 64}],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "hot dog"}],
        "annotations": objects,
    }
    (folder / "annotations.json").write_text(json.dumps(content))
    return folder / "annotations.json"


def test_so_many_detections_are_kept(small_detector, crowd):
    model = Darknet(small_detector["cfg"])
    model.load_weights(small_detector["weights"])
    photos = load_test_photos(str(crowd))
    usual = find_all(model.eval(), photos, 64, progress=False)[0]
    few = find_all(model, photos, 64, max_detections=4, progress=False)[0]
    assert len(usual.scores) > 4 == len(few.scores)
    assert few.boxes_xyxy.tolist() == usual.boxes_xyxy[:4].tolist()
    _, detections = collect(model, photos, 64, progress=False, max_detections=4)
    assert [one["score"] for one in detections] == few.scores.tolist()


@pytest.mark.parametrize(("count", "crowded"), [(2, True), (3, False)])
def test_the_command_measures_so_many_and_says_what_is_left_out(
    small_detector, crowd, tmp_path, capsys, count, crowded
):
    target, found = tmp_path / "metrics.json", tmp_path / "found.json"
    files = [text for key, path in small_detector.items() for text in (f"--{key}", str(path))]
    options = ["--data", str(crowd), *files, "--device", "cpu", "--max-detections", str(count)]
    assert evaluate.main([*options, "--json", str(target), "--detections", str(found)]) == 0
    metrics = json.loads(target.read_text())
    assert f"AR{count}" in metrics["bbox"] and "AR100" not in metrics["bbox"]
    assert len(json.loads(found.read_text())) == count
    note = "note: 1 picture holds more than 2 objects (up to 3): --max-detections 3 measures them"
    assert (note in capsys.readouterr().err) is crowded


def test_the_number_is_checked(small_detector, crowd, capsys):
    files = [text for key, path in small_detector.items() for text in (f"--{key}", str(path))]
    assert evaluate.main(["--data", str(crowd), *files, "--max-detections", "0"]) == 2
    assert "error: --max-detections must be 1 or more, got 0" in capsys.readouterr().err
