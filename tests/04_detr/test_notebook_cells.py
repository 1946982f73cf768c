"""The notebook's own dataset, model, matching, losses and loop give what the modules give."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nbformat
import numpy as np
import pytest
import torch

import detr
import engine
import losses
import matcher
from common.checkpoint import load_checkpoint
from common.loading import mix_seed, training_loader
from dataset import DetectionDataset, load_data
from settings import make_settings

NOTEBOOK = Path(engine.__file__).with_name("detr.ipynb")
LONGEST, LONGEST_IMPORTS = 20, 12  # lines of a cell that teaches, and of one that imports
SIZE = (72, 96)  # of the scenes that the fixture draws


@pytest.fixture(scope="module")
def sources() -> list[str]:
    cells = nbformat.read(NOTEBOOK, 4).cells
    return [cell.source for cell in cells if cell.cell_type == "code"]


@pytest.fixture
def names(sources: list[str]) -> dict[str, Any]:
    """What the notebook's cells of imports define."""
    found: dict[str, Any] = {}
    for source in sources[1:4]:
        assert len(source.splitlines()) <= LONGEST_IMPORTS
        exec(compile(source, NOTEBOOK.name, "exec"), found)  # noqa: S102 (our own notebook)
    return found


def run_cell(sources: list[str], names: dict[str, Any], text: str) -> None:
    """Run the one cell that holds a text."""
    (cell,) = [source for source in sources if text in source]
    assert len(cell.splitlines()) <= LONGEST
    exec(compile(cell, NOTEBOOK.name, "exec"), names)  # noqa: S102


def with_losses(sources: list[str], names: dict[str, Any]) -> dict[str, Any]:
    """Run the cells of matching and losses."""
    run_cell(sources, names, "def cost_matrix(")
    run_cell(sources, names, "def match(")
    run_cell(sources, names, "def iou_and_giou(")
    run_cell(sources, names, "def varifocal(")
    run_cell(sources, names, "def stage_loss(")
    run_cell(sources, names, "def set_loss(")
    run_cell(sources, names, "def denoising_loss(")
    return names


@pytest.fixture
def answers() -> dict[str, torch.Tensor]:
    """Logits and boxes of two stages, three pictures and six queries, with three classes."""
    random = torch.Generator().manual_seed(5)
    return {
        "logits": torch.randn(2, 3, 6, 3, generator=random),
        "boxes_cxcywh": 0.2 + 0.5 * torch.rand(2, 3, 6, 4, generator=random),
    }


def test_no_teaching_cell_is_long(sources) -> None:
    assert max(len(source.splitlines()) for source in sources[1:]) <= LONGEST


def test_the_dataset_gives_the_same_items(sources, names, scenes) -> None:
    run_cell(sources, names, "class Scenes(")
    labels = load_data(make_settings("street", data=str(scenes), image_size=SIZE)).train.labels
    ours, theirs = DetectionDataset(labels, SIZE), names["Scenes"](labels.images)
    assert len(theirs) == len(ours) >= 4
    for (image, target), (other, expected) in zip(theirs, ours, strict=True):
        assert torch.equal(image, other) and image.dtype == other.dtype
        for name in ("boxes_cxcywh", "classes"):
            torch.testing.assert_close(target[name], expected[name])


def test_attention_is_that_of_the_module(sources, names) -> None:
    run_cell(sources, names, "class Attention(")
    torch.manual_seed(0)
    ours, theirs = names["Attention"](), detr.Attention()
    ours.load_state_dict(theirs.state_dict())
    queries, memory = torch.randn(2, 5, 128), torch.randn(2, 9, 128)
    blocked = torch.rand(5, 9) < 0.4
    for mask in (None, blocked, blocked.expand(2, 5, 9)):
        came, wanted = ours(queries, memory, memory, mask), theirs(queries, memory, memory, mask)
        torch.testing.assert_close(came, wanted)
    assert (came[1][:, :, blocked] == 0).all()


