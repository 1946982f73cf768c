"""Find objects in photos and films with a trained model: draw them, and list them as JSON.

Examples:
    python predict.py photo.jpg --checkpoint runs/street/best.pt
    python predict.py holiday/ "trip/*.png" film.mp4 --checkpoint runs/street/best.pt --out drawn
    python predict.py photos/ --checkpoint runs/street/best.pt --json found.json --masks polygons

The JSON is a list with one entry a photo or frame, photos first; `common/predictions.py` shows its
words. With --out, photo.jpg is drawn as photo.jpg.png and film.avi as film.mp4, in their own size;
drawings of one name are numbered. A film that lies in the folder --out itself is drawn as
film_detected.mp4: no source is written over.

Exit code: 0 done, 1 some files could not be read (the others were), 2 bad usage, no photo and no
film at all, or stopped with Ctrl+C, which keeps what was listed so far.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import clip_boxes_to_image

from common.coco_truth import encode_mask, encode_polygons
from common.command import Command, make_parser
from common.drawing import annotate, instance_color
from common.film_command import Look, run
from common.photo_command import add_result_options, to_best_device
from common.predictions import detection_entry
from model import MASK_THRESHOLD, load_detector

MASK_FORMS = {"rle": encode_mask, "polygons": encode_polygons}


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(__doc__)
    add = parser.add_argument
    about = "photos, films, folders of both, and patterns in quotes"
    add("source", nargs="+", metavar="SOURCE", help=about)
    add_result_options(parser)
    about = "leave out what scores less (0.5)"
    add("--score-threshold", type=float, default=0.5, metavar="S", help=about)
    about = (
        "how the list holds masks: as COCO's run lengths (rle), which is the default, or as COCO's "
        "polygons; polygons cannot hold the holes of a mask and fill them"
    )
    add("--masks", choices=MASK_FORMS, default="rle", help=about)
    add("--max-frames", type=int, metavar="N", help="stop each film after N frames")
    parsed = parser.parse_args(arguments)
    if not 0 <= parsed.score_threshold <= 1:
        parser.error(f"--score-threshold is {parsed.score_threshold}; allowed are 0 to 1")
    if parsed.max_frames is not None and parsed.max_frames < 1:
        parser.error(f"--max-frames is {parsed.max_frames}; allowed are 1 and more")
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


def detection_entries(
    found: dict[str, Tensor], class_names: Sequence[str], mask_form: str
) -> list[dict[str, Any]]:
    """Return what `predict` found as plain values; `mask_form` is a key of MASK_FORMS."""
    masks = found.get("masks")
    return [
        detection_entry(
            label,
            class_names[label - 1],
            float(found["scores"][k]),
            found["boxes"][k].tolist(),
            None if masks is None else MASK_FORMS[mask_form](masks[k].numpy()),
        )
        for k, label in enumerate(found["labels"].tolist())
    ]


def draw(image: np.ndarray, found: dict[str, Tensor], class_names: Sequence[str]) -> np.ndarray:
    """Draw what `predict` found into a copy of the picture, uint8 (H, W, 3) RGB.

    Objects with masks have a colour each, in the order of their scores; boxes alone have the
    colours of their classes.
    """
    masks = found["masks"].numpy() if "masks" in found else None
    colors = None if masks is None else [instance_color(k) for k in range(len(masks))]
    columns = [found[name].numpy() for name in ("boxes", "labels", "scores")]
    return annotate(image, *columns, ("background", *class_names), masks, colors)


def load(options: argparse.Namespace) -> Look:
    """Return what finds, lists and, with --out, draws the objects of one picture.

    Raises:
        CheckpointError: there is no usable checkpoint.
    """
    model, class_names, _ = load_detector(options.checkpoint)
    to_best_device(model)

    def look(image: np.ndarray) -> tuple[list[dict[str, Any]], np.ndarray | None]:
        found = predict(model, image, options.score_threshold)
        drawing = draw(image, found, class_names) if options.out else None
        return detection_entries(found, class_names, options.masks), drawing

    return look


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parsed = parse_arguments(arguments)
    with Command("stopped; what was listed so far is kept") as command:
        command.failed = run(parsed, load)
    return command.exit_code


if __name__ == "__main__":
    sys.exit(main())
