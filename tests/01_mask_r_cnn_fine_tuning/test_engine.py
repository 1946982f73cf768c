"""The training loop: its steps, its order, its errors, and what it costs beside a plain one."""

import inspect
import math
from pathlib import Path

import psutil
import pytest
import torch
from torch import nn

import engine
import train as command
from common.loading import SeededBatches, SeededItems, evaluation_loader, mix_seed, training_loader
from common.processes import Processes
from common.training import NonFiniteLossError, make_optimizer, warmup_cosine
from dataset import DetectionData, DetectionDataset, load_data
from engine import train
from model import build_model
from settings import make_settings


class Fit(nn.Module):
    """A "detector" with two losses whose gradients can be worked out by hand."""

    def __init__(self, bad_at=None):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([[1.0]]))
        self.bad_at, self.calls = bad_at, 0

    def forward(self, images, targets):
        self.calls += 1
        factor = math.nan if self.calls == self.bad_at else 1.0
        return {"loss_a": 2 * self.weight.sum(), "loss_b": 3 * self.weight.sum() * factor}


class Noisy:
    """Items with random "augmentation"."""

    collate = staticmethod(DetectionDataset.collate)
    class_names = ("thing",)

    def __len__(self):
        return 10

    def __getitem__(self, index):
        return torch.rand(1), {"image_id": index}

    def image_path(self, index):
        return f"p{index}.png"


class Still(Noisy):
    """Items without anything random."""

    def __getitem__(self, index):
        return torch.zeros(1), {}


NOISY = DetectionData(Noisy(), Noisy(), Noisy())


def tiny(**changes):
    values = {"pretrained": False, "image_size": (72, 96), "workers": 0, "optimizer": "sgd"}
    values |= {"warmup": 0.0, "weight_decay": 0.0, "learning_rate": 0.1, "batch_size": 5}
    return make_settings("street", **(values | changes))


def fit(monkeypatch, model, **changes):
    """Train the model, which is none of the lesson's, without measuring it."""
    monkeypatch.setattr(engine, "build_model", lambda *_: model)
    monkeypatch.setattr(engine, "validate", lambda *_: None)
    return train(tiny(**changes), NOISY, progress=False)


def test_steps_by_hand(monkeypatch):
    model = Fit()
    run = fit(monkeypatch, model, max_gradient_norm=50.0)
    # Two steps with rates 0.1 and 0.05 and gradient 5; the second has momentum: 5 + 0.9 * 5.
    assert model.weight.item() == pytest.approx(1 - 0.5 - 0.05 * 9.5, abs=1e-6)
    losses = [{name: one[name] for name in ("loss", "loss_a", "loss_b")} for one in run.history]
    assert losses[0] == pytest.approx({"loss": 5, "loss_a": 2, "loss_b": 3})
    assert losses[1] == pytest.approx({"loss": 2.5, "loss_a": 1, "loss_b": 1.5})
    assert [(one["epoch"], one["step"]) for one in run.history] == [(0, 0), (0, 1)]
    assert (run.epoch, run.step) == (1, 0)
    assert run.seconds > 0


def test_long_gradients_are_shortened(monkeypatch):
    model = Fit()
    fit(monkeypatch, model, max_gradient_norm=0.5, batch_size=10)
    assert model.weight.item() == pytest.approx(0.95, abs=1e-5)


def test_non_finite_loss_names_term_step_and_pictures_and_changes_nothing(monkeypatch):
    model = Fit(bad_at=2)
    message = (
        r"loss_b = nan in epoch 1, step 2, on the pictures p\d\.png, p\d\.png, p\d\.png.*lower"
    )
    with pytest.raises(NonFiniteLossError, match=message):
        fit(monkeypatch, model)
    assert model.weight.item() == pytest.approx(0.5)  # one step was taken, the second was not


def test_the_loop_is_that_of_a_plain_script(scenes):
    """The same weights, to the last bit, as a loop without any of our objects."""
    settings = tiny(
        data=str(scenes), batch_size=2, learning_rate=1e-3, optimizer="adamw", warmup=0.5
    )
    data = load_data(settings)
    run = train(settings, data, progress=False)
    torch.manual_seed(mix_seed(settings.seed))
    model = build_model(settings, 2).train()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3, weight_decay=0.0, fused=True)
    loader = training_loader(data.train, 2, settings.seed, 0)
    schedule = warmup_cosine(optimizer, len(loader), 0.5)
    losses = []
    for step, (images, targets) in enumerate(loader):
        torch.manual_seed(mix_seed(settings.seed, 0, step, 0))
        targets = [{k: v for k, v in one.items() if k != "path"} for one in targets]
        loss = sum(model(images, targets).values())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), settings.max_gradient_norm)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    assert [one["loss"] for one in run.history] == losses
    for one, other in zip(model.parameters(), run.model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_few_calls_from_the_command_to_the_loss(monkeypatch, scenes, tmp_path):
    """main, train_and_report, train, and there the model gives the losses."""
    between = []

    class Looking(Fit):
        def forward(self, images, targets):
            frames = [one for one in inspect.stack() if Path(one.filename).parent == LESSON]
            between[:] = [(Path(one.filename).name, one.function) for one in frames]
            return super().forward(images, targets)

    monkeypatch.setattr(engine, "build_model", lambda *_: Looking())
    monkeypatch.setattr(engine, "validate", lambda *_: None)
    monkeypatch.setattr(command, "write_results", lambda *_: None)
    monkeypatch.setattr(command, "evaluate", lambda *_, **__: {})
    monkeypatch.setattr(command.Run, "load_best", lambda _: None)
    options = ["--data", str(scenes), "--out", str(tmp_path), "--no-pretrained", "--workers", "0"]
    assert command.main(options) == 0
    assert between == [
        ("engine.py", "train"), ("train.py", "train_and_report"), ("train.py", "main"),
    ]  # fmt: skip


LESSON = Path(command.__file__).parent


def test_losses_of_a_real_detector_fall_and_repeat_to_the_last_digit(scenes):
    settings = tiny(data=str(scenes), batch_size=2, epochs=4, learning_rate=1e-3, optimizer="adamw")
    data, runs = load_data(settings), []
    for _ in range(2):
        torch.manual_seed(len(runs))  # must not matter
        runs.append(train(settings, data, progress=False).history)
    assert runs[0] == runs[1]
    assert runs[0][-1]["loss"] < 0.8 * runs[0][0]["loss"]


def test_schedule_warms_up_and_goes_down():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], 1.0)
    schedule = warmup_cosine(optimizer, 10, 0.3)
    rates = []
    for _ in range(10):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    assert rates[:4] == pytest.approx([0.25, 0.5, 0.75, 1.0])
    assert rates[3:] == sorted(rates[3:], reverse=True)
    assert schedule.get_last_lr()[0] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("warmup", [-0.1, 1.0])