def test_positions_are_those_of_the_module(sources, names) -> None:
    names |= {"rows": 3, "columns": 4}
    run_cell(sources, names, "def sine_positions(")
    run_cell(sources, names, "down, across = ")
    fractions = torch.rand(2, 7, 4)
    torch.testing.assert_close(names["sine_positions"](fractions), detr.sine_positions(fractions))
    assert names["centres"].tolist()[1] == pytest.approx([1.5 / 4, 0.5 / 3])


def test_the_way_through_the_model_is_the_forward_pass(sources, names, tiny_detr) -> None:
    for text in ("def sine_positions(", "def encode(", "def select(", "def decode("):
        run_cell(sources, names, text)
    names["target"] = {"boxes_cxcywh": torch.full((2, 4), 0.3)}  # the cell moves it by nothing
    run_cell(sources, names, "def refine(")
    model, images = tiny_detr(), torch.rand(2, 3, *SIZE)
    for head in model.box_heads:  # they begin with zeros, which hide what learns from what
        torch.nn.init.normal_(head[-1].weight, std=0.1)
    maps = names["encode"](model, images)
    memory = model.memory_norm(torch.cat([detr.flat(one) for one in maps], dim=1))
    anchors = model.anchors(maps, images)
    content, first, boxes = names["select"](model, memory, anchors)
    places = names["sine_positions"](anchors[:, :2])
    logits, found = names["decode"](model, content, boxes, memory, places)
    wanted = model(images)
    ours = torch.cat((first[None], logits)), torch.cat((boxes[None], found))
    theirs = wanted["logits"], wanted["boxes_cxcywh"]
    torch.testing.assert_close(ours, theirs)
    weights = [*model.body.blocks[-1].parameters(), *model.class_heads[0].parameters()]
    weights += model.layers[0].parameters()
    aims = [torch.randn(one.shape) for one in ours]
    slopes = [
        torch.autograd.grad([(a * x).sum() for a, x in zip(aims, xs, strict=True)], weights)
        for xs in (ours, theirs)
    ]
    torch.testing.assert_close(*slopes, rtol=1e-3, atol=1e-4)


def test_the_decoder_layer_is_that_of_the_module(sources, names) -> None:
    run_cell(sources, names, "class Attention(")
    run_cell(sources, names, "class Decoder(")
    ours, theirs = names["Decoder"](), detr.DecoderLayer()
    ours.load_state_dict(theirs.state_dict())
    one = [torch.randn(2, n, 128) for n in (5, 5, 9)] + [
        torch.randn(9, 128),
        torch.rand(5, 5) < 0.3,
    ]
    torch.testing.assert_close(ours(*one), theirs(*one))


def test_costs_and_pairs_are_those_of_the_module(sources, names, answers, some_targets) -> None:
    run_cell(sources, names, "def cost_matrix(")
    run_cell(sources, names, "def match(")
    (target,) = some_targets(4)
    logits, boxes = answers["logits"][0, 0], answers["boxes_cxcywh"][0, 0]
    costs = matcher.cost_matrix(logits, boxes, target["classes"], target["boxes_cxcywh"])
    torch.testing.assert_close(names["cost_matrix"](logits, boxes, target), costs)
    for ours, theirs in zip(
        names["match"](logits, boxes, target), matcher.assign(costs), strict=True
    ):
        assert torch.equal(ours, theirs)


def test_assignments_by_hand_are_scipys(sources, names) -> None:
    for text in (
        "costs = np.array(",
        "def total(",
        "ways = sorted(",
        "queries, objects = linear_sum",
    ):
        run_cell(sources, names, text)
    assert names["queries"].tolist() == [0, 1, 2] and names["objects"].tolist() == [1, 0, 2]
    assert len(names["ways"]) == 24
    assert [names["total"](way) for way in names["ways"][:2]] == [10, 12]


