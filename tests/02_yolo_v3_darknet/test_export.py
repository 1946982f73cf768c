"""ONNX files: onnxruntime and OpenCV must compute what PyTorch computes, for any batch."""

import json
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
import torch

import export
from boxes import decode, postprocess, suppress
from darknet.make_cfg import make_cfg, write_cfg
from darknet.network import Darknet, DarknetFileError
from export import ExportError, export_onnx, folded, main

SIZE = (96, 128)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The paths of yolov3-tiny for three classes: cfg, weights, names."""
    folder = tmp_path_factory.mktemp("model")
    lesson = Path(export.__file__).parent
    write_cfg(
        folder / "own.cfg", make_cfg(lesson / "darknet/networks/yolov3-tiny.cfg", 3, size=SIZE)
    )
    (folder / "own.names").write_text("one\ntwo\nthree\n")
    return folder


@pytest.fixture(scope="module")
def model(files):
    torch.manual_seed(0)
    network = Darknet(files / "own.cfg").eval()
    for stage in network.stages:
        if getattr(stage, "norm", None) is not None:
            stage.norm.running_mean.normal_(0, 0.1)
            stage.norm.running_var.uniform_(0.1, 0.5)
        elif hasattr(stage, "conv"):
            stage.conv.weight.data *= 5  # scores and boxes that differ from place to place
    network.save_weights(files / "own.weights")
    return network


def run(path, images):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {"images": images.numpy()})


def photos(count, size=SIZE):
    return torch.rand(count, 3, *size, generator=torch.Generator().manual_seed(7))


@pytest.mark.parametrize("batch", [1, 3])
def test_raw_maps_for_any_batch(model, tmp_path, relative_difference, batch):
    difference = export_onnx(model, tmp_path / "net.onnx", raw=True)
    assert 0 < difference <= 1e-4
    images = photos(batch)
    with torch.inference_mode():
        expected = model(images)
    found = run(tmp_path / "net.onnx", images)
    assert len(found) == len(expected) == 2
    for ours, theirs in zip(expected, found, strict=True):
        assert relative_difference(torch.from_numpy(theirs), ours) <= 1e-4


@pytest.mark.parametrize("size", [None, 64, (64, 96)])
def test_boxes_and_scores_are_those_of_decode(model, tmp_path, size):
    assert export_onnx(model, tmp_path / "net.onnx", size=size) <= 1e-4
    height, width = SIZE if size is None else (size, size) if size == 64 else size
    images = photos(2, (height, width))
    boxes, scores = (torch.from_numpy(part) for part in run(tmp_path / "net.onnx", images))
    with torch.inference_mode():
        parts = [
            decode(raw, output, (height, width))
            for raw, output in zip(model(images), model.outputs, strict=True)
        ]
    for photo in (0, 1):
        wanted = torch.cat([part.boxes_xyxy[part.photo_index == photo] for part in parts])
        products = [part.objectness[:, None] * part.class_probabilities for part in parts]
        mine = [p[part.photo_index == photo] for p, part in zip(products, parts, strict=True)]
        rows = torch.cat((boxes[photo], 1000 * scores[photo]), dim=1)
        expected = torch.cat((wanted, 1000 * torch.cat(mine)), dim=1)
        assert rows.shape == expected.shape
        distance = (expected[:, None] - rows).abs().amax(dim=2).amin(dim=1)  # in another order
        assert distance.max() <= 1e-4 * (wanted.max() - wanted.min())


def test_detections_after_suppression_are_the_same(model, tmp_path):
    export_onnx(model, tmp_path / "net.onnx")
    images = photos(1)
    boxes, scores = (torch.from_numpy(part) for part in run(tmp_path / "net.onnx", images))
    with torch.inference_mode():
        expected = postprocess(model(images), model.outputs, SIZE, 0.3, 0.45)[0]
    box, label = (scores[0] > 0.3).nonzero(as_tuple=True)
    found = suppress(boxes[0, box], scores[0, box, label], label, 0.45)
    assert len(expected[0]) > 3
    for ours, theirs in zip(expected, found, strict=True):
        torch.testing.assert_close(theirs, ours, rtol=1e-4, atol=1e-3)


def test_opencv_reads_it(model, tmp_path):
    export_onnx(model, tmp_path / "net.onnx", raw=True)
    net = cv2.dnn.readNetFromONNX(str(tmp_path / "net.onnx"))
    images = photos(2)
    net.setInput(images.numpy())
    found = net.forward(["output_0", "output_1"])
    with torch.inference_mode():
        for ours, theirs in zip(model(images), found, strict=True):
            assert np.abs(ours.numpy() - theirs).max() <= 1e-4 * np.ptp(ours.numpy())


def test_what_the_file_says(model, tmp_path):
    export_onnx(model, tmp_path / "net.onnx", names=["one", "two", "three"])
    content = onnx.load(str(tmp_path / "net.onnx"))
    dims = {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*content.graph.input, *content.graph.output)
    }
    cells = 3 * (3 * 4 + 6 * 8)
    assert dims["images"] == ["batch", 3, *SIZE]
    assert dims["boxes"][0] == "batch" == dims["scores"][0]
    assert run(tmp_path / "net.onnx", photos(1))[0].shape == (1, cells, 4)
    assert run(tmp_path / "net.onnx", photos(1))[1].shape == (1, cells, 3)
    props = {prop.key: prop.value for prop in content.metadata_props}
    assert json.loads(props["names"]) == ["one", "two", "three"]
    assert not any(node.op_type == "BatchNormalization" for node in content.graph.node)


def test_the_model_stays_as_it_was(model, tmp_path):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    export_onnx(model, tmp_path / "net.onnx")
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_folded_equals_the_network(model, relative_difference):
    images = photos(1)
    with torch.inference_mode():
        for one, two in zip(folded(model)(images), model(images), strict=True):
            assert relative_difference(one, two) <= 1e-5


def test_a_file_that_differs_is_not_written(model, tmp_path, monkeypatch):
    def with_another_bias(network, *rest):
        other = folded(model)
        other.stages[0].conv.bias.data += 0.01
        return to_onnx(export.RawDarknet(other, SIZE), *rest)

    to_onnx = export.to_onnx
    monkeypatch.setattr(export, "to_onnx", with_another_bias)
    with pytest.raises(ExportError, match=r"net\.onnx: onnxruntime differs from PyTorch by .* of"):
        export_onnx(model, tmp_path / "net.onnx", raw=True)
    assert not list(tmp_path.iterdir())


def test_a_size_the_network_cannot_take(model, tmp_path):
    with pytest.raises(ValueError, match="must be multiples of 32, got .100, 100."):
        export_onnx(model, tmp_path / "net.onnx", size=100)


def test_the_command(model, files, tmp_path, capsys):
    own = [
        part for end in ("cfg", "weights", "names") for part in (f"--{end}", f"{files}/own.{end}")
    ]
    out = tmp_path / "net.onnx"
    assert main([*own, "--out", str(out), "--size", "64"]) == 0
    assert "net.onnx: differs from PyTorch by" in capsys.readouterr().out
    assert run(out, photos(1, (64, 64)))[0].shape[0] == 1
    assert main([*own[:2], "--weights", str(files / "none"), "--out", str(tmp_path / "no")]) == 2
    assert "none: cannot be read" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()


def test_a_cfg_without_outputs(write_cfg, tmp_path, capsys):
    cfg = write_cfg("[net]\n[convolutional]\nfilters=2\n")
    assert main(["--cfg", str(cfg), "--weights", "none", "--out", str(tmp_path / "no")]) == 2
    assert "has no [yolo] block, it is no detector" in capsys.readouterr().err
    assert issubclass(ExportError, ValueError) and issubclass(DarknetFileError, ValueError)
