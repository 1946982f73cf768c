"""Find objects in photos, folders, videos and camera pictures with YOLOv3.

    python detect.py photo.jpg holiday/ "trip/*.png" film.mp4 0 --out found --json found.json

The JSON is a list with one entry a photo or frame; `common/predictions.py` shows its words.

Exit code: 0 when all sources were processed, 1 when some could not be (the others were), 2 when
nothing could be done (a wrong option, no weights), or after Ctrl+C.
"""

import argparse
import itertools
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from boxes import parse_size
from common.command import Command, make_parser, write_json
from common.drawing import annotate
from common.files import replacing
from common.photo_files import (
    FreeNames,
    batches,
    expand_source,
    load_photos,
    passed_over,
    reason,
)
from common.photos import PHOTO_SUFFIXES, PhotoError, photo_note, read_photo
from common.predictions import detection_entry, photo_entry
from common.video import (
    VIDEO_SUFFIXES,
    StoppedError,
    VideoSink,
    VideoSource,
    is_video,
    show,
)
from detector import COCO_SIZE, MODELS, Detection, Detector
from speed.engines import ENGINES, PRECISIONS

SUFFIXES = PHOTO_SUFFIXES + VIDEO_SUFFIXES
CALIBRATION_PHOTOS = 64  # more change the scales little


class Job:
    """One run of the command: detects, shows, saves, and remembers what failed."""

    def __init__(self, options: argparse.Namespace, detector: Detector):
        self.options = options
        self.detector = detector
        self.records: list[dict] = []
        self.failed = 0
        self.names: FreeNames | None = None  # with --out, once the sources are known

    def report_failure(self, error: Exception | str) -> None:
        """Say what went wrong, once, and go on."""
        self.failed += 1
        tqdm.write(f"error: {error}", file=sys.stderr)

    def tell(self, note: str | None) -> None:
        """Say what is worth knowing, if there is something."""
        if note:
            tqdm.write(f"note: {note}", file=sys.stderr)

    def protect(self, sources: Iterable[str | Path]) -> None:
        """Never write over these files, whatever --out is."""
        if self.options.out:
            self.names = FreeNames(self.options.out, sources)

    def run_photos(self, paths: list[Path]) -> None:
        """Detect in photos, in batches, with a progress bar."""
        with tqdm(total=len(paths), unit="photo", disable=len(paths) < 2 or None) as bar:
            for batch in batches(load_photos(paths), self.options.batch_size):
                good = [(path, image) for path, image in batch if isinstance(image, np.ndarray)]
                for _, error in batch:
                    if isinstance(error, PhotoError):
                        self.report_failure(error)
                found = self.find([str(path) for path, _ in good], [image for _, image in good])
                for (path, image), detections in zip(good, found, strict=True):
                    if detections is None:
                        continue
                    self.tell(photo_note(path))
                    self.keep(str(path), image, detections)
                    tqdm.write(describe(str(path), detections))
                    if self.options.out or self.options.show:
                        self.save_photo(path, self.draw(image, detections))
                bar.update(len(batch))

    def find(self, names: list[str], images: list[np.ndarray]) -> list[list[Detection] | None]:
        """The detections of each picture; None for one that fails, and that is said."""
        try:
            return self.detector.detect_batch(images)
        except (ValueError, RuntimeError, MemoryError) as error:
            if len(images) == 1:
                self.report_failure(f"{names[0]}: {reason(error)}")
                return [None]
        return [self.find([name], [image])[0] for name, image in zip(names, images, strict=True)]

    def run_video(self, source: str | int) -> None:
        """Detect in a video file or a camera's pictures, frame by frame."""
        video = VideoSource(source)
        sink = None
        if self.options.out:
            name = f"camera_{source}" if isinstance(source, int) else Path(source).stem
            folder = None if isinstance(source, int) else Path(source).parent
            sink = VideoSink(self.names.free_path(f"{name}.mp4", folder), video.frames_per_second)
        total = video.frame_count
        if self.options.max_frames:
            total = min(total or self.options.max_frames, self.options.max_frames)
        try:
            with tqdm(total=total, unit="frame", desc=video.name) as bar:
                frames = itertools.islice(video.numbered(), self.options.max_frames)
                for batch in batches(frames, self.options.batch_size):
                    names = [f"{video.name}, frame {number}" for number, _ in batch]
                    detected = self.find(names, [image for _, image in batch])
                    for (number, image), found in zip(batch, detected, strict=True):
                        if found is None:
                            continue
                        self.keep(video.name, image, found, number)
                        if sink or self.options.show:
                            self.put(self.draw(image, found), sink)
                    bar.update(len(batch))
        finally:
            video.close()
            if sink:
                sink.close()
        tqdm.write(f"{video.name}: {bar.n} frames")
        for problem in video.problems():
            self.report_failure(problem)

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
        height, width = image.shape[:2]
        more = {} if frame is None else {"frame": frame}
        entries = [
            detection_entry(one.class_index + 1, one.class_name, one.score, one.box_xyxy)
            for one in detections
        ]
        self.records.append(photo_entry(name, width, height, **more, detections=entries))

    def save_photo(self, path: Path, image: np.ndarray) -> None:
        """Write an annotated photo (other formats than JPEG, PNG, WebP as PNG), and show it."""
        if self.options.out:
            known = path.suffix.lower() in {".jpg", ".jpeg", ".png", ".webp"}
            name = f"{path.stem}{path.suffix if known else '.png'}"
            target = self.names.free_path(name, path.parent)
            kind = Image.registered_extensions()[target.suffix.lower()]
            with replacing(target) as file:
                Image.fromarray(image).save(file, format=kind)
        if self.options.show:
            show(image, wait_ms=0)


