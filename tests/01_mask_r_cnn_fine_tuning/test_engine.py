"""The training loop: its steps, its order, its errors."""

import copy
import math

import psutil
import pytest
import torch
from torch import nn

from common.loading import SeededBatches, SeededItems, evaluation_loader, mix_seed, training_loader
from common.training import NonFiniteLossError, warmup_cosine
from dataset import DetectionDataset
from engine import train_one_epoch


class Fit(nn.Module):
    """A "detector" with two losses whose gradients can be worked out by hand."""

    def __init__(self, bad_at=None):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([1.0]))
        self.bad_at, self.calls = bad_at, 0

    def forward(self, images, targets):
        self.calls += 1
        factor = math.nan if self.calls == self.bad_at else 1.0
        return {"loss_a": 2 * self.weight.sum(), "loss_b": 3 * self.weight.sum() * factor}


def batches_of(count):
    return [([torch.zeros(3, 2, 2)], [{"image_id": k, "path": f"p{k}.png"}]) for k in range(count)]


def sgd(model, learning_rate=0.1):
    return torch.optim.SGD(model.parameters(), learning_rate)


def test_steps_by_hand():
    model, seen = Fit(), []
    losses = train_one_epoch(
        model, sgd(model), batches_of(2), after_step=lambda *x: seen.append(x), progress=False
    )
    # gradient 5: weights 1, 0.5, 0; losses 5 w
    assert model.weight.item() == pytest.approx(0, abs=1e-7)
    assert [step for step, _ in seen] == [0, 1]
    assert seen[1][1] == pytest.approx({"loss": 2.5, "loss_a": 1.0, "loss_b": 1.5})
    assert losses == pytest.approx({"loss": 3.75, "loss_a": 1.5, "loss_b": 2.25})


def test_loss_weights_and_clipping_by_hand():
    model = Fit()
    losses = train_one_epoch(
        model,
        sgd(model),
        batches_of(1),
        loss_weights={"loss_b": 2.0},
        max_gradient_norm=0.5,
        progress=False,
    )
    assert losses == pytest.approx({"loss": 8, "loss_a": 2, "loss_b": 3})
    assert model.weight.item() == pytest.approx(0.95, abs=1e-5)


def test_schedule_warms_up_and_goes_down():
    model = Fit()
    optimizer = sgd(model, 1.0)
    schedule = warmup_cosine(optimizer, 10, 3)
    rates = []
    train_one_epoch(
        model,
        optimizer,
        batches_of(10),
        schedule=schedule,
        after_step=lambda *_: rates.append(schedule.get_last_lr()[0]),
        progress=False,
    )
    assert rates[:3] == pytest.approx([0.5, 0.75, 1.0])
    assert rates[2:] == sorted(rates[2:], reverse=True)
    assert rates[-1] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("warmup", [-1, 5])
def test_schedule_refuses_a_warmup_out_of_range(warmup):
    with pytest.raises(ValueError, match=rf"warmup_steps is {warmup}; allowed are 0 to 4"):
        warmup_cosine(sgd(Fit()), 5, warmup)


def test_non_finite_loss_names_term_step_and_images_and_changes_nothing():
    model = Fit(bad_at=2)
    with pytest.raises(NonFiniteLossError, match=r"loss_b = nan in epoch 5, step 2.*p1\.png"):
        train_one_epoch(model, sgd(model), batches_of(3), epoch=4, progress=False)
    assert model.weight.item() == pytest.approx(0.5)  # one step was taken, the second was not


def test_non_finite_loss_of_a_real_detector_names_image_ids(tiny_detector, batch):
    model = tiny_detector()
    with torch.no_grad():
        model.roi_heads.box_predictor.cls_score.bias[0] = math.nan
    message = "loss_classifier = nan in epoch 1, step 1, on the images 0, 1"
    with pytest.raises(NonFiniteLossError, match=message):
        train_one_epoch(model, sgd(model), [batch], progress=False)


def test_no_batch():
    with pytest.raises(ValueError, match="no batch to train on"):
        train_one_epoch(Fit(), sgd(Fit()), [], progress=False)


