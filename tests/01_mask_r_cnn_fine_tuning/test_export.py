"""export.py: onnxruntime must find what PyTorch finds, however many objects there are."""

import copy
import json
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

import export
from common.checkpoint import save_checkpoint
from common.settings import plain_values
from common.street.scenes import draw_scene, write_dataset
from export import ExportError, OnePicture, compare, export_onnx, main
from model import build_model, faster_rcnn, load_detector
from settings import make_settings

SIZE = (72, 96)


def scene(seed):
    image = draw_scene(seed, SIZE[1], SIZE[0]).image
    return torch.from_numpy(image).permute(2, 0, 1).float() / 255  # (3, H, W)


@torch.inference_mode()
def find(detector, picture):
    found = detector([picture])[0]
    return [found[name] for name in ("boxes", "labels", "scores", "masks") if name in found]


def load(path):
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def run(session, picture):
    return [torch.from_numpy(part) for part in session.run(None, {"image": picture.numpy()})]


def assert_same(expected, found):
    for ours, theirs in zip(expected, found, strict=True):
        assert (theirs.shape, theirs.dtype) == (ours.shape, ours.dtype)
        torch.testing.assert_close(theirs, ours, rtol=1e-4, atol=1e-3)


@pytest.fixture(scope="module")
def pictures():
    return [scene(seed) for seed in range(5)]


@pytest.fixture(scope="module")
def detector(pictures):
    """Mask R-CNN with random weights that finds nothing in one picture and much in others."""
    torch.manual_seed(0)
    settings = make_settings("street", pretrained=False, image_size=SIZE)
    model = build_model(settings, 3).eval()
    highest = sorted(find(model, picture)[2].max().item() for picture in pictures)
    model.roi_heads.score_thresh = sum(highest[:2]) / 2
    return model


@pytest.fixture(scope="module")
def exported(detector, pictures, tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "people.onnx"
    return path, export_onnx(detector, path, pictures, ["person", "dog"])


@pytest.fixture
def not_traced(monkeypatch, exported):
    """Let `export_onnx` take the file that is there instead of tracing."""
    monkeypatch.setattr(export, "_to_onnx", lambda *given: exported[0].read_bytes())


def test_finds_the_same_whatever_the_number(exported, detector, pictures, capfd):
    counts, session = set(), load(exported[0])
    for picture in [*pictures, torch.rand(3, *SIZE), torch.zeros(3, *SIZE)]:
        expected = find(detector, picture)
        assert_same(expected, run(session, picture))
        counts.add(len(expected[0]))
    assert 0 in counts and len(counts) >= 3
    assert "VerifyOutputSizes" not in capfd.readouterr().err  # a warning for every object


def test_what_the_file_and_the_report_say(exported, detector, pictures):
    path, words = exported
    content = onnx.load(str(path))
    dims = {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*content.graph.input, *content.graph.output)
    }
    assert list(dims) == ["image", "boxes", "labels", "scores", "masks"]
    assert dims["image"] == [3, *SIZE]
    assert dims["boxes"] == ["objects", 4]
    props = {prop.key: prop.value for prop in content.metadata_props}
    assert json.loads(props["names"]) == ["person", "dog"]
    objects = sum(len(find(detector, picture)[0]) for picture in pictures)
    assert words.startswith(f"{objects} objects in 5 pictures; largest differences: boxes ")
    assert [other.name for other in path.parent.iterdir()] == ["people.onnx"]


def test_another_size_is_refused(exported):
    with pytest.raises(Exception, match="invalid dimensions"):
        run(load(exported[0]), torch.rand(3, 96, 72))


@pytest.mark.usefixtures("not_traced")
def test_one_that_differs_is_not_written(detector, pictures, tmp_path):
    other = copy.deepcopy(detector)
    other.roi_heads.box_predictor.bbox_pred.bias.data += 0.2
    (tmp_path / "a.onnx").write_text("old")
    with pytest.raises(ExportError, match=r"a\.onnx: was not written: .* other things than PyTor"):
        export_onnx(other, tmp_path / "a.onnx", pictures, ["person", "dog"])
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


