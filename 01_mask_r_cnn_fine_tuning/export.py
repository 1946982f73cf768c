"""Write a trained detector as an ONNX file, which onnxruntime runs without PyTorch.

Examples:
    python export.py --checkpoint runs/street/best.pt --out people.onnx
    python export.py --checkpoint runs/own/best.pt --out own.onnx --size 480 640 --photos photos/

The file takes one picture, `image`: float32 (3, HEIGHT, WIDTH), RGB in [0, 1]. It returns

    boxes    float32 (N, 4): x1, y1, x2, y2 in pixels of the picture
    labels   int64 (N,): label k is names[k - 1]; the file's metadata `names` is a JSON list
    scores   float32 (N,): from high to low; what scores 0.05 or less is left out
    masks    float32 (N, 1, HEIGHT, WIDTH), of Mask R-CNN: probabilities, above 0.5 is the object

    session = onnxruntime.InferenceSession("people.onnx")
    boxes, labels, scores, masks = session.run(None, {"image": image})

N is another for each picture, and may be 0. The size is fixed: onnxruntime refuses other pictures.
Give the size that your pictures have; scaling them to the training's size is a part of the file.
Scale a photo of another size until it fits in, fill up with gray on the right and below, and
divide its boxes by the scale. `predict.py` takes photos of all sizes.

The file is checked before it is kept: in eight pictures (drawn street scenes, or the first photos
of --photos, stretched to the size) onnxruntime must find what PyTorch finds.

Exit code: 0 when the file was written and agrees, 2 when not.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn

from common.command import Command, make_parser
from common.files import replacing
from common.onnx_export import ExportError, to_onnx
from common.photo_command import find_photos
from common.photos import read_photo
from common.street.scenes import LARGEST_SIDE, SMALLEST_SIDE, draw_scene
from model import MASK_THRESHOLD, load_detector

TOLERANCES = (0.1, 1e-3, 1e-3)  # boxes: pixels; scores; masks: share of a picture's mask pixels
NUM_PICTURES = 8  # that are compared


class OnePicture(nn.Module):
    """A detector that takes one picture and returns tensors: ONNX has no lists or dictionaries."""

    def __init__(self, detector: nn.Module) -> None:
        super().__init__()
        self.detector = detector
        masks = ["masks"] if detector.roi_heads.has_mask() else []
        self.names = ["boxes", "labels", "scores", *masks]

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Image (3, H, W) to what `names` says."""
        found = self.detector([image])[0]
        return tuple(found[name] for name in self.names)


def export_onnx(
    detector: nn.Module, path: str | Path, pictures: Sequence[Tensor], class_names: Sequence[str]
) -> str:
    """Write a detector as an ONNX file, after checking that onnxruntime finds the same.

    Args:
        detector: of `model.load_detector`, on the CPU.
        path: the file to make or replace.
        pictures: float32 (3, H, W), RGB in [0, 1], all of the size that the file is to take; with
            objects that the detector finds.
        class_names: without the background; stored in the file as the metadata `names`.

    Returns:
        How many objects were compared and the largest differences, in words.

    Raises:
        ExportError: the detector cannot be exported, finds nothing in the pictures, or onnxruntime
            finds something else; nothing is written.
        OSError: the folder cannot be written to.
    """
    refused = f"{path}: was not written:"
    if detector.rpn.score_thresh > 0:
        raise ExportError(
            f"{refused} with mobilenet_v3, onnxruntime fails in pictures in which nothing is "
            "proposed; train with another --backbone"
        )
    network = OnePicture(detector).eval()
    content = _to_onnx(network, pictures[0], class_names)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    counts, differences = zip(*(compare(session, network, p) for p in pictures), strict=True)
    box, score, mask = worst = np.max(differences, axis=0)
    words = (
        f"{sum(counts)} objects in {len(pictures)} pictures; largest differences: boxes "
        f"{box:.1g} pixels, scores {score:.1g}, masks {mask:.1g} of the pixels"
    )
    if not (worst <= TOLERANCES).all():
        raise ExportError(f"{refused} onnxruntime finds other things than PyTorch: {words}")
    if not sum(counts):
        raise ExportError(
            f"{refused} the detector finds nothing in the pictures to compare on; give photos of "
            "what it has learned with --photos"
        )
    with replacing(Path(path)) as file:
        file.write(content)
    return words


