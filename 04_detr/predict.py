"""Find objects in photos and films with a trained model: draw them, and list them as JSON.

Examples:
    python predict.py photo.jpg --checkpoint runs/street/best.pt
    python predict.py holiday/ "trip/*.png" film.mp4 --checkpoint runs/street/best.pt --out drawn
    python predict.py photos/ --checkpoint runs/street/best.pt --json found.json

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
from torch import Tensor, nn

from common.command import Command, make_parser
from common.drawing import annotate
from common.film_command import Look, run
from common.photo_command import add_result_options, to_best_device
from common.predictions import detection_entry
from evaluation import detections, fit_picture, load_detector, to_input, to_photo


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(__doc__)
    add = parser.add_argument
    about = "photos, films, folders of both, and patterns in quotes"
    add("source", nargs="+", metavar="SOURCE", help=about)
    add_result_options(parser)
    about = "leave out what scores less (0.5)"
    add("--score-threshold", type=float, default=0.5, metavar="S", help=about)
    add("--max-frames", type=int, metavar="N", help="stop each film after N frames")
    parsed = parser.parse_args(arguments)
    if not 0 <= parsed.score_threshold <= 1:
        parser.error(f"--score-threshold is {parsed.score_threshold}; allowed are 0 to 1")
    if parsed.max_frames is not None and parsed.max_frames < 1:
        parser.error(f"--max-frames is {parsed.max_frames}; allowed are 1 and more")
    return parsed


@torch.inference_mode()
def predict(
    model: nn.Module, image: np.ndarray, size: tuple[int, int], score_threshold: float = 0.5
) -> dict[str, Tensor]:
    """Run a detector on one picture. What its queries answer is the result: nothing is suppressed.

    Args:
        model: a `detr.DETR` in evaluation mode.
        image: uint8 (H, W, 3), RGB.
        size: (height, width) of the canvas that it was trained with, into which the picture is fit.
        score_threshold: leave out what scores less.

    Returns:
        `boxes` (N, 4) XYXY in pixels, `labels` (N,) from 1, `scores` (N,) from high to low, on the
        CPU.
    """
    device = next(model.parameters()).device
    canvas = torch.from_numpy(fit_picture(image, size)[0]).permute(2, 0, 1)  # (3, H, W)
    found = detections(model(to_input(canvas[None], device)))[0]
    boxes = to_photo(found["boxes_cxcywh"], size, *image.shape[:2])
    keep = (found["scores"] >= score_threshold) & (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
    columns = {"boxes": boxes, "labels": found["classes"] + 1, "scores": found["scores"]}
    return {name: values[keep].cpu() for name, values in columns.items()}


def detection_entries(found: dict[str, Tensor], class_names: Sequence[str]) -> list[dict[str, Any]]:
    """Return what `predict` found as plain values."""
    columns = zip(*(found[name].tolist() for name in ("labels", "scores", "boxes")), strict=True)
    return [
        detection_entry(label, class_names[label - 1], score, box) for label, score, box in columns
    ]


def draw(image: np.ndarray, found: dict[str, Tensor], class_names: Sequence[str]) -> np.ndarray:
    """Draw what `predict` found into a copy of the picture, uint8 (H, W, 3) RGB."""
    columns = [found[name].numpy() for name in ("boxes", "labels", "scores")]
    return annotate(image, *columns, ("background", *class_names))


def load(options: argparse.Namespace) -> Look:
    """Return what finds, lists and, with --out, draws the objects of one picture.

    Raises:
        CheckpointError: there is no usable checkpoint.
    """
    model, class_names, settings = load_detector(options.checkpoint)
    to_best_device(model)

    def look(image: np.ndarray) -> tuple[list[dict[str, Any]], np.ndarray | None]:
        found = predict(model, image, settings.image_size, options.score_threshold)
        drawing = draw(image, found, class_names) if options.out else None
        return detection_entries(found, class_names), drawing

    return look


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parsed = parse_arguments(arguments)
    with Command("stopped; what was listed so far is kept") as command:
        command.failed = run(parsed, load)
    return command.exit_code


if __name__ == "__main__":
    sys.exit(main())
