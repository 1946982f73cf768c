"""What one run of `detect.py` does: read, detect, draw, save, and remember what failed."""

import argparse
import itertools
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from tqdm import tqdm

from atomic import replacing
from detector import Detection, Detector
from photos import PhotoError, read_photo
from video import VideoSink, VideoSource
from visualization import annotate


class StoppedError(Exception):
    """The reader pressed q in the window."""


def batches(items: Iterable, size: int) -> Iterator[list]:
    """Cut a stream into lists of `size` items; the last may be shorter."""
    batch = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def load_photos(paths: list[Path]) -> Iterator[tuple[Path, np.ndarray | PhotoError]]:
    """Read photos in the background, a few ahead; a bad one comes as its error."""

    def load(path: Path) -> np.ndarray | PhotoError:
        try:
            return read_photo(path)
        except PhotoError as error:
            return error

    with ThreadPoolExecutor(2) as pool:
        for group in batches(paths, 16):
            yield from zip(group, pool.map(load, group), strict=True)


class Job:
    """One run of the command: detects, shows, saves, and remembers what failed."""

    def __init__(self, options: argparse.Namespace, detector: Detector):
        self.options = options
        self.detector = detector
        self.records: list[dict] = []
        self.failed = 0
        self._taken: set[Path] = set()
        self._sources: set[Path] = set()

    def report_failure(self, error: Exception) -> None:
        """Say what went wrong, once, and go on."""
        self.failed += 1
        tqdm.write(f"error: {error}", file=sys.stderr)

    def protect(self, sources: Iterable[str | Path]) -> None:
        """Never write over these files, whatever --out is."""
        self._sources |= {Path(source).resolve() for source in sources}

    def run_photos(self, paths: list[Path]) -> None:
        """Detect in photos, in batches, with a progress bar."""
        with tqdm(total=len(paths), unit="photo", disable=len(paths) < 2 or None) as bar:
            for batch in batches(load_photos(paths), self.options.batch_size):
                good = [(path, image) for path, image in batch if isinstance(image, np.ndarray)]
                for _, error in batch:
                    if isinstance(error, PhotoError):
                        self.report_failure(error)
                found = self.detector.detect_batch([image for _, image in good])
                for (path, image), detections in zip(good, found, strict=True):
                    self.keep(str(path), image, detections)
                    tqdm.write(describe(str(path), detections))
                    if self.options.out or self.options.show:
                        self.save_photo(path, self.draw(image, detections))
                bar.update(len(batch))

    def run_video(self, source: str | int) -> None:
        """Detect in a video file or a camera's pictures, frame by frame."""
        video = VideoSource(source)
        sink = None
        if self.options.out:
            name = f"camera_{source}" if isinstance(source, int) else Path(source).stem
            folder = None if isinstance(source, int) else Path(source).parent
            sink = VideoSink(self.free_name(f"{name}.mp4", folder), video.frames_per_second)
        total = video.frame_count
        if self.options.max_frames:
            total = min(total or self.options.max_frames, self.options.max_frames)
        try:
            with tqdm(total=total, unit="frame", desc=video.name) as bar:
                frames = itertools.islice(video, self.options.max_frames)
                number = 0
                for batch in batches(frames, self.options.batch_size):
                    for image, found in zip(batch, self.detector.detect_batch(batch), strict=True):
                        self.keep(video.name, image, found, number)
                        number += 1
                        if sink or self.options.show:
                            self.put(self.draw(image, found), sink)
                    bar.update(len(batch))
        finally:
            video.close()
            if sink:
                sink.close()
        tqdm.write(f"{video.name}: {number} frames")

    def put(self, image: np.ndarray, sink: VideoSink | None) -> None:
        """Send a drawn frame into the film and onto the screen."""
        if sink:
            sink.write(image)
        if self.options.show:
            show(image, wait_ms=1)

    def draw(self, image: np.ndarray, detections: list[Detection]) -> np.ndarray:
        """The image with its detections drawn in."""
        return annotate(
            image,
            [detection.box_xyxy for detection in detections],
            [detection.class_index for detection in detections],
            [detection.score for detection in detections],
            self.detector.class_names,
        )

    def keep(
        self, name: str, image: np.ndarray, detections: list[Detection], frame: int | None = None
    ) -> None:
        """Remember detections for the JSON file."""
        record: dict = {"image": name, "width": image.shape[1], "height": image.shape[0]}
        if frame is not None:
            record["frame"] = frame
        record["detections"] = [
            {
                "label": found.label,
                "score": round(found.score, 5),
                "box_xyxy": [round(edge, 2) for edge in found.box_xyxy],
            }
            for found in detections
        ]
        self.records.append(record)

    def save_photo(self, path: Path, image: np.ndarray) -> None:
        """Write an annotated photo (other formats than JPEG, PNG, WebP as PNG), and show it."""
        if self.options.out:
            known = path.suffix.lower() in {".jpg", ".jpeg", ".png", ".webp"}
            name = f"{path.stem}{path.suffix if known else '.png'}"
            target = self.free_name(name, path.parent)
            kind = Image.registered_extensions()[target.suffix.lower()]
            with replacing(target) as file:
                Image.fromarray(image).save(file, format=kind)
        if self.options.show:
            show(image, wait_ms=0)

    def free_name(self, name: str, source_folder: Path | None = None) -> Path:
        """A path in --out; photos of one name from several folders are numbered.

        In the folder of the source itself, `_detected` is added: no photo is written over.
        """
        folder = Path(self.options.out)
        folder.mkdir(parents=True, exist_ok=True)
        stem, suffix = Path(name).stem, Path(name).suffix
        if source_folder is not None and source_folder.resolve() == folder.resolve():
            stem = f"{stem}_detected"
        path, number = folder / f"{stem}{suffix}", 1
        while path in self._taken or path.resolve() in self._sources:
            number += 1
            path = folder / f"{stem}_{number}{suffix}"
        self._taken.add(path)
        return path


def describe(name: str, detections: list[Detection]) -> str:
    """One line for the terminal."""
    objects = ", ".join(f"{found.label} {found.score:.2f}" for found in detections)
    return f"{name}: {objects or 'nothing found'}"


def show(image: np.ndarray, wait_ms: int) -> None:
    """Show an image in a window; wait_ms 0 waits for a key.

    Raises:
        StoppedError: the key was q.
        RuntimeError: this machine has no screen, or OpenCV was built without windows.
    """
    try:
        cv2.imshow("detections (q stops)", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        key = cv2.waitKey(wait_ms)
    except cv2.error as error:
        raise RuntimeError("--show needs a screen; use --out to save instead") from error
    if key & 0xFF == ord("q"):
        raise StoppedError