@pytest.mark.usefixtures("not_traced")
def test_nothing_to_compare(detector, pictures, tmp_path):
    empty = [picture for picture in pictures if not len(find(detector, picture)[0])]
    with pytest.raises(ExportError, match=r"finds nothing in the pictures .* with --photos"):
        export_onnx(detector, tmp_path / "a.onnx", empty, ["person", "dog"])
    assert not list(tmp_path.iterdir())


def test_mobilenet_v3_is_refused(pictures, tmp_path):
    model = faster_rcnn("mobilenet_v3", 2, False, min_size=72, max_size=96).eval()
    with pytest.raises(ExportError, match="train with another --backbone"):
        export_onnx(model, tmp_path / "a.onnx", pictures[:1], ["person"])


def found_by_onnxruntime(*parts):
    return SimpleNamespace(run=lambda outputs, inputs: [part.numpy() for part in parts])


def test_differences_are_seen(detector, pictures):
    network = OnePicture(detector)
    picture = max(pictures, key=lambda one: len(find(detector, one)[0]))
    boxes, labels, scores, masks = find(detector, picture)
    many = len(boxes)
    order = torch.arange(many).flip(0)  # equal scores may come in another order

    def differences(*parts):
        return compare(found_by_onnxruntime(*parts), network, picture)

    assert differences(*(p[order] for p in (boxes, labels, scores, masks)))[1] == (0, 0, 0)
    moved = boxes.clone()
    moved[1, 2] += 0.5
    assert differences(moved, labels, scores, masks) == (many, (0.5, 0, 0))
    assert differences(boxes, labels, scores * 0.5, masks)[1][1] == scores.max() / 2
    assert differences(boxes, labels, scores, 1 - masks)[1][2] > 0.9
    assert np.isinf(differences(boxes, 3 - labels, scores, masks)[1][0])
    fewer = (part[1:] for part in (boxes, labels, scores, masks))
    assert differences(*fewer) == (many, (np.inf,) * 3)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    torch.manual_seed(0)
    settings = make_settings("street", pretrained=False, image_size=SIZE, task="boxes")
    stored = {**plain_values(settings), "class_names": ["pedestrian"]}
    path = tmp_path_factory.mktemp("run") / "best.pt"
    return save_checkpoint(path, build_model(settings, 2), settings=stored)


def test_the_command(checkpoint, tmp_path, capsys):
    scenes = write_dataset(tmp_path / "scenes", range(2), 128, 96, progress=False)
    pattern = next(scenes.rglob("*.png")).parent / "*.png"
    own = ["--checkpoint", str(checkpoint), "--out", str(tmp_path / "new" / "people.onnx")]
    assert main([*own, "--size", "80", "112", "--photos", str(pattern)]) == 0
    assert "people.onnx: agrees with PyTorch on 60 objects in 2 pictures" in capsys.readouterr().out
    picture = torch.rand(3, 80, 112, generator=torch.Generator().manual_seed(0))
    expected = find(load_detector(checkpoint)[0], picture)  # Faster R-CNN: no masks
    assert len(expected) == 3 and len(expected[0]) == 30
    assert_same(expected, run(load(tmp_path / "new" / "people.onnx"), picture))


def test_errors_of_the_command(tmp_path, capsys):
    own = ["--checkpoint", str(tmp_path / "none.pt"), "--out", str(tmp_path / "a.onnx")]
    assert main(own) == 2
    assert "there is no checkpoint" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main([*own, "--size", "20", "112"])
    assert "--size is 20 112; each side has to be 64 to" in capsys.readouterr().err


@pytest.mark.parametrize(("data", "size"), [("street", (240, 320)), ("penn_fudan", (150, 200))])
def test_the_size_without_an_option(monkeypatch, data, size):
    settings = make_settings("street", data=data, image_size=(150, 200))
    monkeypatch.setattr(export, "load_detector", lambda path: (None, ("person",), settings))
    shapes = []
    monkeypatch.setattr(export, "export_onnx", lambda *given: shapes.extend(given[2]))
    assert main(["--checkpoint", "best.pt", "--out", "people.onnx"]) == 0
    assert {tuple(picture.shape) for picture in shapes} == {(3, *size)}
