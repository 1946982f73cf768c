"""What the prediction commands share that take photos and films: their sources, and their loop."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from common.files import replacing
from common.photo_command import MODEL_ERRORS, Listing
from common.photo_files import FreeNames, expand_source, passed_over, reason
from common.photos import PHOTO_SUFFIXES, PhotoError
from common.predictions import photo_entry
from common.video import VIDEO_SUFFIXES, VideoSink, VideoSource, is_video

SUFFIXES = PHOTO_SUFFIXES + VIDEO_SUFFIXES
# From a picture, uint8 (H, W, 3) RGB, to the entries of what a model finds in it and, with --out,
# its drawing.
Look = Callable[[np.ndarray], tuple[list[dict[str, Any]], np.ndarray | None]]


class Predictor:
    """A trained model that adds photos and films to the list, and draws them.

    Args:
        look: the model's call.
        options: of the command.
        sources: all files that are read: no drawing takes the place of one.
    """

    def __init__(self, look: Look, options: argparse.Namespace, sources: Sequence[Path]) -> None:
        self.look = look
        self.options = options
        self.names = FreeNames(options.out, sources) if options.out else None

    def photo(self, file: Path, image: np.ndarray) -> dict[str, Any]:
        """Return the entry of a photo, and write its drawing."""
        entries, drawing = self.look(image)
        if self.names:
            with replacing(self.names.free_path(f"{file.name}.png")) as png:
                Image.fromarray(drawing).save(png, "PNG")
        return photo_entry(file, *image.shape[1::-1], detections=entries)

    def film(self, file: Path, listing: Listing) -> None:
        """List a film's frames, and write them drawn as a film; say what of it was lost."""
        video, sink, left_out = VideoSource(file), None, 0
        try:
            if self.names:
                target = self.names.free_path(f"{file.stem}.mp4", file.parent)
                sink = VideoSink(target, video.frames_per_second)
            for number, image in self.frames(video):
                try:
                    entries, drawing = self.look(image)
                except MODEL_ERRORS as error:
                    if not left_out:
                        listing.fail(f"{file}: frame {number} (from 0): {reason(error)}")
                    left_out += 1
                    continue
                size = image.shape[1::-1]
                listing.entries.append(photo_entry(file, *size, frame=number, detections=entries))
                if sink:
                    sink.write(drawing)
        finally:  # also after Ctrl+C
            video.close()
            if sink:
                sink.close()
        if left_out > 1:
            listing.tell(f"{file}: {left_out} frames failed like that one and are left out")
        for problem in video.problems():
            listing.fail(problem)

    def frames(self, video: VideoSource) -> Iterator[tuple[int, np.ndarray]]:
        """Yield the numbered frames of a film, as far as --max-frames, with a progress bar."""
        most = self.options.max_frames
        total = min((count for count in (video.frame_count, most) if count), default=None)
        yield from tqdm(islice(video.numbered(), most), video.name, total, unit="frame")


def find_sources(sources: Sequence[str], listing: Listing) -> tuple[list[Path], list[Path]]:
    """Return the photos and the films that the sources stand for; say what is passed over.

    Raises:
        PhotoError: there is neither.
    """
    files, problems = [], []
    for source in sources:
        try:
            files += expand_source(source, SUFFIXES)
        except PhotoError as error:
            problems.append(str(error))
        else:
            listing.tell(passed_over(source, SUFFIXES))
    if not files:
        raise PhotoError("; ".join(problems))
    for problem in problems:
        listing.fail(problem)
    return [file for file in files if not is_video(file)], [*filter(is_video, files)]


def run(options: argparse.Namespace, load: Callable[[argparse.Namespace], Look]) -> int:
    """Handle every file and return how many errors there were.

    Args:
        options: of the command, with `source`, `out`, `json` and `max_frames`.
        load: makes the model's call from them, once the files are known.

    Raises:
        ValueError: no photo and no film, or no usable checkpoint; its classes are `PhotoError` and
            `CheckpointError`.
    """
    listing = Listing(options)
    photos, films = find_sources(options.source, listing)
    predictor = Predictor(load(options), options, [*photos, *films])
    listing.make_folders()
    try:
        listing.add_photos(photos, predictor.photo)
        for film in films:
            with listing.one_error(film):
                predictor.film(film, listing)
    finally:  # also after Ctrl+C
        listing.write()
    return listing.failed
