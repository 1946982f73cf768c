"""One training step: fast convolutions, averaged weights, learning rate, precision, errors."""

import math
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from batches.loading import Batch
from common.averaged_weights import AveragedWeights
from common.precision import autocast, choose_precision, gradient_scaler
from common.training import NonFiniteLossError, warmup_cosine
from darknet import pretrained as start_weights
from darknet.network import Darknet, DarknetFileError
from darknet.pretrained import base_cfg, output_layers, start
from download import DownloadError
from engine import LAST_RATE, make_optimizer, to_input, training_step
from losses import YoloLoss
from make_cfg import make_cfg
from settings import YoloSettings
from speed.winograd_training import TrainingConvolution, WinogradProduct, suits, use_winograd

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


def make_batch(seed: int = 0) -> Batch:
    random = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8, generator=random)
    targets = torch.tensor([[0, 1, 0.5, 0.5, 0.25, 0.25], [1, 0, 0.3, 0.7, 0.4, 0.2]])
    return Batch(images.permute(0, 3, 1, 2), targets, ("one.jpg", "two.jpg"))


@pytest.mark.parametrize("tile", [2, 4])
@pytest.mark.parametrize("shape", [(2, 5, 8, 8), (1, 3, 7, 10), (3, 4, 1, 5)])
def test_winograd_has_the_gradients_of_a_convolution(tile: int, shape: tuple[int, ...]) -> None:
    random = torch.Generator().manual_seed(1)
    x = torch.randn(shape, generator=random).contiguous(memory_format=torch.channels_last)
    kernels = torch.randn(6, shape[1], 3, 3, generator=random)
    wanted = torch.randn(shape[0], 6, *shape[2:], generator=random)
    results = []
    for call in (
        lambda a, k: F.conv2d(a, k, padding=1),
        lambda a, k: WinogradProduct.apply(a, k, tile),
    ):
        a, k = (one.clone().requires_grad_() for one in (x, kernels))
        y = call(a, k)
        y.backward(wanted)
        results.append((y.detach(), a.grad, k.grad))
    for reference, ours in zip(*results, strict=True):
        assert ours.shape == reference.shape
        assert (ours - reference).abs().max() <= 3e-5 * reference.abs().max()


def test_network_with_winograd_is_the_same_network(mini: Darknet) -> None:
    x = torch.rand(2, 3, 64, 64)
    state = {name: value.clone() for name, value in mini.state_dict().items()}
    mini.train()
    plain = mini(x)[0]
    plain.square().mean().backward()
    gradients = {name: p.grad.clone() for name, p in mini.named_parameters()}
    mini.load_state_dict(state)
    assert use_winograd(mini) == 1, "the second convolution; the first has stride 2"
    assert list(mini.state_dict()) == list(state)
    mini.zero_grad()
    fast = mini(x)[0]
    fast.square().mean().backward()
    assert isinstance(mini.stages[1].conv, TrainingConvolution)
    assert (fast - plain).abs().max() <= 1e-4 * plain.abs().max()
    for name, p in mini.named_parameters():
        assert (p.grad - gradients[name]).abs().max() <= 1e-3 * gradients[name].abs().max(), name
    with torch.no_grad():
        mini.eval()
        mini(x.double()[:, :, :32, :32].float())


def test_what_suits_winograd() -> None:
    assert suits(nn.Conv2d(64, 64, 3, padding=1, bias=False))
    for options in ({"stride": 2}, {"bias": True}, {"padding": 0}, {"groups": 2}):
        assert not suits(nn.Conv2d(64, 64, 3, **{"padding": 1, "bias": False, **options}))
    assert not suits(nn.Conv2d(32, 64, 3, padding=1, bias=False))
    assert not suits(nn.Conv2d(64, 64, 1, bias=False))


