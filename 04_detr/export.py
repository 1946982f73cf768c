"""Write a trained detector as an ONNX file, which onnxruntime runs without PyTorch.

    python export.py --checkpoint runs/street/best.pt --out street.onnx
    python export.py --checkpoint runs/own/best.pt --out own.onnx --size 480 640

The file takes `images`: float32 (batch, 3, HEIGHT, WIDTH), RGB in 0..1; the batch is free, height
and width are fixed. It returns, of the Q queries of each picture,

    boxes_xyxy    float32 (batch, Q, 4): x1, y1, x2, y2 in pixels of the picture
    scores        float32 (batch, Q, classes): class k is names[k]; the file's metadata `names` is
                  a JSON list

    session = onnxruntime.InferenceSession("street.onnx")
    boxes, scores = session.run(None, {"images": images})

That is the whole detector. No suppression follows: each object is one query's. Scale a photo of
another size until it fits in, fill up with gray on the right and below, and divide its boxes by the
scale, as `evaluation.fit_picture` does.

The file is checked before it is kept: in drawn street scenes, one and several at a time,
onnxruntime must give what PyTorch gives.

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
from torchvision.ops import box_convert

from common.command import Command, make_parser
from common.files import replacing
from common.onnx_export import ExportError, to_onnx
from common.street.scenes import LARGEST_SIDE, SMALLEST_SIDE, draw_scene
from evaluation import load_detector

NUM_PICTURES = 8  # that are compared
TOLERANCES = (0.1, 1e-3)  # boxes: pixels; scores
NAMES = ("boxes_xyxy", "scores")


class LastStage(nn.Module):
    """A detector that returns the last stage's boxes and scores: ONNX has no dictionaries."""

    def __init__(self, detector: nn.Module) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Images (B, 3, H, W) to boxes (B, Q, 4), edges in pixels, and scores (B, Q, C)."""
        outputs = self.detector(images)
        height, width = images.shape[-2:]
        boxes_cxcywh = outputs["boxes_cxcywh"][-1] * images.new_tensor((width, height) * 2)
        return box_convert(boxes_cxcywh, "cxcywh", "xyxy"), outputs["logits"][-1].sigmoid()


def export_onnx(
    detector: nn.Module, path: str | Path, images: Tensor, class_names: Sequence[str]
) -> str:
    """Write a detector as an ONNX file, after checking that onnxruntime finds the same.

    Args:
        detector: of `evaluation.load_detector`, on the CPU.
        path: the file to make or replace.
        images: float32 (B, 3, H, W), RGB in 0..1, of the size that the file is to take.
        class_names: stored in the file as the metadata `names`.

    Returns:
        The largest differences, in words.

    Raises:
        ExportError: onnxruntime finds something else; nothing is written.
        OSError: the folder cannot be written to.
    """
    network = LastStage(detector).eval()
    content = to_onnx(network, images[:2], NAMES, class_names)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    differences = [compare(session, network, part) for part in (images, *images.split(1))]
    box, score = worst = np.max(differences, axis=0)
    words = f"largest differences: boxes {box:.1g} pixels, scores {score:.1g}"
    if not (worst <= TOLERANCES).all():
        raise ExportError(
            f"{path}: was not written: onnxruntime finds other things than PyTorch: {words}"
        )
    with replacing(Path(path)) as file:
        file.write(content)
    return words


@torch.inference_mode()
def compare(
    session: onnxruntime.InferenceSession, network: nn.Module, images: Tensor
) -> tuple[float, float]:
    """Run an ONNX model and the network it came from on images (B, 3, H, W).

    Queries that were selected with nearly the same score may come in another order: each is
    compared with the query of the other model whose boxes and scores are the nearest.

    Returns:
        The differences of boxes and scores, in the units of TOLERANCES; infinite where a number is
        none.
    """
    ours = [torch.from_numpy(one) for one in session.run(None, {"images": images.numpy()})]
    worst = [0.0, 0.0]
    for boxes, scores, other_boxes, other_scores in zip(*ours, *network(images), strict=True):
        box = (boxes[:, None] - other_boxes).abs().amax(dim=-1)  # (Q, Q)
        score = (scores[:, None] - other_scores).abs().amax(dim=-1)
        both = torch.maximum(box / TOLERANCES[0], score / TOLERANCES[1])
        partners = both.argmin(dim=1, keepdim=True)
        for k, distances in enumerate((box, score)):
            difference = distances.gather(1, partners).max().item()
            worst[k] = max(worst[k], difference if np.isfinite(difference) else np.inf)
    return worst[0], worst[1]


def drawn_images(height: int, width: int) -> Tensor:
    """Return drawn scenes, float32 (NUM_PICTURES, 3, H, W) in 0..1."""
    scenes = [draw_scene(seed, width, height).image for seed in range(NUM_PICTURES)]
    return torch.from_numpy(np.stack(scenes)).permute(0, 3, 1, 2).float() / 255


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(__doc__)
    add = parser.add_argument
    add("--checkpoint", type=Path, required=True, help="best.pt of a training run")
    add("--out", type=Path, required=True, metavar="FILE", help="the ONNX file to write")
    about = "of the pictures, in pixels (the image size of the training)"
    add("--size", type=int, nargs=2, metavar=("HEIGHT", "WIDTH"), help=about)
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
        images = drawn_images(*(options.size or settings.image_size))
        options.out.parent.mkdir(parents=True, exist_ok=True)
        words = export_onnx(detector, options.out, images, class_names)
        print(f"{options.out}: agrees with PyTorch in {len(images)} pictures; {words}")
    return command.exit_code


if __name__ == "__main__":
    sys.exit(main())
