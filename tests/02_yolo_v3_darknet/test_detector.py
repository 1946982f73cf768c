import dataclasses

import numpy as np
import pytest
import torch

import detector
from boxes import Letterbox
from darknet.network import DarknetFileError
from detector import Detector, choose_device, read_names

CELLS = 4  # a side, for an input of 64 x 64 pixels


@pytest.fixture
def files(small_detector):
    small_detector["names"].write_text("cat\n\n dog \n")
    return {**small_detector, "size": 64, "device": "cpu"}


def random_photo(seed, height=50, width=80):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def assert_same(found, others):
    assert [one.class_name for one in found] == [one.class_name for one in others]
    for one, other in zip(found, others, strict=True):
        assert one.score == pytest.approx(other.score, abs=1e-4)
        assert one.box_xyxy == pytest.approx(other.box_xyxy, abs=0.01)


def test_a_detection_has_names_and_numbers(files):
    found = Detector(**files)(random_photo(0))
    assert len(found) >= 3
    for one in found:
        assert one.class_name == ("cat", "dog")[one.class_index]
        assert all(type(edge) is float for edge in (*one.box_xyxy, one.score))
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
    with pytest.raises(dataclasses.FrozenInstanceError):
        found[0].class_name = "cow"


def test_optimised_equals_eager(files):
    eager, fast = Detector(**files, optimized=False), Detector(**files)
    for seed in range(3):
        photo = random_photo(seed)
        assert_same(eager(photo), fast(photo))
        images, _ = eager.preprocess([photo])
        for a, b in zip(eager.forward(images), fast.forward(images), strict=True):
            assert torch.allclose(a, b, atol=1e-4)


def test_batch_equals_single_photos_of_other_sizes(files):
    one_by_one = Detector(**files)
    photos = [random_photo(0, 50, 80), random_photo(1, 90, 30), random_photo(2, 1, 1)]
    for found, photo in zip(one_by_one.detect_batch(photos), photos, strict=True):
        assert_same(found, one_by_one(photo))


def test_no_photos(files):
    assert Detector(**files).detect_batch([]) == []


@pytest.mark.parametrize(
    "photo",
    [
        np.zeros((40, 50), np.uint8),
        np.zeros((40, 50, 1), np.uint8),
        np.zeros((40, 50, 4), np.uint8),
        np.zeros((40, 50, 3), np.float32),
        np.zeros((0, 50, 3), np.uint8),
    ],
)
def test_other_photos_are_refused(files, photo):
    with pytest.raises(ValueError, match=r"must be uint8 \(H, W, 3\), got (uint8|float32) \("):
        Detector(**files)(photo)


def test_a_written_by_hand_output_becomes_a_box_in_the_photo(files):
    """One cell fires: objectness and class by hand, box from the paper's equations."""
    raw = torch.full((1, 14, CELLS, CELLS), -20.0)
    row, column = 2, 1
    raw[0, 7:14, row, column] = torch.tensor([0.0, 0.0, 0.0, 0.0, 2.0, -20.0, 1.0])
    (found,) = Detector(**files).postprocess([raw], [Letterbox(128, 64, 64, 64)])[0]
    assert (found.class_name, found.class_index) == ("dog", 1)
    assert found.score == pytest.approx(1 / (1 + np.exp(-2)) / (1 + np.exp(-1)), abs=1e-6)
    # Centre (24, 40), size (30, 20); the photo lies there at half its size, 16 pixels down.
    assert found.box_xyxy == pytest.approx((18, 28, 78, 64), abs=1e-4)  # 68 is cut to 64


def test_boxes_are_cut_at_all_edges(files):
    raw = torch.full((1, 14, CELLS, CELLS), -20.0)
    raw[0, 7:14, 2, 2] = torch.tensor([0.0, 0.0, 3.0, 3.0, 9.0, 9.0, -20.0])
    (found,) = Detector(**files).postprocess([raw], [Letterbox(100, 30, 64, 64)])[0]
    assert found.box_xyxy == (0, 0, 100, 30)


