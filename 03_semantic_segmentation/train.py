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

from command_line import make_parser
from metrics import format_metrics
from models import MODELS
from presets import UNKNOWN_LABELS
from training_command import add_run_options, run_command


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


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    return run_command(parse_arguments(arguments), format_metrics)


if __name__ == "__main__":
    sys.exit(main())
