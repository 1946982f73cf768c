"""The training notebook's own targets, loss and loop give what the lesson's modules give."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nbformat
import numpy as np
import pytest
import torch

import engine
from common.checkpoint import load_checkpoint
from common.loading import mix_seed, training_loader
from common.street.scenes import write_dataset
from darknet.network import Darknet
from dataset import TrainingPhotos, load_data
from losses import TERMS, YoloLoss
from settings import make_settings

NOTEBOOK = Path(engine.__file__).with_name("yolo_v3_training.ipynb")
LONGEST = 20  # lines of a cell that teaches
PICTURE = (96, 128)  # height and width of the picture whose targets are made
SMALL = """[net]
width=128
height=96
channels=3
[convolutional]
batch_normalize=1
filters=16
size=3
stride=8
pad=1
activation=leaky
[convolutional]
size=1
stride=1
pad=1
filters={filters}
activation=linear
[yolo]
mask=0,1,2
{anchors}
[route]
layers=-3
[convolutional]
batch_normalize=1
filters=16
size=3
stride=2
pad=1
activation=leaky
[convolutional]
size=1
stride=1
pad=1
filters={filters}
activation=linear
[yolo]
mask=3,4,5
{anchors}
"""
ANCHORS = "anchors=8,10, 14,9, 12,20, 25,24, 20,45, 50,40\nnum=6\nclasses={}\nignore_thresh={}"


def small_cfg(classes: int, ignore: float) -> str:
    """Two maps of strides 8 and 16, three anchors each."""
    return SMALL.format(filters=3 * (5 + classes), anchors=ANCHORS.format(classes, ignore))


@pytest.fixture(scope="module")
def sources() -> list[str]:
    cells = nbformat.read(NOTEBOOK, 4).cells
    return [cell.source for cell in cells if cell.cell_type == "code"]


@pytest.fixture
def names(sources: list[str]) -> dict[str, Any]:
    """What the notebook's cells of imports define."""
    found: dict[str, Any] = {}
    for source in sources[1:4]:
        exec(compile(source, NOTEBOOK.name, "exec"), found)  # noqa: S102 (our own notebook)
    return found


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of eight drawn scenes of 96 x 72 pixels."""
    return write_dataset(tmp_path_factory.mktemp("scenes"), range(8), 96, 72, progress=False)


def run_cell(sources: list[str], names: dict[str, Any], text: str) -> None:
    """Run the one cell that holds a text."""
    (cell,) = [source for source in sources if text in source]
    assert len(cell.splitlines()) <= LONGEST
    exec(compile(cell, NOTEBOOK.name, "exec"), names)  # noqa: S102


@pytest.fixture(params=range(4))
def scene(request, sources, names, write_cfg) -> dict[str, Any]:
    """The notebook up to its targets: random maps, and objects of which some share a place."""
    random = np.random.default_rng(request.param)
    height, width = PICTURE
    size = random.uniform(6, 50, (9, 2))
    centre = random.uniform(0.01, 0.99, (9, 2)) * (width, height)
    size[1], centre[1] = size[0] * 1.01, centre[0]
    rows = np.column_stack((centre, size)) / (width, height, width, height)
    model = Darknet(write_cfg(small_cfg(3, 0.4)))
    outputs = [torch.from_numpy(random.normal(0, 1, shape)).float() for shape in
            ((1, 24, 12, 16), (1, 24, 6, 8))]  # fmt: skip
    names |= {"names": ("a", "b", "c"), "SIZE": PICTURE, "HEIGHT": height, "WIDTH": width}
    names |= {"model": model, "blocks": model.outputs, "outputs": outputs}
    names["scene"] = SimpleNamespace(classes=np.array([0, 2, 1, 1, 0, 2, 2, 0, 1]))
    names["boxes"] = rows.astype(np.float32)
    labelled = np.column_stack((np.zeros(9), names["scene"].classes, names["boxes"]))
    names["targets"] = torch.tensor(labelled, dtype=torch.float32)
    names["maps"] = [raw[0].double().unflatten(0, (3, -1)).permute(0, 2, 3, 1).numpy()
                     for raw in outputs]  # fmt: skip
    for text in ("def who_answers(", "answers = [", "def best_overlap(", "priors = ["):
        run_cell(sources, names, text)
    return names


def test_targets_are_those_of_the_module(sources, scene) -> None:
    found = YoloLoss(scene["model"]).build_targets(scene["outputs"], scene["targets"], PICTURE)
    assert sum(len(one.row) for one in found) < len(scene["answers"])  # two share a place
    for level, one in enumerate(found):
        places = torch.stack(one.place[1:], dim=1).tolist()
        spots = {spot for its_level, spot in scene["answers"] if its_level == level}
        assert sorted(map(list, spots)) == places
        one.ignored[one.place] = False
        np.testing.assert_array_equal(scene["ignored"][level], one.ignored[0].numpy())
    assert sum(one.sum() for one in scene["ignored"]) > 0
    run_cell(sources, scene, "yolo_loss.build_targets(outputs, targets, SIZE)):\n    spots")


def test_priors_are_ignored_by_the_papers_rule(scene) -> None:
    """Of anchors in the middle of their cells; the oracle counts pixels of a fine grid."""
    height, width = PICTURE
    y, x = np.mgrid[-32 : height + 32 : 0.5, -32 : width + 32 : 0.5] + 0.25

    def inside(box: np.ndarray) -> np.ndarray:
        return ((abs(x - box[0]) < box[2] / 2) & (abs(y - box[1]) < box[3] / 2)).ravel()

    objects = np.stack([inside(box * np.array((width, height) * 2)) for box in scene["boxes"]])
    found = 0
    for anchor, row, column in np.ndindex(3, 6, 8):  # of the map with stride 16
        prior = inside(np.array([16 * column + 8, 16 * row + 8, *scene["anchors"][1][anchor]]))
        iou = ((prior & objects).sum(axis=1) / (prior | objects).sum(axis=1)).max()
        answers = (1, (anchor, row, column)) in scene["answers"]
        if abs(iou - 0.5) > 0.03:
            assert scene["priors"][1][anchor, row, column] == (iou > 0.5 and not answers)
            found += iou > 0.5
    assert found


def test_the_loss_by_hand_is_yolo_loss(sources, scene) -> None:
    for text in ("def box_targets(", "def cross_entropy(", "def object_terms(", "owners = {"):
        run_cell(sources, scene, text)
    terms = YoloLoss(scene["model"])(scene["outputs"], scene["targets"], PICTURE)
    assert scene["total"] == pytest.approx([terms[name].item() for name in TERMS], rel=1e-4)


def test_targets_of_the_box_decode_to_it(sources, scene) -> None:
    for text in ("def box_targets(", "number = len(boxes)"):
        run_cell(sources, scene, text)
    number, (level, spot) = scene["number"], scene["answers"][scene["number"]]
    raw = scene["outputs"][level].clone()
    cells = raw.unflatten(1, (3, -1)).permute(0, 1, 3, 4, 2)
    cells[0][spot][:4] = torch.tensor(scene["wanted_t"])
    decoded = scene["decode_fractions"](cells, scene["blocks"][level], PICTURE)[0][spot]
    assert decoded.tolist() == pytest.approx(scene["boxes"][number].tolist(), rel=1e-4)


def test_the_loop_gives_the_same_losses_and_weights(
    sources, names, scenes, write_cfg, tmp_path
) -> None:
    settings = make_settings(
        "street", data=str(scenes), pretrained="none", size=64, batch_size=2, epochs=2,
        base=str(write_cfg(small_cfg(2, 0.7))), anchors="base", evaluate_every=1,
    )  # fmt: skip
    data = load_data(settings)
    run = engine.train(settings, data, tmp_path / "run", progress=False)

    class Seeded:
        """The batches of the run, epoch after epoch."""

        epoch = 0

        def __iter__(self) -> Iterator[Any]:
            photos = TrainingPhotos(data.train, settings.size, settings.augmentation)
            batches = training_loader(photos, settings.batch_size, settings.seed, 0)
            batches.batch_sampler.set_position(self.epoch)
            self.epoch += 1
            return iter(batches)

    torch.manual_seed(mix_seed(settings.seed))
    names |= {"settings": settings, "data": data, "DEVICE": "cpu", "SIZE": (64, 64)}
    names["model"], _ = engine.build_model(settings, data.train, tmp_path / "cells")
    names["yolo_loss"] = YoloLoss(names["model"])
    for text in (
        "loader = DataLoader(",
        "optimizer = make_optimizer(model",
        "def measure(",
        "def redraw(",
    ):
        run_cell(sources, names, text)
    assert len(names["loader"]) * settings.epochs == len(run.history) >= 2
    names["loader"] = Seeded()
    names["display"] = lambda *_, **__: SimpleNamespace(update=lambda _: None)
    run_cell(sources, names, "curve = display(")
    losses = [{k: v for k, v in one.items() if k not in ("epoch", "step")} for one in run.history]
    for one, other in zip(names["history"], losses, strict=True):
        assert one == pytest.approx(other, rel=1e-6)
    assert names["growth"] == run.epochs
    last = load_checkpoint(tmp_path / "run" / "last.pt")["model"]
    for name, value in names["model"].state_dict().items():
        torch.testing.assert_close(value, last[name], msg=name)
