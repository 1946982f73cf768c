"""The network against OpenCV's importer, libdarknet and slow references, block by block."""

import math
import re

import cv2
import numpy as np
import pytest
import torch

from darknet.network import Darknet, DarknetBatchNorm2d, DarknetFileError, activate
from darknet.weights import layer_tensors
from speed.fast import FastDarknet

YOLO = "[yolo]\nmask=0\nanchors=10,14\nnum=1\nclasses=1\n"  # reads 6 channels


def random_images(*shape, seed=1):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def opencv_outputs(cfg, weights, images, names):
    network = cv2.dnn.readNetFromDarknet(str(cfg), str(weights))
    network.setInput(images.numpy())
    return network.forward(names)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "size"), [("yolov3-tiny", 416), ("yolov3-tiny", 320), ("yolov3", 256),
                       ("yolov3-spp", 256)]
)  # fmt: skip
def test_raw_outputs_equal_opencvs(
    lesson_folder, tmp_path, randomize, relative_difference, name, size
):
    cfg, weights = lesson_folder / f"darknet/networks/{name}.cfg", tmp_path / "random.weights"
    with torch.device("meta"):  # without PyTorch's own random weights
        network = Darknet(cfg)
    randomize(network.to_empty(device="cpu")).save_weights(weights)
    images = random_images(1, 3, size, size)
    raw_layers = [f"conv_{layer.index - 1}" for layer in network.layers if layer.kind == "yolo"]
    reference = opencv_outputs(cfg, weights, images, raw_layers)
    weights.unlink()  # up to 250 MB, and pytest keeps its folders
    with torch.inference_mode():
        eager = network(images)
    fast = FastDarknet(network)(images)
    assert len(eager) == len(fast) == len(reference) == len(network.outputs)
    for ours, optimised, theirs in zip(eager, fast, reference, strict=True):
        assert relative_difference(ours, theirs) <= 1e-4
        assert relative_difference(optimised, theirs) <= 1e-4


