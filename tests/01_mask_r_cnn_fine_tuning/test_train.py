"""Whole runs: training, resuming, killing, several processes, predicting."""

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
from common.loading import fit_batch, mix_seed, training_loader
from common.processes import Processes
from common.training import make_optimizer, warmup_cosine
from dataset import DetectionData, load_data
from engine import train
from evaluation import evaluate
from model import build_model, load_detector
from settings import PRESETS, Settings, choose_preset, make_settings

FOLDER = Path(command.__file__).parent


def tiny(folder, **changes) -> Settings:
    values = {"data": str(folder), "pretrained": False, "image_size": (72, 96), "batch_size": 2}
    values |= {"epochs": 2, "workers": 0, "learning_rate": 1e-3}
    return make_settings("street", **(values | changes))


def fitted(settings: Settings, data: DetectionData, folder: Path | None = None, **options):
    return train(settings, data, folder, progress=False, **options)


def test_interrupted_run_ends_as_the_uninterrupted(scenes, tmp_path, stop_at):
    settings = tiny(scenes)
    data = load_data(settings)
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
    found = [evaluate(run.load_best(), data.test, progress=False) for run in (whole, again)]
    assert found[0] == found[1]


def test_resume_refuses_other_settings(scenes, tmp_path):
    settings = tiny(scenes, epochs=1)
    data = load_data(settings)
    fitted(settings, data, tmp_path)
    with pytest.raises(
        CheckpointError, match=r"last\.pt was made with learning_rate = 0\.001, not 0\.5"
    ):
        fitted(replace(settings, learning_rate=0.5), data, tmp_path, resume=True)
    same = fitted(replace(settings, workers=1), data, tmp_path, resume=True)
    assert [one["epoch"] for one in same.epochs] == [0]


def test_run_without_folder_keeps_nothing_and_cannot_resume(scenes):
    settings = tiny(scenes, epochs=1)
    data = load_data(settings)
    run = fitted(settings, data)
    assert set(evaluate(run.load_best(), data.test)) == {"bbox", "segm", "per_class"}
    with pytest.raises(RuntimeError, match="give it a folder"):
        run.resume()


def test_saved_detector_predicts_the_same(scenes, tmp_path):
    settings = tiny(scenes, epochs=1)
    data = load_data(settings)
    run = fitted(settings, data, tmp_path)
    model, class_names, stored = load_detector(tmp_path / "best.pt")
    assert (class_names, stored) == (("pedestrian",), settings)
    image = data.test[0][0]
    with torch.no_grad():
        one, other = run.model.eval()([image])[0], model([image])[0]
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_the_best_epoch_is_chosen_on_validation_and_test_is_not_looked_at(scenes, tmp_path):
    class Closed:
        def __getitem__(self, index):
            raise AssertionError("the test pictures were looked at")

    settings = tiny(scenes)
    data = load_data(settings)
    run = fitted(settings, replace(data, test=Closed()), tmp_path)
    scores = [one["metrics"]["segm"]["AP"] for one in run.epochs]
    assert run.best == max(scores)
    best = load_checkpoint(tmp_path / "best.pt")["progress"]
    assert best["epoch"] == scores.index(max(scores))
    parts = [{one.image_id for one in part.labels.images} for part in
             (data.train, data.validation, data.test)]  # fmt: skip
    assert [len(part) for part in parts] == [5, 1, 2]
    assert len(set.union(*parts)) == 8