@pytest.mark.parametrize("sizes", [(2, 0, 4), (1, 1, 1), (0, 0, 0), (6, 8, 2)])
def test_the_losses_are_detr_loss(sources, names, answers, some_targets, sizes) -> None:
    with_losses(sources, names)
    targets = some_targets(*sizes)
    torch.manual_seed(1)
    noisy = matcher.noisy_queries(targets, 3, groups=2)
    count = noisy["classes"].shape[1]
    spoiled = {
        "logits": torch.randn(3, 3, count, 3),
        "boxes_cxcywh": 0.2 + 0.5 * torch.rand(3, 3, count, 4),
    }
    ours = names["set_loss"](answers, targets)
    ours |= names["denoising_loss"](spoiled, noisy, targets)
    theirs = losses.detr_loss({**answers, "denoised": spoiled}, targets, noisy)
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        torch.testing.assert_close(value, theirs[name], msg=name)


def test_the_mask_is_that_of_the_module(sources, names) -> None:
    run_cell(sources, names, "def group_mask(")
    for groups, size, queries in ((2, 3, 5), (1, 1, 1), (4, 2, 30), (3, 0, 2)):
        ours = names["group_mask"](groups, size, queries)
        assert torch.equal(ours, matcher.group_mask(groups, size, queries))


def test_pairs_of_neighbours_are_counted(sources, names) -> None:
    run_cell(sources, names, "def close_pairs(")
    boxes = torch.tensor([[0.5, 0.5, 0.2, 0.2], [0.52, 0.5, 0.2, 0.2], [0.5, 0.5, 0.2, 0.2]])
    target = {"boxes_cxcywh": boxes, "classes": torch.tensor([1, 1, 0])}
    assert names["close_pairs"](target, 0.5) == 1  # the IoU is 0.18 / 0.22
    assert names["close_pairs"](target, 0.9) == 0


def test_attention_maps_keep_their_sum(sources, names, tiny_detr) -> None:
    run_cell(sources, names, "def attention_map(")
    with torch.no_grad():
        outputs = tiny_detr()(torch.rand(1, 3, *SIZE))
    weights = outputs["attention"][-1][0, :, 0].mean(dim=0)
    found = names["attention_map"](weights, outputs["shapes"])
    assert tuple(found.shape) == tuple(outputs["shapes"][0])
    assert found.sum().item() == pytest.approx(1, rel=1e-4)


@pytest.mark.slow
def test_the_loop_gives_the_same_losses_and_weights(
    sources, names, scenes, tmp_path, monkeypatch
) -> None:
    settings = make_settings(
        "street", data=str(scenes), image_size=SIZE, pretrained=False, num_queries=6,
        batch_size=2, epochs=2, denoising=2,
    )  # fmt: skip
    data = load_data(settings, progress=False)

    def noisy_queries(*arguments: Any) -> dict[str, Any]:
        """The same noise in both loops."""
        torch.manual_seed(len(arguments[0][0]["classes"]))
        return matcher.noisy_queries(*arguments)

    class Seeded:
        """The batches of the run, epoch after epoch."""

        epoch = 0

        def __iter__(self) -> Iterator[Any]:
            batches = training_loader(data.train, settings.batch_size, settings.seed, 0)
            batches.batch_sampler.set_position(self.epoch)
            self.epoch += 1
            return iter(batches)

    monkeypatch.setattr(engine, "noisy_queries", noisy_queries)
    run = engine.train(settings, data, tmp_path / "run", progress=False)
    torch.manual_seed(mix_seed(settings.seed))
    names |= {"settings": settings, "data": data, "names": data.class_names, "DEVICE": "cpu"}
    names |= {"model": detr.build_model(settings, len(data.class_names))}
    with_losses(sources, names)
    run_cell(sources, names, "loader = DataLoader(")
    assert len(names["loader"]) * settings.epochs == len(run.history) >= 2
    names |= {"loader": Seeded(), "noisy_queries": noisy_queries}
    names["display"] = lambda *_, **__: SimpleNamespace(update=lambda _: None)
    run_cell(sources, names, "curve = display(")
    ours = [one["loss"] for one in names["history"]]
    np.testing.assert_allclose(ours, [one["loss"] for one in run.history], rtol=1e-4)
    last = load_checkpoint(tmp_path / "run" / "last.pt")["model"]
    for name, value in names["model"].state_dict().items():
        torch.testing.assert_close(value, last[name], msg=name, rtol=1e-3, atol=1e-5)
