"""The training loop: its steps, its best epoch, resuming, and what it refuses."""

import inspect
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn

import engine
import losses
import train as command
from common.checkpoint import CheckpointError, load_checkpoint
from common.training import NonFiniteLossError
from dataset import SegmentationData, SegmentationDataset, load_data
from engine import train
from evaluation import evaluate
from networks.models import load_model
from settings import Settings, make_settings


def tiny(folder, **changes) -> Settings:
    values = {"data": str(folder), "model": "unet", "batch_size": 2, "epochs": 2}
    values |= {"workers": 0, "learning_rate": 1e-3}
    return make_settings("street", **(values | changes))


def trained(settings, folder=None, data=None, **options):
    data = data or load_data(settings, progress=False)
    return train(settings, data, folder, progress=False, **options)


class PerPixel(nn.Module):
    """Logits (w * brightness, 0): gradients can be worked out by hand."""

    def __init__(self, bad_at=None):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(0.0))
        self.calls, self.bad_at = 0, bad_at

    def forward(self, images):
        self.calls += self.training
        factor = math.nan if self.calls == self.bad_at else 1.0
        first = self.weight * images[:, :1] * factor
        return {"out": torch.cat([first, torch.zeros_like(first)], dim=1)}


class White:
    """White pictures of class 0."""

    class_names = ("white", "other")
    collate = staticmethod(SegmentationDataset.collate)

    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        if index >= self.count:
            raise IndexError
        return torch.ones(3, 4, 6), {"labels": torch.zeros(4, 6, dtype=torch.uint8)}

    def image_path(self, index):
        return f"p{index}.png"


@pytest.fixture
def by_hand(monkeypatch):
    """Train a PerPixel on white pictures, one in a step, with SGD and a rate of 1."""

    def run(pictures, **changes):
        model = PerPixel(changes.pop("bad_at", None))
        monkeypatch.setattr(engine, "build_model", lambda *_: model)
        settings = make_settings(
            "full", pretrained=False, model="unet", batch_size=1, epochs=1, warmup=0.0,
            learning_rate=1.0, workers=0, **{"loss_weights": {"cross_entropy": 2.0}, **changes},
        )  # fmt: skip
        data = SegmentationData(White(pictures), White(1), White(1))
        return model, lambda: train(settings, data, progress=False)

    return run


def test_steps_by_hand(by_hand):
    model, work = by_hand(2)
    run = work()
    # loss 2 ln(1 + exp(-w)), gradient -2 / (1 + exp(w)): w = 0, then 1; momentum 0.9, rates 1, 0.5
    assert model.weight.item() == pytest.approx(1 + 0.5 * (0.9 + 2 / (1 + math.e)))
    assert [(one["epoch"], one["step"]) for one in run.history] == [(0, 0), (0, 1)]
    for one, weight in zip(run.history, (0, 1), strict=True):
        loss = math.log(1 + math.exp(-weight))
        assert one["loss_cross_entropy"] == pytest.approx(loss)
        assert one["loss"] == pytest.approx(2 * loss)
    assert (run.epoch, run.step) == (1, 0)
    assert run.epochs[0]["metrics"]["mean_iou"] == 1


def test_long_gradients_are_shortened(by_hand):
    model, work = by_hand(1, max_gradient_norm=0.25)
    work()
    assert model.weight.item() == pytest.approx(0.25, rel=1e-4)


def test_non_finite_loss_names_step_and_picture_and_changes_nothing(by_hand):
    model, work = by_hand(3, bad_at=2)
    with pytest.raises(NonFiniteLossError, match=r"= nan in epoch 1, step 2.*p\d\.png"):
        work()
    assert model.weight.item() == pytest.approx(1)  # one step was taken, the second was not


def test_main_is_three_calls_from_the_loss(scenes, tmp_path, monkeypatch):
    stacks = []

    def recording(*inputs):
        names = [(Path(frame.filename).name, frame.function) for frame in inspect.stack()[1:]]
        stacks.append(names[: names.index(("train.py", "main")) + 1])
        return losses.total_loss(*inputs)

    monkeypatch.setattr(engine, "total_loss", recording)
    options = ["--data", scenes, "--out", tmp_path, "--preset", "street", "--model", "unet"]
    options += ["--batch-size", 2, "--epochs", 1, "--workers", 0]
    assert command.main(list(map(str, options))) == 0
    assert stacks[0] == [("engine.py", "train"), ("train.py", "train_and_report"),
                         ("train.py", "main")]  # fmt: skip


def test_best_epoch_is_chosen_on_the_validation_pictures(scenes, tmp_path, monkeypatch):
    settings = tiny(scenes, epochs=3)
    data = load_data(settings, progress=False)
    scores, measured = iter([0.2, 0.8, 0.5]), []

    def scripted(_model, dataset, *_):
        measured.append(dataset)
        return {"mean_iou": next(scores)}

    monkeypatch.setattr(engine, "evaluate", scripted)
    states = []
    run = trained(
        settings, tmp_path, replace(data, test=None),
        after_step=lambda run: states.append(run.model.network.head.weight.detach().clone()),
    )  # fmt: skip
    assert len(measured) == 3 and all(one is data.validation for one in measured)
    assert [one["metrics"]["mean_iou"] for one in run.epochs] == [0.2, 0.8, 0.5]
    best = load_checkpoint(tmp_path / "best.pt")
    assert (best["progress"]["best"], best["progress"]["epoch"]) == (0.8, 1)
    steps = len(states) // 3
    assert torch.equal(run.load_best().network.head.weight, states[2 * steps - 1])


