"""What both prediction commands share: their options, the loop over the photos, the JSON."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from common.command import write_json
from common.photo_files import expand_source, passed_over, reason
from common.photos import PhotoError, photo_note, read_photo


def add_photo_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which photos, which model, and where the results go."""
    add = parser.add_argument
    add("source", help="a photo, a folder of photos, or a pattern in quotes")
    add("--checkpoint", type=Path, required=True, help="best.pt of a training run")
    add("--out", type=Path, help="folder for the pictures that are drawn")
    add("--json", type=Path, help="file for the list; without --json and --out it is printed")


def find_photos(source: str) -> list[Path]:
    """List the photos of a file, a folder or a pattern; what of a folder is passed over is said.

    Raises:
        PhotoError: there is none.
    """
    photos, note = expand_source(source), passed_over(source)
    if note:
        print(f"note: {note}", file=sys.stderr)
    return photos


def to_best_device(model: nn.Module) -> nn.Module:
    """Move a model to the GPU, if there is one."""
    return model.to("cuda" if torch.cuda.is_available() else "cpu")


def predict_photos(
    options: argparse.Namespace,
    photos: Sequence[Path],
    predict_one: Callable[[Path, np.ndarray], dict[str, Any]],
) -> int:
    """Handle every photo, write the list, and return the number of those that failed.

    Args:
        options: with `json` and `out`; the folder `out` is made.
        photos: their files.
        predict_one: called with a file and its picture, uint8 (H, W, 3) RGB; returns the entry of
            the list.
    """
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
    entries, failed = [], 0
    for photo in tqdm(photos, "predicting", disable=len(photos) == 1):
        try:
            image, note = read_photo(photo), photo_note(photo)
            entries.append(predict_one(photo, image))
        except PhotoError as error:
            print(f"error: {error}", file=sys.stderr)
            failed += 1
        except (ValueError, RuntimeError, MemoryError) as error:  # of the model, for this photo
            print(f"error: {photo}: {reason(error)}", file=sys.stderr)
            failed += 1
        else:
            if note:
                print(f"note: {note}", file=sys.stderr)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        write_json(options.json, entries)
    elif not options.out:
        print(json.dumps(entries, indent=2))
    return failed