def describe(name: str, detections: list[Detection]) -> str:
    """One line for the terminal."""
    objects = ", ".join(f"{found.class_name} {found.score:.2f}" for found in detections)
    return f"{name}: {objects or 'nothing found'}"


__all__ = ["Detection", "Detector", "main"]


EXAMPLES = """examples:
  python detect.py photo.jpg                          print what is in a photo
  python detect.py holiday/ --out found               draw into copies of all photos of a folder
  python detect.py "trip/**/*.jpg" --json found.json  write the boxes of many photos to a file
  python detect.py film.mp4 --model yolov3 --out .    the large model, on a film
  python detect.py 0 --show                           the first camera, in a window
  python detect.py photo.jpg --engine onnxruntime     computed by another program, faster
  python detect.py photo.jpg --cfg my.cfg --weights my.weights --names my.names"""


def parse_options(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = make_parser(
        "Find objects in photos, folders, videos and camera pictures with YOLOv3.", EXAMPLES
    )
    about = "photo, folder, pattern, video file, camera number"
    parser.add_argument("source", nargs="+", metavar="SOURCE", help=about)
    _add_model_options(parser)
    _add_output_options(parser)
    options = parser.parse_args(arguments)
    for name in ("batch_size", "max_frames"):
        value = getattr(options, name)
        if value is not None and value < 1:
            parser.error(f"--{name.replace('_', '-')} must be 1 or more, got {value}")
    return options


def _add_model_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--model", choices=MODELS, default="yolov3-tiny", help="COCO model (default: %(default)s)")
    add("--cfg", metavar="FILE", help="a model of your own: its .cfg ...")
    add("--weights", metavar="FILE", help="... its .weights ...")
    add("--names", metavar="FILE", help="... and its class names, one a line")
    about = f"input in pixels; more finds smaller objects (your cfg's, or {COCO_SIZE})"
    add("--size", type=parse_size, metavar="N|HxW", help=about)
    about = "report scores above it (%(default)s)"
    add("--score-threshold", type=float, default=0.25, metavar="S", help=about)
    about = "boxes that overlap more are one (%(default)s)"
    add("--iou-threshold", type=float, default=0.45, metavar="I", help=about)
    about = "photos computed together (%(default)s)"
    add("--batch-size", type=int, default=1, metavar="N", help=about)
    add("--device", metavar="D", help="cpu, cuda, cuda:1 ... (default: the GPU if there is one)")
    _add_engine_options(parser)


def _add_engine_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    about = "what computes the network (default: %(default)s); openvino is a package of its own"
    add("--engine", choices=ENGINES, default="torch", help=about)
    known = sorted({one for names in PRECISIONS.values() for one in names})
    about = "of the arithmetic (default: %(default)s); int8 is for onnxruntime and openvino"
    add("--precision", choices=known, default="fp32", help=about)
    about = "photos like yours, from which int8 takes its scales (default: five samples)"
    add("--calibration", metavar="DIR", help=about)
    about = "run through torch.compile: slow to start, then faster"
    add("--compile", action="store_true", help=about)


def _add_output_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--json", metavar="FILE", help="write all detections to this file")
    add("--out", metavar="DIR", help="write annotated photos and films into this folder")
    add("--max-frames", type=int, metavar="N", help="stop each video or camera after N frames")
    add("--show", action="store_true", help="open a window; q stops")


def build_detector(options: argparse.Namespace) -> Detector:
    """The detector that the options ask for."""
    calibration = None
    if options.calibration:
        paths = expand_source(options.calibration)[:CALIBRATION_PHOTOS]
        calibration = [read_photo(path) for path in paths]
    return Detector(
        options.model,
        cfg=options.cfg,
        weights=options.weights,
        names=options.names,
        size=options.size,
        score_threshold=options.score_threshold,
        iou_threshold=options.iou_threshold,
        device=options.device,
        engine=options.engine,
        precision=options.precision,
        compiled=options.compile,
        calibration=calibration,
    )


def run_sources(job: Job, sources: list[str]) -> None:
    """Photos first and together, then videos and cameras, each in the order given."""
    photos: list[Path] = []
    videos: list[str | int] = []
    for source in sources:
        if source.isdecimal() and not Path(source).exists():
            videos.append(int(source))
            continue
        try:
            for path in expand_source(source, SUFFIXES):
                videos.append(str(path)) if is_video(path) else photos.append(path)
        except PhotoError as error:
            job.report_failure(error)
            continue
        job.tell(passed_over(source, SUFFIXES))
    job.protect([*photos, *(video for video in videos if isinstance(video, str))])
    job.run_photos(photos)
    for video in videos:
        try:
            job.run_video(video)
        except PhotoError as error:
            job.report_failure(error)


def run(options: argparse.Namespace) -> int:
    """Handle every source, write the JSON, and return the number of sources that failed.

    Raises:
        ValueError: a model that cannot be used; its class is `DarknetFileError`.
        OSError: no weights (`DownloadError`), or the JSON cannot be written.
    """
    if options.json:
        Path(options.json).absolute().parent.mkdir(parents=True, exist_ok=True)
    job = Job(options, build_detector(options))
    try:
        run_sources(job, options.source)
    except StoppedError:
        pass
    except (OSError, RuntimeError) as error:
        job.report_failure(error)
    finally:  # also after Ctrl+C
        if options.json:
            write_json(Path(options.json), job.records, indent=1)
    return job.failed


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    options = parse_options(arguments)
    with Command("stopped; what was found so far is kept") as command:
        command.failed = run(options)
    return command.exit_code


if __name__ == "__main__":
    sys.exit(main())
