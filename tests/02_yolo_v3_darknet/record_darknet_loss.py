"""Record the gradients of Darknet's own training (libdarknet), as a test reference.

    python record_darknet_loss.py OUT.json

A small network with three outputs sees two random images with random objects. Darknet runs its
training forward and backward; recorded are what its [yolo] layers read and the gradients they
send back, which Darknet calls `delta` and which point downhill (minus the derivative).

The C structures are read from darknet.h, which Debian's package `darknet` installs beside the
library, so that no list of their two hundred fields is kept here.
"""

import argparse
import ctypes
import json
import re
import struct
import sys
from pathlib import Path

import numpy as np

LIBRARY = Path("/usr/lib/darknet/libdarknet.so")
HEADER = Path("/usr/lib/darknet/include/darknet.h")
WIDTH, HEIGHT, BATCH, CLASSES, ANCHORS_EACH = 64, 32, 2, 3, 2
TRUTH_VALUES = 5  # x, y, w, h, class

CONVOLUTION = """
[convolutional]
filters={filters}
size={size}
stride={stride}
pad=1
activation={activation}
"""
YOLO = """
[yolo]
mask={mask}
anchors=4,6, 9,5, 11,14, 20,16, 24,30, 50,28
classes={classes}
num=6
ignore_thresh={ignore}
truth_thresh={truth}
"""


def cfg_text(ignore: float, truth: float) -> str:
    """A network with outputs of stride 16, 8 and 4, without batch normalisation.

    Darknet divides a batch's variance by N - 1 and PyTorch by N, which is another subject. The
    kernels before the outputs are 3 x 3: on the CPU, Darknet's 1 x 1 convolutions overwrite what
    a [route] has sent back to the layer before them, where it should be added.
    """
    net = f"[net]\nbatch={BATCH}\nsubdivisions=1\nwidth={WIDTH}\nheight={HEIGHT}\nchannels=3\n"
    parts = [net + "learning_rate=0.001\nmax_batches=10\npolicy=constant\nburn_in=0\n"]

    def convolution(filters: int, size: int = 3, stride: int = 1, activation: str = "leaky"):
        parts.append(CONVOLUTION.format(**locals()))

    def output(mask: str):
        convolution(ANCHORS_EACH * (5 + CLASSES), activation="linear")
        parts.append(YOLO.format(mask=mask, classes=CLASSES, ignore=ignore, truth=truth))

    convolution(4, stride=2)
    convolution(6, stride=2)  # layer 1: stride 4
    convolution(8, stride=2)  # layer 2: stride 8
    convolution(8, stride=2)  # layer 3: stride 16
    output("4,5")
    parts.append("\n[route]\nlayers=3\n\n[upsample]\nstride=2\n\n[route]\nlayers=-1,2\n")
    output("2,3")
    parts.append("\n[route]\nlayers=8\n\n[upsample]\nstride=2\n\n[route]\nlayers=-1,1\n")
    output("0,1")
    return "".join(parts)


def read_structure(name: str, text: str) -> type[ctypes.Structure]:
    """The C structure `name` of darknet.h, for a build without a GPU."""
    text = re.sub(r"#ifdef GPU.*?#endif\n(?!#endif)", "", text, flags=re.S)
    text = re.sub(r"#ifdef CUDNN.*?#endif", "", text, flags=re.S)
    body = re.search(rf"struct {name}\s*{{(.*?)\n}}", text, flags=re.S)[1]
    plain = {"float": ctypes.c_float, "size_t": ctypes.c_size_t, "int": ctypes.c_int}
    fields = []
    for declaration in body.split(";"):
        words = " ".join(declaration.split())
        function = re.search(r"\(\*(\w+)\)", words)
        if function:
            fields.append((function[1], ctypes.c_void_p))
        elif words:
            kind, names = re.fullmatch(r"((?:struct )?\w+)\s*(.*)", words).groups()
            for one in names.split(","):
                stars, field = re.fullmatch(r"([\s*]*)(\w+)", one.strip()).groups()
                c_type = ctypes.c_void_p if "*" in stars else plain.get(kind, ctypes.c_int)
                fields.append((field, c_type))  # what is left over are enums
    return type(name, (ctypes.Structure,), {"_fields_": fields})


