"""What the prediction commands share: their options, the loop over the photos, the JSON."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from common.command import write_json
from common.photo_files import expand_source, passed_over, reason
from common.photos import PhotoError, photo_note, read_photo

MODEL_ERRORS = (ValueError, RuntimeError, MemoryError)  # of a model, for one picture


def add_photo_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which photos, which model, and where the results go."""
    parser.add_argument("source", help="a photo, a folder of photos, or a pattern in quotes")
    add_result_options(parser)


def add_result_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which model, and where the results go."""
    add = parser.add_argument
    add("--checkpoint", type=Path, required=True, help="best.pt of a training run")
    add("--out", type=Path, help="folder for what is drawn")
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


class Listing:
    """The list that a command makes of its files; what goes wrong with one is one line on stderr.

    Args:
        options: with `json` and `out`.

    Attributes:
        entries: of the list so far.
        failed: how many errors were said.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.entries: list[dict[str, Any]] = []
        self.failed = 0

    def make_folders(self) -> None:
        """Make the folders of `out` and `json`, before any work is done for nothing."""
        if self.options.out:
            self.options.out.mkdir(parents=True, exist_ok=True)
        if self.options.json:
            self.options.json.parent.mkdir(parents=True, exist_ok=True)

    def fail(self, error: object) -> None:
        """Say what went wrong; a progress bar is not disturbed."""
        self.failed += 1
        tqdm.write(f"error: {error}", file=sys.stderr)

    def tell(self, note: str | None) -> None:
        """Say what is worth knowing, if there is something."""
        if note:
            tqdm.write(f"note: {note}", file=sys.stderr)

    @contextmanager
    def one_error(self, file: Path) -> Iterator[None]:
        """Make what goes wrong with a file in the block one error, after which others go on."""
        try:
            yield
        except PhotoError as error:  # names the file
            self.fail(error)
        except (*MODEL_ERRORS, OSError) as error:
            self.fail(f"{file}: {reason(error)}")

    def add_photos(
        self, photos: Sequence[Path], predict_one: Callable[[Path, np.ndarray], dict[str, Any]]
    ) -> None:
        """Handle photos, with a progress bar; arguments as for `predict_photos`."""
        for photo in tqdm(photos, "predicting", unit="photo", disable=len(photos) < 2):
            with self.one_error(photo):
                image, note = read_photo(photo), photo_note(photo)
                self.entries.append(predict_one(photo, image))
                self.tell(note)

    def write(self) -> None:
        """Write the list into its file; without `json` and `out`, print it."""
        if self.options.json:
            write_json(self.options.json, self.entries)
        elif not self.options.out:
            print(json.dumps(self.entries, indent=2))


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
    listing = Listing(options)
    listing.make_folders()
    listing.add_photos(photos, predict_one)
    listing.write()
    return listing.failed