def results_of(run, data):
    return run.history, run.epochs, evaluate(run.load_best(), data.test, progress=False)


def test_interrupted_run_ends_as_the_uninterrupted_at_every_step(scenes, tmp_path, stop_at):
    settings = tiny(scenes, epochs=6, photometric=0.5)
    data = load_data(settings, progress=False)
    expected = results_of(trained(settings, tmp_path / "a", data), data)
    assert len(expected[0]) == 6 * (len(data.train) // 2) == 12

    for step in range(1, len(expected[0]) + 1):
        with pytest.raises(KeyboardInterrupt):
            trained(
                settings, tmp_path / "b", data,
                resume=True, checkpoint_every=1, after_step=stop_at(step),
            )  # fmt: skip
        torch.rand(7)  # whatever happens in between must not matter
    assert results_of(trained(settings, tmp_path / "b", data, resume=True), data) == expected


def test_resume_refuses_other_settings(scenes, tmp_path):
    settings = tiny(scenes, epochs=1)
    done = trained(settings, tmp_path)
    with pytest.raises(CheckpointError, match=r"last\.pt was made with learning_rate = 0\.001"):
        trained(replace(settings, learning_rate=0.5), tmp_path, resume=True)
    again = trained(replace(settings, workers=1), tmp_path, resume=True)
    assert again.history == done.history


def test_run_without_folder_keeps_nothing_and_cannot_resume(scenes):
    settings = tiny(scenes, epochs=1, balance_classes=True)
    run = trained(settings)
    assert math.isfinite(run.history[-1]["loss"])
    assert run.load_best() is run.model
    with pytest.raises(RuntimeError, match="give it a folder"):
        trained(settings, resume=True)


@pytest.mark.parametrize("kind", ["index", "palette", "color"])
def test_folders_of_every_kind_train_without_a_code_change(make_folder, kind):
    folder = make_folder(kind, count=10)
    run = trained(tiny(folder, epochs=30, learning_rate=3e-3, half_size=False))
    assert run.epochs[-1]["metrics"]["mean_iou"] > 0.9  # dark left, bright right


def test_pictures_of_several_sizes_need_a_crop(make_folder):
    folder = make_folder("index", count=6)
    for path in folder.glob("*/p?.png"):
        Image.open(path).crop((0, 0, 12 - int(path.stem[1]), 7)).save(path)
    settings = tiny(folder)
    with pytest.raises(ValueError, match="Cut parts of one size from them: --crop-size"):
        trained(settings)
    cropped = replace(settings, crop_size=(16, 16), scale=(0.5, 2.0), epochs=1)
    assert trained(cropped).epochs


@pytest.mark.parametrize("name", ["smp_unet", "deeplabv3"])
def test_saved_model_predicts_the_same(scenes, tmp_path, name):
    settings = tiny(scenes, epochs=1, model=name, pretrained=name == "smp_unet")
    data = load_data(settings, progress=False)
    run = trained(settings, tmp_path, data)
    assert ("loss_aux" in run.history[0]) == (name == "deeplabv3")
    model, class_names, stored = load_model(tmp_path / "best.pt")
    assert (class_names, stored) == (data.class_names, settings)
    image = data.test[0][0]
    with torch.no_grad():
        ours, theirs = run.model.eval()(image[None]), model(image[None])
    assert torch.equal(ours["out"], theirs["out"])


def test_batch_of_one_is_refused_where_it_cannot_be_normalised(scenes):
    with pytest.raises(ValueError, match=r"batch_size is 1 for 1 process.* needs 2 pictures"):
        trained(tiny(scenes, model="smp_deeplabv3plus", batch_size=1))


@pytest.mark.parametrize(
    ("changes", "rates"),
    [
        ({"model": "smp_unet"}, {"encoder": 0.25, "others": 1.0}),
        ({"model": "smp_unet", "pretrained": False}, {"encoder": 1.0, "others": 1.0}),
        ({"model": "unet"}, {"encoder": 1.0, "others": 1.0}),
    ],
)
def test_pretrained_layers_learn_slower(scenes, monkeypatch, changes, rates):
    made = []

    def recording(*arguments):
        made.append(make_optimizer(*arguments))
        return made[0]

    make_optimizer = engine.make_optimizer
    monkeypatch.setattr(engine, "make_optimizer", recording)
    settings = tiny(scenes, epochs=1, learning_rate=1.0, encoder_rate=0.25, **changes)
    run = trained(settings)
    encoder = set(run.model.network.encoder.parameters())
    found = {"encoder": set(), "others": set()}
    for group in made[0].param_groups:
        for one in group["params"]:
            found["encoder" if one in encoder else "others"].add(group["initial_lr"])
    assert found == {name: {rate} for name, rate in rates.items()}