def test_foreign_checkpoint_is_refused(tmp_path):
    from common.checkpoint import save_checkpoint

    path = save_checkpoint(tmp_path / "x.pt", torch.nn.Linear(1, 1), settings={"class_names": []})
    assert load_checkpoint(path)
    path = save_checkpoint(tmp_path / "x.pt", torch.nn.Linear(1, 1), settings={"a": 1})
    with pytest.raises(CheckpointError, match="checkpoint of another program"):
        load_detector(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": "pixels"}, "task is 'pixels'; allowed are masks, boxes"),
        ({"epochs": 0}, "epochs is 0; at least 1 is allowed"),
        ({"batch_size": 0}, "batch_size is 0; at least 1"),
        ({"num_scenes": -1}, "num_scenes is -1; at least 1"),
        ({"learning_rate": 0.0}, r"learning_rate is 0.0; it must be above 0"),
        ({"backbone_rate": 1.5}, r"backbone_rate is 1.5; at most 1 is allowed"),
        ({"image_size": (0, 100)}, r"image_size is \(0, 100\); at least 32 is allowed"),
        ({"on_invalid": "keep"}, "on_invalid is 'keep'; allowed are refuse, drop"),
    ],
)
def test_bad_settings(change, message):
    with pytest.raises(ValueError, match=message):
        make_settings("street", **change)


def test_presets(monkeypatch):
    with pytest.raises(ValueError, match="preset is 'huge'; allowed are street, photos, full"):
        make_settings("huge")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_preset() == "full"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert (choose_preset(), choose_preset("street")) == ("street", "street")
    assert (choose_preset("penn_fudan"), choose_preset("mine")) == ("photos", "photos")
    assert make_settings() == PRESETS["street"]
    assert make_settings(data="mine") == replace(PRESETS["photos"], data="mine")
    assert all(one.preset == name for name, one in PRESETS.items())


