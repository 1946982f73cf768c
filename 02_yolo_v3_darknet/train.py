"""Train a YOLOv3 on photos of your own, and get a Darknet model.

The network starts from weights that were trained on the 80 classes of COCO, gets new outputs for
your classes, and learns from your boxes. In the folder OUT you find afterwards:

    model.cfg, model.weights, model.names   the detector: detect.py, OpenCV 4 and Darknet run it
    metrics.json                            AP, AP50 ... on the test photos, also for each class
    curves.png                              the loss over the steps, AP over the epochs
    precision_recall.png                    what a lower score threshold gains and costs
    confusion.png                           which class is taken for which, missed, or made up
    last.pt                                 everything that --resume needs
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import torch

from common.coco_metrics import format_metrics
from common.command import exit_code, given_settings, make_parser, write_json
from common.precision import PRECISIONS
from common.processes import start_processes, stop_processes
from common.training_figures import write_figures
from darknet.pretrained import BASES
from darknet.size import parse_size
from dataset import load_detection_data
from engine import YoloRun
from settings import ANCHORS, BOX_LOSSES, YoloSettings, make_settings
from speed.memory import keep_freed_memory

EPILOG = """examples:
  python train.py --out runs/street                         drawn street scenes, five classes
  python train.py --data my_photos --epochs 40 --out runs/mine
  python train.py --data bccd --on-invalid drop --out runs/bccd
  python train.py --out runs/street --resume                go on after a stop, exactly
  torchrun --nproc-per-node 2 train.py --batch-size 16 --out runs/two
  python detect.py --cfg runs/mine/model.cfg --weights runs/mine/model.weights \\
      --names runs/mine/model.names photo.jpg

