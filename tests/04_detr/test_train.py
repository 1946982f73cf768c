"""Whole runs: training, resuming, several processes, and what the command says."""

import json
import os
import socket
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch

import train as command
from common.checkpoint import CheckpointError, load_checkpoint
from dataset import load_data
from engine import train
from evaluation import evaluate, load_detector
from settings import PRESETS, Settings, make_settings

FOLDER = Path(command.__file__).parent


def tiny(folder, **changes) -> Settings:
    values = {"data": str(folder), "pretrained": False, "image_size": (72, 96), "batch_size": 2}
    values |= {"epochs": 2, "learning_rate": 1e-3, "num_queries": 8, "denoising": 4}
    return make_settings("street", **(values | changes))


def fitted(settings, data, folder=None, **options):
    return train(settings, data, folder, progress=False, **options)


def test_interrupted_run_ends_as_the_uninterrupted(scenes, tmp_path, stop_at):
    settings = tiny(scenes)
    data = load_data(settings, progress=False)
    whole = fitted(settings, data, tmp_path / "a")
    assert len(whole.history) == 2 * (len(data.train) // 2)
    for step in (1, 2, 3):
        with pytest.raises(KeyboardInterrupt):
            fitted(
                settings, data, tmp_path / "b", resume=True, checkpoint_every=1,
                after_step=stop_at(step),
            )  # fmt: skip
        torch.rand(7)  # whatever happens in between must not matter
    again = fitted(settings, data, tmp_path / "b", resume=True)
    assert (again.history, again.epochs) == (whole.history, whole.epochs)
    for one, other in zip(whole.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(one, other)
    found = [evaluate(run.load_best(), data.test, progress=False) for run in (whole, again)]
    assert found[0] == found[1]


def test_resume_refuses_other_settings(scenes, tmp_path):
    settings = tiny(scenes, epochs=1)
    data = load_data(settings, progress=False)
    fitted(settings, data, tmp_path)
    with pytest.raises(CheckpointError, match=r"last\.pt was made with denoising = 4, not 2"):
        fitted(replace(settings, denoising=2), data, tmp_path, resume=True)


def test_saved_detector_answers_the_same(scenes, tmp_path):
    settings = tiny(scenes, epochs=1)
    data = load_data(settings, progress=False)
    run = fitted(settings, data, tmp_path)
    model, class_names, stored = load_detector(tmp_path / "best.pt")
    assert (class_names, stored) == (data.class_names, settings)
    image = data.test[0][0][None].float() / 255
    with torch.no_grad():
        one, other = run.model.eval()(image), model(image)
    for name in ("logits", "boxes_cxcywh"):
        torch.testing.assert_close(one[name], other[name])


def test_the_best_epoch_is_chosen_on_validation_and_test_is_not_looked_at(scenes, tmp_path):
    class Closed:
        def __getitem__(self, index):
            raise AssertionError("the test pictures were looked at")

    settings = tiny(scenes)
    data = load_data(settings, progress=False)
    run = fitted(settings, replace(data, test=Closed()), tmp_path)
    scores = [one["metrics"]["bbox"]["AP"] for one in run.epochs]
    assert run.best == max(scores)
    best = load_checkpoint(tmp_path / "best.pt")["progress"]
    assert best["epoch"] == scores.index(max(scores))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"queries": "guessed"}, "queries is 'guessed'; allowed are selected, learned"),
        (
            {"queries": "learned", "denoising": 4},
            "denoising is 4, but learned queries have no boxes: .* be 0",
        ),
        ({"maps": 4}, "maps is 4; at most 3 is allowed"),
        ({"maps": 0}, "maps is 0; at least 1"),
        ({"denoising": -1}, "denoising is -1; at least 0"),
        ({"num_queries": 0}, "num_queries is 0; at least 1"),
        ({"num_queries": 81, "maps": 1}, "num_queries is 81; a picture .* has 80 places"),
        ({"image_size": (30, 100)}, r"image_size is \(30, 100\); at least 64 is allowed"),
    ],
)
def test_bad_settings(change, message):
    with pytest.raises(ValueError, match=message):
        make_settings("street", **change)


def test_as_many_queries_as_places():
    assert make_settings("street", num_queries=80, maps=1).num_queries == 80


def test_presets():
    with pytest.raises(ValueError, match="preset is 'huge'; allowed are street, photos, full"):
        make_settings("huge")
    assert make_settings(data="mine") == replace(PRESETS["photos"], data="mine")
    assert all(one.preset == name for name, one in PRESETS.items())


def test_help_shows_every_setting_with_its_presets(capsys):
    with pytest.raises(SystemExit):
        command.main(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    for field in fields(Settings):
        assert f"--{field.name.replace('_', '-')}" in text
    assert "labels that cannot be used (refuse)" in text
    assert "best places of the picture, or learned as in 2020 (selected)" in text


def tiny_command(scenes, out, *more):
    options = (
        *("--data", scenes, "--out", out, "--preset", "street", "--no-pretrained"),
        *("--image-size", 72, 96, "--batch-size", 2, "--epochs", 2, "--checkpoint-every", 1),
        *("--num-queries", 8, *more),
    )
    return [str(one) for one in options]


def test_the_command_leaves_what_it_says(scenes, tmp_path, capsys):
    assert command.main(tiny_command(scenes, tmp_path)) == 0
    assert {one.name for one in tmp_path.iterdir()} == {
        "best.pt", "last.pt", "losses.png", "metrics.json",
    }  # fmt: skip
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert set(metrics) == {"bbox", "per_class", "seconds"}
    assert set(metrics["per_class"]) == {"person", "car", "bicycle", "dog", "traffic light"}
    assert "pictures: 5 train, 1 validation, 2 test" in capsys.readouterr().out


@pytest.mark.slow
def test_two_processes_train_and_share_their_gradients(scenes, tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    launcher += ["--master-port", str(port), str(FOLDER / "train.py")]
    subprocess.run(
        [*launcher, *tiny_command(scenes, tmp_path)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=True,
    )
    found = load_checkpoint(tmp_path / "last.pt")["progress"]
    assert len(found["history"]) == 4 and found["epoch"] == 2


def test_command_says_what_is_wrong(scenes, tmp_path, capsys):
    assert (
        command.main(tiny_command(scenes, tmp_path, "--queries", "learned", "--denoising", "4"))
        == 2
    )
    assert "error: denoising is 4, but learned queries have no boxes" in capsys.readouterr().err
    assert command.main(tiny_command("/nowhere/at/all", tmp_path)) == 2
    assert "data '/nowhere/at/all': allowed are street, penn_fudan" in capsys.readouterr().err
