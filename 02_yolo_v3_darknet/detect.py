"""Find objects in photos, folders, videos and camera pictures with YOLOv3.

    python detect.py photo.jpg holiday/ "trip/*.png" film.mp4 0 --out found --json found.json

Exit code: 0 when all sources were processed, 1 when some could not be (the others were), 2 when
nothing could be done (a wrong option, no weights).
"""

import argparse
import json
import sys
from pathlib import Path

from atomic import replacing
from detection_job import Job, StoppedError
from detector import COCO_SIZE, MODELS, Detection, Detector
from input_size import parse_size
from optimize import DTYPES, has_bfloat16_instructions
from photos import PHOTO_SUFFIXES, PhotoError, expand_source
from video import VIDEO_SUFFIXES, is_video

__all__ = ["Detection", "Detector", "main"]


EXAMPLES = """examples:
  python detect.py photo.jpg                          print what is in a photo
  python detect.py holiday/ --out found               draw into copies of all photos of a folder
  python detect.py "trip/**/*.jpg" --json found.json  write the boxes of many photos to a file
  python detect.py film.mp4 --model yolov3 --out .    the large model, on a film
  python detect.py 0 --show                           the first camera, in a window
  python detect.py photo.jpg --cfg my.cfg --weights my.weights --names my.names"""


def parse_options(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description="Find objects in photos, folders, videos and camera pictures with YOLOv3.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
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
    about = "of the arithmetic (default: %(default)s)"
    add("--precision", choices=list(DTYPES), default="fp32", help=about)
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
    if options.precision == "bf16" and not has_bfloat16_instructions() and options.device != "cuda":
        print("note: this processor emulates bfloat16; fp32 is faster here", file=sys.stderr)
    return Detector(
        options.model,
        cfg=options.cfg,
        weights=options.weights,
        names=options.names,
        size=options.size,
        score_threshold=options.score_threshold,
        iou_threshold=options.iou_threshold,
        device=options.device,
        precision=options.precision,
        compiled=options.compile,
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
            for path in expand_source(source, PHOTO_SUFFIXES + VIDEO_SUFFIXES):
                videos.append(str(path)) if is_video(path) else photos.append(path)
        except PhotoError as error:
            job.report_failure(error)
    job.protect([*photos, *(video for video in videos if isinstance(video, str))])
    job.run_photos(photos)
    for video in videos:
        try:
            job.run_video(video)
        except PhotoError as error:
            job.report_failure(error)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    options = parse_options(arguments)
    try:
        if options.json:
            Path(options.json).absolute().parent.mkdir(parents=True, exist_ok=True)
        job = Job(options, build_detector(options))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    stopped = False
    try:
        run_sources(job, options.source)
    except StoppedError:
        pass
    except KeyboardInterrupt:
        print("stopped; what was found so far is kept", file=sys.stderr)
        stopped = True
    except (OSError, RuntimeError) as error:
        job.report_failure(error)
    try:
        if options.json:
            with replacing(Path(options.json)) as file:
                file.write(json.dumps(job.records, indent=1).encode())
    except OSError as error:
        print(f"error: {options.json}: cannot be written ({error})", file=sys.stderr)
        return 2
    return 1 if job.failed or stopped else 0


if __name__ == "__main__":
    sys.exit(main())
