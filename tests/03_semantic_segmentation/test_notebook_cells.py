"""The notebook's own dataset, U-Net, losses and loop give what the lesson's modules give."""

from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
import torch
from torch import nn

import engine
import losses
import unet
from common.loading import mix_seed, training_loader
from common.masks.augmentation import evaluation_transforms
from dataset import SegmentationDataset, load_data
from networks import models
from settings import make_settings

NOTEBOOK = Path(engine.__file__).with_name("semantic_segmentation.ipynb")
LONGEST = 20  # lines of a cell
NUM_IMPORTS = 4  # cells of imports, after Colab's


@pytest.fixture(scope="module")
def sources() -> list[str]:
    cells = nbformat.read(NOTEBOOK, 4).cells
    return [cell.source for cell in cells if cell.cell_type == "code"]


@pytest.fixture
def names(sources) -> dict:
    """What the notebook's cells of imports define."""
    found: dict = {}
    for source in sources[1 : 1 + NUM_IMPORTS]:
        exec(compile(source, NOTEBOOK.name, "exec"), found)  # noqa: S102 (our own notebook)
    return found


def run_cell(sources: list[str], names: dict, text: str) -> None:
    """Run the one cell that holds a text."""
    (cell,) = [source for source in sources if text in source]
    exec(compile(cell, NOTEBOOK.name, "exec"), names)  # noqa: S102


def test_no_cell_is_long(sources):
    assert {k: n for k, s in enumerate(sources) if (n := len(s.splitlines())) > LONGEST} == {}


def test_the_dataset_gives_the_same_items(sources, names, scenes):
    run_cell(sources, names, "class LabelMaps(")
    ours = SegmentationDataset.from_path(scenes, evaluation_transforms())
    theirs = names["LabelMaps"](ours.pairs(), ours.table, ours.transforms)
    assert len(theirs) == len(ours) == 8
    for (image, target), (other, expected) in zip(theirs, ours, strict=True):
        assert torch.equal(image, other) and image.dtype == other.dtype == torch.float32
        assert torch.equal(target["labels"], expected["labels"])
        assert target["labels"].dtype == expected["labels"].dtype


def test_the_network_is_the_modules(sources, names):
    names |= {"K": 5, "image": torch.rand(3, 24, 32)}
    for text in ("def double_convolution(", "class Up(", "class OurUNet("):
        run_cell(sources, names, text)
    widths = (4, 6, 8)
    module, ours = unet.UNet(5, widths).train(), names["OurUNet"](5, widths).train()
    assert [p.shape for p in ours.parameters()] == [p.shape for p in module.parameters()]
    ours.load_state_dict(dict(zip(ours.state_dict(), module.state_dict().values(), strict=True)))
    images = torch.rand(2, 3, 21, 13)
    ours(images).square().sum().backward()
    module(images).square().sum().backward()
    for one, other in zip(ours.parameters(), module.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)
    torch.testing.assert_close(ours.eval()(images), module.eval()(images))


def test_the_first_weights_are_the_modules(sources, names):
    names |= {"K": 5, "image": torch.rand(3, 24, 32)}
    for text in ("def double_convolution(", "class Up(", "class OurUNet(", "def first_weights("):
        run_cell(sources, names, text)
    torch.manual_seed(7)
    ours = names["OurUNet"](5, (4, 6, 8)).apply(names["first_weights"])
    torch.manual_seed(7)
    module = unet.UNet(5, (4, 6, 8))
    for one, other in zip(ours.parameters(), module.parameters(), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("cross_entropy", "def cross_entropy("),
        ("dice_loss", "def dice_loss("),
        ("focal_loss", "def focal_loss("),
    ],
)
def test_the_losses_are_the_modules(sources, names, name, text):
    names |= {"K": 4}
    run_cell(sources, names, "def cross_entropy(")
    if name != "cross_entropy":
        run_cell(sources, names, text)
    ours, theirs = names[name], getattr(losses, name)
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        logits = (torch.randn(2, 4, 5, 7, generator=generator) * 3).requires_grad_()
        labels = torch.randint(0, 3, (2, 5, 7), generator=generator).to(torch.uint8)
        labels[torch.rand(labels.shape, generator=generator) < 0.2] = 255
        one, other = ours(logits, labels), theirs(logits, labels)
        torch.testing.assert_close(one, other)
        torch.testing.assert_close(
            torch.autograd.grad(one, logits)[0], torch.autograd.grad(other, logits)[0]
        )
    weights = torch.tensor([1.0, 5.0, 2.0, 0.5])
    if name == "cross_entropy":
        torch.testing.assert_close(ours(logits, labels, weights), theirs(logits, labels, weights))


def test_the_pyramid_is_torchvisions_without_its_normalisation(sources, names):
    from torchvision.models.segmentation.deeplabv3 import ASPP

    run_cell(sources, names, "class ASPP(")
    ours, theirs = names["ASPP"](6, 4, (2, 3)), ASPP(6, [2, 3], 4)
    for layer in theirs.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.zero_()
            layer.running_var.fill_(1 - layer.eps)
    own = [ours.point, *ours.atrous, ours.mean, ours.mix]
    convolutions = [layer for layer in theirs.modules() if isinstance(layer, nn.Conv2d)]
    for one, other in zip(own, convolutions, strict=True):
        one.weight.data.copy_(other.weight)
        one.bias.data.zero_()
    x = torch.rand(2, 6, 9, 8)
    torch.testing.assert_close(ours(x).relu(), theirs.eval()(x))


def test_the_loop_gives_the_same_losses_and_weights(sources, names, scenes):
    settings = make_settings("street", data=str(scenes), pretrained=False, batch_size=2, epochs=2)
    data = load_data(settings, progress=False)
    run = engine.train(settings, data, progress=False)

    class Seeded:
        """The batches of the run, with the seeds of its steps."""

        epoch = -1

        def __init__(self) -> None:
            self.loader = training_loader(data.train, 2, settings.seed, 0)

        def __len__(self) -> int:
            return len(self.loader)

        def __iter__(self):
            self.epoch += 1
            self.loader.batch_sampler.set_position(self.epoch)
            for step, batch in enumerate(self.loader):
                torch.manual_seed(mix_seed(settings.seed, self.epoch, step, 0))
                yield batch

    torch.manual_seed(mix_seed(settings.seed))
    model = models.build_model(settings.model, len(data.class_names), False, settings.half_size)
    names |= {"model": model, "settings": settings, "DEVICE": "cpu", "data": data}
    names["pretrained_parameters"] = lambda model: ()  # as there are no trained weights
    run_cell(sources, names, "optimizer = make_optimizer(")
    names["loader"] = Seeded()
    names["display"] = lambda *_, **__: SimpleNamespace(update=lambda _: None)
    run_cell(sources, names, "optimizer.step()")
    assert len(names["history"]) == len(run.history) >= 4
    for one, other in zip(names["history"], run.history, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-6)
    for one, other in zip(model.parameters(), run.model.parameters(), strict=True):
        assert torch.equal(one, other)
