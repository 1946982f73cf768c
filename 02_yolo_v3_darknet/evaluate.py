"""Measure a Darknet model on labelled photos: COCO's AP, by COCO's own code (pycocotools).

The model is one of Darknet's own, trained on COCO, or the three files that train.py writes. Its
classes and those of the labels are matched by their names; category numbers with gaps, such as
COCO's 80 classes numbered 1 to 90, are kept as the label file has them.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

from boxes import check_size, parse_size
from common.choices import MAX_DETECTIONS, ON_INVALID
from common.coco_metrics import coco_metrics, format_metrics
from common.coco_truth import coco_truth, crowded_note
from common.command import Command, make_parser, write_json
from darknet.cfg import NETWORKS
from darknet.download import fetch
from darknet.network import Darknet
from dataset import PhotoSet, load_test_photos
from detector import COCO_SIZE, MODELS, choose_device, default_size, read_names
from evaluation import (
    IOU_THRESHOLD,
    LOWEST_SCORE,
    find_all,
    match_class_names,
    to_coco,
)

EPILOG = """examples:
  python evaluate.py --data coco/annotations/instances_val2017.json        Darknet's yolov3-tiny
  python evaluate.py --data street --cfg runs/street/model.cfg \\
      --weights runs/street/model.weights --names runs/street/model.names
  python evaluate.py --data bccd --split test --own runs/bccd             the same, shorter

AP is the mean over ten overlaps (IoU 0.50, 0.55 ... 0.95), AP50 and AP75 are at one of them. On
COCO's 5,000 validation photos the authors of YOLOv3 state AP50 0.331 for yolov3-tiny and 0.553 for
yolov3, both at --size 416.

exit code: 0 done, 2 bad usage, model or data"""


def parse_options(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = make_parser(__doc__, EPILOG)
    add = parser.add_argument
    add("--data", required=True, help="street, penn_fudan, or a COCO, VOC or YOLO path")
    add("--split", metavar="NAME", help="the data's own list (test or val; else all photos)")
    add("--held-out", action="store_true", help="only the test part that train.py makes")
    add("--seed", type=int, default=0, help="... with this seed (0)")
    add("--on-invalid", choices=ON_INVALID, default="refuse", help="bad labels (refuse)")
    add("--model", choices=MODELS, default=MODELS[0], help="a model of COCO (%(default)s)")
    add("--own", type=Path, metavar="DIR", help="a folder with model.cfg, .weights and .names")
    for name in ("cfg", "weights", "names"):
        add(f"--{name}", type=Path, metavar="FILE", help="a model of your own, all three files")
    add("--size", type=parse_size, metavar="N|HxW", help=f"pixels (your cfg's, or {COCO_SIZE})")
    add("--iou-threshold", type=float, default=IOU_THRESHOLD, help="suppression (%(default)s)")
    add("--score-threshold", type=float, default=LOWEST_SCORE, help="keep above (%(default)s)")
    about = "of a photo, kept and measured (%(default)s)"
    add("--max-detections", type=int, default=MAX_DETECTIONS, metavar="N", help=about)
    add("--batch-size", type=int, default=8, metavar="N", help="photos together (%(default)s)")
    add("--device", help="cpu, cuda:0 ... (default: the GPU if there is one)")
    add("--json", type=Path, metavar="FILE", help="write the metrics to this file")
    add("--detections", type=Path, metavar="FILE", help="write all detections, COCO's result form")
    return parser.parse_args(arguments)


def load_model(options: argparse.Namespace) -> tuple[Darknet, list[str]]:
    """The network with its weights, and the names of its classes.

    Raises:
        ValueError: only some of the three files are given.
        DarknetFileError: a file that cannot be used.
        DownloadError: weights that cannot be had.
    """
    files = [options.cfg, options.weights, options.names]
    if options.own is not None:
        files = [options.own / f"model.{ending}" for ending in ("cfg", "weights", "names")]
    elif files == [None] * 3:
        cfg = NETWORKS / f"{options.model}.cfg"
        files = [cfg, fetch(f"{options.model}.weights"), NETWORKS / "coco.names"]
    if None in files:
        raise ValueError("a model of your own needs all three files: --cfg, --weights and --names")
    model = Darknet(files[0])
    if not model.outputs:
        raise ValueError(f"{files[0]}: has no [yolo] block, so it detects nothing")
    model.load_weights(files[1])
    return model.eval(), read_names(files[2], model.outputs[0].classes)


def check_options(options: argparse.Namespace) -> None:
    """Raise ValueError for a number that is not allowed."""
    for name in ("iou_threshold", "score_threshold"):
        if not 0 <= getattr(options, name) <= 1:
            raise ValueError(f"--{name.replace('_', '-')} must be from 0 to 1")
    for name in ("batch_size", "max_detections"):
        if getattr(options, name) < 1:
            option = f"--{name.replace('_', '-')}"
            raise ValueError(f"{option} must be 1 or more, got {getattr(options, name)}")


def evaluate(options: argparse.Namespace) -> tuple[dict[str, Any], PhotoSet, list[dict]]:
    """Run the model over the photos; the metrics, the photos and the detections."""
    check_options(options)
    model, names = load_model(options)
    own = options.own is not None or options.cfg is not None
    size = default_size(model, own) if options.size is None else options.size
    size = check_size(size, model.stride)
    photos = load_test_photos(
        options.data,
        split=options.split,
        held_out=options.held_out,
        seed=options.seed,
        on_invalid=options.on_invalid,
    )
    class_map, unknown = match_class_names(names, photos.class_names)
    if unknown:
        print(f"the model does not know: {', '.join(unknown)}", file=sys.stderr)
    began = time.perf_counter()
    found = find_all(
        model.to(choose_device(options.device)),
        photos,
        size,
        batch_size=options.batch_size,
        score_threshold=options.score_threshold,
        iou_threshold=options.iou_threshold,
        max_detections=options.max_detections,
    )
    seconds = time.perf_counter() - began
    detections = to_coco(photos, found, class_map)
    truth = coco_truth(photos.labels)
    note = crowded_note(truth, options.max_detections)
    if note:
        print(note, file=sys.stderr)
    metrics = coco_metrics(truth, detections, options.max_detections)
    return metrics | {"photos": len(photos), "seconds": seconds}, photos, detections


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    options = parse_options(arguments)
    with Command("stopped; nothing was written") as command:
        metrics, photos, detections = evaluate(options)
        for path, content in ((options.json, metrics), (options.detections, detections)):
            if path is not None:
                write_json(path, content, indent=1)
        print(format_metrics(metrics))
        print(f"{len(photos)} photos, {len(detections)} detections, {metrics['seconds']:.1f} s")
    return command.exit_code


if __name__ == "__main__":
    sys.exit(main())
