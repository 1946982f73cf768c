"""What the inference notebook's own cells compute is what the lesson's modules compute."""

from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch

from darknet import network as module
from darknet.network import Darknet, parse_cfg

LESSON = Path(module.__file__).resolve().parents[1]
NOTEBOOK = LESSON / "yolo_v3_darknet.ipynb"
LONGEST = 20  # lines of a cell that teaches
SIDE = 96  # pixels: a multiple of 32


@pytest.fixture(scope="module")
def sources() -> list[str]:
    cells = nbformat.read(NOTEBOOK, 4).cells
    return [cell.source for cell in cells if cell.cell_type == "code"]


@pytest.fixture
def names(sources, monkeypatch) -> dict:
    """What the notebook's cells of imports define; its paths begin in the lesson's folder."""
    monkeypatch.chdir(LESSON)
    found: dict = {}
    for source in sources[1:3]:
        exec(compile(source, NOTEBOOK.name, "exec"), found)  # noqa: S102 (our own notebook)
    found["image"] = torch.rand(3, SIDE, SIDE, generator=torch.Generator().manual_seed(4))
    return found


def run_cell(sources: list[str], names: dict, text: str) -> None:
    """Run the one cell that holds a text."""
    (cell,) = [source for source in sources if text in source]
    assert len(cell.splitlines()) <= LONGEST
    exec(compile(cell, NOTEBOOK.name, "exec"), names)  # noqa: S102


@pytest.mark.parametrize("model", ["yolov3-tiny", "yolov3", "yolov3-spp"])
def test_the_layers_of_a_cfg_give_the_same_outputs(sources, names, randomize, model):
    for text in ("def convolution(", "def build_layers(", "def run_layers("):
        run_cell(sources, names, text)
    network = randomize(Darknet(f"darknet/networks/{model}.cfg"))
    layers = names["build_layers"](parse_cfg(f"darknet/networks/{model}.cfg")).eval()
    layers.load_state_dict(network.stages.state_dict())
    images = names["image"][None]
    with torch.no_grad():
        expected = network(images)
        found = names["run_layers"](network.blocks, layers, images)
    assert len(found) == len(expected) == len(network.outputs)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_add_double_and_side_by_side_are_the_networks_own(sources, names, randomize):
    """Each cell asserts what it shows; on maps that are not the network's the assertion fails."""
    names["network"] = randomize(Darknet("darknet/networks/yolov3-tiny.cfg"))
    run_cell(sources, names, "def feature_maps(")
    run_cell(sources, names, "feature_maps(network, image[None])")
    shapes = [layer.out_shape[0] for layer in names["network"].layers]
    assert [one.shape[1] for one in names["maps"]] == shapes
    for text in ("small.repeat_interleave(", "torch.cat(joined", "full = Darknet("):
        run_cell(sources, names, text)
    run_cell(sources, names, "x + change")
    names["maps"] = [one.flip(-1) if index % 2 else one for index, one in enumerate(names["maps"])]
    for text in ("small.repeat_interleave(", "torch.cat(joined"):
        with pytest.raises(AssertionError):
            run_cell(sources, names, text)


def test_an_object_is_pasted_in_the_middle_of_gray(sources, names):
    run_cell(sources, names, "def paste(")
    picture = np.full((30, 60, 3), 200, np.uint8)
    canvas = names["paste"](picture, 100, side=160)
    assert canvas.shape == (160, 160, 3) and canvas.dtype == np.uint8
    rows, columns = np.nonzero((canvas == 200).all(-1))
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (55, 104, 30, 129)
    assert (canvas == 200).all(-1).sum() == 50 * 100
    assert ((canvas == 128) | (canvas == 200)).all()
