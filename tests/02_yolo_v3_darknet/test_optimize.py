"""The optimised network against the plain one, and its parts against PyTorch's own operators."""

import pytest
import torch
import torch.nn.functional as F

from darknet.cfg import Convolutional, Maxpool
from darknet.network import ConvolutionStage, Darknet, MaxpoolStage
from speed import fast as optimize
from speed.fast import (
    FastDarknet,
    FoldedConvolution,
    PairwiseMaxpool,
    fold_batch_norm,
    has_bfloat16_instructions,
    suits_winograd,
)
from speed.winograd import TRANSFORMS, PackedKernels, WinogradConvolution, can_pack

needs_packing = pytest.mark.skipif(not can_pack(torch.float32), reason="no oneDNN in this PyTorch")
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


def channels_last(x):
    return x.contiguous(memory_format=torch.channels_last)


@needs_packing
@pytest.mark.parametrize("tile", [2, 4])
@pytest.mark.parametrize("side", [(8, 8), (13, 13), (7, 10), (1, 1), (5, 2), (26, 27)])
@pytest.mark.parametrize("batch", [1, 3])
def test_winograd_equals_convolution(tile, side, batch):
    kernels, biases = random(12, 16, 3, 3), random(12, seed=1)
    x = channels_last(random(batch, 16, *side, seed=2))
    ours = WinogradConvolution(kernels, biases, (13, 13), tile)(x)
    reference = F.conv2d(x.double(), kernels.double(), biases.double(), padding=1)
    assert ours.shape == reference.shape
    assert (ours - reference).abs().max() <= 2e-5 * reference.abs().max()


@pytest.mark.parametrize("tile", [2, 4])
def test_winograd_matrices_are_exact(tile):
    """One dimension, whole numbers: A'((G k) * (B' d)) is the correlation of d with k."""
    b_t, g, a_t = (torch.tensor(m, dtype=torch.float64) for m in TRANSFORMS[tile])
    d, k = torch.arange(1.0, tile + 3).double() ** 2, torch.tensor([3.0, -1, 2]).double()
    expected = [sum(d[i + j] * k[j] for j in range(3)).item() for i in range(tile)]
    assert (a_t @ ((g @ k) * (b_t @ d))).tolist() == pytest.approx(expected, abs=1e-9)