def _to_onnx(network: OnePicture, image: Tensor, class_names: Sequence[str]) -> bytes:
    """Trace a detector; the number of objects is free."""
    objects = {name: {0: "objects"} for name in network.names}
    options = {"input_name": "image", "dynamic_axes": objects, "edit": _free_loops}
    return to_onnx(network, image, network.names, class_names, **options)


def _free_loops(model: onnx.ModelProto) -> None:
    """Let loops add a mask a turn: a fixed shape has onnxruntime warn of each."""
    for node in model.graph.node:
        if node.op_type == "Loop":
            body = onnx.helper.get_node_attr_value(node, "body")
            for masks in (body.input[2], body.output[1]):
                masks.type.tensor_type.ClearField("shape")


@torch.inference_mode()
def compare(
    session: onnxruntime.InferenceSession, network: nn.Module, image: Tensor
) -> tuple[int, tuple[float, float, float]]:
    """Run an ONNX model and the network it came from on one picture (3, H, W).

    Returns:
        The number of objects PyTorch finds; the differences of boxes, scores and masks, in the
        units of TOLERANCES. They are infinite if onnxruntime finds more objects, or less.
    """
    boxes, labels, scores, *masks = (value.numpy() for value in network(image))
    found = session.run(None, {"image": image.numpy()})
    if len(boxes) != len(found[0]):
        return len(boxes), (np.inf, np.inf, np.inf)
    if not len(boxes):
        return 0, (0.0, 0.0, 0.0)
    distances = np.abs(boxes[:, None] - found[0]).max(axis=2)  # (N, N)
    distances[labels[:, None] != found[1]] = np.inf
    partners = distances.argmin(axis=1)  # objects of equal scores may come in another order
    box, score = distances.min(axis=1).max(), np.abs(scores - found[2][partners]).max()
    if not masks:
        return len(boxes), (box, score, 0.0)
    mask = (masks[0] > MASK_THRESHOLD) != (found[3][partners] > MASK_THRESHOLD)
    return len(boxes), (box, score, mask.mean())


def load_pictures(height: int, width: int, source: str | None) -> list[Tensor]:
    """Return pictures (3, H, W) of a size: photos of a source, or drawn scenes."""
    if source is None:
        images = [draw_scene(seed, width, height).image for seed in range(NUM_PICTURES)]
    else:
        photos = [read_photo(photo) for photo in find_photos(source)[:NUM_PICTURES]]
        images = [cv2.resize(p, (width, height), interpolation=cv2.INTER_AREA) for p in photos]
    return [torch.from_numpy(image).permute(2, 0, 1).float() / 255 for image in images]


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(__doc__)
    add = parser.add_argument
    add("--checkpoint", type=Path, required=True, help="best.pt of a training run")
    add("--out", type=Path, required=True, metavar="FILE", help="the ONNX file to write")
    about = "of the pictures, in pixels (of drawn scenes, or the image size of the training)"
    add("--size", type=int, nargs=2, metavar=("HEIGHT", "WIDTH"), help=about)
    about = "compare on these: a photo, a folder of photos, or a pattern in quotes (drawn scenes)"
    add("--photos", metavar="SOURCE", help=about)
    parsed = parser.parse_args(arguments)
    if parsed.size and not SMALLEST_SIDE <= min(parsed.size) <= max(parsed.size) <= LARGEST_SIDE:
        allowed = f"each side has to be {SMALLEST_SIDE} to {LARGEST_SIDE}"
        parser.error(f"--size is {parsed.size[0]} {parsed.size[1]}; {allowed}")
    return parsed


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    options = parse_arguments(arguments)
    with Command("stopped; nothing was written") as command:
        detector, class_names, settings = load_detector(options.checkpoint)
        drawn = settings.data == "street"
        size = draw_scene(0).image.shape[:2] if drawn else settings.image_size
        pictures = load_pictures(*(options.size or size), options.photos)
        options.out.parent.mkdir(parents=True, exist_ok=True)
        words = export_onnx(detector, options.out, pictures, class_names)
        print(f"{options.out}: agrees with PyTorch on {words}")
    return command.exit_code


if __name__ == "__main__":
    sys.exit(main())