def test_losses_of_a_real_detector_fall_and_repeat_to_the_last_digit(tiny_detector, batch):
    runs = []
    for _ in range(2):
        model, losses = tiny_detector(), []
        torch.manual_seed(len(runs))  # must not matter
        train_one_epoch(
            model,
            torch.optim.AdamW(model.parameters(), 1e-3),
            [batch] * 8,
            max_gradient_norm=5.0,
            seed=0,
            after_step=lambda _, terms, losses=losses: losses.append(terms),
            progress=False,
        )
        runs.append(losses)
    assert runs[0] == runs[1]
    assert runs[0][-1]["loss"] < 0.8 * runs[0][0]["loss"]


def test_resumed_epoch_equals_the_whole_one(tiny_detector, batch):
    batches = [batch, (batch[0][:1], batch[1][:1]), batch, batch]

    def run(model, optimizer, first):
        train_one_epoch(model, optimizer, batches[first:], first_step=first, seed=3, progress=False)
        return model

    model = tiny_detector()
    whole = run(model, torch.optim.AdamW(model.parameters(), 1e-3), 0)
    parts, optimizer = tiny_detector(), None
    optimizer = torch.optim.AdamW(parts.parameters(), 1e-3)
    train_one_epoch(parts, optimizer, batches[:2], seed=3, progress=False)
    again = copy.deepcopy(parts)
    continued = torch.optim.AdamW(again.parameters(), 1e-3)
    continued.load_state_dict(optimizer.state_dict())
    torch.rand(100)
    run(again, continued, 2)
    for one, other in zip(whole.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)


class Noisy:
    """Items with random "augmentation"."""

    collate = staticmethod(DetectionDataset.collate)

    def __len__(self):
        return 10

    def __getitem__(self, index):
        return torch.rand(1), {"image_id": index}

    def image_path(self, index):
        return f"{index}.png"


class Still(Noisy):
    """Items without anything random."""

    def __getitem__(self, index):
        return torch.zeros(1), {}


def all_items(loader):
    return [
        (image.item(), target["image_id"], target["path"])
        for images, targets in loader
        for image, target in zip(images, targets, strict=True)
    ]


def test_batches_do_not_depend_on_workers_or_history():
    expected = []
    for workers in (0, 1, 2):
        batches = SeededBatches(10, 3, seed=5)
        loader = training_loader(Noisy(), batches, workers)
        epochs = []
        for epoch in range(2):
            batches.set_position(epoch)
            epochs.append(all_items(loader))
        batches.set_position(1, first_step=1)
        assert all_items(loader) == epochs[1][3:]
        assert len(batches) == 2
        assert epochs[0] != epochs[1]
        assert sorted({k for _, k, _ in epochs[0]}) == sorted(k for _, k, _ in epochs[0])
        assert epochs[0][0][2] == f"{epochs[0][0][1]}.png"
        expected = expected or epochs
        assert epochs == expected


def test_loading_leaves_the_global_generator_alone():
    state = torch.get_rng_state()
    loader = training_loader(Noisy(), SeededBatches(10, 5, seed=0), 0)
    assert len(all_items(loader)) == 10
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
        ((3, 4, 0), "batch_size is 4; allowed are 1 to 3, the number of images"),
        ((3, 0, 0), "batch_size is 0; allowed are 1 to 3"),
        ((9, 3, 0, 0, 2), "batch_size is 3, which 2 processes cannot share evenly"),
    ],
)
def test_impossible_batches(arguments, message):
    with pytest.raises(ValueError, match=message):
        SeededBatches(*arguments)


def test_seeds_differ_in_every_number():
    seeds = {mix_seed(a, b, c) for a in range(5) for b in range(5) for c in range(5)}
    assert len(seeds) == 125
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert SeededItems(Noisy())[3, 7][0] == SeededItems(Noisy())[3, 7][0]


def test_memory_stays_flat(tiny_detector, batch):
    model = tiny_detector("boxes")
    optimizer = sgd(model, 1e-4)
    sizes = []

    def measure(_step, _losses):
        sizes.append(psutil.Process().memory_info().rss)

    train_one_epoch(model, optimizer, [batch] * 40, seed=0, after_step=measure, progress=False)
    assert sizes[-1] - sizes[19] < 20 * 2**20