def test_schedule_refuses_a_warmup_out_of_range(warmup):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], 1.0)
    with pytest.raises(ValueError, match=rf"warmup is {warmup} of 5 steps; 0 to below 1"):
        warmup_cosine(optimizer, 5, warmup)


def test_optimizer_learns_gently_what_is_known_and_decays_kernels_alone():
    known, new = nn.Conv2d(3, 4, 3), nn.Linear(4, 2)
    known.bias.requires_grad_(False)
    model = nn.Sequential(known, new)
    groups = make_optimizer(model, "adamw", 1.0, 0.5, known.parameters(), 0.25).param_groups
    found = {one: (g["lr"], g["weight_decay"]) for g in groups for one in g["params"]}
    assert found == {known.weight: (0.25, 0.5), new.weight: (1.0, 0.5), new.bias: (1.0, 0.0)}
    assert make_optimizer(model, "sgd", 0.1, 0.0).param_groups[0]["momentum"] == 0.9
    with pytest.raises(ValueError, match="optimizer is 'lamb'; allowed are adamw, sgd"):
        make_optimizer(model, "lamb", 0.1, 0.0)


def all_items(loader):
    return [
        (image.item(), target["image_id"], target["path"])
        for images, targets in loader
        for image, target in zip(images, targets, strict=True)
    ]


def test_batches_do_not_depend_on_workers_or_history():
    expected = []
    for workers in (0, 1, 2):
        loader = training_loader(Noisy(), 3, 5, workers)
        epochs = []
        for epoch in range(2):
            loader.batch_sampler.set_position(epoch)
            epochs.append(all_items(loader))
        loader.batch_sampler.set_position(1, first_step=1)
        assert all_items(loader) == epochs[1][3:]
        assert len(loader) == 3
        assert epochs[0] != epochs[1]
        assert sorted({k for _, k, _ in epochs[0]}) == sorted(k for _, k, _ in epochs[0])
        assert epochs[0][0][2] == f"p{epochs[0][0][1]}.png"
        expected = expected or epochs
        assert epochs == expected


def test_loading_leaves_the_global_generator_alone():
    state = torch.get_rng_state()
    assert len(all_items(training_loader(Noisy(), 5, 0, 0))) == 10
    for _ in evaluation_loader(Still()):
        pass
    assert torch.equal(torch.get_rng_state(), state)


def test_ranks_share_every_batch():
    whole = list(SeededBatches(10, 4, seed=2))
    parts = [list(SeededBatches(10, 4, 2, rank, 2)) for rank in range(2)]
    assert [a + b for a, b in zip(*parts, strict=True)] == whole
    assert [len(part) for part in parts] == [2, 2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((4, 0), "batch_size is 4; allowed are 1 to 3, the number of images"),
        ((0, 0), "batch_size is 0; allowed are 1 to 3"),
        ((3, 0, 0, Processes(torch.device("cpu"), 0, 2)), "batch_size is 3, which 2 processes"),
    ],
)
def test_impossible_batches(arguments, message):
    class Three(Noisy):
        def __len__(self):
            return 3

    with pytest.raises(ValueError, match=message):
        training_loader(Three(), *arguments)


def test_seeds_differ_in_every_number():
    seeds = {mix_seed(a, b, c) for a in range(5) for b in range(5) for c in range(5)}
    assert len(seeds) == 125
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert SeededItems(Noisy())[3, 7][0] == SeededItems(Noisy())[3, 7][0]


def test_memory_stays_flat(scenes):
    settings = tiny(data=str(scenes), task="boxes", batch_size=1, epochs=10, learning_rate=1e-4)
    data, sizes = load_data(settings), []
    train(
        settings,
        data,
        after_step=lambda _: sizes.append(psutil.Process().memory_info().rss),
        progress=False,
    )
    half = len(sizes) // 2
    assert sizes[-1] - sizes[half] < 20 * 2**20