class DarknetTraining:
    """A network in libdarknet, ready for training steps without an update.

    Raises:
        OSError: libdarknet or its header is not installed.
    """

    def __init__(self, cfg: Path, weights: Path):
        header = HEADER.read_text()
        self.layer_type = read_structure("layer", header)
        self.network_type = read_structure("network", header)
        self.library = ctypes.CDLL(str(LIBRARY))
        load = self.library.load_network
        load.restype = ctypes.POINTER(self.network_type)
        load.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_int]
        self.network = load(str(cfg).encode(), str(weights).encode(), 0)
        for function in (self.library.forward_network, self.library.backward_network):
            function.restype, function.argtypes = None, [ctypes.c_void_p]

    @property
    def layers(self) -> list[ctypes.Structure]:
        """The layers as Darknet holds them now."""
        net = self.network.contents
        return list((self.layer_type * net.n).from_address(net.layers))

    def step(self, images: np.ndarray, truths: list[np.ndarray]) -> float:
        """Run forward and backward; return Darknet's cost.

        Args:
            images: float32 (B, 3, H, W).
            truths: for each image float32 (N, 5): x, y, w, h as fractions, class index.
        """
        net = self.network.contents
        net.train = 1
        block = np.zeros((len(images), net.truths), np.float32)
        for row, truth in zip(block, truths, strict=True):
            row[: truth.size] = truth.ravel()
        for address, values in ((net.input, images), (net.truth, block)):
            data = np.ascontiguousarray(values, np.float32)
            ctypes.memmove(address, data.ctypes.data, data.nbytes)
        self.library.forward_network(self.network)
        self.library.backward_network(self.network)
        return float(np.ctypeslib.as_array((ctypes.c_float * 1).from_address(net.cost))[0])

    def values(self, index: int, field: str) -> np.ndarray:
        """`output` or `delta` (B, C, H, W), or `weight_updates` (flat), of layer `index`."""
        layer = self.layers[index]
        if field == "weight_updates":
            shape: tuple[int, ...] = (layer.nweights,)
        else:
            shape = (layer.batch, layer.out_c, layer.out_h, layer.out_w)
        size = int(np.prod(shape))
        memory = (ctypes.c_float * size).from_address(getattr(layer, field))
        return np.ctypeslib.as_array(memory).reshape(shape).copy()


def random_weights(shapes: list[tuple[int, int]], seed: int) -> bytes:
    """A weights file for convolutions of (biases, kernel numbers), without batch normalisation."""
    random = np.random.default_rng(seed)
    parts = [struct.pack("<3iq", 0, 2, 0, 0)]
    for biases, kernels in shapes:
        spread = (3.0 * biases / kernels) ** 0.5
        parts.append(random.normal(0, 0.3, biases).astype("<f4").tobytes())
        parts.append(random.normal(0, spread, kernels).astype("<f4").tobytes())
    return b"".join(parts)


def weight_shapes() -> list[tuple[int, int]]:
    """(biases, kernel numbers) of the convolutions of `cfg_text`, in their order."""
    out = ANCHORS_EACH * (5 + CLASSES)
    convolutions = [(3, 4, 3), (4, 6, 3), (6, 8, 3), (8, 8, 3), (8, out, 3)]
    convolutions += [(16, out, 3), (22, out, 3)]
    return [(filters, before * filters * size**2) for before, filters, size in convolutions]


def random_objects(seed: int) -> list[np.ndarray]:
    """Objects of all sizes, two of which share a cell; float32 (N, 5) for each image."""
    random = np.random.default_rng(seed)
    truths = []
    for count in (9, 14):
        wh = np.exp(random.uniform(np.log(0.05), np.log(0.8), (count, 2)))
        xy = random.uniform(0.02, 0.98, (count, 2))
        classes = random.integers(0, CLASSES, (count, 1))
        truth = np.concatenate((xy, wh, classes), axis=1).astype(np.float32)
        truth[1, 2:4] = (0.7, 0.75)  # large enough for the coarsest output
        truth[-1, :4] = truth[0, :4] * np.float32(1.01)  # the same anchor and cell
        truth[-1, 4] = (truth[0, 4] + 1) % CLASSES
        truths.append(truth)
    return truths


def record(folder: Path, ignore: float, truth: float, seed: int) -> dict:
    """Run Darknet once; return cfg, objects and, for each output, what it read and sent back."""
    cfg, weights = folder / "loss.cfg", folder / "loss.weights"
    cfg.write_text(cfg_text(ignore, truth))
    weights.write_bytes(random_weights(weight_shapes(), seed))
    images = np.random.default_rng(seed + 1).random((BATCH, 3, HEIGHT, WIDTH), np.float32)
    truths = random_objects(seed + 2)
    training = DarknetTraining(cfg, weights)
    cost = training.step(images, truths)
    kinds = [layer.mask is not None for layer in training.layers]  # only [yolo] has a mask
    outputs = [index for index, is_output in enumerate(kinds) if is_output]
    convolutions = [i for i, layer in enumerate(training.layers) if layer.nweights]
    return {
        "cfg": cfg.read_text(),
        "weights": weights.read_bytes(),
        "images": images,
        "truths": truths,
        "cost": cost,
        "raw": [training.values(index - 1, "output") for index in outputs],
        "delta": [training.values(index, "delta") for index in outputs],
        "weight_updates": {i: training.values(i, "weight_updates") for i in convolutions},
    }


def as_json(result: dict) -> dict:
    """What a machine without Darknet needs to compare the loss alone."""

    def rounded(values: np.ndarray) -> list:
        return [float(f"{value:.7g}") for value in values.ravel()]

    return {
        "cfg": result["cfg"],
        "cost": result["cost"],
        "truths": [[rounded(row) for row in truth] for truth in result["truths"]],
        "outputs": [
            {"shape": list(raw.shape), "raw": rounded(raw), "delta": rounded(delta)}
            for raw, delta in zip(result["raw"], result["delta"], strict=True)
        ],
    }


def main() -> int:
    """Run the command line; return the exit code."""
    import tempfile

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = record(Path(folder), ignore=0.3, truth=1.0, seed=0)
    options.out.write_text(json.dumps(as_json(result)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
