"""Train a model that gives every pixel a class, from the command line.

Examples:
    python train.py --out runs/street
    python train.py --data penn_fudan --preset full --out runs/penn_fudan
    python train.py --model unet --num-scenes 2000 --out runs/unet
    python train.py --data my_data/ --crop-size 240 320 --epochs 10 --out runs/mine
    python train.py --out runs/street --resume
    torchrun --nproc-per-node 2 train.py --batch-size 8 --out runs/two

Exit code: 0 done, 2 bad usage or data.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

from common.command import exit_code, given_settings, make_parser, write_json
from common.loss_curves import plot_losses, write_figure
from common.optimizers import OPTIMIZERS
from common.processes import start_processes, stop_processes
from engine import TrainingRun
from metrics import format_metrics
from models import MODELS
from settings import PRESETS, UNKNOWN_LABELS, Settings, make_settings
from splits import load_training_data


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(__doc__)
    add, switch = parser.add_argument, argparse.BooleanOptionalAction
    add("--data", help="street (drawn), penn_fudan (download), or a folder of images and masks")
    add("--model", choices=MODELS, help="unet is trained from scratch, the others are pretrained")
    add("--crop-size", type=int, nargs=2, help="height and width cut from training pictures")
    add("--window", type=int, nargs=2, help="height and width the model sees of larger pictures")
    add("--half-size", action=switch, help="work on half-size pictures")
    add("--unknown-labels", choices=UNKNOWN_LABELS, help="mask values that no class has")
    add("--balance-classes", action=switch, help="weigh rare classes more in the loss")
    add_run_options(parser)
    return parser.parse_args(arguments)


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that do not depend on what is trained."""
    add = parser.add_argument
    add("--out", type=Path, required=True, help="folder for checkpoints, metrics and the curve")
    add("--preset", choices=PRESETS, help="default: full with a CUDA GPU, else laptop")
    add("--epochs", type=int, help="passes over the training images")
    add("--batch-size", type=int, help="images a step, of all processes together")
    add("--batch-parts", type=int, help="parts of a batch that a CPU computes side by side")
    add("--learning-rate", type=float, help="after the warm-up")
    add(
        "--optimizer",
        choices=OPTIMIZERS,
        help="Muon for layers that start anew, AdamW for all, or SGD with momentum",
    )
    add("--num-scenes", type=int, help="drawn training scenes, for --data street")
    add("--seed", type=int, help="of everything random; the same seed repeats a run")
    add("--workers", type=int, dest="num_workers", help="processes that load images")
    add(
        "--from-scratch",
        action="store_const",
        const=False,
        dest="pretrained",
        help="start from random weights",
    )
    add("--resume", action="store_true", help="go on from OUT/last.pt, if it is there")
    add("--checkpoint-every", type=int, help="also write last.pt after every N steps")


def run_command(options: argparse.Namespace, format_metrics: Callable[[dict], str]) -> int:
    """Train as the options say, show the results, and return the exit code."""

    def work() -> None:
        metrics = train(options, make_settings(**given_settings(options, Settings)))
        if metrics is not None:
            print(format_metrics(metrics))
            print(f"{metrics['seconds']:.0f} s; results in {options.out}")

    try:
        return exit_code(work, f"stopped; go on with --out {options.out} --resume")
    finally:
        stop_processes()


def train(options: argparse.Namespace, settings: Settings) -> dict[str, Any] | None:
    """Train, test and write the results; return the metrics, or None in a helping process."""
    rank, world_size, device = start_processes()
    start = time.perf_counter()
    if rank == 0:
        print(f"preset {settings.preset} on {device}, {world_size} process(es): {settings}")
        load_training_data(settings)  # one process draws or downloads, the others wait
    if world_size > 1:
        torch.distributed.barrier()
    data = load_training_data(settings)
    run = TrainingRun(settings, data, options.out, device, rank, world_size)
    if options.resume and not run.resume() and rank == 0:
        print(f"no {options.out / 'last.pt'} yet: starting from the beginning", file=sys.stderr)
    run.fit(options.checkpoint_every)
    if rank:
        return None
    metrics = {**run.test(), "seconds": time.perf_counter() - start}
    write_json(options.out / "metrics.json", metrics)
    figure = Figure(figsize=(8, 4.5))
    plot_losses(figure.subplots(), run.history)
    write_figure(figure, options.out / "losses.png")
    return metrics


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    return run_command(parse_arguments(arguments), format_metrics)


if __name__ == "__main__":
    sys.exit(main())
