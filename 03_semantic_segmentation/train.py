"""Train a model that gives every pixel a class: from pictures and masks to best.pt, for predict.py.

In the folder OUT you find afterwards:

    best.pt         the weights of the epoch with the highest mean IoU on the validation pictures
    metrics.json    mean IoU, IoU of each class ... on the test pictures, seconds of training
    losses.png      every loss over the steps
    last.pt         everything that --resume needs
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from matplotlib.figure import Figure

from common.command import Command, given_settings, write_json
from common.loading import fit_batch
from common.loss_curves import plot_losses, write_figure
from common.processes import Processes, connected
from common.run import Run
from common.settings import training_parser
from dataset import load_data
from engine import train
from evaluation import count_instances, evaluate
from metrics import format_metrics
from settings import PRESETS, Settings, make_settings

EPILOG = """examples:
  python train.py --out runs/street                      drawn streets: eight classes
  python train.py --model unet --learning-rate 3e-3 --out runs/unet     from scratch
  python train.py --data penn_fudan --out runs/photos    photos: person and background
  python train.py --data my_data --epochs 20 --out runs/mine
  python train.py --out runs/street --resume             go on after a stop, exactly
  torchrun --nproc-per-node 2 train.py --batch-size 8 --out runs/two
  python predict.py photo.jpg --checkpoint runs/mine/best.pt --out found

your own pictures (--data PATH), which are looked at by python check_data.py PATH:
  images/x.jpg, masks/x.png        a pair for each picture; also image/ and label/ and the like
  train/ and val/ in them or around them; train/ with trainannot/ or train_labels/
  JPEGImages/, SegmentationClass/  Pascal VOC, with ImageSets/Segmentation/train.txt; CVAT
  x.jpg, x_mask.png                side by side, as Roboflow writes them
  x/images/x.png, x/masks/*.png    one mask file an object: they are joined
What the masks hold stands in classes.json, classes.csv, classes.txt, labelmap.txt, class_dict.csv,
_classes.csv or the like: numbers, a palette or RGB colours; common/masks/table_files.py shows them.
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
        metrics = evaluate(run.load_best(), data.test, settings.window)
        if data.test.has_objects:
            metrics["instances"] = count_instances(run.model, data.test, settings.window)
        write_results(run, {**metrics, "seconds": run.seconds})


def write_results(run: Run, metrics: dict[str, Any]) -> None:
    """Write metrics.json and losses.png, and show the metrics."""
    write_json(run.folder / "metrics.json", metrics)
    figure = Figure(figsize=(8, 4.5))
    plot_losses(figure.subplots(), run.history)
    write_figure(figure, run.folder / "losses.png")
    print(format_metrics(metrics))
    for way, counts in metrics.get("instances", {}).items():
        print(
            "{matched} of {true} objects, {found} found, F1 {f1:.3f}".format(**counts), f"({way})"
        )
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
