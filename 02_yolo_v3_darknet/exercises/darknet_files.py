"""Checks of the exercises 02.1 to 02.4, about cfg and weights files.

The oracles are the lesson's own plan of layers, cfg editor, header reader and batch norm, which
its tests compare with Darknet and OpenCV.
"""

import struct
import tempfile
from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from common.checking.check import compare_function, compare_value, exercise
from common.checking.compare import SEQUENCES, describe
from common.checking.sandbox import Attempt, BlankAnswerError, WrongAnswerError
from darknet import weights
from darknet.cfg import NETWORKS, Block, Convolutional, DarknetFileError, Yolo, parse_cfg
from darknet.layers import plan_layers
from darknet.make_cfg import make_cfg
from darknet.network import DarknetBatchNorm2d


def read_text(cfg_text: str) -> list[Block]:
    """Parse the text of a cfg file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "your.cfg"
        path.write_text(cfg_text, encoding="utf-8")
        try:
            return parse_cfg(path)
        except DarknetFileError as error:
            raise DarknetFileError(str(error).replace(str(path), path.name)) from None


def compare_entries(
    attempt: Attempt,
    names: Sequence[str],
    expected: Sequence[int],
    diagnoses: Sequence[Mapping[str, int]],
) -> None:
    """Compare a tuple of numbers one by one, so that each wrong entry gets its own reason."""
    came = attempt.answer
    if isinstance(came, SEQUENCES) and len(came) == len(expected):
        for name, value, right, reasons in zip(names, came, expected, diagnoses, strict=True):
            try:
                compare_value(Attempt(value, attempt.seconds), right, reasons)
            except BlankAnswerError:
                raise BlankAnswerError(f"{name}: still blank") from None
            except WrongAnswerError as error:
                raise WrongAnswerError(f"{name}: {error}") from None
    compare_value(attempt, tuple(expected))


@exercise("02.1", "Predict shapes and counts")
def predict_shapes(attempt: Attempt) -> None:
    """Cells, predictions and filters of the full network at 608 for 7 classes."""

    def outputs(side: int) -> list[tuple[int, int, int]]:
        layers = plan_layers(read_text(make_cfg(NETWORKS / "yolov3.cfg", 7)), size=(side, side))
        return [layer.out_shape for layer in layers if isinstance(layer.block, Yolo)]

    def predictions(side: int) -> int:
        return sum(channels // (5 + 7) * h * w for channels, h, w in outputs(side))

    filters, coarse, _ = outputs(608)[0]
    fine = outputs(608)[-1][1]
    cells = predictions(608) // 3
    compare_entries(
        attempt,
        ("cells", "predictions", "filters"),
        (fine, predictions(608), filters),
        (
            {
                "that is the coarsest map: asked is the finest": coarse,
                "that is the map in the middle: asked is the finest": 2 * coarse,
                "those are all cells of the map: asked is one side": fine**2,
                "that is its stride in pixels, not its cells": 608 // fine,
                "that is the finest map at 416": outputs(416)[-1][1],
            },
            {
                "those are the cells: each makes several predictions": cells,
                "that is the number at 416": predictions(416),
                "those are of the finest map alone": 3 * fine**2,
                "those are of the coarsest map alone": 3 * coarse**2,
                "the two-output network of yolov3-tiny is not asked": 15 * coarse**2,
                "nine anchors a cell: each map has only its own share of them": 3
                * predictions(608),
            },
            {
                "those are the numbers of one prediction: a cell makes several": filters // 3,
                "objectness has no number of its own in it": filters - 3,
                "the four numbers of the box are missing": filters - 3 * 4,
                "those are only the classes": 3 * 7,
                "that is the network for the 80 classes of COCO": 3 * (5 + 80),
                "nine anchors a cell: each map has only its own share of them": 3 * filters,
            },
        ),
    )


HEAD = "[net]\nwidth=64\nheight=64\nchannels=3\n"
SMALL_CFG = (
    HEAD
    + """
[convolutional]
filters=24
size=3
stride=2
pad=1
activation=leaky

# one output of two anchors
[convolutional]
filters={filters}
size=1
activation=linear

