"""export.py: onnxruntime must find what PyTorch finds, in batches of any number."""

import copy
import json

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

import export
from common.checkpoint import save_checkpoint
from common.settings import plain_values
from detr import build_model
from export import ExportError, LastStage, compare, drawn_images, export_onnx, main
from settings import make_settings

SIZE = (72, 96)
NAMES = ["person", "car"]


def make_model(**changes):
    torch.manual_seed(0)
    settings = make_settings("street", pretrained=False, image_size=SIZE, **changes)
    model = build_model(settings, 2).eval()
    for head in model.box_heads:
        torch.nn.init.normal_(head[-1].weight, std=0.1)
    return model


@pytest.fixture(scope="module")
def detector():
    return make_model()


@pytest.fixture(scope="module")
def exported(detector, tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "street.onnx"
    return path, export_onnx(detector, path, drawn_images(*SIZE), NAMES)


def load(path):
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


@torch.inference_mode()
@pytest.mark.parametrize("count", [1, 2, 5])
def test_finds_the_same_whatever_the_batch(exported, detector, count):
    images = torch.rand(count, 3, *SIZE, generator=torch.Generator().manual_seed(count))
    boxes, scores = load(exported[0]).run(None, {"images": images.numpy()})
    expected = LastStage(detector)(images)
    assert boxes.shape == (count, 30, 4) and scores.shape == (count, 30, 2)
    torch.testing.assert_close(torch.from_numpy(boxes), expected[0], rtol=1e-4, atol=1e-2)
    torch.testing.assert_close(torch.from_numpy(scores), expected[1], rtol=1e-4, atol=1e-4)


def test_what_the_file_says_and_that_nothing_is_suppressed(exported):
    path, words = exported
    content = onnx.load(str(path))
    dims = {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*content.graph.input, *content.graph.output)
    }
    assert dims["images"] == ["batch", 3, *SIZE]
    assert list(dims) == ["images", "boxes_xyxy", "scores"]
    assert json.loads({p.key: p.value for p in content.metadata_props}["names"]) == NAMES
    assert not {"NonMaxSuppression", "Loop", "If"} & {node.op_type for node in content.graph.node}
    assert words.startswith("largest differences: boxes ")
    assert [other.name for other in path.parent.iterdir()] == ["street.onnx"]


def test_the_model_of_2020_too(tmp_path):
    model = make_model(queries="learned", refine=False, maps=1, denoising=0)
    export_onnx(model, tmp_path / "a.onnx", drawn_images(*SIZE), NAMES)


def test_one_that_differs_is_not_written(detector, tmp_path, monkeypatch, exported):
    monkeypatch.setattr(export, "to_onnx", lambda *_: exported[0].read_bytes())
    other = copy.deepcopy(detector)
    other.box_heads[-1][-1].bias.data += 0.2
    (tmp_path / "a.onnx").write_text("old")
    with pytest.raises(ExportError, match=r"a\.onnx: was not written: .* other things than PyTor"):
        export_onnx(other, tmp_path / "a.onnx", drawn_images(*SIZE), NAMES)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


class Fixed:
    """In the session's place."""

    def __init__(self, boxes, scores):
        self.parts = [boxes.numpy(), scores.numpy()]

    def run(self, outputs, inputs):
        return self.parts


@torch.inference_mode()
def test_differences_are_seen(detector):
    images = drawn_images(*SIZE)[:2]
    network = LastStage(detector)
    boxes, scores = network(images)
    order = torch.randperm(30)  # queries of equal scores may come in another order
    assert compare(Fixed(boxes[:, order], scores[:, order]), network, images) == (0, 0)
    moved, lower = boxes.clone(), scores.clone()
    moved[1, 7, 2] += 50
    assert compare(Fixed(moved, scores), network, images)[0] > 1
    lower[0, 3] += 0.3
    assert max(compare(Fixed(boxes, lower), network, images)) > 1e-3
    assert np.isinf(compare(Fixed(boxes * torch.nan, scores), network, images)).any()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    settings = make_settings("street", pretrained=False, image_size=SIZE)
    stored = {**plain_values(settings), "class_names": NAMES}
    path = tmp_path_factory.mktemp("run") / "best.pt"
    return save_checkpoint(path, make_model(), settings=stored)


def test_the_command(checkpoint, tmp_path, capsys):
    own = ["--checkpoint", str(checkpoint), "--out", str(tmp_path / "new" / "street.onnx")]
    assert main([*own, "--size", "80", "112"]) == 0
    assert "street.onnx: agrees with PyTorch in 8 pictures; largest" in capsys.readouterr().out
    images = np.zeros((3, 3, 80, 112), np.float32)
    assert load(tmp_path / "new" / "street.onnx").run(None, {"images": images})[0].shape[0] == 3


def test_errors_of_the_command(tmp_path, capsys):
    own = ["--checkpoint", str(tmp_path / "none.pt"), "--out", str(tmp_path / "a.onnx")]
    assert main(own) == 2
    assert "there is no checkpoint" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main([*own, "--size", "20", "112"])
    assert "--size is 20 112; each side has to be 64 to" in capsys.readouterr().err
