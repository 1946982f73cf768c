"""The network with its batch norm folded, against the plain one."""

import pytest
import torch
import torch.nn.functional as F

from darknet.cfg import Convolutional
from darknet.network import ConvolutionStage, Darknet
from speed.engines import has_bfloat16_instructions, has_int8_instructions
from speed.fast import FastDarknet, fold_batch_norm, folded

CFG = """[net]
width=64
height=64
[convolutional]
batch_normalize=1
filters=128
size=3
pad=1
activation=leaky
[maxpool]
size=2
stride=2
[convolutional]
batch_normalize=1
filters=130
size=3
pad=1
activation=leaky
[convolutional]
batch_normalize=1
filters=128
size=3
pad=1
stride=2
activation=mish
[convolutional]
batch_normalize=1
filters=128
size=3
pad=1
activation=logistic
[shortcut]
from=-2
[convolutional]
filters=14
size=1
activation=linear
[yolo]
mask=0,1
anchors=10,14,23,27
num=2
classes=2
[route]
layers=1
[convolutional]
filters=14
size=3
pad=1
activation=relu
[yolo]
mask=0,1
anchors=10,14,23,27
num=2
classes=2
"""


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("norm", [0, 1])
def test_folded_batch_norm(norm):
    block = Convolutional(line=1, filters=6, size=3, pad=1, batch_normalize=norm, groups=2,
                          activation="leaky")  # fmt: skip
    stage = ConvolutionStage(block, 4).eval()
    if norm:
        stage.norm.weight.data.copy_(random(6))
        stage.norm.bias.data.copy_(random(6, seed=1))
        stage.norm.running_mean.copy_(random(6, seed=2))
        stage.norm.running_var.copy_(random(6, seed=3).square())
    x = random(2, 4, 5, 7)
    kernels, biases = fold_batch_norm(stage)
    with torch.inference_mode():
        ours = F.leaky_relu(F.conv2d(x, kernels, biases, padding=1, groups=2), 0.1)
        torch.testing.assert_close(ours, stage(x), rtol=1e-4, atol=1e-5)


@pytest.fixture
def mixed(write_cfg, randomize):
    """A network with several activations, a shortcut and two outputs."""
    return randomize(Darknet(write_cfg(CFG)))


def compare(network, fast, images, relative_difference, tolerance):
    with torch.inference_mode():
        reference = network(images)
    for ours, plain in zip(fast(images), reference, strict=True):
        assert relative_difference(ours, plain) <= tolerance


@pytest.mark.parametrize("shape", [(1, 3, 64, 64), (3, 3, 64, 64), (2, 3, 96, 32), (1, 3, 4, 4)])
def test_same_outputs_at_any_size(mixed, relative_difference, shape):
    compare(mixed, FastDarknet(mixed), random(*shape), relative_difference, 1e-4)


@pytest.mark.parametrize("shape", [(1, 3, 416, 416), (3, 3, 320, 224)])
def test_same_outputs_of_tiny(lesson_folder, randomize, relative_difference, shape):
    network = randomize(Darknet(lesson_folder / "darknet/networks/yolov3-tiny.cfg"))
    compare(network, FastDarknet(network), random(*shape).sigmoid(), relative_difference, 1e-4)


def test_no_batch_norm_is_left(mixed):
    network = folded(mixed)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in network.modules())
    assert any(isinstance(module, torch.nn.BatchNorm2d) for module in mixed.modules())
    kernels = FastDarknet(mixed).network.stages[2].conv.weight
    assert kernels.is_contiguous(memory_format=torch.channels_last)


def test_bfloat16_is_close(mixed, relative_difference):
    fast = FastDarknet(mixed, "bf16")
    images = random(1, 3, 32, 32).sigmoid()
    assert all(out.dtype == torch.bfloat16 for out in fast(images))
    compare(mixed, fast, images, relative_difference, 0.05)


def test_the_network_is_not_changed(mixed):
    before = {name: tensor.clone() for name, tensor in mixed.state_dict().items()}
    images = random(1, 3, 64, 64)
    kept = images.clone()
    first = [out.clone() for out in FastDarknet(mixed)(images)]
    assert all(torch.equal(tensor, mixed.state_dict()[name]) for name, tensor in before.items())
    assert torch.equal(images, kept)
    fast = FastDarknet(mixed)
    outputs = fast(images)
    fast(images * 2)  # outputs of one call are not overwritten by the next
    assert all(torch.equal(one, other) for one, other in zip(outputs, first, strict=True))


def test_outputs_are_wanted_for_inference_only(mixed):
    assert not any(out.requires_grad for out in FastDarknet(mixed)(random(1, 3, 64, 64)))


def test_images_of_other_dtypes(mixed, relative_difference):
    images = random(1, 3, 64, 64)
    fast = FastDarknet(mixed)
    for one, other in zip(fast(images.double()), fast(images), strict=True):
        assert torch.equal(one, other)


def test_unknown_precision_and_half_on_the_cpu(mixed):
    with pytest.raises(ValueError, match="precision is 'int8'; allowed are auto, fp32, fp16, bf16"):
        FastDarknet(mixed, "int8")
    with pytest.raises(ValueError, match="precision fp16 needs a CUDA GPU; fp32 and"):
        FastDarknet(mixed, "fp16")


def test_processor_question_has_an_answer():
    assert {has_bfloat16_instructions(), has_int8_instructions()} <= {True, False}