your own photos (--data PATH), any of these layouts:
  COCO         PATH/annotations.json, or PATH/annotations/instances_train.json and _val.json
  Pascal VOC   PATH/Annotations/*.xml, JPEGImages; ImageSets/Main/train.txt and test.txt if any
  YOLO         PATH/images, PATH/labels (perhaps with train and val in both), PATH/classes.txt
Where there are no lists, three photos in ten are set aside for the test.

what to try when the scores are low:
  more epochs first; then --size 416 for small objects, or the photos' own shape, height x width:
  --size 288x384 for photos of 4:3; --test-size 320x416: the finished model sees a little more;
  --mosaic 0.5 in runs of 50 epochs or more; --flip-vertical 0.5 for photos without an up;
  --learning-rate 1e-3 if the loss jumps; and look at confusion.png: many "missed" want more
  photos or a larger size, mixed-up classes want better labels.

exit code: 0 done, 2 bad usage or data, or stopped"""


def parse_options(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = make_parser(__doc__, EPILOG)
    default = YoloSettings()
    add = parser.add_argument
    add("--out", type=Path, required=True, help="folder for the results")
    add("--data", help="street (drawn), penn_fudan (download), or a path, see below")
    add("--train-split", metavar="NAME", help="the data's own list to train on")
    add("--test-split", metavar="NAME", help="... and to measure on")
    add("--on-invalid", choices=("refuse", "drop"), help="labels that cannot be used (refuse)")
    add("--num-scenes", type=int, metavar="N", help=f"street scenes ({default.num_scenes})")
    add("--base", metavar="|".join((*BASES, "CFG")), help="network (yolov3-tiny)")
    add("--pretrained", metavar="auto|none|FILE", help="weights to start from (auto: COCO's)")
    add("--size", type=parse_size, metavar="N|HxW", help=f"input, pixels ({default.size})")
    add("--test-size", type=parse_size, metavar="N|HxW", help="of the finished model (--size)")
    add("--epochs", type=int, metavar="N", help=f"passes over the photos ({default.epochs})")
    add("--batch-size", type=int, metavar="N", help=f"photos a step ({default.batch_size})")
    add("--learning-rate", type=float, metavar="X", help=f"({default.learning_rate})")
    add("--weight-decay", type=float, metavar="X", help=f"({default.weight_decay})")
    add("--anchors", choices=ANCHORS, help="fit them to the boxes, or keep the base's (fit)")
    add("--box-loss", choices=BOX_LOSSES, help="complete IoU, or Darknet's own (ciou)")
    add("--positive-iou", type=float, metavar="X", help="anchors above it learn too (0.4)")
    add("--mosaic", type=float, metavar="P", help="share of images made of four photos (0)")
    add("--scale", type=float, metavar="X", help="sizes change by up to 1 + X times (0.4)")
    add("--flip", type=float, metavar="P", help="share of mirrored photos (0.5; 0 for letters)")
    add("--flip-vertical", type=float, metavar="P", help="... upside down (0; 0.5 for cells)")
    add("--multi-scale", action="store_true", default=None, help="vary the input side")
    add("--precision", choices=PRECISIONS, help="auto: fp16 on a CUDA GPU, else fp32")
    add("--evaluate-every", type=int, metavar="N", help="epochs between two measurements")
    add("--seed", type=int, metavar="S", help="the same seed repeats a run (0)")
    add("--resume", action="store_true", help="go on from OUT/last.pt, if it is there")
    add("--checkpoint-every", type=int, metavar="N", help="also write last.pt every N steps")
    add("--threads", type=int, default=2, metavar="N", help="threads that prepare images (2)")
    return parser.parse_args(arguments)


def settings_from(options: argparse.Namespace) -> YoloSettings:
    """The default settings with what the command line changes.

    Raises:
        ValueError: a value that is not allowed.
    """
    return make_settings(**given_settings(options, YoloSettings))


def load_data(settings: YoloSettings) -> Any:
    """The data that the settings name."""
    return load_detection_data(
        settings.data,
        seed=settings.seed,
        num_scenes=settings.num_scenes,
        on_invalid=settings.on_invalid,
        train_split=settings.train_split,
        test_split=settings.test_split,
    )


def train(options: argparse.Namespace, settings: YoloSettings) -> dict[str, Any] | None:
    """Train, measure and write the results; the metrics, or None in a helping process."""
    rank, world_size, device = start_processes()
    if device.type == "cpu":
        keep_freed_memory()
    if rank == 0:
        print(load_data(settings).report)  # one process draws or downloads, the others wait
    if world_size > 1:
        torch.distributed.barrier()
    data = load_data(settings)
    run = YoloRun(settings, data, options.out, device, rank, world_size, options.threads)
    if rank == 0:
        print("\n".join(run.notes))
        print(f"training on {device} in {run.precision}, {world_size} process(es)")
    if options.resume and not run.resume() and rank == 0:
        print(f"no {options.out / 'last.pt'} yet: starting from the beginning", file=sys.stderr)
    run.fit(options.checkpoint_every)
    return write_results(run, options.out) if rank == 0 else None


def write_results(run: YoloRun, folder: Path) -> dict[str, Any]:
    """Write weights, figures and metrics.json of a run that is done; return the metrics."""
    run.save()
    metrics, curves, matrix = run.measure()
    metrics |= {"seconds": run.seconds, "settings": run.settings.as_dict()}
    write_figures(folder, run.history, run.epochs, curves, matrix, run.data.class_names)
    write_json(folder / "metrics.json", metrics)
    return metrics


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    options = parse_options(arguments)
    began = time.perf_counter()

    def work() -> None:
        metrics = train(options, settings_from(options))
        if metrics is not None:
            print(format_metrics(metrics))
            trained, whole = metrics["seconds"], time.perf_counter() - began
            print(f"{trained:.0f} s of training, {whole:.0f} s in all; see {options.out}")

    try:
        return exit_code(work, f"stopped; go on with --out {options.out} --resume")
    finally:
        stop_processes()


if __name__ == "__main__":
    sys.exit(main())
