"""The settings, and the training command: killed, in two processes, and what it refuses."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import train
from common.checkpoint import load_checkpoint
from common.loading import mix_seed, training_loader
from common.processes import Processes
from common.settings import plain_values
from common.training import make_optimizer, warmup_cosine
from dataset import SegmentationData, load_data
from losses import total_loss
from networks.models import build_model
from settings import PRESETS, Settings, choose_preset, make_settings

FOLDER = Path(train.__file__).parent


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "segnet"}, "model is 'segnet'; allowed are unet, deeplabv3"),
        ({"unknown_labels": "drop"}, "unknown_labels is 'drop'; allowed are error, ignore"),
        ({"on_invalid": "skip"}, "on_invalid is 'skip'; allowed are refuse, drop"),
        ({"optimizer": "muon"}, "optimizer is 'muon'; allowed are adamw, sgd"),
        ({"epochs": 0}, "epochs is 0; at least 1 is allowed"),
        ({"batch_size": 0}, "batch_size is 0; at least 1"),
        ({"num_scenes": -1}, "num_scenes is -1; at least 1"),
        ({"learning_rate": 0.0}, r"learning_rate is 0.0; it must be above 0"),
        ({"crop_size": (0, 5)}, r"crop_size is \(0, 5\); at least 1 is allowed"),
        ({"window": (5, -1)}, r"window is \(5, -1\); at least 1"),
        ({"scale": (2.0, 1.0)}, r"scale is \(2.0, 1.0\); the first has to be the smaller"),
        ({"scale": (0.0, 1.0)}, r"scale is \(0.0, 1.0\); it must be above 0"),
        ({"scale": (0.5, 2.0)}, r"scale is \(0.5, 2.0\) and crop_size is none: .* --crop-size"),
        ({"encoder_rate": 0.0}, "encoder_rate is 0.0; it must be above 0"),
        ({"loss_weights": {"l2": 1.0}}, "the loss 'l2' is unknown"),
    ],
)
def test_bad_settings(change, message):
    with pytest.raises(ValueError, match=message):
        make_settings("street", **change)


@pytest.mark.parametrize(
    "changes",
    [
        {"scale": (0.5, 2.0), "crop_size": (8, 8)},
        {"scale": (0.5, 2.0), "batch_size": 1},
        {"scale": (2.0, 2.0)},
    ],
)
def test_random_resizes_whose_pictures_fit_into_a_batch(make_folder, changes):
    settings = make_settings("street", data=str(make_folder(count=20)), **changes)
    train_part = load_data(settings, progress=False).train
    batches = list(training_loader(train_part, settings.batch_size, 0, 0))
    assert [len(images) for images, _ in batches] == [settings.batch_size] * (
        len(train_part) // settings.batch_size
    )


def test_presets(monkeypatch):
    with pytest.raises(ValueError, match="preset is 'huge'; allowed are street, photos, full"):
        make_settings("huge")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_preset() == "full"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_preset() == "street"
    assert make_settings() == PRESETS["street"]
    assert make_settings(data="my_data").preset == "photos"
    for settings in PRESETS.values():
        assert Settings(**json.loads(json.dumps(plain_values(settings)))) == settings


def test_loss_weights_as_an_option(capsys):
    arguments = ["--out", "x", "--loss-weights"]
    options = train.parse_options([*arguments, "cross_entropy=1, dice=0.5"])
    assert options.loss_weights == {"cross_entropy": 1.0, "dice": 0.5}
    for text, message in (("dice", "such as"), ("l2=1", "the loss 'l2' is unknown")):
        with pytest.raises(SystemExit):
            train.parse_options([*arguments, text])
        assert message in capsys.readouterr().err


def command(*arguments: str | Path, script: str = "train.py") -> list[str]:
    return [sys.executable, str(FOLDER / script), *map(str, arguments)]


def tiny_command(scenes: Path, out: Path, *more: str) -> list[str]:
    return command(
        *("--data", scenes, "--out", out, "--preset", "street", "--model", "unet"),
        *("--batch-size", 2, "--epochs", 2, "--workers", 0, "--checkpoint-every", 1, *more),
    )


def metrics_of(out: Path) -> dict:
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics.pop("seconds") > 0
    return metrics


@pytest.mark.full
def test_killed_run_ends_with_the_metrics_of_the_uninterrupted(scenes, tmp_path, kill_and_resume):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    longer = ("--epochs", "60")
    subprocess.run(tiny_command(scenes, whole, *longer), check=True, capture_output=True)
    assert {p.name for p in whole.iterdir()} == {
        "best.pt", "last.pt", "losses.png", "metrics.json",
    }  # fmt: skip
    kill_and_resume(tiny_command(scenes, killed, *longer), killed)
    assert metrics_of(killed) == metrics_of(whole)
    ends = [load_checkpoint(out / "last.pt")["progress"] for out in (killed, whole)]
    assert all(end.pop("seconds") > 0 for end in ends)
    assert ends[0] == ends[1]


@pytest.mark.slow
def test_two_processes_train_as_one(scenes, tmp_path):
    """DDP's step is that of the mean loss over both halves of the batch; compute that by hand."""
    settings = make_settings(
        "street", data=str(scenes), batch_size=2, epochs=1, optimizer="sgd", learning_rate=1e-3
    )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    arguments = tiny_command(scenes, tmp_path)[1:]
    arguments += ["--epochs", "1", "--learning-rate", "0.001", "--optimizer", "sgd"]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    subprocess.run(
        [*launcher, "--master-port", str(port), *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=True,
    )
    found = load_checkpoint(tmp_path / "last.pt")
    data = load_data(settings, progress=False)
    losses, model = by_hand(settings, data)
    assert len(losses) == 2
    assert [one["loss"] for one in found["progress"]["history"]] == pytest.approx(losses, rel=1e-4)
    for name, expected in model.named_parameters():
        torch.testing.assert_close(found["model"][name], expected.data, rtol=1e-4, atol=1e-5)
    assert set(metrics_of(tmp_path)["per_class"]) == set(data.class_names)


def by_hand(settings: Settings, data: SegmentationData) -> tuple[list[float], nn.Module]:
    """Train in one process: each half's loss and batch statistics apart, gradients averaged."""
    torch.manual_seed(mix_seed(settings.seed))
    model = build_model("unet", len(data.class_names), half_size=True).train()
    optimizer = make_optimizer(model, "sgd", settings.learning_rate, settings.weight_decay)
    ranks = [Processes(torch.device("cpu"), rank, 2) for rank in range(2)]
    loaders = [training_loader(data.train, 2, settings.seed, 0, rank) for rank in ranks]
    schedule = warmup_cosine(optimizer, len(loaders[0]), settings.warmup)
    losses = []
    for halves in zip(*loaders, strict=True):
        optimizer.zero_grad()
        losses.append(0.0)
        for images, targets in halves:
            loss, _ = total_loss(model(images), targets["labels"], settings.loss_weights)
            (loss / 2).backward()
            losses[-1] += loss.item() / 2
        nn.utils.clip_grad_norm_(model.parameters(), settings.max_gradient_norm)
        optimizer.step()
        schedule.step()
    return losses, model


def test_command_leaves_out_what_cannot_be_used(make_folder, tmp_path, capsys):
    folder = make_folder("index", count=12)
    for name in ("p3", "p5"):
        Image.fromarray(np.zeros((8, 5), np.uint8)).save(folder / "masks" / f"{name}.png")
    arguments = tiny_command(folder, tmp_path / "out")[2:]
    assert train.main(arguments) == 2
    error = capsys.readouterr().err
    assert "2 problems (--on-invalid drop leaves them out)" in error and "p5.png" in error
    assert train.main([*arguments, "--on-invalid", "drop"]) == 0
    shown = capsys.readouterr().out
    assert "10 pairs are used, 2 left out" in shown
    assert all(f"{name}.png: is 5 x 8 pixels" in shown for name in ("p3", "p5"))
    assert set(metrics_of(tmp_path / "out")) == {
        "mean_iou", "per_class", "mean_dice", "pixel_accuracy",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--epochs", "0"], "error: epochs is 0"),
        (
            ["--data", "/nowhere/at/all"],
            "data '/nowhere/at/all': allowed are street, penn_fudan, nuclei or a folder",
        ),
        (["--batch-size", "50"], "error: batch_size is 50; allowed are 1 to"),
        (["--scale", "0.5", "2"], "with --crop-size HEIGHT WIDTH, or leave --scale out"),
        (["--data", "penn_fudan"], "use --preset street"),
    ],
)
def test_command_says_what_is_wrong(scenes, tmp_path, capsys, monkeypatch, arguments, message):
    monkeypatch.setenv("DETECTION_SEGMENTATION_CACHE", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nothing listens there
    assert train.main([*tiny_command(scenes, tmp_path / "out")[2:], *arguments]) == 2
    assert message in capsys.readouterr().err


def test_command_refuses_unknown_choices(capsys):
    with pytest.raises(SystemExit) as exit_info:
        train.main(["--out", "x", "--model", "segnet"])
    assert exit_info.value.code == 2
    assert "invalid choice: 'segnet'" in capsys.readouterr().err
