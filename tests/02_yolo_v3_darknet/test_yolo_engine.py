"""The parts of a run: settings, weights to start from, sizes, precision."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import train
from common.precision import autocast, choose_precision, gradient_scaler
from common.training import make_optimizer, warmup_cosine
from darknet import pretrained as start_weights
from darknet.download import DownloadError
from darknet.make_cfg import make_cfg
from darknet.network import Darknet, DarknetFileError
from darknet.pretrained import base_cfg, output_layers, start
from engine import LAST_RATE, STEPS_PER_SIZE, size_of_step, to_input
from losses import YoloLoss
from settings import PRESETS, Settings, make_settings

MINI = """[net]
width=64
height=64
channels=3
[convolutional]
batch_normalize=1
filters=64
size=3
stride=2
pad=1
activation=leaky
[convolutional]
batch_normalize=1
filters=64
size=3
stride=1
pad=1
activation=leaky
[maxpool]
size=2
stride=2
[convolutional]
size=1
stride=1
pad=1
filters=21
activation=linear
[yolo]
mask=0,1,2
anchors=8,8, 16,16, 32,32
classes=2
num=3
"""


@pytest.fixture
def mini(tmp_path: Path) -> Darknet:
    path = tmp_path / "mini.cfg"
    path.write_text(MINI)
    torch.manual_seed(0)
    return Darknet(path)


def test_learning_rate_rises_and_falls() -> None:
    optimizer = torch.optim.AdamW([nn.Parameter(torch.zeros(1))], 1.0)
    schedule = warmup_cosine(optimizer, 100, 0.09, LAST_RATE)
    rates = []
    for _ in range(101):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert np.allclose(rates[:10], np.arange(1, 11) / 10)
    assert rates[9] == max(rates) and np.all(np.diff(rates[9:]) < 0)
    assert rates[100] == pytest.approx(0.01)


def test_optimizer_decays_kernels_only(mini: Darknet) -> None:
    kernels, others = make_optimizer(mini, "adamw", 1e-3, 0.1).param_groups
    assert (kernels["weight_decay"], others["weight_decay"]) == (0.1, 0.0)
    assert all(p.ndim == 4 for p in kernels["params"]) and len(kernels["params"]) == 3
    assert len(others["params"]) == 5


def test_input_is_scaled_and_channels_last() -> None:
    random = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8, generator=random)
    x = to_input(images, torch.device("cpu"), (64, 96))
    assert x.dtype == torch.float32 and x.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(x, images.float() / 255)
    small = to_input(images, torch.device("cpu"), (32, 48))
    assert small.shape == (2, 3, 32, 48) and small.is_contiguous(memory_format=torch.channels_last)
    assert torch.allclose(small, nn.functional.avg_pool2d(x, 2), atol=1e-6)  # halved: the means


def test_several_sizes_change_every_ten_steps() -> None:
    settings = Settings(size=96, multi_scale=True)
    sizes = [size_of_step(settings, epoch, step) for epoch in range(4) for step in range(100)]
    assert set(sizes) == {(64, 64), (96, 96), (128, 128)}
    changes = [k for k in range(1, 400) if sizes[k] != sizes[k - 1]]
    assert len(changes) > 10 and all(k % STEPS_PER_SIZE == 0 for k in changes)
    assert size_of_step(Settings(size=96), 3, 5) == (96, 96)


def test_precision() -> None:
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert choose_precision("auto", cpu) == "fp32" and choose_precision("auto", cuda) == "fp16"
    assert choose_precision("bf16", cpu) == "bf16"
    with pytest.raises(ValueError, match="fp16 needs a CUDA GPU"):
        choose_precision("fp16", cpu)
    with pytest.raises(ValueError, match="precision is 'half'; allowed are auto, fp32, fp16, bf16"):
        choose_precision("half", cpu)
    for words in ("fp32", "bf16"):
        assert not gradient_scaler(cpu, words).is_enabled()
    with autocast(cpu, "bf16"):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("epochs", 0, "epochs is 0; at least 1 is allowed"),
        ("batch_size", -1, "batch_size is -1"),
        ("num_scenes", 0, "num_scenes is 0"),
        ("size", 100, "size must be a multiple of 32, from 32 to 2048, got 100"),
        ("size", 4096, "from 32 to 2048, got 4096"),
        ("size", (288, 380), "multiple of 32, from 32 to 2048, got 380"),
        ("test_size", 330, "multiple of 32, from 32 to 2048, got 330"),
        ("learning_rate", 0.0, "learning_rate is 0.0; it must be above 0"),
        ("learning_rate", math.nan, "learning_rate is nan"),
        ("max_gradient_norm", -1.0, "max_gradient_norm is -1.0"),
        ("warmup", 1.0, "warmup is 1.0; at most 0.9 is allowed"),
        ("mosaic", 1.5, "mosaic is 1.5; at most 1 is allowed"),
        ("flip", -0.1, "flip is -0.1"),
        ("flip_vertical", 2.0, "flip_vertical is 2.0; at most 1 is allowed"),
        ("weight_decay", -1.0, "weight_decay is -1.0; at least 0 is allowed"),
        ("scale", math.inf, "scale is inf"),
        ("positive_iou", 1.5, "positive_iou is 1.5; at most 1 is allowed"),
        ("seed", -1, "seed is -1"),
        ("workers", -1, "workers is -1"),
        ("evaluate_every", -1, "evaluate_every is -1"),
        ("on_invalid", "keep", "on_invalid is 'keep'; allowed are refuse, drop"),
        ("anchors", "mine", "anchors is 'mine'; allowed are fit, base"),
        ("box_loss", "iou", "box_loss is 'iou'; allowed are darknet, ciou"),
        ("optimizer", "lamb", "optimizer is 'lamb'; allowed are adamw, sgd"),
        ("precision", "fp8", "precision is 'fp8'"),
    ],
)
def test_settings_that_are_not_allowed(name: str, value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_settings("street", **{name: value})


def test_settings_derive_the_rest() -> None:
    settings = Settings(size=96, multi_scale=True, epochs=8)
    assert settings.sizes == ((64, 64), (96, 96), (128, 128))
    assert Settings(size=96).sizes == ((96, 96),) and Settings(size=[96, 128]).size == (96, 128)
    assert Settings(size=96).final_size == 96
    assert Settings(size=96, test_size=[96, 128]).final_size == (96, 128)
    wide = Settings(size=(96, 192), multi_scale=True)
    assert wide.sizes == ((64, 128), (64, 160), (96, 192), (128, 224), (128, 256))
    assert [e for e in range(8) if settings.is_measured(e)] == [1, 3, 5, 7]
    assert Settings(epochs=1).is_measured(0)
    every_third = Settings(epochs=5, evaluate_every=3)
    assert [e for e in range(5) if every_third.is_measured(e)] == [2, 4]


def test_presets(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="preset is 'huge'; allowed are street, photos, full"):
        make_settings("huge")
    for gpu, data, wanted in (
        (True, None, "full"),
        (False, None, "street"),
        (False, "street", "street"),
        (False, "penn_fudan", "photos"),
    ):
        monkeypatch.setattr(torch.cuda, "is_available", lambda gpu=gpu: gpu)
        changes = {} if data is None else {"data": data}
        assert make_settings(**changes) == PRESETS[wanted]


def test_the_published_loss_is_the_default_of_the_command(mini: Darknet) -> None:
    given = train.parse_options(["--out", "x"])
    assert (given.box_loss, given.positive_iou) == (None, None)  # the presets' own are left
    for settings in PRESETS.values():
        assert (settings.box_loss, settings.positive_iou) == ("darknet", None)
    assert not hasattr(given, "neighbours")
    loss = YoloLoss(mini)
    assert (loss.box_loss, loss.positive_iou) == ("darknet", None)


def make_pair(tmp_path: Path, classes: int = 3) -> tuple[Path, Darknet]:
    """A base cfg and the network for other classes that is made from it."""
    base = tmp_path / "base.cfg"
    base.write_text(MINI)
    cfg = tmp_path / "own.cfg"
    cfg.write_text(make_cfg(base, classes))
    return base, Darknet(cfg)


def test_start_copies_all_but_the_outputs(tmp_path: Path, randomize) -> None:
    base, model = make_pair(tmp_path)
    source = randomize(Darknet(base), seed=4)
    source.save_weights(tmp_path / "base.weights")
    text = start(model, str(base), str(tmp_path / "base.weights"))
    assert text == "start: 2 of 3 convolutions from base.weights, the outputs random"
    assert output_layers(model) == {3}
    for index in (0, 1):
        for name, value in model.stages[index].state_dict().items():
            assert torch.equal(value, source.stages[index].state_dict()[name]), (index, name)
    assert model.stages[3].conv.weight.shape[0] == 24
    assert model.stages[3].conv.bias.view(3, 8)[:, 4].max() < 0, "few objects are expected"


def test_start_from_a_partial_file_and_from_its_own(tmp_path: Path, randomize) -> None:
    base, model = make_pair(tmp_path)
    source = randomize(Darknet(base), seed=4)
    source.save_weights(tmp_path / "part.weights", layers=1)
    text = start(model, str(base), str(tmp_path / "part.weights"))
    assert text == "start: 1 of 3 convolutions from part.weights, the outputs random"
    randomize(model, seed=5).save_weights(tmp_path / "own.weights")
    other = Darknet(model.cfg_path)
    assert start(other, str(base), str(tmp_path / "own.weights")) == (
        "start: all layers from own.weights"
    )
    for name, value in other.state_dict().items():
        if "num_batches" not in name:
            assert torch.equal(value, model.state_dict()[name]), name


def test_start_errors_and_random_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base, model = make_pair(tmp_path)
    assert start(model, str(base), "none") == "start: random weights, as asked for"
    assert "RANDOM weights, since no trained ones are known" in start(model, str(base), "auto")
    (tmp_path / "bad.weights").write_bytes(b"<html> not a weights file </html>")
    with pytest.raises(DarknetFileError, match="bad.weights: this is a web page"):
        start(model, str(base), str(tmp_path / "bad.weights"))
    with pytest.raises(ValueError, match="base is 'yolov9'; allowed are yolov3-tiny, yolov3"):
        base_cfg("yolov9")

    def refuse(name: str) -> Path:
        raise DownloadError(f"{name}: no network")

    monkeypatch.setattr(start_weights, "fetch", refuse)
    text = start(model, "yolov3-tiny", "auto")
    assert text.startswith("start: RANDOM weights, since yolov3-tiny.weights cannot be had")
    assert "no network" in text and "--pretrained FILE" in text


def test_layers_of_another_network_are_refused(tmp_path: Path, randomize) -> None:
    _, model = make_pair(tmp_path)
    wide = tmp_path / "wide.cfg"
    wide.write_text(MINI.replace("filters=64", "filters=32"))
    randomize(Darknet(wide)).save_weights(tmp_path / "wide.weights")
    with pytest.raises(DarknetFileError, match="layer 0 of .*own.cfg is not that of .*wide.cfg"):
        start(model, str(wide), str(tmp_path / "wide.weights"))
