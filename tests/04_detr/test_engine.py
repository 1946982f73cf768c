"""The training loop: its steps, and that it is one a learner would write."""

import inspect
import math
from pathlib import Path

import pytest
import torch
from torch import nn

import engine
import train as command
from common.loading import evaluation_loader, mix_seed, training_loader
from common.training import NonFiniteLossError, make_optimizer, warmup_cosine
from dataset import load_data
from detr import build_model
from engine import train, validation_loss
from losses import detr_loss
from matcher import noisy_queries
from settings import make_settings

LESSON = Path(command.__file__).parent


def tiny(folder, **changes):
    values = {"data": str(folder), "pretrained": False, "image_size": (72, 96), "batch_size": 2}
    values |= {"epochs": 1, "learning_rate": 1e-3, "num_queries": 8, "denoising": 4}
    return make_settings("street", **(values | changes))


def plain_training(settings, data):
    """A loop without any of our objects but model and loss."""
    torch.manual_seed(mix_seed(settings.seed))
    model = build_model(settings, len(data.class_names)).train()
    optimizer = make_optimizer(model, "adamw", settings.learning_rate, settings.weight_decay)
    loader = training_loader(data.train, settings.batch_size, settings.seed, 0)
    schedule = warmup_cosine(optimizer, settings.epochs * len(loader), settings.warmup)
    losses = []
    for epoch in range(settings.epochs):
        loader.batch_sampler.set_position(epoch)
        for step, (images, targets) in enumerate(loader):
            torch.manual_seed(mix_seed(settings.seed, epoch, step, 0))
            noisy = noisy_queries(targets, len(data.class_names), settings.denoising)
            pixels = (images.float() / 255).contiguous(memory_format=torch.channels_last)
            loss = sum(detr_loss(model(pixels, noisy), targets, noisy).values())
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), settings.max_gradient_norm)
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
    return losses, model


@pytest.mark.parametrize("denoising", [0, 2])
def test_the_loop_is_that_of_a_plain_script(scenes, denoising):
    settings = tiny(scenes, denoising=denoising)
    data = load_data(settings, progress=False)
    run = train(settings, data, progress=False)
    losses, model = plain_training(settings, data)
    assert [one["loss"] for one in run.history] == losses
    for one, other in zip(model.parameters(), run.model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_few_calls_from_the_command_to_the_loss(monkeypatch, scenes, tmp_path):
    """main, train_and_report, train, and there the loss is computed."""
    between = []

    def looking(*given):
        frames = [one for one in inspect.stack()[1:] if Path(one.filename).parent == LESSON]
        between[:] = [(Path(one.filename).name, one.function) for one in frames]
        return detr_loss(*given)

    monkeypatch.setattr(engine, "detr_loss", looking)
    monkeypatch.setattr(engine, "validate", lambda *_: None)
    monkeypatch.setattr(command, "write_results", lambda *_: None)
    monkeypatch.setattr(command, "evaluate", lambda *_, **__: {})
    monkeypatch.setattr(command.Run, "load_best", lambda _: None)
    options = ["--data", str(scenes), "--out", str(tmp_path), "--no-pretrained", "--preset"]
    options += ["street", "--image-size", "72", "96", "--epochs", "1"]
    assert command.main(options) == 0
    assert between == [
        ("engine.py", "train"), ("train.py", "train_and_report"), ("train.py", "main"),
    ]  # fmt: skip


def test_losses_fall_and_repeat_to_the_last_digit(scenes):
    settings = tiny(scenes, epochs=6, flip=0.0)
    data, runs = load_data(settings, progress=False), []
    for _ in range(2):
        torch.manual_seed(len(runs))  # must not matter
        runs.append(train(settings, data, progress=False).history)
    assert runs[0] == runs[1]
    names = {"class", "l1", "giou", "denoising_class", "denoising_l1", "denoising_giou"}
    assert set(runs[0][0]) == names | {"epoch", "step", "loss"}
    assert runs[0][-1]["loss"] < 0.9 * runs[0][0]["loss"]


@pytest.mark.parametrize(
    "changes",
    [
        {"queries": "learned", "denoising": 0, "refine": False, "maps": 1},
        {"queries": "learned", "denoising": 0},
        {"maps": 1, "num_queries": 6},
        {"maps": 2, "denoising": 0},
        {"refine": False},
    ],
)
def test_every_switch_trains(scenes, changes):
    settings = tiny(scenes, **changes)
    run = train(settings, load_data(settings, progress=False), progress=False)
    assert all(math.isfinite(one["loss"]) for one in run.history)
    for name, one in run.model.named_parameters():  # as processes need it, which share gradients
        assert one.requires_grad == (one.grad is not None), name


def test_non_finite_loss_names_term_step_and_pictures_and_changes_nothing(scenes, monkeypatch):
    settings, before = tiny(scenes), {}

    def broken(model, *given):
        before.update({name: one.clone() for name, one in model.state_dict().items()})
        outputs = original(model, *given)
        return {**outputs, "boxes_cxcywh": outputs["boxes_cxcywh"] * math.nan}

    original = engine.DETR.forward
    monkeypatch.setattr(engine.DETR, "forward", broken)
    with pytest.raises(NonFiniteLossError, match=r"l1 = nan.* in epoch 1, step 1, .*\.png"):
        train(settings, load_data(settings, progress=False), progress=False)
    assert before


def test_validation_loss_is_the_mean_and_leaves_the_model_alone(scenes):
    settings = tiny(scenes)
    data = load_data(settings, progress=False)
    torch.manual_seed(0)
    model = build_model(settings, 5).train()
    found = validation_loss(model, evaluation_loader(data.train.subset(range(4)), 2))
    assert model.training and found["loss"] == pytest.approx(
        sum(v for k, v in found.items() if k != "loss")
    )
    means = []
    with torch.no_grad():
        for start in (0, 2):
            images, targets = data.train.collate(
                [data.train.subset(range(4))[start + k] for k in (0, 1)]
            )
            means.append(
                sum(detr_loss(model.eval()(images.float() / 255), targets).values()).item()
            )
    assert found["loss"] == pytest.approx(sum(means) / 2, rel=1e-4)
    with pytest.raises(ValueError, match="there is no batch"):
        validation_loss(model, [])