CONV = "[convolutional]\nfilters={}\nsize=3\nstride=1\npad=1\nactivation={}\n"
BASE = CONV.format(6, "linear")
OPENCV, DARKNET = "opencv", "darknet"
BLOCKS = {  # what stands before [yolo], input (height, width), who understands it
    "leaky": (CONV.format(6, "leaky"), (13, 17), {OPENCV, DARKNET}),
    "relu": (CONV.format(6, "relu"), (13, 17), {OPENCV, DARKNET}),
    "logistic": (CONV.format(6, "logistic"), (13, 17), {OPENCV, DARKNET}),
    "mish": (CONV.format(6, "mish"), (13, 17), {OPENCV}),
    "default activation": ("[convolutional]\nfilters=6\n", (8, 8), {DARKNET}),
    "batch norm": (BASE + "batch_normalize=1\n", (13, 17), {OPENCV, DARKNET}),
    "batch norm leaky": (CONV.format(6, "leaky") + "batch_normalize=1\n", (9, 8),
                         {OPENCV, DARKNET}),
    "stride 2 odd": (BASE.replace("stride=1", "stride=2"), (13, 17), {OPENCV, DARKNET}),
    "size 5": (BASE.replace("size=3", "size=5"), (12, 9), {OPENCV, DARKNET}),
    "size 4 pad": (BASE.replace("size=3", "size=4"), (12, 9), {DARKNET}),
    "no padding": (BASE.replace("pad=1", "pad=0"), (13, 17), {OPENCV, DARKNET}),
    "padding 2": (BASE.replace("pad=1", "padding=2"), (13, 17), {DARKNET}),
    "groups": (BASE + CONV.format(12, "leaky") + "groups=3\nbatch_normalize=1\n" + BASE
               + "groups=2\n", (13, 17), {OPENCV, DARKNET}),
    "depthwise": (BASE + BASE + "groups=6\n", (13, 17), {OPENCV, DARKNET}),
    "maxpool 2/2 even": (BASE + "[maxpool]\nsize=2\nstride=2\n", (12, 16), {OPENCV, DARKNET}),
    "maxpool 2/2 odd": (BASE + "[maxpool]\nsize=2\nstride=2\n", (13, 17), {OPENCV, DARKNET}),
    "maxpool 2/1": (BASE + "[maxpool]\nsize=2\nstride=1\n", (13, 16), {OPENCV, DARKNET}),
    "maxpool 5/1": (BASE + "[maxpool]\nsize=5\nstride=1\n", (13, 16), {OPENCV, DARKNET}),
    "maxpool 13/1": (BASE + "[maxpool]\nsize=13\nstride=1\n", (8, 9), {OPENCV, DARKNET}),
    "maxpool 3/2 odd": (BASE + "[maxpool]\nsize=3\nstride=2\n", (13, 17), {DARKNET}),
    "maxpool 3/2 even": (BASE + "[maxpool]\nsize=3\nstride=2\n", (12, 16), {DARKNET}),
    "maxpool 2/2 no padding": (BASE + "[maxpool]\nsize=2\nstride=2\npadding=0\n", (13, 17),
                               {DARKNET}),
    "maxpool default size": (BASE + "[maxpool]\nstride=3\n", (13, 17), {DARKNET}),
    "upsample": (BASE + "[upsample]\nstride=2\n", (5, 7), {OPENCV, DARKNET}),
    "upsample 3": (BASE + "[upsample]\nstride=3\n", (5, 7), {OPENCV, DARKNET}),
    "shortcut": (BASE + CONV.format(6, "leaky") + "[shortcut]\nfrom=-2\nactivation=linear\n",
                 (13, 17), {OPENCV, DARKNET}),
    "shortcut absolute": (BASE + CONV.format(6, "leaky") + "[shortcut]\nfrom=0\n", (9, 9),
                          {DARKNET}),
    "shortcut leaky": (BASE + BASE + "[shortcut]\nfrom=-2\nactivation=leaky\n", (9, 9), {DARKNET}),
    "shortcut of more channels": (CONV.format(9, "leaky") + BASE + "[shortcut]\nfrom=-2\n", (9, 9),
                                  {OPENCV, DARKNET}),
    "shortcut of fewer channels": (CONV.format(4, "leaky") + BASE + "[shortcut]\nfrom=-2\n", (9, 9),
                                   {OPENCV, DARKNET}),
    "route one": (BASE + CONV.format(4, "relu") + "[route]\nlayers=-2\n", (9, 9),
                  {OPENCV, DARKNET}),
    "route absolute": (CONV.format(2, "leaky") + CONV.format(4, "relu") + "[route]\nlayers=-1,0\n",
                       (9, 9), {OPENCV, DARKNET}),
    "route four": (CONV.format(1, "leaky") + CONV.format(2, "relu") + CONV.format(2, "leaky")
                   + CONV.format(1, "leaky") + "[route]\nlayers=-1,-3,2,0\n", (9, 9),
                   {OPENCV, DARKNET}),
    "route groups": (CONV.format(12, "leaky") + "[route]\nlayers=-1\ngroups=2\ngroup_id=1\n",
                     (9, 9), {OPENCV}),
}  # fmt: skip


def darknet_output(library, recorder, cfg, weights, images, shape):
    network = recorder.load_network(library, cfg, weights)
    planes = np.ascontiguousarray(images[0].numpy())
    result = library.network_predict(network, recorder.Image.of(planes).data)
    return np.ctypeslib.as_array(result, shape).copy()


@pytest.fixture
def block_network(write_cfg, randomize, tmp_path):
    """Build the network of one entry of BLOCKS: (network, cfg without [yolo], weights, images)."""

    def build(name):
        body, (height, width), _ = BLOCKS[name]
        text = f"[net]\nheight={height}\nwidth={width}\nchannels=3\n{body}"
        network = randomize(Darknet(write_cfg(text + YOLO)))
        weights = tmp_path / "random.weights"
        network.save_weights(weights)
        images = random_images(1, 3, height, width)
        return network, write_cfg(text, "bare.cfg"), weights, images - 0.5

    return build


@pytest.fixture
def block_outputs(block_network):
    """The one raw output, computed eagerly and by the optimised network."""

    def compute(name):
        network, cfg, weights, images = block_network(name)
        with torch.inference_mode():
            (eager,) = network(images)
        (fast,) = FastDarknet(network)(images)
        assert eager.shape[1:] == network.layers[-1].out_shape
        return eager, fast, cfg, weights, images

    return compute


@pytest.mark.parametrize("name", [name for name in BLOCKS if OPENCV in BLOCKS[name][2]])
def test_blocks_equal_opencvs(block_outputs, relative_difference, name):
    eager, fast, cfg, weights, images = block_outputs(name)
    reference = opencv_outputs(cfg, weights, images, None)
    assert relative_difference(eager, reference) <= 1e-5
    assert relative_difference(fast, reference) <= 1e-5


