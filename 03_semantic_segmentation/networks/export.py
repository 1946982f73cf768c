"""Write a trained model as an ONNX file, which onnxruntime runs without PyTorch.

Examples:
    python -m networks.export --checkpoint runs/street/best.pt --out street.onnx
    python -m networks.export --checkpoint runs/mine/best.pt --out mine.onnx --photos my_data/images

The file takes pictures of any size, as many at once as you like. `images`: float32 (B, 3, H, W),
RGB in 0..1. It returns

    labels   uint8 (B, H, W): label k is names[k]; the file's metadata `names` is a JSON list
    scores   float32 (B, K, H, W): what the labels are the largest of; softmax makes them
             probabilities

    session = onnxruntime.InferenceSession("street.onnx")
    labels, scores = session.run(None, {"images": images})

Normalisation, half size and enlarging are in the file. A whole picture goes through it at once: cut
large ones into windows, as `evaluation.py` does.

The file is checked before it is kept: in pictures of several sizes (drawn street scenes, or the
first photos of --photos) onnxruntime must give 99.9 % of the pixels the label that PyTorch gives.

Exit code: 0 when the file was written and agrees, 2 when not.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn

from common.command import Command, make_parser
from common.files import replacing
from common.onnx_export import ExportError, to_onnx
from common.photo_command import find_photos
from common.photos import read_photo
from common.street.scenes import draw_scene
from evaluation import as_batch
from networks.models import load_model

LEAST_EQUAL = 0.999  # share of the pixels that have to get the same label
NUM_PICTURES = 8  # that are compared
LARGEST_PICTURE = 640  # pixels of a side of those; larger photos are cut
DRAWN_SIZES = ((320, 240), (64, 64), (201, 147), (333, 251))  # (width, height); some odd
TRACED_SIZE = (75, 101)  # (H, W); no multiple of any stride, so that the filling up is traced too
FREE_AXES = {
    "images": {0: "pictures", 2: "height", 3: "width"},
    "labels": {0: "pictures", 1: "height", 2: "width"},
    "scores": {0: "pictures", 2: "height", 3: "width"},
}


class LabelsAndScores(nn.Module):
    """A model that returns tensors: ONNX has no dictionaries."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return labels, uint8 (B, H, W), and scores (B, K, H, W), of images (B, 3, H, W)."""
        scores = self.model(images)["out"]  # (B, K, H, W)
        return scores.argmax(dim=1).to(torch.uint8), scores


def export_onnx(
    model: nn.Module, path: str | Path, pictures: Sequence[Tensor], class_names: Sequence[str]
) -> str:
    """Write a model as an ONNX file, after checking that onnxruntime gives the same labels.

    Args:
        model: of `models.load_model`, on the CPU.
        path: the file to make or replace.
        pictures: uint8 or float (3, H, W), RGB, of any sizes, to compare on.
        class_names: names of the labels 0, 1, ...; stored in the file as the metadata `names`.

    Returns:
        On how many pixels both were compared, and the share of equal labels, in words.

    Raises:
        ExportError: onnxruntime gives other labels; nothing is written.
        OSError: the folder cannot be written to.
    """
    network = LabelsAndScores(model).eval()
    # Each `if` on a size is traced as it comes out for this one, and stays right: the traced size
    # needs filling up, and a filling of 0 changes nothing.
    images = torch.rand(2, 3, *TRACED_SIZE)
    content = to_onnx(network, images, ["labels", "scores"], class_names, dynamic_axes=FREE_AXES)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    counts = np.array([compare(session, network, picture) for picture in pictures])  # (N, 2)
    equal, pixels = counts.sum(axis=0)
    words = f"{equal / pixels:.4%} of {pixels:,} pixels in {len(pictures)} pictures"
    if equal < LEAST_EQUAL * pixels:
        raise ExportError(
            f"{path}: was not written: onnxruntime and PyTorch give the same label to {words} only"
        )
    with replacing(Path(path)) as file:
        file.write(content)
    return words


@torch.inference_mode()
def compare(
    session: onnxruntime.InferenceSession, network: nn.Module, picture: Tensor
) -> tuple[int, int]:
    """Run an ONNX model and the network it came from on one picture (3, H, W).

    Returns:
        How many pixels get the same label from both, and how many there are.
    """
    images = as_batch(picture, torch.device("cpu"))  # (1, 3, H, W)
    expected = network(images)[0].numpy()
    found = session.run(["labels"], {"images": images.numpy()})[0]
    return int((found == expected).sum()), expected.size


def load_pictures(source: str | None) -> list[Tensor]:
    """Return pictures, uint8 (3, H, W): photos of a source, or drawn scenes of several sizes."""
    if source is None:
        sizes = [DRAWN_SIZES[seed % len(DRAWN_SIZES)] for seed in range(NUM_PICTURES)]
        images = [draw_scene(seed, *size).image for seed, size in enumerate(sizes)]
    else:
        photos = [read_photo(photo) for photo in find_photos(source)[:NUM_PICTURES]]
        images = [photo[:LARGEST_PICTURE, :LARGEST_PICTURE] for photo in photos]
    return [torch.from_numpy(np.ascontiguousarray(one.transpose(2, 0, 1))) for one in images]


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(__doc__)
    parser.prog = "python -m networks.export"
    add = parser.add_argument
    add("--checkpoint", type=Path, required=True, help="best.pt of a training run")
    add("--out", type=Path, required=True, metavar="FILE", help="the ONNX file to write")
    about = "compare on these: a photo, a folder of photos, or a pattern in quotes (drawn scenes)"
    add("--photos", metavar="SOURCE", help=about)
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    options = parse_arguments(arguments)
    with Command("stopped; nothing was written") as command:
        model, class_names, _ = load_model(options.checkpoint)
        pictures = load_pictures(options.photos)
        options.out.parent.mkdir(parents=True, exist_ok=True)
        words = export_onnx(model, options.out, pictures, class_names)
        print(f"{options.out}: agrees with PyTorch on {words}")
    return command.exit_code


if __name__ == "__main__":
    sys.exit(main())
