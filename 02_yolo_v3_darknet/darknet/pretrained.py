"""Give a new network the weights it starts from: a trained backbone, or random numbers.

The first layers of a detector see edges, textures and shapes, whatever its classes are. Trained on
COCO's 118,000 photos they are far better than a few hundred photos could make them. Only the
layers right before the outputs, whose number of filters depends on the classes, start anew.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch

from darknet.cfg import NETWORKS, DarknetFileError, Yolo
from darknet.download import DownloadError, fetch
from darknet.network import ConvolutionStage, Darknet
from darknet.weights import load_weights

BASES = ("yolov3-tiny", "yolov3", "yolov3-spp")


def base_cfg(base: str) -> Path:
    """Return the cfg file of a base: one of `BASES`, or a file of your own.

    Raises:
        ValueError: neither.
    """
    path = NETWORKS / f"{base}.cfg" if base in BASES else Path(base)
    if not path.is_file():
        raise ValueError(f"base is {base!r}; allowed are {', '.join(BASES)} or a .cfg file")
    return path


def start(model: Darknet, base: str, pretrained: str = "auto", objects: float = 8.0) -> str:
    """Fill a network with its first weights.

    Args:
        model: the network, with its own classes and anchors; changed in place.
        base: what its cfg was made from, see `base_cfg`.
        pretrained: `auto` takes the base's published COCO weights if they can be had, `none`
            random numbers; otherwise a .weights file, of the base, of the network itself, or a
            partial one such as darknet53.conv.74.
        objects: how many objects a photo has, for the first objectness.

    Returns:
        One line that says what was done.

    Raises:
        DarknetFileError: the given file fits neither the base nor the network.
    """
    initialise_outputs(model, objects)
    if pretrained == "none":
        return "start: random weights, as asked for"
    if pretrained != "auto":
        return f"start: {_load(model, base, Path(pretrained))}"
    if base not in BASES:
        return f"start: RANDOM weights, since no trained ones are known for {base}"
    try:
        path = fetch(f"{base}.weights")
    except DownloadError as error:
        reason = str(error).splitlines()[0]
        return (
            f"start: RANDOM weights, since {base}.weights cannot be had ({reason}). Expect far "
            "lower scores; --pretrained FILE takes a file that you have"
        )
    return f"start: {_load(model, base, path)}"


def output_layers(model: Darknet) -> set[int]:
    """Return the numbers of the layers that feed a [yolo] layer."""
    return {layer.sources[0] for layer in model.layers if isinstance(layer.block, Yolo)}


def _load(model: Darknet, base: str, path: Path) -> str:
    source = Darknet(base_cfg(base))
    try:
        report = load_weights(source, path, partial=True)
    except DarknetFileError as error:
        try:
            load_weights(model, path)
        except DarknetFileError:
            raise error from None
        return f"all layers from {path.name}"
    count = len(source.layers) if report.stopped_before is None else report.stopped_before
    taken = copy_layers(source, model, count)
    total = sum(isinstance(stage, ConvolutionStage) for stage in model.stages)
    return f"{taken} of {total} convolutions from {path.name}, the outputs random"


@torch.no_grad()
def copy_layers(source: Darknet, model: Darknet, count: int) -> int:
    """Copy convolutions among the first `count` layers, but never those before an output.

    Returns:
        How many were copied.

    Raises:
        DarknetFileError: a layer has another shape in the two networks.
    """
    skipped, taken = output_layers(model), 0
    for index in range(min(count, len(model.stages))):
        ours, theirs = model.stages[index], source.stages[index]
        if index in skipped or not isinstance(ours, ConvolutionStage):
            continue
        own, other = ours.state_dict(), theirs.state_dict()
        wrong = [n for n in own if n not in other or own[n].shape != other[n].shape]
        if wrong:
            raise DarknetFileError(
                f"layer {index} of {model.cfg_path} is not that of {source.cfg_path} ({wrong[0]})"
            )
        ours.load_state_dict(other)
        taken += 1
    return taken


@torch.no_grad()
def initialise_outputs(model: Darknet, objects_per_photo: float = 8.0) -> None:
    """Give the convolutions before the [yolo] layers small kernels and honest first guesses.

    A network that starts by saying "an object, at 50 %" thousands of times spends its first steps
    unlearning that. So the first objectness is `objects_per_photo` divided by the number of
    predictions (the prior of RetinaNet, Lin et al., 2017, arXiv:1708.02002, section 3.3), and the
    first class scores are one in the number of classes. For output layers without trained weights.

    Args:
        model: changed in place.
        objects_per_photo: how many are to be expected; the order of magnitude is enough.

    Raises:
        ValueError: `objects_per_photo` is not above 0.
        DarknetFileError: a [yolo] layer does not follow a convolution.
    """
    if not 0 < objects_per_photo < math.inf:
        raise ValueError(f"objects_per_photo must be above 0, got {objects_per_photo}")
    ends = [layer for layer in model.layers if isinstance(layer.block, Yolo)]
    places = sum(len(end.block.mask) * end.out_shape[1] * end.out_shape[2] for end in ends)
    for end in ends:
        stage = model.stages[end.sources[0]]
        if not isinstance(stage, ConvolutionStage) or stage.conv.bias is None:
            raise DarknetFileError(
                f"{model.cfg_path}, line {end.block.line}: a [yolo] block must follow a "
                "[convolutional] block without batch_normalize to be trained"
            )
        prior = min(objects_per_photo / places, 0.5)
        stage.conv.weight.normal_(0, 0.01)
        biases = stage.conv.bias.zero_().view(len(end.block.mask), -1)  # (A, 5 + C)
        biases[:, 4] = math.log(prior / (1 - prior))
        biases[:, 5:] = -math.log(max(end.block.classes - 1, 1))
