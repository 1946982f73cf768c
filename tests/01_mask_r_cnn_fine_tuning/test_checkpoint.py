"""Checkpoints: round trips, refusals, and no half-written file."""

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from common import checkpoint as checkpoints
from common.checkpoint import CheckpointError, load_checkpoint, restore, save_checkpoint

FOLDER = Path(checkpoints.__file__).parents[1]


def train_a_little(model, optimizer, schedule, steps):
    losses = []
    for _ in range(steps):
        loss = model(torch.randn(4, 3)).square().mean() * random.random() * np.random.rand()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    return losses


def fresh():
    torch.manual_seed(3)
    model = nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters(), 0.1)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 2)
    return model, {"optimizer": optimizer, "schedule": schedule}


def test_restored_run_goes_on_exactly(tmp_path):
    model, states = fresh()
    train_a_little(model, *states.values(), 3)
    path = save_checkpoint(tmp_path / "a" / "x.pt", model, states, {"step": 3}, {"k": [1, "b"]})
    expected = train_a_little(model, *states.values(), 4)
    other, other_states = fresh()
    random.seed(99), np.random.seed(99), torch.manual_seed(99)
    content = load_checkpoint(path)
    assert restore(content, other, other_states) == {"step": 3}
    assert content["settings"] == {"k": [1, "b"]}
    assert train_a_little(other, *other_states.values(), 4) == expected
    assert [p.name for p in path.parent.iterdir()] == ["x.pt"]


def test_random_states_can_be_left_alone(tmp_path):
    model, states = fresh()
    content = load_checkpoint(save_checkpoint(tmp_path / "x.pt", model, states))
    torch.manual_seed(5)
    before = torch.get_rng_state()
    restore(content, model, states, random_too=False)
    assert torch.equal(torch.get_rng_state(), before)


def test_missing_file(tmp_path):
    with pytest.raises(CheckpointError, match="there is no checkpoint .*nothing.pt"):
        load_checkpoint(tmp_path / "nothing.pt")


def test_every_truncation_is_refused(tmp_path):
    model, states = fresh()
    whole = save_checkpoint(tmp_path / "x.pt", model, states).read_bytes()
    cut = tmp_path / "cut.pt"
    for size in range(0, len(whole), max(1, len(whole) // 40)):
        cut.write_bytes(whole[:size])
        with pytest.raises(CheckpointError, match=r"cut\.pt is no readable checkpoint"):
            load_checkpoint(cut)


class Dangerous:
    def __reduce__(self):
        return (os.mkdir, ("dangerous",))


def test_code_in_a_checkpoint_does_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"format": 1, "model": Dangerous()}, "evil.pt")
    with pytest.raises(CheckpointError, match=r"evil\.pt is no readable checkpoint"):
        load_checkpoint("evil.pt")
    assert not Path("dangerous").exists()


def test_other_formats_are_refused(tmp_path):
    torch.save({"format": 2}, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match="x.pt is no checkpoint of format 1"):
        load_checkpoint(tmp_path / "x.pt")
    torch.save({"format": 1, "model": {}, "random": {}, "settings": {}}, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match="x.pt lacks states, progress"):
        load_checkpoint(tmp_path / "x.pt")


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (nn.Linear(4, 2), r"weight: the model has \(2, 4\), the checkpoint \(2, 3\)"),
        (nn.Linear(3, 2, bias=False), r"bias: the model has none, the checkpoint \(2,\)"),
    ],
)
def test_another_model_is_refused(tmp_path, layer, message):
    content = load_checkpoint(save_checkpoint(tmp_path / "x.pt", nn.Linear(3, 2)))
    with pytest.raises(CheckpointError, match=message):
        restore(content, layer)


def test_other_states_are_refused(tmp_path):
    model, states = fresh()
    content = load_checkpoint(save_checkpoint(tmp_path / "x.pt", model, states))
    with pytest.raises(CheckpointError, match=r"\['optimizer', 'schedule'\], not \['optimizer'\]"):
        restore(content, model, {"optimizer": states["optimizer"]})


def test_failed_save_keeps_the_old_file(tmp_path, monkeypatch):
    path = save_checkpoint(tmp_path / "x.pt", nn.Linear(3, 2))
    before = path.read_bytes()

    def broken(content, file):
        file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", broken)
    with pytest.raises(OSError, match="disk full"):
        save_checkpoint(path, nn.Linear(3, 2))
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["x.pt"]


SAVE_FOR_EVER = """
import sys, torch
from common.checkpoint import save_checkpoint
model = torch.nn.Linear(400, 400)
step = 0
while True:
    with torch.no_grad():
        model.weight.fill_(step)
    save_checkpoint(sys.argv[1], model, progress={"step": step})
    print(step, flush=True)
    step += 1
"""


def test_killed_while_saving_leaves_a_readable_checkpoint(tmp_path):
    path, delays = tmp_path / "x.pt", random.Random(0)
    process = subprocess.Popen(
        [sys.executable, "-c", SAVE_FOR_EVER, str(path)], cwd=FOLDER, stdout=subprocess.PIPE
    )
    for _ in range(3):
        process.stdout.readline()
    time.sleep(delays.uniform(0, 0.05))
    process.kill()
    process.communicate()
    content = load_checkpoint(path)
    step = content["progress"]["step"]
    assert step >= 2
    assert torch.equal(content["model"]["weight"], torch.full((400, 400), float(step)))
