"""The notebook's own dataset, models and loop give what the lesson's modules give."""

from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
import torch

import engine
import model as parts
from common.loading import mix_seed, training_loader
from dataset import DetectionDataset, load_data
from settings import make_settings

NOTEBOOK = Path(parts.__file__).with_name("mask_r_cnn_fine_tuning.ipynb")
LONGEST = 20  # lines of a cell that teaches


@pytest.fixture(scope="module")
def sources() -> list[str]:
    cells = nbformat.read(NOTEBOOK, 4).cells
    return [cell.source for cell in cells if cell.cell_type == "code"]


@pytest.fixture
def names(sources) -> dict:
    """What the notebook's cells of imports define."""
    found: dict = {}
    for source in sources[1:5]:
        exec(compile(source, NOTEBOOK.name, "exec"), found)  # noqa: S102 (our own notebook)
    return found


def run_cell(sources: list[str], names: dict, text: str) -> None:
    """Run the one cell that holds a text."""
    (cell,) = [source for source in sources if text in source]
    assert len(cell.splitlines()) <= LONGEST
    exec(compile(cell, NOTEBOOK.name, "exec"), names)  # noqa: S102


def test_the_dataset_gives_the_same_items(sources, names, scenes):
    run_cell(sources, names, "class People(")
    ours = DetectionDataset.from_path(scenes, masks=True)
    theirs = names["People"](ours.labels.images)
    assert len(theirs) == len(ours) == 8
    for (image, target), (other, expected) in zip(theirs, ours, strict=True):
        assert torch.equal(image, other) and image.dtype == other.dtype
        assert set(target) == set(expected) - {"area", "iscrowd"}
        for name in target:
            torch.testing.assert_close(
                torch.as_tensor(target[name]), torch.as_tensor(expected[name]), rtol=0, atol=0
            )


def test_the_two_ways_give_the_same_models(sources, names):
    names["data"] = SimpleNamespace(class_names=("a", "b"))
    run_cell(sources, names, "def swap_heads(")
    run_cell(sources, names, "def start_undecided(")
    run_cell(sources, names, "def on_small_backbone(")
    torch.manual_seed(3)
    small = names["on_small_backbone"](3)
    torch.manual_seed(3)
    expected = parts.build_model(make_settings("street"), 3)
    assert small.state_dict().keys() == expected.state_dict().keys()
    for name, value in expected.state_dict().items():
        assert torch.equal(small.state_dict()[name], value), name
    assert repr(small.transform) == repr(expected.transform)
    assert repr(small.roi_heads) == repr(expected.roi_heads)
    assert (small.roi_heads.detections_per_img, small.rpn._post_nms_top_n) == (
        expected.roi_heads.detections_per_img, expected.rpn._post_nms_top_n,
    )  # fmt: skip
    swapped = names["swap_heads"](3)
    built = parts.mask_rcnn("resnet50", 3, pretrained=False)
    assert repr(swapped.roi_heads) == repr(built.roi_heads)


def test_the_loop_gives_the_same_losses_and_weights(sources, names, scenes):
    settings = make_settings(
        "street", data=str(scenes), pretrained=False, image_size=(72, 96), batch_size=2
    )
    data = load_data(settings)
    run = engine.train(settings, data, progress=False)

    class Seeded:
        """The batches of the run, with the seeds of its steps."""

        def __iter__(self):
            for step, batch in enumerate(training_loader(data.train, 2, settings.seed, 0)):
                torch.manual_seed(mix_seed(settings.seed, 0, step, 0))
                yield batch

    torch.manual_seed(mix_seed(settings.seed))
    names |= {"model": parts.build_model(settings, 2), "settings": settings, "DEVICE": "cpu"}
    names["data"] = data
    run_cell(sources, names, "optimizer = make_optimizer(")
    names["loader"] = Seeded()
    names["display"] = lambda *_, **__: SimpleNamespace(update=lambda _: None)
    run_cell(sources, names, "optimizer.step()")
    losses = [{k: v for k, v in one.items() if k not in ("epoch", "step")} for one in run.history]
    assert len(names["history"]) >= 2
    for one, other in zip(names["history"], losses, strict=True):
        assert one == pytest.approx(other, rel=1e-6)
    for one, other in zip(names["model"].parameters(), run.model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_the_backbone_gives_the_maps_of_the_module(sources, names):
    run_cell(sources, names, "class Backbone(")
    theirs, ours = names["backbone"], parts.SmallBackbone(pretrained=False, live_batch_norm=True)
    ours.load_state_dict(theirs.state_dict())
    images = torch.rand(1, 3, 64, 96)
    for one, other in zip(theirs.eval()(images).items(), ours.eval()(images).items(), strict=True):
        assert one[0] == other[0] and torch.equal(one[1], other[1])
