"""yolov3-tiny's real weights on real photos, against what Darknet itself finds in them.

`darknet_reference.json` was made from libdarknet by `record_darknet.py`. Where Darknet is
installed, the same is asked of it again.
"""

import functools
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from boxes import Letterbox, postprocess
from common.photos import read_photo
from darknet.download import sample_photos
from darknet.network import Darknet
from detector import Detector
from speed.fast import FastDarknet

HERE = Path(__file__).resolve().parent
DEBIAN_PHOTOS = Path("/usr/share/darknet/data")
REFERENCE = json.loads((HERE / "darknet_reference.json").read_text())
PACKAGE_PHOTOS = sample_photos()
SCORE_TOLERANCE, BOX_TOLERANCE = 0.005, 1.0  # pixels of the photo


def find_photo(name):
    path = PACKAGE_PHOTOS.get(name, DEBIAN_PHOTOS / f"{name}.jpg")
    if not path.is_file():
        pytest.skip(f"{path} is not installed")
    return path


@pytest.fixture(scope="module")
def networks(tiny_weights):
    network = Darknet(HERE.parents[1] / HERE.name / "darknet/networks/yolov3-tiny.cfg")
    network.load_weights(tiny_weights)
    network.eval()
    return {"eager": network, "fast": FastDarknet(network)}


@pytest.fixture(scope="module")
def detect(networks):
    """(class_index, score, clipped box) of all detections in a photo; each is computed once."""

    @functools.cache
    @torch.inference_mode()
    def compute(variant, path):
        photo = read_photo(path)
        height, width = photo.shape[:2]
        letterbox = Letterbox(width, height, 416, 416)
        raw = networks[variant](letterbox.apply(photo)[None])
        boxes_xyxy, scores, labels = postprocess(
            raw, networks["eager"].outputs, (416, 416), score_threshold=0.25, iou_threshold=0.45
        )[0]
        boxes = clip(letterbox.to_photo(boxes_xyxy).numpy(), width, height)
        return list(zip(labels.tolist(), scores.tolist(), boxes, strict=True))

    return compute


def clip(boxes_xyxy, width, height):
    return np.clip(np.asarray(boxes_xyxy, float).reshape(-1, 4), 0, [width, height] * 2)


def differences(found, entry, decoder):
    """Pair detections of one class with the nearest box; return (largest score, box difference)."""
    expected = entry["detections"][decoder]
    assert sorted(c for c, _, _ in found) == sorted(one["class_index"] for one in expected)
    boxes = clip([one["box_xyxy"] for one in expected], entry["width"], entry["height"])
    left, scores, distances = list(found), [0.0], [0.0]
    for one, box in zip(expected, boxes, strict=True):
        same = [
            (abs(b - box).max(), i) for i, (c, _, b) in enumerate(left) if c == one["class_index"]
        ]
        distance, best = min(same)
        distances.append(distance)
        scores.append(abs(left.pop(best)[1] - one["score"]))
    return max(scores), max(distances)


def same_photo(name):
    path = find_photo(name)
    if hashlib.sha256(path.read_bytes()).hexdigest() != REFERENCE["photos"][name]["sha256"]:
        pytest.skip(f"this installation's {name} is another file than the recorded one")
    return path


def test_the_reference_covers_nine_photos_and_finds_what_is_in_them():
    photos = REFERENCE["photos"]
    assert {"dog", "eagle", "giraffe", "horses", "kite", "person"} <= photos.keys()
    assert {"coffee", "motorcycle_left", "grace_hopper"} <= photos.keys()
    counts = {name: len(entry["detections"]["darknet"]) for name, entry in photos.items()}
    assert counts["dog"] == 6 and counts["person"] >= 3 and counts["coffee"] == 1


@pytest.mark.parametrize("variant", ["eager", "fast"])
@pytest.mark.parametrize("decoder", ["darknet", "pillow"])
@pytest.mark.parametrize("name", REFERENCE["photos"])
def test_recorded_detections(detect, name, decoder, variant):
    found = detect(variant, same_photo(name))
    score, box = differences(found, REFERENCE["photos"][name], decoder)
    assert score <= SCORE_TOLERANCE and box <= BOX_TOLERANCE


@pytest.mark.parametrize("name", ["coffee", "motorcycle_left"])
def test_equal_pixels_give_equal_detections(detect, name):
    """PNG files leave a decoder no choice: nothing but float32 rounding is left."""
    found = detect("fast", same_photo(name))
    score, box = differences(found, REFERENCE["photos"][name], "darknet")
    assert score <= 1e-4 and box <= 0.02


@pytest.mark.parametrize("name", REFERENCE["photos"])
def test_another_jpeg_decoder_changes_little(detect, name):
    """stb_image's pixels differ from libjpeg's; Darknet's own detections then move as well."""
    entry = REFERENCE["photos"][name]
    found = detect("fast", same_photo(name))
    score, box = differences(found, entry, "stb")
    assert score <= 0.02 and box <= 1
    if entry["levels_from_pillow"]["stb"] == 0:
        assert score <= SCORE_TOLERANCE and box <= BOX_TOLERANCE


@pytest.mark.parametrize("name", REFERENCE["photos"])
def test_detector_gives_the_same(detector, name):
    photo = read_photo(same_photo(name))
    found = [(one.class_index, one.score, np.array(one.box_xyxy)) for one in detector(photo)]
    score, box = differences(found, REFERENCE["photos"][name], "darknet")
    assert score <= SCORE_TOLERANCE and box <= BOX_TOLERANCE


@pytest.fixture(scope="module")
def detector(tiny_weights):
    return Detector("yolov3-tiny")


@pytest.fixture(scope="module")
def asked_again(libdarknet, tiny_weights, tmp_path_factory):
    """Darknet's answers now, from a process of its own: it ends the process when it fails."""
    paths = {**PACKAGE_PHOTOS, **{path.stem: path for path in DEBIAN_PHOTOS.glob("*.jpg")}}
    named = [f"{name}={paths[name]}" for name in REFERENCE["photos"] if name in paths]
    out = tmp_path_factory.mktemp("darknet") / "now.json"
    script = HERE / "record_darknet.py"
    command = [sys.executable, script, tiny_weights, *named, "--decoders", "darknet", "--out", out]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    return json.loads(out.read_text())


@pytest.mark.slow
def test_installed_darknet(detect, asked_again):
    worst = {}
    for name, entry in asked_again["photos"].items():
        found = detect("fast", find_photo(name))
        worst[name] = differences(found, entry, "darknet")
    assert len(worst) >= 5
    assert all(s <= SCORE_TOLERANCE and b <= BOX_TOLERANCE for s, b in worst.values()), worst


@pytest.mark.slow
def test_recorded_reference_is_what_darknet_says(asked_again):
    assert asked_again["settings"] == REFERENCE["settings"]
    for name, entry in asked_again["photos"].items():
        recorded = REFERENCE["photos"][name]
        if entry["sha256"] == recorded["sha256"]:
            for decoder, detections in entry["detections"].items():
                for now, then in zip(detections, recorded["detections"][decoder], strict=True):
                    assert now["class_index"] == then["class_index"]
                    assert now["score"] == pytest.approx(then["score"], abs=1e-4)
                    assert now["box_xyxy"] == pytest.approx(then["box_xyxy"], abs=0.05)
