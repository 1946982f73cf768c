"""The loop and whole runs: steps by hand, resuming, killing, several processes, the commands."""

import json
import math
import os
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import predict
import train
from common.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from common.loading import SeededBatches, evaluation_loader, training_loader
from common.training import NonFiniteLossError, warmup_cosine
from engine import TrainingRun, make_optimizer, train_one_epoch
from evaluation import evaluate, load_model
from settings import PRESETS, Settings, choose_preset, make_settings
from splits import TrainingData, load_training_data

FOLDER = Path(train.__file__).parent


class PerPixel(nn.Module):
    """Logits (w * brightness, 0): gradients can be worked out by hand."""

    def __init__(self, bad_at=None):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(0.0))
        self.calls, self.bad_at, self.sizes = 0, bad_at, []

    def forward(self, images):
        self.calls += 1
        self.sizes.append(tuple(images.shape[-2:]))
        factor = math.nan if self.calls == self.bad_at else 1.0
        first = self.weight * images[:, :1] * factor
        return {"out": torch.cat([first, torch.zeros_like(first)], dim=1)}


def batches_of(count, size=(4, 6)):
    labels = torch.zeros(1, *size, dtype=torch.uint8)
    return [
        (torch.ones(1, 3, *size), {"labels": labels, "image_id": [k], "path": [f"p{k}.png"]})
        for k in range(count)
    ]


def test_steps_by_hand():
    model, seen = PerPixel(), []
    optimizer = torch.optim.SGD(model.parameters(), 1.0)
    losses = train_one_epoch(
        model,
        optimizer,
        batches_of(2),
        loss_weights={"cross_entropy": 2.0},
        after_step=lambda *x: seen.append(x),
        progress=False,
    )
    # loss 2 ln(1 + exp(-w)), gradient -2 / (1 + exp(w)): w = 0, then 1
    second = 1 + 2 / (1 + math.e)
    assert model.weight.item() == pytest.approx(second)
    assert [step for step, _ in seen] == [0, 1]
    assert seen[0][1] == pytest.approx({"loss": 2 * math.log(2), "loss_cross_entropy": math.log(2)})
    expected = math.log(2) + math.log(1 + math.exp(-1))
    assert losses["loss"] == pytest.approx(expected)


def test_non_finite_loss_names_step_and_pictures_and_changes_nothing():
    model = PerPixel(bad_at=2)
    optimizer = torch.optim.SGD(model.parameters(), 1.0)
    with pytest.raises(NonFiniteLossError, match=r"= nan in epoch 5, step 2.*p1\.png"):
        train_one_epoch(model, optimizer, batches_of(3), epoch=4, progress=False)
    before = model.weight.item()
    assert before > 0  # one step was taken, the second was not
    assert math.isfinite(before)


def test_no_batch():
    model = PerPixel()
    with pytest.raises(ValueError, match="no batch to train on"):
        train_one_epoch(model, torch.optim.SGD(model.parameters(), 1.0), [], progress=False)


def test_schedule_warms_up_and_goes_down():
    optimizer = torch.optim.SGD(PerPixel().parameters(), 1.0)
    schedule = warmup_cosine(optimizer, 10, 3)
    rates = []
    for _ in range(10):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    assert rates[:4] == pytest.approx([0.25, 0.5, 0.75, 1.0])
    assert rates[3:] == sorted(rates[3:], reverse=True)
    assert schedule.get_last_lr()[0] == pytest.approx(0, abs=1e-9)
    for warmup in (-1, 5):
        with pytest.raises(ValueError, match=rf"warmup_steps is {warmup}; allowed are 0 to 4"):
            warmup_cosine(optimizer, 5, warmup)


def test_evaluation_is_in_full_size_and_leaves_out_the_ignored(make_folder):
    data = load_training_data(make_settings("laptop", data=str(make_folder("color"))))
    model = PerPixel()
    nn.init.constant_(model.weight, 1.0)
    matrix = evaluate(model, evaluation_loader(data.test), 2, progress=False)
    assert matrix.counts.sum() == len(data.test) * (12 * 8 - 1)
    assert matrix.counts[:, 0].sum() == matrix.counts.sum()  # 0 or brighter: class 0