def test_average_follows_its_formula(mini: Darknet) -> None:
    average = AveragedWeights(mini, decay=0.9, ramp=2.0)
    bias = mini.stages[3].conv.bias
    with torch.no_grad():
        bias.fill_(0.0)
    average = AveragedWeights(mini, decay=0.9, ramp=2.0)
    wanted = 0.0
    for step, value in enumerate((1.0, 5.0, -2.0), start=1):
        with torch.no_grad():
            bias.fill_(value)
        average.update(mini)
        decay = 0.9 * (1 - math.exp(-step / 2))
        wanted = decay * wanted + (1 - decay) * value
    copy = Darknet(mini.cfg_path)
    average.copy_to(copy)
    assert torch.allclose(copy.stages[3].conv.bias, torch.tensor(wanted))
    assert bias[0] == -2.0, "the trained weights stay"
    other = AveragedWeights(mini, 0.9, 2.0)
    other.load_state_dict(average.state_dict())
    assert other.steps == 3
    other.copy_to(copy)
    assert torch.allclose(copy.stages[3].conv.bias, torch.tensor(wanted))


def test_average_includes_batch_norm_statistics(mini: Darknet) -> None:
    average = AveragedWeights(mini, decay=0.0)
    mini.stages[0].norm.running_mean.fill_(3.0)
    average.update(mini)
    copy = Darknet(mini.cfg_path)
    average.copy_to(copy)
    assert (copy.stages[0].norm.running_mean == 3).all()


def test_learning_rate_rises_and_falls() -> None:
    optimizer = torch.optim.AdamW([nn.Parameter(torch.zeros(1))], 1.0)
    schedule = warmup_cosine(optimizer, 100, 9, LAST_RATE)
    rates = []
    for _ in range(101):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert np.allclose(rates[:10], np.arange(1, 11) / 10)
    assert rates[9] == max(rates) and np.all(np.diff(rates[9:]) < 0)
    assert rates[100] == pytest.approx(0.01)
    with pytest.raises(ValueError, match="warmup_steps is 5; allowed are 0 to 4"):
        warmup_cosine(optimizer, 5, 5)


def test_optimizer_decays_kernels_only(mini: Darknet) -> None:
    kernels, others = make_optimizer(mini, 1e-3, 0.1).param_groups
    assert (kernels["weight_decay"], others["weight_decay"]) == (0.1, 0.0)
    assert all(p.ndim == 4 for p in kernels["params"]) and len(kernels["params"]) == 3
    assert len(others["params"]) == 5


def test_steps_lower_the_loss(mini: Darknet) -> None:
    mini.train()
    loss, optimizer = YoloLoss(mini), make_optimizer(mini, 1e-2, 0.0)
    batch = make_batch()
    values = [training_step(mini, loss, optimizer, batch) for _ in range(15)]
    assert set(values[0]) == {"loss", "box", "objectness", "class"}
    first = values[0]
    assert first["loss"] == pytest.approx(first["box"] + first["objectness"] + first["class"])
    assert values[-1]["loss"] < 0.3 * first["loss"]


def test_long_gradients_are_shortened(mini: Darknet) -> None:
    mini.train()
    loss, optimizer = YoloLoss(mini), torch.optim.SGD(mini.parameters(), 1.0)
    before = [p.detach().clone() for p in mini.parameters()]
    training_step(mini, loss, optimizer, make_batch(), max_gradient_norm=0.01)
    moved = [(p - b).detach().flatten() for p, b in zip(mini.parameters(), before, strict=True)]
    assert torch.cat(moved).norm() == pytest.approx(0.01, rel=1e-3)


def test_input_is_scaled_and_channels_last() -> None:
    batch = make_batch()
    x = to_input(batch.images, torch.device("cpu"))
    assert x.dtype == torch.float32 and x.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(x, batch.images.float() / 255)


@pytest.mark.parametrize(("term", "layer"), [("objectness", 4), ("box", 2), ("class", 5)])
def test_non_finite_loss_names_term_and_photos(mini: Darknet, term: str, layer: int) -> None:
    mini.train()
    with torch.no_grad():
        mini.stages[3].conv.bias.view(3, 7)[:, layer] = float("nan")
    before = {name: value.clone() for name, value in mini.named_parameters()}
    optimizer = make_optimizer(mini, 1e-2, 0.0)
    with pytest.raises(NonFiniteLossError) as caught:
        training_step(mini, YoloLoss(mini), optimizer, make_batch(), place="epoch 2, step 5")
    text = str(caught.value)
    assert f"{term} = nan" in text and "in epoch 2, step 5" in text
    assert "one.jpg, two.jpg" in text and "lower the learning rate" in text
    for name, value in mini.named_parameters():
        assert torch.equal(value.nan_to_num(9), before[name].nan_to_num(9))


