"""Fine-tune Mask R-CNN or Faster R-CNN from the command line.

Examples:
    python train.py --out runs/street
    python train.py --data penn_fudan --preset full --out runs/penn_fudan
    python train.py --data my_photos/ --task boxes --epochs 10 --out runs/mine
    python train.py --out runs/street --resume
    torchrun --nproc-per-node 2 train.py --batch-size 4 --out runs/two

Exit code: 0 done, 2 bad usage or data.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import matplotlib
import torch

from atomic import replacing
from evaluation import format_metrics
from model import BACKBONES
from presets import PRESETS, TASKS, Settings, make_settings
from processes import start_processes, stop_processes
from training_data import load_training_data
from training_run import TrainingRun

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402  the backend is chosen first

SMOOTHING = 10  # steps a point of the loss curve is averaged over


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--out", type=Path, required=True, help="folder for checkpoints, metrics and the curve")
    add("--preset", choices=PRESETS, help="default: full with a CUDA GPU, else laptop")
    add("--data", help="street (drawn), penn_fudan (download), or a COCO, VOC or YOLO path")
    add("--task", choices=TASKS, help="masks: Mask R-CNN; boxes: Faster R-CNN")
    add("--backbone", choices=BACKBONES, help="network below the detector")
    add("--epochs", type=int, help="passes over the training images")
    add("--batch-size", type=int, help="images a step, of all processes together")
    add("--learning-rate", type=float, help="after the warm-up")
    add("--image-size", type=int, nargs=2, help="shorter and longer side the model sees, pixels")
    add("--optimizer", choices=("adamw", "sgd"), help="AdamW, or SGD with momentum")
    add("--num-scenes", type=int, help="drawn training scenes, for --data street")
    add("--seed", type=int, help="of everything random; the same seed repeats a run")
    add("--workers", type=int, dest="num_workers", help="processes that load images")
    add("--from-scratch", action="store_true", help="start from random weights")
    add("--resume", action="store_true", help="go on from OUT/last.pt, if it is there")
    add("--checkpoint-every", type=int, help="also write last.pt after every N steps")
    return parser.parse_args(arguments)


def settings_from(arguments: argparse.Namespace) -> Settings:
    """Return the preset's settings with what the command line changes."""
    names = ("data", "task", "backbone", "epochs", "batch_size", "learning_rate")
    names += ("optimizer", "image_size", "num_scenes", "seed", "num_workers")
    changes = {name: getattr(arguments, name) for name in names}
    changes = {name: value for name, value in changes.items() if value is not None}
    if arguments.from_scratch:
        changes["pretrained"] = False
    return make_settings(arguments.preset, **changes)


def train(arguments: argparse.Namespace, settings: Settings) -> dict[str, Any] | None:
    """Train, test and write the results; return the metrics, or None in a helping process."""
    rank, world_size, device = start_processes()
    start = time.perf_counter()
    if rank == 0:
        print(f"preset {settings.preset} on {device}, {world_size} process(es): {settings}")
        load_training_data(settings)  # one process draws or downloads, the others wait
    if world_size > 1:
        torch.distributed.barrier()
    data = load_training_data(settings)
    run = TrainingRun(settings, data, arguments.out, device, rank, world_size)
    if arguments.resume and not run.resume() and rank == 0:
        print(f"no {arguments.out / 'last.pt'} yet: starting from the beginning", file=sys.stderr)
    run.fit(arguments.checkpoint_every)
    if rank:
        return None
    metrics = {**run.test(), "seconds": time.perf_counter() - start}
    with replacing(arguments.out / "metrics.json") as file:
        file.write(json.dumps(metrics, indent=2).encode() + b"\n")
    plot_losses(run.history, arguments.out / "losses.png")
    return metrics


def plot_losses(history: list[dict[str, Any]], path: Path) -> None:
    """Write the curve of every loss over the steps as a PNG."""
    figure, ax = plt.subplots(figsize=(8, 4.5))
    for name in history[0]:
        if name in ("epoch", "step"):
            continue
        values = torch.tensor([one[name] for one in history])
        width = min(SMOOTHING, len(values))
        smooth = values.unfold(0, width, 1).mean(dim=1)
        ax.plot(range(width, len(values) + 1), smooth, label=name)
    ax.set(xlabel="step", ylabel=f"loss, mean of {width} steps", yscale="log")
    ax.legend()
    figure.savefig(path, dpi=110, bbox_inches="tight")
    plt.close(figure)


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parsed = parse_arguments(arguments)
    try:
        metrics = train(parsed, settings_from(parsed))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"stopped; go on with --out {parsed.out} --resume", file=sys.stderr)
        return 2
    finally:
        stop_processes()
    if metrics is not None:
        print(format_metrics(metrics))
        print(f"{metrics['seconds']:.0f} s; results in {parsed.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