def test_step_is_no_slower_than_a_plain_loop():
    """The loop's own work beside forward, loss, backward and step; best of several rounds."""
    from models import unet

    images, labels = torch.rand(2, 3, 96, 96), torch.randint(0, 3, (2, 96, 96))
    batch = (images, {"labels": labels.to(torch.uint8), "image_id": [0, 1]})
    ours_model, plain_model = unet(3, (8, 16, 32)), unet(3, (8, 16, 32))
    ours_optimizer, plain_optimizer = (
        torch.optim.AdamW(m.parameters(), 1e-3) for m in (ours_model, plain_model)
    )

    def ours():
        train_one_epoch(
            ours_model,
            ours_optimizer,
            [batch] * 3,
            loss_weights={"cross_entropy": 1.0},
            progress=False,
        )

    def plain():
        for _ in range(3):
            loss = nn.functional.cross_entropy(plain_model(images)["out"], labels)
            plain_optimizer.zero_grad()
            loss.backward()
            plain_optimizer.step()
            loss.item()

    times = {ours: [], plain: []}
    for _ in range(8):
        for loop in times:
            start = time.process_time()
            loop()
            times[loop].append(time.process_time() - start)
    assert min(times[ours]) <= 1.15 * min(times[plain])  # the margin is for noise


def tiny(folder, **changes) -> Settings:
    values = {"data": str(folder), "model": "unet", "batch_size": 2, "epochs": 2}
    values |= {"num_workers": 0, "learning_rate": 1e-3}
    return make_settings("laptop", **(values | changes))


def results_of(run: TrainingRun) -> tuple:
    return run.history, run.epochs, run.test()


def fitted(run: TrainingRun) -> TrainingRun:
    run.fit()
    return run


