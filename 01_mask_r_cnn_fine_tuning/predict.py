"""Find objects in photos with a trained model: draw them, and list them as JSON.

Examples:
    python predict.py photo.jpg --checkpoint runs/street/best.pt
    python predict.py "photos/*.jpg" --checkpoint runs/street/best.pt --json found.json --out drawn

The JSON is a list with one entry a photo; `common/predictions.py` shows its words.

Exit code: 0 done, 1 some photos could not be read, 2 bad usage or no photo at all.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor, nn
from torchvision.ops import clip_boxes_to_image

from common.coco_truth import encode_mask
from common.command import Command, make_parser
from common.drawing import draw_detections
from common.photo_command import (
    add_photo_options,
    find_photos,
    predict_photos,
    to_best_device,
)
from common.predictions import detection_entry, photo_entry
from model import MASK_THRESHOLD, load_detector

LONGEST_SHAPE = 20  # of a drawing: its sides' ratio, whatever the photo's


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(__doc__)
    add_photo_options(parser)
    parser.add_argument(
        "--score-threshold", type=float, default=0.5, help="leave out what scores less (0.5)"
    )
    parsed = parser.parse_args(arguments)
    if not 0 <= parsed.score_threshold <= 1:
        parser.error(f"--score-threshold is {parsed.score_threshold}; allowed are 0 to 1")
    return parsed


@torch.inference_mode()
def predict(model: nn.Module, image: np.ndarray, score_threshold: float = 0.5) -> dict[str, Tensor]:
    """Run a detector on one picture.

    Args:
        model: a torchvision detector in evaluation mode.
        image: uint8 (H, W, 3), RGB.
        score_threshold: leave out what scores less.

    Returns:
        `boxes` (N, 4) XYXY in pixels, `labels` (N,), `scores` (N,) from high to low and, from
        Mask R-CNN, `masks` bool (N, H, W), all on the CPU.
    """
    device = next(model.parameters()).device
    pixels = torch.from_numpy(image).permute(2, 0, 1).to(device).float() / 255  # (3, H, W)
    result = model([widened(pixels, model.transform.max_size)])[0]
    height, width = image.shape[:2]
    boxes = clip_boxes_to_image(result["boxes"], (height, width))
    keep = (result["scores"] >= score_threshold) & (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
    found = {name: value[keep].cpu() for name, value in {**result, "boxes": boxes}.items()}
    if "masks" in found:
        found["masks"] = found["masks"][:, 0, :height, :width] > MASK_THRESHOLD  # (N, H, W)
    return found


def widened(pixels: Tensor, max_size: int) -> Tensor:
    """Repeat the last row or column of a strip (3, H, W) so often that scaling leaves one of it."""
    height, width = pixels.shape[-2:]
    least = max(height, width) // max_size + 1
    below, right = max(0, least - height), max(0, least - width)
    return F.pad(pixels, (0, right, 0, below), mode="replicate")


def to_json(
    photo: Path, image: np.ndarray, found: dict[str, Tensor], class_names: Sequence[str]
) -> dict[str, Any]:
    """Return what was found in a photo as plain values."""
    masks = found.get("masks")
    detections = [
        detection_entry(
            label,
            class_names[label - 1],
            float(found["scores"][k]),
            found["boxes"][k].tolist(),
            None if masks is None else encode_mask(masks[k].numpy()),
        )
        for k, label in enumerate(found["labels"].tolist())
    ]
    height, width = image.shape[:2]
    return photo_entry(photo, width, height, detections=detections)


def draw(
    path: Path, image: np.ndarray, found: dict[str, Tensor], class_names: Sequence[str]
) -> None:
    """Write the photo with its boxes and masks as a PNG."""
    shape = min(max(image.shape[0] / image.shape[1], 1 / LONGEST_SHAPE), LONGEST_SHAPE)
    figure = Figure(figsize=(10, 10 * shape))  # needs no screen
    draw_detections(
        figure.subplots(),
        image,
        found["boxes"].numpy(),
        found["labels"].numpy(),
        found["scores"].numpy(),
        found["masks"].numpy() if "masks" in found else None,
        class_names=("background", *class_names),
    )
    figure.savefig(path, dpi=100, bbox_inches="tight")


def run(arguments: argparse.Namespace) -> int:
    """Handle every photo and return the number of those that failed.

    Raises:
        ValueError: no photo, or no usable checkpoint; its classes are `PhotoError` and
            `CheckpointError`.
    """
    photos = find_photos(arguments.source)
    model, class_names, _ = load_detector(arguments.checkpoint)
    to_best_device(model)

    def predict_one(photo: Path, image: np.ndarray) -> dict[str, Any]:
        found = predict(model, image, arguments.score_threshold)
        if arguments.out:
            draw(arguments.out / f"{photo.name}.png", image, found, class_names)
        return to_json(photo, image, found, class_names)

    return predict_photos(arguments, photos, predict_one)


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parsed = parse_arguments(arguments)
    with Command("stopped; nothing was listed") as command:
        command.failed = run(parsed)
    return command.exit_code


if __name__ == "__main__":
    sys.exit(main())
