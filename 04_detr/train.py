"""Train a small DETR: from labelled pictures to best.pt, for predict.py.

In the folder OUT you find afterwards:

    best.pt         the weights of the epoch with the highest AP on the validation pictures
    metrics.json    AP, AP50 ... of the boxes on the test pictures, seconds of training
    losses.png      every loss over the steps
    last.pt         everything that --resume needs
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from matplotlib.figure import Figure

from common.coco_metrics import format_metrics
from common.coco_truth import coco_truth, crowded_note
from common.command import Command, given_settings, write_json
from common.loading import fit_batch
from common.loss_curves import plot_losses, write_figure
from common.processes import Processes, connected
from common.run import Run
from common.settings import training_parser
from dataset import load_data
from engine import train
from evaluation import evaluate
from settings import PRESETS, Settings, make_settings

EPILOG = """examples:
  python train.py --out runs/street                      drawn streets, five classes
  python train.py --data penn_fudan --out runs/photos    photos of people
  python train.py --data my_photos --epochs 40 --out runs/mine
  python train.py --out runs/street --resume             go on after a stop, exactly
  torchrun --nproc-per-node 2 train.py --batch-size 8 --out runs/two
  python predict.py photo.jpg --checkpoint runs/mine/best.pt --out found

your own pictures (--data PATH), which are looked at by python check_data.py PATH:
  COCO         a JSON file, also train.json and val.json, or one in each of train/ and valid/
  Pascal VOC   Annotations/*.xml, JPEGImages, ImageSets/Main/train.txt; or XML beside the pictures
  YOLO         images/, labels/ and classes.txt or data.yaml; or train/ and val/; or a .yaml file
  Darknet      obj.data with its lists; or train/ and valid/ with _darknet.labels
  labelme      x.json beside x.jpg
  CVAT         annotations.xml, of the export "for images"
  Penn-Fudan   PNGImages/x.png, PedMasks/x_mask.png: a number for each person
Without lists of its own, the data is divided into 10 parts for training, 2 for validation and 5
for the test.

exit code: 0 done, 2 bad usage or data, or stopped"""


def parse_options(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    return training_parser(__doc__, EPILOG, Settings, PRESETS).parse_args(arguments)


def train_and_report(options: argparse.Namespace, processes: Processes) -> None:
    """Train as the options say; the first process measures and writes the results."""
    settings = make_settings(**given_settings(options, Settings))
    data = processes.in_turn(lambda: load_data(settings))
    if processes.rank == 0:
        print(data.report)
    if options.batch_size is None:
        settings = fit_batch(settings, len(data.train), processes)
    if processes.rank == 0:
        print(f"preset {settings.preset} on {processes.device}: {settings}")
    run = train(
        settings,
        data,
        options.out,
        resume=options.resume,
        checkpoint_every=options.checkpoint_every,
        processes=processes,
    )
    if processes.rank == 0:
        metrics = evaluate(run.load_best(), data.test, max_detections=settings.max_detections)
        truth = coco_truth(data.test.labels)
        if note := crowded_note(truth, settings.max_detections):
            print(note)
        write_results(run, {**metrics, "seconds": run.seconds})


def write_results(run: Run, metrics: dict[str, Any]) -> None:
    """Write metrics.json and losses.png, and show the metrics."""
    write_json(run.folder / "metrics.json", metrics)
    figure = Figure(figsize=(8, 4.5))
    plot_losses(figure.subplots(), run.history)
    write_figure(figure, run.folder / "losses.png")
    print(format_metrics(metrics))
    print(f"{run.seconds:.0f} s of training; results in {run.folder}")


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    options = parse_options(arguments)
    with Command(f"stopped; go on with --out {options.out} --resume") as command:  # noqa: SIM117
        with connected() as processes:
            train_and_report(options, processes)
    return command.exit_code


if __name__ == "__main__":
    sys.exit(main())