def test_size_of_two_numbers(files):
    wide = Detector(**files | {"size": (32, 96)})
    images, letterboxes = wide.preprocess([random_photo(0)])
    assert images.shape == (1, 3, 32, 96)
    assert (letterboxes[0].height, letterboxes[0].width) == (32, 96)
    assert [raw.shape for raw in wide.forward(images)] == [(1, 14, 2, 6)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 100}, "multiple of 16, from 16 to 4096, got 100"),
        ({"size": (64, 8)}, "got 8"),
        ({"size": 4112}, "got 4112"),
        ({"score_threshold": -0.1}, "score_threshold must be from 0 to 1, got -0.1"),
        ({"iou_threshold": 2}, "iou_threshold must be from 0 to 1, got 2"),
        ({"optimized": False, "precision": "bf16"}, "need optimized=True"),
        ({"optimized": False, "compiled": True}, "need optimized=True"),
        (
            {"precision": "fp8"},
            "engine torch has no precision 'fp8'; it has auto, fp32, fp16, bf16",
        ),
        ({"precision": "fp16"}, "fp16 needs a CUDA GPU"),
        ({"device": "toaster"}, "device 'toaster' cannot be used"),
        ({"names": None}, "needs all three files"),
        ({"cfg": None, "weights": None, "names": None, "model": "yolov9"}, "got 'yolov9'"),
    ],
)
def test_documented_errors(files, options, message):
    with pytest.raises(ValueError, match=message):
        Detector(**files | options)


def test_names_must_be_as_many_as_the_classes(files, tmp_path):
    assert read_names(files["names"], 2) == ["cat", "dog"]
    with pytest.raises(DarknetFileError, match="my.names: holds 2 names, the cfg has 3 classes"):
        read_names(files["names"], 3)
    files["names"].write_text("cat\n")
    with pytest.raises(DarknetFileError, match="holds 1 names, the cfg has 2 classes"):
        Detector(**files)


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00"])
def test_names_that_cannot_be_read(tmp_path, content):
    path = tmp_path / "bad.names"
    if content:
        path.write_bytes(content)
    with pytest.raises(DarknetFileError, match="bad.names: cannot be read as a list of names"):
        read_names(path, 2)


def test_weights_of_another_network(files):
    files["weights"].write_bytes(files["weights"].read_bytes()[:-4])
    with pytest.raises(DarknetFileError, match="my.weights: the file ends at byte"):
        Detector(**files)


def test_model_names_lead_to_the_lesson_s_files(files, monkeypatch, tmp_path):
    wanted = []
    monkeypatch.setattr(detector, "fetch", lambda name: wanted.append(name) or tmp_path / "none")
    for model in detector.MODELS:
        with pytest.raises(DarknetFileError, match="none: cannot be read"):
            Detector(model)
    assert wanted == [f"{model}.weights" for model in detector.MODELS]


def test_device_by_default(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device() == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device() == torch.device("cuda")


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ("[convolutional]\nfilters=8\nactivation=linear\n", "found none"),
        (
            "[convolutional]\nfilters=6\nactivation=linear\n"
            "[yolo]\nmask=0\nanchors=8,8\nnum=1\nclasses=1\n"
            "[route]\nlayers=0\n[convolutional]\nfilters=7\nactivation=linear\n"
            "[yolo]\nmask=0\nanchors=8,8\nnum=1\nclasses=2\n",
            "blocks with 1, 2 classes",
        ),
    ],
)
def test_a_cfg_that_is_no_detector_is_refused(tmp_path, blocks, message):
    cfg = tmp_path / "model.cfg"
    cfg.write_text(f"[net]\nwidth=32\nheight=32\n{blocks}")
    with pytest.raises(DarknetFileError, match=message):
        Detector(cfg=cfg, weights=tmp_path / "x.weights", names=tmp_path / "x.names")


def test_a_wrong_size_needs_no_download_to_show(monkeypatch):
    monkeypatch.setattr("detector.fetch", lambda name: pytest.fail("downloaded"))
    with pytest.raises(ValueError, match="multiple of 32"):
        Detector(size=100)