def test_interrupted_run_ends_as_the_uninterrupted_at_every_step(scenes, tmp_path, stop_at):
    settings = tiny(scenes, epochs=4, photometric=0.5)
    data = load_training_data(settings, progress=False)
    expected = results_of(fitted(TrainingRun(settings, data, tmp_path / "a", progress=False)))
    assert len(expected[0]) == 4 * (len(data.train) // 2)

    for step in range(1, len(expected[0]) + 1):  # more than ten moments
        run = TrainingRun(settings, data, tmp_path / "b", progress=False)
        assert run.resume() == (step > 1)
        with pytest.raises(KeyboardInterrupt):
            run.fit(checkpoint_every=1, after_step=stop_at(step))
        torch.rand(7)  # whatever happens in between must not matter
    run = TrainingRun(settings, data, tmp_path / "b", progress=False)
    assert run.resume()
    assert results_of(fitted(run)) == expected


def test_resume_refuses_other_settings(scenes, tmp_path):
    settings = tiny(scenes, epochs=1)
    data = load_training_data(settings, progress=False)
    fitted(TrainingRun(settings, data, tmp_path, progress=False))
    other = TrainingRun(replace(settings, learning_rate=0.5), data, tmp_path, progress=False)
    with pytest.raises(CheckpointError, match=r"last\.pt was made with learning_rate = 0\.001"):
        other.resume()
    same = TrainingRun(replace(settings, num_workers=1), data, tmp_path, progress=False)
    assert same.resume()
    assert same.fit()[0]["epoch"] == 0


def test_run_without_folder_keeps_nothing_and_cannot_resume(scenes):
    settings = tiny(scenes, epochs=1, balance_classes=True)
    run = TrainingRun(settings, load_training_data(settings, progress=False), progress=False)
    fitted(run)
    assert run.class_weights.shape == (8,)
    assert set(run.test()) == {"mean_iou", "mean_dice", "pixel_accuracy", "per_class"}
    with pytest.raises(RuntimeError, match="give TrainingRun a folder"):
        run.resume()


@pytest.mark.parametrize("kind", ["index", "palette", "color"])
def test_folders_of_every_kind_train_without_a_code_change(make_folder, kind):
    settings = tiny(make_folder(kind, count=8), epochs=30, learning_rate=3e-3, half_size=False)
    run = TrainingRun(settings, load_training_data(settings, progress=False), progress=False)
    assert run.fit()[-1]["metrics"]["mean_iou"] > 0.9  # dark left, bright right


def test_pictures_of_several_sizes_need_a_crop(make_folder):
    folder = make_folder("index", count=4)
    for path in folder.glob("*/p?.png"):
        Image.open(path).crop((0, 0, 12 - int(path.stem[1]), 7)).save(path)
    settings = tiny(folder, batch_size=2)
    run = TrainingRun(settings, load_training_data(settings, progress=False), progress=False)
    with pytest.raises(ValueError, match="Give the training a crop size"):
        run.fit()
    cropped = replace(settings, crop_size=(16, 16), scale=(0.5, 2.0), epochs=1)
    assert fitted(TrainingRun(cropped, load_training_data(cropped), progress=False)).epochs


def test_saved_model_predicts_the_same(scenes, tmp_path):
    settings = tiny(scenes, epochs=1, model="smp_unet")
    data = load_training_data(settings, progress=False)
    run = fitted(TrainingRun(settings, data, tmp_path, progress=False))
    model, class_names, stored = load_model(tmp_path / "best.pt")
    assert (class_names, stored) == (data.class_names, settings)
    image = data.test[0][0]
    with torch.no_grad():
        ours, theirs = run.model.eval()(image[None]), model(image[None])
    assert torch.equal(ours["out"], theirs["out"])


def test_foreign_checkpoint_is_refused(tmp_path):
    path = save_checkpoint(tmp_path / "x.pt", nn.Linear(1, 1), settings={"a": 1})
    with pytest.raises(CheckpointError, match="checkpoint of another program"):
        load_model(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "segnet"}, "model is 'segnet'; allowed are unet, deeplabv3"),
        ({"unknown_labels": "drop"}, "unknown_labels is 'drop'; allowed are error, ignore"),
        ({"epochs": 0}, "epochs is 0; at least 1 is allowed"),
        ({"batch_size": 0}, "batch_size is 0; at least 1"),
        ({"num_scenes": -1}, "num_scenes is -1; at least 1"),
        ({"learning_rate": 0.0}, r"learning_rate is 0.0; it must be above 0"),
        ({"crop_size": (0, 5)}, r"crop_size is \(0, 5\); sides of 1 pixel or more"),
        ({"window": (5, -1)}, r"window is \(5, -1\); sides of 1 pixel"),
        ({"scale": (2.0, 1.0)}, r"scale is \(2.0, 1.0\); 0 < smallest <= largest"),
        ({"label_spacing": 0}, "label_spacing is 0; at least 1 is allowed"),
        ({"pretrained_rate": 0.0}, "pretrained_rate is 0.0; above 0 and up to 1"),
        ({"loss_weights": {"l2": 1.0}}, "the loss 'l2' is unknown"),
    ],
)
def test_bad_settings(change, message):
    with pytest.raises(ValueError, match=message):
        make_settings("laptop", **change)


def test_batch_of_one_is_refused_where_it_cannot_be_normalised(scenes):
    settings = tiny(scenes, model="smp_deeplabv3plus", batch_size=1)
    with pytest.raises(ValueError, match=r"batch_size is 1 for 1 process.* needs 2 pictures"):
        TrainingRun(settings, load_training_data(settings, progress=False), progress=False)


def test_presets(monkeypatch):
    with pytest.raises(ValueError, match="preset is 'huge'; allowed are laptop, full"):
        make_settings("huge")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_preset() == "full"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_preset() == "laptop"
    assert make_settings() == PRESETS["laptop"]
    for settings in PRESETS.values():
        assert Settings(**json.loads(json.dumps(settings.as_dict()))) == settings