[yolo]
mask=0,1
anchors=8,8, 16,32
classes={classes}
num=2
"""
)


@exercise("02.2", "Find the bug: your own classes")
def find_the_bug_in_cfg(attempt: Attempt) -> None:
    """The text of a cfg for other classes; the oracle is the lesson's `make_cfg`."""
    with tempfile.TemporaryDirectory() as folder:
        small = Path(folder) / "small.cfg"
        small.write_text(SMALL_CFG.format(filters=24, classes=7), encoding="utf-8")
        voc = Path(folder) / "yolov3-tiny-voc.cfg"
        voc.write_text(make_cfg(NETWORKS / "yolov3-tiny.cfg", 20), encoding="utf-8")
        bases = [
            (NETWORKS / "yolov3-tiny.cfg", 1),
            (NETWORKS / "yolov3.cfg", 4),
            (voc, 3),
            (small, 2),
        ]
        for base, num_classes in bases:
            text = base.read_text(encoding="utf-8")
            came = attempt.call({"cfg_text": text, "num_classes": num_classes})
            if not isinstance(came, str):
                raise WrongAnswerError(f"{describe(came)} is no text: return the new cfg's text")
            right = read_text(make_cfg(base, num_classes))
            try:
                problem = find_problem(read_text(came), right, read_text(text), num_classes)
            except DarknetFileError as error:
                problem = f"the lesson's reader refuses the text: {error}"
            if problem:
                raise WrongAnswerError(
                    f"{problem}\n  cfg_text = that of {base.name}\n  num_classes = {num_classes}"
                )


def find_problem(came: list[Block], right: list[Block], old: list[Block], num_classes: int) -> str:
    """Name the first block that differs from the right one, and in what; "" for none."""
    if list(map(type, came)) != list(map(type, right)):
        return f"there are {len(came)} blocks, or in another order; the file had {len(right)}"
    before_yolo = [isinstance(block, Yolo) for block in right[1:]] + [False]
    number = 0
    for mine, wanted, before, is_output in zip(came, right, old, before_yolo, strict=True):
        number += is_output
        if contents(mine) == contents(wanted):
            continue
        kind = type(wanted).__name__.lower()
        place = f"the [{kind}] block of line {before.line} in the old file"
        if contents(wanted) == contents(before):
            return f"{place} has changed, but has nothing to do with the classes"
        if isinstance(wanted, Convolutional) and isinstance(mine, Convolutional):
            reason = filters_reason(mine.filters, before, wanted, num_classes)
            return f"filters before output {number}: {reason}"
        if mine.classes != num_classes:
            return f"{place}: classes is not the new number"
        return f"{place}: more than its classes has changed"
    return ""


def contents(block: Block) -> dict[str, Any]:
    """What a block says, wherever it stands in the file."""
    return {key: value for key, value in vars(block).items() if key != "line"}


def filters_reason(came: int, old: Block, wanted: Convolutional, num_classes: int) -> str:
    """Why the filters before an output are wrong."""
    anchors = wanted.filters // (5 + num_classes)
    known = {
        old.filters: "still the old number",
        5 + num_classes: "enough for one anchor, but the output has several",
        anchors * (4 + num_classes): "objectness has no number of its own in it",
        anchors * num_classes: "the box and objectness are missing",
        3 * (5 + num_classes): "not every output has three anchors: its mask names them",
    }
    return known.get(came, f"{came} is not what its anchors and classes need")


@exercise("02.3", "Read a weights header")
def read_a_header(attempt: Attempt) -> None:
    """Version, photos seen, first byte of the numbers; the oracle is the lesson's reader."""
    generator = np.random.default_rng(3)
    versions = [(0, 2, 0), (0, 1, 0), (0, 2, 5), (0, 1, 3), (1, 0, 0), (2, 1, 0), (0, 3, 1)]
    cases = []
    for version in versions:
        for highest in (1000, 2**31 - 1, 2**40):
            header = weights.Header(*version)
            wide = header.layout.endswith("q")
            seen = int(generator.integers(1, highest if wide else min(highest, 2**31 - 1)))
            numbers = generator.normal(size=3).astype("<f4").tobytes()
            header = weights.Header(*version, seen)
            cases.append({"data": header.to_bytes() + numbers})

    def oracle(data: bytes) -> tuple[int, ...]:
        file = BytesIO(data)
        header = weights.read_header(file, "the file")
        return header.major, header.minor, header.revision, header.seen, file.tell()

    def reading(layout: str) -> Callable[[bytes], tuple[int, ...]]:
        return lambda data: (*struct.unpack_from(layout, data), struct.calcsize(layout))

    compare_function(
        attempt,
        cases,
        oracle,
        {
            "version 1.0 is later than 0.2: the major number counts too": lambda data: reading(
                "<3iq" if oracle(data)[1] >= 2 else "<3ii"
            )(data),
            "the lowest byte comes first: the file is little-endian": reading(">3iq"),
            "seen has 64 bits from version 0.2 on": reading("<3ii"),
            "seen has only 32 bits before version 0.2": reading("<3iq"),
            "the last number counts weights: asked is the byte at which they begin": lambda data: (
                *oracle(data)[:4],
                (len(data) - oracle(data)[4]) // weights.FLOAT_BYTES,
            ),
        },
        tolerance=0,
    )


