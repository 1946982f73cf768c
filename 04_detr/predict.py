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
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from tqdm import tqdm

from common.command import Command, make_parser
from common.drawing import annotate
from common.files import replacing
from common.photo_command import (
    MODEL_ERRORS,
    Listing,
    add_result_options,
    to_best_device,
)
from common.photo_files import FreeNames, expand_source, passed_over, reason
from common.photos import PHOTO_SUFFIXES, PhotoError
from common.predictions import detection_entry, photo_entry
from common.video import VIDEO_SUFFIXES, VideoSink, VideoSource, is_video
from evaluation import detections, fit_picture, load_detector, to_input, to_photo

SUFFIXES = PHOTO_SUFFIXES + VIDEO_SUFFIXES


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


class Predictor:
    """A trained model that adds photos and films to the list, and draws them.

    Args:
        options: of the command.
        sources: all files that are read: no drawing takes the place of one.

    Raises:
        CheckpointError: there is no usable checkpoint.
    """

    def __init__(self, options: argparse.Namespace, sources: Sequence[Path]) -> None:
        self.options = options
        self.model, self.class_names, self.settings = load_detector(options.checkpoint)
        to_best_device(self.model)
        self.names = FreeNames(options.out, sources) if options.out else None

    def look(
        self, file: Path, image: np.ndarray, **more: Any
    ) -> tuple[dict[str, Any], np.ndarray | None]:
        """Return a picture's entry, in which `more` stands too, and with --out its drawing."""
        size, threshold = self.settings.image_size, self.options.score_threshold
        found = predict(self.model, image, size, threshold)
        drawing = draw(image, found, self.class_names) if self.options.out else None
        entries = detection_entries(found, self.class_names)
        height, width = image.shape[:2]
        return photo_entry(file, width, height, **more, detections=entries), drawing

    def photo(self, file: Path, image: np.ndarray) -> dict[str, Any]:
        """Return the entry of a photo, and write its drawing."""
        entry, drawing = self.look(file, image)
        if self.names:
            with replacing(self.names.free_path(f"{file.name}.png")) as png:
                Image.fromarray(drawing).save(png, "PNG")
        return entry

    def film(self, file: Path, listing: Listing) -> None:
        """List a film's frames, and write them drawn as a film; say what of it was lost."""
        video, sink, left_out = VideoSource(file), None, 0
        try:
            if self.names:
                target = self.names.free_path(f"{file.stem}.mp4", file.parent)
                sink = VideoSink(target, video.frames_per_second)
            for number, image in self.frames(video):
                try:
                    entry, drawing = self.look(file, image, frame=number)
                except MODEL_ERRORS as error:
                    if not left_out:
                        listing.fail(f"{file}: frame {number} (from 0): {reason(error)}")
                    left_out += 1
                    continue
                listing.entries.append(entry)
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


def run(arguments: argparse.Namespace) -> int:
    """Handle every file and return how many errors there were.

    Raises:
        ValueError: no photo and no film, or no usable checkpoint; its classes are `PhotoError` and
            `CheckpointError`.
    """
    listing = Listing(arguments)
    photos, films = find_sources(arguments.source, listing)
    predictor = Predictor(arguments, [*photos, *films])
    listing.make_folders()
    try:
        listing.add_photos(photos, predictor.photo)
        for film in films:
            with listing.one_error(film):
                predictor.film(film, listing)
    finally:  # also after Ctrl+C
        listing.write()
    return listing.failed


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parsed = parse_arguments(arguments)
    with Command("stopped; what was listed so far is kept") as command:
        command.failed = run(parsed)
    return command.exit_code


if __name__ == "__main__":
    sys.exit(main())