def test_pretrained_layers_learn_slower():
    from models import build_model

    settings = make_settings("laptop", learning_rate=1.0, pretrained_rate=0.25)
    model = build_model("smp_unet", 3)
    *new, known = make_optimizer(model, settings).param_groups
    assert [group["lr"] for group in (*new, known)] == [1.0, 1.0, 0.25]
    encoder = {p for p in model.network.encoder.parameters() if p.requires_grad}
    assert set(known["params"]) == encoder
    trained = {p for p in model.parameters() if p.requires_grad}
    assert {p for group in new for p in group["params"]} == trained - encoder
    for one in (replace(settings, pretrained=False), replace(settings, model="unet")):
        model = build_model(one.model, 3, one.pretrained)
        groups = make_optimizer(model, one).param_groups
        assert {group["lr"] for group in groups} == {1.0}


def test_unknown_optimizer():
    with pytest.raises(ValueError, match="optimizer is 'lamb'; allowed are muon, adamw, sgd"):
        make_optimizer(nn.Linear(1, 1), make_settings("laptop", optimizer="lamb"))


def command(*arguments: str | Path, script: str = "train.py") -> list[str]:
    return [sys.executable, str(FOLDER / script), *map(str, arguments)]


def tiny_command(scenes: Path, out: Path, *more: str) -> list[str]:
    return command(
        *("--data", scenes, "--out", out, "--preset", "laptop", "--model", "unet"),
        *("--batch-size", 2, "--epochs", 2, "--workers", 0, "--checkpoint-every", 1, *more),
    )


def metrics_of(out: Path) -> dict:
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics.pop("seconds") > 0
    return metrics


@pytest.mark.full
def test_killed_run_ends_with_the_metrics_of_the_uninterrupted(scenes, tmp_path, kill_and_resume):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    longer = ("--epochs", "30")
    subprocess.run(tiny_command(scenes, whole, *longer), check=True, capture_output=True)
    assert {p.name for p in whole.iterdir()} == {
        "best.pt", "last.pt", "losses.png", "metrics.json",
    }  # fmt: skip
    kill_and_resume(tiny_command(scenes, killed, *longer), killed)
    assert metrics_of(killed) == metrics_of(whole)
    ends = [load_checkpoint(out / "last.pt")["progress"] for out in (killed, whole)]
    assert ends[0] == ends[1]


@pytest.mark.slow
def test_two_processes_train_as_one(scenes, tmp_path):
    """DDP's step is that of the mean loss over both halves of the batch; compute that by hand."""
    settings = tiny(scenes, epochs=1, optimizer="sgd")
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
    data = load_training_data(settings, progress=False)
    losses, model = by_hand(settings, data)
    assert len(losses) == 3
    assert [one["loss"] for one in found["progress"]["history"]] == pytest.approx(losses, rel=1e-4)
    for name, expected in model.named_parameters():
        torch.testing.assert_close(found["model"][name], expected.data, rtol=1e-4, atol=1e-5)
    assert set(metrics_of(tmp_path)["per_class"]) == set(data.class_names)


def by_hand(settings: Settings, data: TrainingData) -> tuple[list[float], nn.Module]:
    """Train in one process: each half's loss and batch statistics apart, gradients averaged."""
    from common.loading import mix_seed
    from losses import segmentation_losses
    from models import build_model

    torch.manual_seed(mix_seed(settings.seed))
    model = build_model("unet", len(data.class_names), half_size=True).train()
    optimizer = make_optimizer(model, settings)
    batches = [SeededBatches(len(data.train), 2, settings.seed, rank, 2) for rank in range(2)]
    steps = len(batches[0])
    warmup = min(round(settings.warmup_fraction * steps), steps - 1)
    schedule = warmup_cosine(optimizer, steps, warmup)
    losses = []
    loaders = [training_loader(data.train, one, 0) for one in batches]
    for halves in zip(*loaders, strict=True):
        optimizer.zero_grad()
        losses.append(0.0)
        for images, targets in halves:
            logits = model(images, settings.label_spacing)["out"]
            loss = sum(
                segmentation_losses(logits, targets["labels"], settings.loss_weights).values()
            )
            (loss / 2).backward()
            losses[-1] += loss.item() / 2
        nn.utils.clip_grad_norm_(model.parameters(), settings.max_gradient_norm)
        optimizer.step()
        schedule.step()
    return losses, model


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--epochs", "0"], "error: epochs is 0"),
        (["--data", "/nowhere/at/all"], "error: the folder /nowhere/at/all does not exist"),
        (["--batch-size", "50"], "error: batch_size is 50; allowed are 1 to"),
        (["--data", "penn_fudan"], "use --preset laptop"),
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


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    from models import build_model

    torch.manual_seed(0)
    settings = make_settings("laptop", model="unet", window=(16, 20))
    stored = {**settings.as_dict(), "class_names": ["ground", "thing", "sky"]}
    path = tmp_path_factory.mktemp("checkpoint") / "best.pt"
    return save_checkpoint(path, build_model("unet", 3), settings=stored)


