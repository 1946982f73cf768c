"""Give every pixel of photos a class with a trained model: label maps, overlays, areas as a table.

Examples:
    python predict.py photo.jpg --checkpoint runs/street/best.pt
    python predict.py "photos/*.jpg" --checkpoint runs/street/best.pt --json found.json --out drawn
    python predict.py photos/ --checkpoint runs/street/best.pt --csv areas.csv

The JSON is a list with one entry a photo; `common/predictions.py` shows its words. The CSV has a
row for each photo and class, also for a class without a pixel: file, label, class_name, pixels,
share. With --out, each photo gets two PNGs: photo.jpg.overlay.png to look at, and
photo.jpg.labels.png, whose pixels are the labels 0, 1, ... with a palette, so that viewers show it
in colours; photo.jpg is never written to.

A photo that is larger than the window (--window) is cut into windows that overlap.

Exit code: 0 done, 1 some photos could not be read, 2 bad usage or no photo at all.
"""

from __future__ import annotations

import argparse
import csv
import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from common.command import Command, make_parser
from common.files import replacing
from common.masks.overlays import overlay, palette_image
from common.photo_command import (
    add_photo_options,
    find_photos,
    predict_photos,
    to_best_device,
)
from common.predictions import class_entries, photo_entry
from evaluation import DEFAULT_OVERLAP, predict_labels
from networks.models import load_model

AREA_COLUMNS = ("file", "label", "class_name", "pixels", "share")


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(__doc__)
    add_photo_options(parser)
    add = parser.add_argument
    add("--csv", type=Path, help="file for the areas of all classes, as a table")
    add("--window", type=int, nargs=2, help="height and width the model sees at once")
    add("--overlap", type=float, default=DEFAULT_OVERLAP, help="of neighbouring windows (0.25)")
    parsed = parser.parse_args(arguments)
    if not 0 <= parsed.overlap < 1:
        parser.error(f"--overlap is {parsed.overlap}; allowed are 0 to below 1")
    if parsed.window and min(parsed.window) < 1:
        parser.error(f"--window is {parsed.window}; both sides have to be at least 1 pixel")
    return parsed


def predict(
    model: nn.Module,
    image: np.ndarray,
    window: tuple[int, int],
    overlap: float = DEFAULT_OVERLAP,
) -> np.ndarray:
    """Give every pixel of one picture a class.

    Args:
        model: a model of `networks.models`, in evaluation mode.
        image: uint8 (H, W, 3), RGB, of any size.
        window: (height, width) of the part that the model sees at once.
        overlap: share of a window that its neighbour covers too.

    Returns:
        uint8 (H, W): labels 0, 1, ...
    """
    pixels = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))  # (3, H, W)
    return predict_labels(model, pixels, window, overlap).numpy()


def to_json(photo: Path, labels: np.ndarray, class_names: Sequence[str]) -> dict[str, Any]:
    """Return how much of a photo each class covers, as plain values."""
    pixels = np.bincount(labels.ravel(), minlength=len(class_names)).tolist()
    height, width = labels.shape
    return photo_entry(photo, width, height, classes=class_entries(pixels, class_names))


def write_pictures(folder: Path, name: str, image: np.ndarray, labels: np.ndarray) -> None:
    """Write `name`.overlay.png and `name`.labels.png into the folder."""
    overlaid = Image.fromarray(overlay(image, labels))
    for ending, picture in (("overlay", overlaid), ("labels", palette_image(labels))):
        with replacing(folder / f"{name}.{ending}.png") as file:
            picture.save(file, "PNG")


def area_rows(photo: Path, labels: np.ndarray, class_names: Sequence[str]) -> list[list[Any]]:
    """Return a row of AREA_COLUMNS for each class, also for those that do not occur."""
    pixels = np.bincount(labels.ravel(), minlength=len(class_names)).tolist()
    return [
        [str(photo), label, name, count, f"{count / labels.size:.6f}"]
        for label, (name, count) in enumerate(zip(class_names, pixels, strict=True))
    ]


def write_areas(path: Path, rows: Sequence[Sequence[Any]]) -> None:
    """Write the table of areas, UTF-8, with a line of column names."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([AREA_COLUMNS, *rows])
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        file.write(text.getvalue().encode())


def check_names(photos: Sequence[Path], source: str) -> None:
    """Raise a ValueError if two photos have one name, and would be written to one file."""
    names = [path.name for path in photos]
    twice = next((path for k, path in enumerate(photos) if path.name in names[:k]), None)
    if twice is not None:
        raise ValueError(f"{twice}: another photo of {source} has that name too; rename one")


def run(arguments: argparse.Namespace) -> int:
    """Handle every photo and return the number of those that failed.

    Raises:
        ValueError: no photo, or no usable checkpoint; its classes are `PhotoError` and
            `CheckpointError`.
    """
    photos = find_photos(arguments.source)
    check_names(photos, arguments.source)
    model, class_names, settings = load_model(arguments.checkpoint)
    to_best_device(model)
    window = tuple(arguments.window or settings.window)
    areas: list[list[Any]] = []

    def predict_one(photo: Path, image: np.ndarray) -> dict[str, Any]:
        labels = predict(model, image, window, arguments.overlap)
        areas.extend(area_rows(photo, labels, class_names))
        if arguments.out:
            write_pictures(arguments.out, photo.name, image, labels)
        return to_json(photo, labels, class_names)

    failed = predict_photos(arguments, photos, predict_one)
    if arguments.csv:
        write_areas(arguments.csv, areas)
    return failed


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parsed = parse_arguments(arguments)
    with Command("stopped; nothing was listed") as command:
        command.failed = run(parsed)
    return command.exit_code


if __name__ == "__main__":
    sys.exit(main())
