"""What the tests of this lesson share: cfg files, random weights, real weights, Darknet itself."""

from lesson_tests import enter_lesson

enter_lesson(__file__)


import importlib.util
from pathlib import Path

import pytest
import torch

from darknet.download import DownloadError, fetch
from darknet.network import ConvolutionStage, Darknet

HERE = Path(__file__).resolve().parent

# 64 x 64 pixels, 4 x 4 cells, 2 classes, 2 anchors; batch and subdivisions as for training.
SMALL_CFG = """[net]
batch=64
subdivisions=16
width=64
height=64
channels=3
[convolutional]
batch_normalize=1
filters=8
size=3
stride=4
pad=1
activation=leaky
[convolutional]
batch_normalize=1
filters=16
size=3
stride=4
pad=1
activation=leaky
[convolutional]
filters=14
size=1
stride=1
pad=1
activation=linear
[yolo]
mask=0,1
anchors=10,14, 30,20
classes=2
num=2
"""
OUTPUT_GAIN = 4  # large, varied outputs: the network finds much everywhere


def _load_recorder():
    spec = importlib.util.spec_from_file_location("record_darknet", HERE / "record_darknet.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def recorder():
    """The script that talks to libdarknet, as a module."""
    return _load_recorder()


@pytest.fixture(scope="session")
def libdarknet(recorder):
    """Darknet's own library; the test is skipped where it is not installed."""
    try:
        return recorder.load_library()
    except OSError as error:
        pytest.skip(f"libdarknet is not installed ({error})")


@pytest.fixture(scope="session")
def tiny_weights():
    """The path of the real yolov3-tiny.weights; skipped where no mirror can be reached."""
    try:
        return fetch("yolov3-tiny.weights", progress=False)
    except DownloadError as error:
        pytest.skip(f"yolov3-tiny.weights cannot be had: {error}")


@pytest.fixture
def write_cfg(tmp_path):
    """Write the text of a cfg file and return its path."""

    def write(text: str, name: str = "net.cfg") -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


@torch.no_grad()
def _randomize(model: Darknet, seed: int = 0) -> Darknet:
    """Fill a network with weights as they are in a trained one, and set evaluation mode."""
    random = torch.Generator().manual_seed(seed)
    residual = {layer.index - 1 for layer in model.layers if layer.kind == "shortcut"}
    for index, stage in enumerate(model.stages):
        if not isinstance(stage, ConvolutionStage):
            continue
        kernels, norm = stage.conv.weight, stage.norm
        kernels.normal_(0, (2 / kernels[0].numel()) ** 0.5, generator=random)
        if norm is None:
            stage.conv.bias.normal_(0, 0.1, generator=random)
            continue
        scale = 0.3 if index in residual else 1  # or the sums of a residual network explode
        norm.bias.normal_(0, 0.1, generator=random)
        norm.weight.uniform_(0.5 * scale, 1.5 * scale, generator=random)
        norm.running_mean.normal_(0, 0.1, generator=random)
        norm.running_var.uniform_(0.5, 2, generator=random)
    return model.eval()


@pytest.fixture
def randomize():
    """Fill a network with seeded random weights and sensible batch norm statistics."""
    return _randomize


@pytest.fixture
def small_detector(tmp_path_factory):
    """Paths cfg, weights and names of a small network that finds much, the same each time."""
    folder = tmp_path_factory.mktemp("small_detector")
    files = {key: folder / f"my.{key}" for key in ("cfg", "weights", "names")}
    files["cfg"].write_text(SMALL_CFG)
    files["names"].write_text("cat\nhot dog\n")
    network = _randomize(Darknet(files["cfg"]))
    with torch.no_grad():
        network.stages[2].conv.weight.mul_(OUTPUT_GAIN)
        network.stages[2].conv.bias.zero_()
    network.save_weights(files["weights"])
    return files


def _relative_difference(ours: torch.Tensor, reference) -> float:
    """The largest difference, as a share of the reference's range; shapes must agree."""
    reference = torch.as_tensor(reference)
    assert ours.shape == reference.shape
    spread = (reference.max() - reference.min()).item()
    assert spread > 0
    return ((ours.float() - reference).abs().max() / spread).item()


@pytest.fixture
def relative_difference():
    """The largest difference of two tensors, as a share of the second one's range."""
    return _relative_difference