def photo(path: Path, size=(30, 21)) -> Path:
    generator = np.random.default_rng(1)
    Image.fromarray(generator.integers(0, 256, (*size[::-1], 3), dtype=np.uint8)).save(path)
    return path


def test_predict_writes_label_maps_overlays_and_json(checkpoint, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    originals = {photo(folder / name): None for name in ("a.png", "b.bmp")}
    originals = {path: path.read_bytes() for path in originals}
    (folder / "c.jpg").write_text("no photo")
    out, found = tmp_path / "out", tmp_path / "new" / "found.json"
    arguments = [str(folder), "--checkpoint", str(checkpoint)]
    assert predict.main([*arguments, "--out", str(out), "--json", str(found)]) == 1
    assert {path.name for path in out.iterdir()} == {
        f"{name}.{kind}.png" for name in ("a.png", "b.bmp") for kind in ("overlay", "labels")
    }
    entries = json.loads(found.read_text())
    assert [Path(one["file"]).name for one in entries] == ["a.png", "b.bmp"]
    for entry in entries:
        labels = np.array(Image.open(out / f"{Path(entry['file']).name}.labels.png"))
        assert labels.shape == (21, 30) == (entry["height"], entry["width"])
        counts = {one["label"]: one["pixels"] for one in entry["classes"]}
        assert counts == {k: (labels == k).sum() for k in np.unique(labels).tolist()}
        assert sum(one["share"] for one in entry["classes"]) == pytest.approx(1)
        assert {one["class_name"] for one in entry["classes"]} <= {"ground", "thing", "sky"}
    assert all(path.read_bytes() == content for path, content in originals.items())


def test_predict_prints_and_takes_any_size(checkpoint, tmp_path, capsys):
    path = photo(tmp_path / "one.png", (1, 1))
    assert predict.main([str(path), "--checkpoint", str(checkpoint)]) == 0
    entry = json.loads(capsys.readouterr().out)[0]
    assert (entry["width"], entry["classes"][0]["pixels"]) == (1, 1)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("missing/*.jpg", "no file fits this pattern"),
        ("empty", "this folder holds no file that ends in"),
        ("twice/**/*.png", "another photo of"),
    ],
)
def test_predict_without_photos(checkpoint, tmp_path, capsys, source, message):
    (tmp_path / "empty").mkdir()
    for name in ("a", "b"):
        (tmp_path / "twice" / name).mkdir(parents=True)
        photo(tmp_path / "twice" / name / "same.png")
    assert predict.main([str(tmp_path / source), "--checkpoint", str(checkpoint)]) == 2
    assert message in capsys.readouterr().err


def test_predict_refuses_bad_options(checkpoint, tmp_path, capsys):
    path = photo(tmp_path / "one.png")
    for option, message in (
        (["--overlap", "1"], "allowed are 0 to below 1"),
        (["--window", "0", "5"], "both sides have to be at least 1 pixel"),
    ):
        with pytest.raises(SystemExit) as exit_info:
            predict.main([str(path), "--checkpoint", str(checkpoint), *option])
        assert exit_info.value.code == 2
        assert message in capsys.readouterr().err
    assert predict.main([str(path), "--checkpoint", str(tmp_path / "no.pt")]) == 2
    assert "there is no checkpoint" in capsys.readouterr().err