def test_help_shows_every_setting_with_its_presets(capsys):
    with pytest.raises(SystemExit):
        command.main(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    for field in fields(Settings):
        assert f"--{field.name.replace('_', '-')}" in text
    assert "passes over the training pictures (street 1, photos 14, full 10)" in text
    assert "labels that cannot be used (refuse)" in text


def program(*arguments: str | Path, script: str = "train.py") -> list[str]:
    return [sys.executable, str(FOLDER / script), *map(str, arguments)]


def tiny_command(scenes: Path, out: Path, *more: str) -> list[str]:
    return program(
        *("--data", scenes, "--out", out, "--preset", "street", "--no-pretrained"),
        *("--image-size", 72, 96, "--batch-size", 2, "--epochs", 2, "--workers", 0),
        *("--checkpoint-every", 1, *more),
    )


def metrics_of(out: Path) -> dict:
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics.pop("seconds") > 0
    return metrics


@pytest.mark.full
def test_killed_runs_end_with_the_metrics_of_the_uninterrupted(scenes, tmp_path, kill_and_resume):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    longer = ("--epochs", "30")
    subprocess.run(tiny_command(scenes, whole, *longer), check=True, capture_output=True)
    assert {p.name for p in whole.iterdir()} == {
        "best.pt", "last.pt", "losses.png", "metrics.json",
    }  # fmt: skip
    kill_and_resume(tiny_command(scenes, killed, *longer), killed)
    assert metrics_of(killed) == metrics_of(whole)
    ends = [load_checkpoint(out / "last.pt") for out in (killed, whole)]
    for end in ends:
        assert end["progress"].pop("seconds") > 0
    assert ends[0]["progress"] == ends[1]["progress"]
    for name, weight in ends[0]["model"].items():
        assert torch.equal(weight, ends[1]["model"][name])


@pytest.mark.slow
def test_two_processes_train_as_one(scenes, tmp_path):
    """DDP's step is that of the mean loss over both halves of the batch; compute that by hand."""
    settings = tiny(scenes, epochs=1, task="boxes", optimizer="sgd")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    arguments = tiny_command(scenes, tmp_path, "--task", "boxes")[1:]
    # SGD's steps follow the gradient; AdamW's first ones follow its sign, rounding errors and all
    arguments += ["--epochs", "1", "--learning-rate", "0.001", "--optimizer", "sgd"]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    subprocess.run(
        [*launcher, "--master-port", str(port), *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=True,
    )
    found = load_checkpoint(tmp_path / "last.pt")
    # As many threads as the two processes have: a sum in another order may exchange two proposals
    # of nearly the same score, and with them the sample that the loss is computed on.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        losses, model = by_hand(settings, load_data(settings))
    finally:
        torch.set_num_threads(threads)
    assert len(losses) == 2
    assert [one["loss"] for one in found["progress"]["history"]] == pytest.approx(losses, rel=1e-4)
    for name, expected in model.state_dict().items():
        torch.testing.assert_close(found["model"][name], expected, rtol=1e-4, atol=1e-5)
    assert set(metrics_of(tmp_path)) == {"bbox", "per_class"}


def by_hand(settings: Settings, data: DetectionData) -> tuple[list[float], torch.nn.Module]:
    """Train in one process: each half's loss drawn with its rank's seed, gradients averaged."""
    torch.manual_seed(mix_seed(settings.seed))
    model = build_model(settings, len(data.class_names) + 1).train()
    optimizer = make_optimizer(model, "sgd", settings.learning_rate, settings.weight_decay)
    cpu = torch.device("cpu")
    loaders = [training_loader(data.train, 2, settings.seed, 0, Processes(cpu, rank, 2))
               for rank in range(2)]  # fmt: skip
    schedule = warmup_cosine(optimizer, len(loaders[0]), settings.warmup)
    losses = []
    for step, halves in enumerate(zip(*loaders, strict=True)):
        optimizer.zero_grad()
        losses.append(0.0)
        for rank, (images, targets) in enumerate(halves):
            torch.manual_seed(mix_seed(settings.seed, 0, step, rank))
            loss = sum(model(images, targets).values())
            (loss / 2).backward()
            losses[-1] += loss.item() / 2
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings.max_gradient_norm)
        optimizer.step()
        schedule.step()
    return losses, model


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--epochs", "0"], "error: epochs is 0"),
        (
            ["--data", "/nowhere/at/all"],
            "error: data '/nowhere/at/all': allowed are street, penn_fudan or a path",
        ),
        (["--batch-size", "50"], "error: batch_size is 50; allowed are 1 to"),
    ],
)
def test_command_says_what_is_wrong(scenes, tmp_path, capsys, arguments, message):
    base = ["--data", str(scenes), "--out", str(tmp_path / "out"), "--preset", "street"]
    base += ["--no-pretrained", "--image-size", "72", "96"]
    assert command.main([*base, *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_preset_s_batch_is_made_smaller_for_few_pictures(scenes, tmp_path, monkeypatch, capsys):
    settings = make_settings("street", batch_size=8)
    two = Processes(torch.device("cpu"), 0, 2)
    assert fit_batch(settings, 5).batch_size == 5
    assert fit_batch(settings, 5, two).batch_size == 4
    assert fit_batch(settings, 8) is settings
    assert capsys.readouterr().out.splitlines() == [
        f"batches of {count} pictures instead of 8: there are no more" for count in (5, 4)
    ]
    monkeypatch.setitem(PRESETS, "street", replace(tiny(scenes), epochs=1, batch_size=50))
    out = tmp_path / "out"
    assert command.main(["--data", str(scenes), "--out", str(out), "--preset", "street"]) == 0
    assert "pictures instead of 50: there are no more" in capsys.readouterr().out
    assert (out / "metrics.json").is_file()


def test_command_refuses_unknown_choices(capsys):
    with pytest.raises(SystemExit) as exit_info:
        command.main(["--out", "x", "--task", "pixels"])
    assert exit_info.value.code == 2
    assert "invalid choice: 'pixels'" in capsys.readouterr().err


def test_penn_fudan_without_network_names_the_other_preset(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DETECTION_SEGMENTATION_CACHE", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nothing listens there
    assert command.main(["--preset", "full", "--out", str(tmp_path / "out")]) == 2
    assert "use --preset street" in capsys.readouterr().err