def darknet_norm(scales: Tensor, biases: Tensor, means: Tensor, variances: Tensor) -> Any:
    """The lesson's batch norm with these numbers."""
    norm = DarknetBatchNorm2d(len(scales))
    tensors = (norm.weight, norm.bias, norm.running_mean, norm.running_var)
    for own, given in zip(tensors, (scales, biases, means, variances), strict=True):
        own.data.copy_(given)
    return norm


def folded(kernels: Tensor, *numbers: Tensor) -> tuple[Tensor, Tensor]:
    """Kernels and biases of the convolution that does the work of both."""
    scale, shift = darknet_norm(*numbers).scale_and_shift()
    return kernels * scale.detach()[:, None, None, None], shift.detach()


@exercise("02.4", "Fold the batch norm")
def fold_the_batch_norm(attempt: Attempt) -> None:
    """One convolution for two; the oracle is the lesson's batch norm."""
    generator = np.random.default_rng(4)
    shapes = [(1, 1, 1)] * 8 + [(2, 2, 1)] * 3 + [(2, 3, 1), (3, 2, 3), (3, 3, 3)]
    cases = []
    for out, count, side in shapes:
        kernels = generator.integers(-4, 5, (out, count, side, side))
        numbers = [generator.integers(*limits, out) for limits in ((1, 5), (-4, 5), (-4, 5))]
        variances = generator.choice([0.25, 1, 4, 9, 16, 1e-8], out)
        tensors = [torch.from_numpy(part).float() for part in (kernels, *numbers, variances)]
        names = ("kernels", "scales", "biases", "means", "variances")
        cases.append(dict(zip(names, tensors, strict=True)))
    compare_function(attempt, cases, folded, wrong_folds(), tolerance=1e-4)


def wrong_folds() -> dict[str, Callable]:
    """Reasons and functions of the usual wrong ways to fold."""

    def with_factor(of_variance: Callable[[Tensor], Tensor]) -> Callable:
        def way(k: Tensor, s: Tensor, b: Tensor, m: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
            scale = s * of_variance(v)
            return k * scale[:, None, None, None], b - scale * m

        return way

    def with_biases(of_all: Callable[..., Tensor]) -> Callable:
        return lambda *inputs: (folded(*inputs)[0], of_all(*inputs))

    def along_inputs(kernels: Tensor, *numbers: Tensor) -> tuple[Tensor, Tensor]:
        scale, shift = darknet_norm(*numbers).scale_and_shift()
        return kernels * scale.detach()[None, :, None, None], shift.detach()

    return {
        "it divides by the variance: by the standard deviation is right": with_factor(
            lambda v: 1 / (v + 1e-6)
        ),
        "it multiplies by the standard deviation": with_factor(lambda v: v.sqrt() + 1e-6),
        "that is PyTorch's epsilon, inside the root: Darknet adds its own outside": with_factor(
            lambda v: 1 / (v + 1e-5).sqrt()
        ),
        "Darknet adds its epsilon to the standard deviation, not to the variance": with_factor(
            lambda v: 1 / (v + 1e-6).sqrt()
        ),
        "the epsilon is missing": with_factor(lambda v: 1 / v.sqrt()),
        "the mean is not in the new biases": with_biases(lambda k, s, b, m, v: b),
        "the mean goes through the scale as well": with_biases(lambda k, s, b, m, v: b - m),
        "the sign of the mean": with_biases(lambda k, s, b, m, v: 2 * b - folded(k, s, b, m, v)[1]),
        "the kernels are unchanged": lambda k, *numbers: (k, folded(k, *numbers)[1]),
        "the scales belong to the channels that come out, not to those that go in": along_inputs,
    }