def test_precision() -> None:
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert choose_precision("auto", cpu) == "fp32" and choose_precision("auto", cuda) == "fp16"
    assert choose_precision("bf16", cpu) == "bf16"
    with pytest.raises(ValueError, match="fp16 needs a CUDA GPU"):
        choose_precision("fp16", cpu)
    with pytest.raises(ValueError, match="precision is 'half'; allowed are auto, fp32, fp16, bf16"):
        choose_precision("half", cpu)
    assert gradient_scaler("fp32") is None and gradient_scaler("bf16") is None
    with autocast(cpu, "bf16"):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16


def test_memory_is_kept_where_it_can_be(lesson_folder: Path) -> None:
    """In a process of its own: it is for the whole process."""
    command = [sys.executable, "-c", "from speed import memory; print(memory.keep_freed_memory())"]
    done = subprocess.run(command, cwd=lesson_folder, capture_output=True, text=True, check=True)
    linux = platform.libc_ver()[0] == "glibc" and sys.platform.startswith("linux")
    assert done.stdout.strip() == str(linux)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("epochs", 0, "epochs is 0, but has to be 1 or more"),
        ("batch_size", -1, "batch_size is -1"),
        ("num_scenes", 0, "num_scenes is 0"),
        ("size", 100, "size must be a multiple of 32, from 32 to 2048, got 100"),
        ("size", 4096, "from 32 to 2048, got 4096"),
        ("size", (288, 380), "multiple of 32, from 32 to 2048, got 380"),
        ("test_size", 330, "multiple of 32, from 32 to 2048, got 330"),
        ("learning_rate", 0.0, "learning_rate is 0.0, but has to be above 0"),
        ("learning_rate", math.nan, "learning_rate is nan"),
        ("max_gradient_norm", -1.0, "max_gradient_norm is -1.0"),
        ("warmup", 1.0, "warmup is 1.0; allowed is 0 to 0.9"),
        ("mosaic", 1.5, "mosaic is 1.5; allowed is 0 to 1"),
        ("flip", -0.1, "flip is -0.1"),
        ("flip_vertical", 2.0, "flip_vertical is 2.0; allowed is 0 to 1"),
        ("average_decay", 2.0, "average_decay is 2.0"),
        ("weight_decay", -1.0, "weight_decay is -1.0, but has to be 0 or more"),
        ("scale", math.inf, "scale is inf"),
        ("seed", -1, "seed is -1"),
        ("evaluate_every", -1, "evaluate_every is -1"),
        ("on_invalid", "keep", "on_invalid is 'keep'; allowed are refuse, drop"),
        ("anchors", "mine", "anchors is 'mine'; allowed are fit, base"),
        ("box_loss", "iou", "box_loss is 'iou'; allowed are ciou, darknet"),
        ("precision", "fp8", "precision is 'fp8'"),
    ],
)
def test_settings_that_are_not_allowed(name: str, value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        YoloSettings(**{name: value})


def test_settings_derive_the_rest() -> None:
    settings = YoloSettings(size=96, multi_scale=True, epochs=8)
    assert settings.sizes == ((64, 64), (96, 96), (128, 128))
    assert YoloSettings(size=96).sizes == (96,) and YoloSettings(size=[96, 128]).size == (96, 128)
    assert YoloSettings(size=96).final_size == 96
    assert YoloSettings(size=96, test_size=[96, 128]).final_size == (96, 128)
    wide = YoloSettings(size=(96, 192), multi_scale=True)
    assert wide.sizes == ((64, 128), (64, 160), (96, 192), (128, 224), (128, 256))
    assert [e for e in range(8) if settings.is_measured(e)] == [1, 3, 5, 7]
    assert settings.first_plain_epoch == 6
    assert YoloSettings(epochs=1).is_measured(0)
    assert [e for e in range(5) if YoloSettings(epochs=5, evaluate_every=3).is_measured(e)] == [
        2,
        4,
    ]


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