@pytest.mark.parametrize("name", [name for name in BLOCKS if DARKNET in BLOCKS[name][2]])
def test_blocks_equal_darknets(block_outputs, relative_difference, libdarknet, recorder, name):
    eager, fast, cfg, weights, images = block_outputs(name)
    shape = tuple(eager.shape)
    reference = darknet_output(libdarknet, recorder, cfg, weights, images, shape)
    assert relative_difference(eager, reference) <= 1e-5
    assert relative_difference(fast, reference) <= 1e-5


def slow_maxpool(x, size, stride, padding):
    """Darknet's loop: windows begin padding // 2 outside; what lies outside does not count."""
    C, H, W = x.shape
    rows, columns = ((side + padding - size) // stride + 1 for side in (H, W))
    out = np.empty((C, rows, columns), dtype=np.float32)
    for r in range(rows):
        for c in range(columns):
            top, left = (i * stride - padding // 2 for i in (r, c))
            window = x[:, max(top, 0) : top + size, max(left, 0) : left + size]
            out[:, r, c] = window.max(axis=(1, 2))
    return out


@pytest.mark.parametrize("side", [(6, 9), (13, 8), (7, 7)])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize(("size", "padding"), [(2, 1), (3, 2), (5, 4), (2, 0), (4, 1), (3, 1)])
def test_maxpool_equals_a_slow_loop(write_cfg, size, stride, padding, side):
    text = f"[net]\nheight={side[0]}\nwidth={side[1]}\nchannels=6\n[maxpool]\n"
    text += f"size={size}\nstride={stride}\npadding={padding}\n{YOLO}"
    network = Darknet(write_cfg(text)).eval()
    images = random_images(2, 6, *side) - 2  # all negative: padding with zeros would show
    reference = np.stack([slow_maxpool(one.numpy(), size, stride, padding) for one in images])
    assert np.array_equal(network(images)[0].numpy(), reference)
    fast = FastDarknet(network)(images)[0]
    assert np.array_equal(fast.numpy(), reference)


def slow_convolution(x, kernels, biases, stride, padding, groups):
    """Multiply and add, one output value after the other, in float64."""
    x = np.pad(x.astype(np.float64), ((0, 0), (padding, padding), (padding, padding)))
    C_out, C_group, K, _ = kernels.shape
    rows, columns = ((side - K) // stride + 1 for side in x.shape[1:])
    out = np.empty((C_out, rows, columns))
    for o in range(C_out):
        first = o // (C_out // groups) * C_group
        for r in range(rows):
            for c in range(columns):
                window = x[first : first + C_group, r * stride : r * stride + K,
                           c * stride : c * stride + K]  # fmt: skip
                out[o, r, c] = (window * kernels[o]).sum() + biases[o]
    return out


@pytest.mark.parametrize(("stride", "groups"), [(1, 1), (2, 3)])
def test_mish_convolution_equals_a_slow_loop(write_cfg, randomize, stride, groups):
    text = f"[net]\nheight=7\nwidth=9\nchannels=3\n{CONV.format(6, 'mish')}groups={groups}\n{YOLO}"
    network = randomize(Darknet(write_cfg(text.replace("stride=1", f"stride={stride}"))))
    images = random_images(1, 3, 7, 9)
    kernels, biases = (t.detach().numpy() for t in network.stages[0].conv.parameters())
    sums = slow_convolution(images[0].numpy(), kernels, biases, stride, 1, groups)
    expected = sums * np.tanh(np.log1p(np.exp(sums)))
    with torch.inference_mode():
        assert network(images)[0][0].numpy() == pytest.approx(expected, abs=1e-5)


def test_activations_by_hand():
    x = torch.tensor([-2.0, 0.0, 3.0])
    assert activate(x, "leaky").tolist() == pytest.approx([-0.2, 0, 3])
    assert activate(x, "relu").tolist() == [0, 0, 3]
    assert activate(x, "linear").tolist() == [-2, 0, 3]
    assert activate(x, "logistic").tolist() == pytest.approx(
        [1 / (1 + math.exp(2)), 0.5, 1 / (1 + math.exp(-3))]
    )
    mish = [v * math.tanh(math.log(1 + math.exp(v))) for v in (-2, 0, 3)]
    assert activate(x, "mish").tolist() == pytest.approx(mish)


def test_epsilon_is_added_to_the_standard_deviation():
    norm = DarknetBatchNorm2d(1).eval()
    norm.running_mean.fill_(2**-17)
    norm.running_var.fill_(9e-12)  # standard deviation 3e-6, plus 1e-6: 4e-6
    norm.weight.data.fill_(2)
    norm.bias.data.fill_(1)
    x = torch.full((1, 1, 2, 2), 2**-17 + 2**-16)
    assert norm(x).flatten().tolist() == pytest.approx([2 * 2**-16 / 4e-6 + 1] * 4, rel=1e-4)


def test_small_variances_equal_darknets(
    write_cfg, randomize, libdarknet, recorder, tmp_path, relative_difference
):
    text = f"[net]\nheight=8\nwidth=8\nchannels=3\n{BASE}batch_normalize=1\n"
    network = randomize(Darknet(write_cfg(text + YOLO)))
    network.stages[0].norm.running_var.copy_(torch.logspace(-13, -8, 6))
    network.save_weights(tmp_path / "small.weights")
    images = random_images(1, 3, 8, 8)
    bare = write_cfg(text, "bare.cfg")
    reference = darknet_output(
        libdarknet, recorder, bare, tmp_path / "small.weights", images, (1, 6, 8, 8)
    )
    with torch.inference_mode():
        assert relative_difference(network(images)[0], reference) <= 1e-5


@pytest.fixture
def tiny_cfg(lesson_folder):
    return lesson_folder / "darknet/networks/yolov3-tiny.cfg"


def test_summary_counts_what_the_network_holds(tiny_cfg):
    network = Darknet(tiny_cfg)
    table = network.summary()
    numbers = sum(
        tensor.numel()
        for layer in network.layers if layer.parameters
        for _, tensor in layer_tensors(network.stages[layer.index])
    )  # fmt: skip
    assert table.splitlines()[-1] == f"24 layers, {numbers:,} numbers in the weights file"
    assert "255 x 13 x 13" in table and "255 x 26 x 26" in table
    assert "255 x 19 x 19" in network.summary((608, 608))


def test_a_batch_gives_what_single_photos_give(tiny_cfg, randomize, relative_difference):
    network = randomize(Darknet(tiny_cfg))
    images = random_images(3, 3, 96, 160)
    with torch.inference_mode():
        together = network(images)
        singles = [network(one[None]) for one in images]
    assert [tuple(out.shape) for out in together] == [(3, 255, 3, 5), (3, 255, 6, 10)]
    for scale, batch in enumerate(together):
        single = torch.cat([outputs[scale] for outputs in singles])
        assert relative_difference(batch, single) <= 1e-5


@pytest.mark.parametrize("optimised", [False, True])
def test_images_that_do_not_fit(tiny_cfg, optimised):
    network = Darknet(tiny_cfg).eval()
    network = FastDarknet(network) if optimised else network
    for shape, message in [
        ((3, 416, 416), r"images must have shape \(B, 3, H, W\), got \(3, 416, 416\)"),
        ((1, 1, 416, 416), r"images must have shape \(B, 3, H, W\), got \(1, 1, 416, 416\)"),
        ((1, 3, 400, 416), r"height and width must be multiples of 32, got \(400, 416\)"),
        ((1, 3, 416, 420), r"height and width must be multiples of 32, got \(416, 420\)"),
        ((1, 3, 0, 416), r"height and width must be multiples of 32, got \(0, 416\)"),
    ]:
        with pytest.raises(ValueError, match=message):
            network(torch.zeros(shape))


@pytest.mark.parametrize(("side", "stride"), [(416, 32), (400, 32), (64, 32), (65, 32)])
def test_stride_does_not_depend_on_the_size_in_net(write_cfg, side, stride):
    halving = CONV.format(6, "leaky").replace("stride=1", "stride=2")
    network = Darknet(write_cfg(f"[net]\nheight={side}\nwidth={side}\n{halving * 5}{YOLO}"))
    assert network.stride == stride
    assert network(torch.zeros(1, 3, side, side))[0].shape[2:] == network.layers[-1].out_shape[1:]
    assert network(torch.zeros(1, 3, 96, 32))[0].shape == (1, 6, 3, 1)


def test_errors_of_cfg_files_pass_through(write_cfg):
    path = write_cfg("[net]\n[conv]\nfilters=14\n[yolo]\n")
    with pytest.raises(DarknetFileError, match=re.escape(f"{path}, line 4: layer 1: num=1 needs")):
        Darknet(path)
    path = write_cfg("[net]\nheight=8\nwidth=8\n" + "[conv]\nfilters=65536\n" * 2)
    with pytest.raises(DarknetFileError, match="line 6: layer 1: the network has"):
        Darknet(path)


def test_training_mode_learns(tiny_cfg):
    network = Darknet(tiny_cfg).train()
    outputs = network(random_images(2, 3, 64, 64))
    sum(out.square().mean() for out in outputs).backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in network.parameters())
