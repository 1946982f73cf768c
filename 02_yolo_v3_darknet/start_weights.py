"""Give a new network the weights it starts from: a trained backbone, or random numbers.

The first layers of a detector see edges, textures and shapes, whatever its classes are. Trained on
COCO's 118,000 photos they are far better than a few hundred photos could make them. Only the
layers right before the outputs, whose number of filters depends on the classes, start anew.
"""

from __future__ import annotations

from pathlib import Path

import torch

from darknet import ConvolutionStage, Darknet
from darknet_cfg import DarknetFileError, Yolo
from download import DownloadError, fetch
from loss import initialise_outputs
from weights import load_weights

FOLDER = Path(__file__).resolve().parent
BASES = ("yolov3-tiny", "yolov3", "yolov3-spp")


def base_cfg(base: str) -> Path:
    """Return the cfg file of a base: one of `BASES`, or a file of your own.

    Raises:
        ValueError: neither.
    """
    path = FOLDER / "cfg" / f"{base}.cfg" if base in BASES else Path(base)
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