@needs_packing
@pytest.mark.parametrize("activation", ["linear", "leaky", "relu"])
@pytest.mark.parametrize(
    ("size", "stride", "padding", "groups"),
    [(3, 1, 1, 1), (3, 2, 1, 1), (1, 1, 0, 1), (5, 1, 2, 2), (3, 1, 0, 4)],
)
def test_packed_kernels_equal_convolution(size, stride, padding, groups, activation):
    kernels, biases = random(8, 8 // groups, size, size), random(8, seed=1)
    packed = PackedKernels(
        kernels, biases, (1, 8, 9, 11), (stride, stride), (padding, padding), groups, activation
    )
    function = {"linear": lambda x: x, "relu": F.relu, "leaky": lambda x: F.leaky_relu(x, 0.1)}
    for shape in [(1, 8, 9, 11), (2, 8, 14, 7)]:
        x = channels_last(random(*shape, seed=2))
        reference = function[activation](F.conv2d(x, kernels, biases, stride, padding, 1, groups))
        torch.testing.assert_close(packed(x), reference, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", [(1, 3, 8, 6), (2, 4, 7, 6), (3, 1, 6, 5), (2, 5, 2, 2)])
@pytest.mark.parametrize("last", [True, False])
def test_pairwise_maxima_equal_max_pooling(shape, last):
    stage = MaxpoolStage(Maxpool(line=1, size=2, stride=2))
    x = channels_last(random(*shape)) if last else random(*shape)
    reference = F.max_pool2d(x, 2, ceil_mode=True)
    assert torch.equal(PairwiseMaxpool(stage)(x), reference)


@needs_packing
def test_pooling_without_padding(write_cfg, randomize, relative_difference):
    """size=2, stride=2, padding=0 drops the last row of an odd map, with and without packing."""
    text = CFG.replace("width=64\nheight=64", "width=66\nheight=66").replace(
        "[maxpool]", "[maxpool]\npadding=0"
    )
    text = text.replace("width=66\nheight=66", "width=66\nheight=67")
    network = randomize(Darknet(write_cfg(text)))
    assert network.layers[1].out_shape == (128, 33, 33)
    compare(network, FastDarknet(network), random(1, 3, 67, 66), relative_difference, 1e-4)


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
        folded = F.leaky_relu(F.conv2d(x, kernels, biases, padding=1, groups=2), 0.1)
        torch.testing.assert_close(folded, stage(x), rtol=1e-4, atol=1e-5)
        ours = FoldedConvolution(stage, torch.float32)(x)
        torch.testing.assert_close(ours, stage(x), rtol=1e-4, atol=1e-5)


def folded(**keys):
    keys = {"filters": 128, "size": 3, "pad": 1} | keys
    channels = keys.pop("channels", 128)
    stage = ConvolutionStage(Convolutional(line=1, **keys), channels)
    return FoldedConvolution(stage, torch.float32)


def test_which_convolutions_suit_winograd():
    assert suits_winograd(folded())
    assert suits_winograd(folded(filters=64, channels=200))
    assert not suits_winograd(folded().to(torch.bfloat16))


@pytest.mark.parametrize(
    "key", ["size=1", "size=5", "stride=2", "pad=0", "groups=2", "filters=63", "channels=63"]
)
def test_which_convolutions_do_not(key):
    name, value = key.split("=")
    assert not suits_winograd(folded(**{name: int(value)}))


@pytest.fixture
def mixed(write_cfg, randomize):
    """A network with every kind of stage that is converted, large enough for Winograd."""
    return randomize(Darknet(write_cfg(CFG)))


def compare(network, fast, images, relative_difference, tolerance):
    with torch.inference_mode():
        reference = network(images)
    for ours, plain in zip(fast(images), reference, strict=True):
        assert relative_difference(ours, plain) <= tolerance


@pytest.mark.parametrize("shape", [(1, 3, 64, 64), (3, 3, 64, 64), (2, 3, 96, 32), (1, 3, 4, 4)])
@pytest.mark.parametrize("planned", [(64, 64), (416, 416)])
def test_same_outputs_at_any_size(mixed, relative_difference, shape, planned):
    fast = FastDarknet(mixed, input_size=planned)
    compare(mixed, fast, random(*shape), relative_difference, 1e-4)


@pytest.mark.parametrize("shape", [(1, 3, 416, 416), (3, 3, 320, 224)])
def test_same_outputs_of_tiny(lesson_folder, randomize, relative_difference, shape):
    network = randomize(Darknet(lesson_folder / "cfg/yolov3-tiny.cfg"))
    compare(network, FastDarknet(network), random(*shape).sigmoid(), relative_difference, 1e-4)


@needs_packing
def test_every_fast_form_is_used(mixed):
    names = [type(module).__name__ for module in FastDarknet(mixed).modules()]
    assert {"WinogradConvolution", "PackedKernels", "PairwiseMaxpool"} <= set(names)
    tiles = [m.tile for m in FastDarknet(mixed, input_size=(64, 64)).modules()
             if isinstance(m, WinogradConvolution)]  # fmt: skip
    assert tiles == [4, 2]


def test_without_packing_it_gives_the_same(mixed, relative_difference, monkeypatch):
    monkeypatch.setattr(optimize, "can_pack", lambda dtype: False)
    fast = FastDarknet(mixed)
    assert {"FoldedConvolution"} <= {type(stage).__name__ for stage in fast.stages}
    compare(mixed, fast, random(2, 3, 64, 64), relative_difference, 1e-4)


def test_bfloat16_is_close(mixed, relative_difference):
    fast = FastDarknet(mixed, "bf16", input_size=(32, 32))
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
    with pytest.raises(ValueError, match="precision must be one of fp32, bf16, fp16, got 'int8'"):
        FastDarknet(mixed, "int8")
    with pytest.raises(ValueError, match="precision fp16 needs a GPU; on the CPU use fp32, or"):
        FastDarknet(mixed, "fp16")


def test_a_refusing_operator_means_no_packing(monkeypatch):
    def refuse(*_):
        raise RuntimeError("no")

    monkeypatch.setattr(PackedKernels, "forward", refuse)
    assert not can_pack(torch.float32)


def test_processor_question_has_an_answer():
    assert has_bfloat16_instructions() in (True, False)
