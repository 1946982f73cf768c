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
import sys

from command_line import make_parser
from model import BACKBONES
from presets import TASKS
from pycocotools_metrics import format_metrics
from training_command import add_run_options, run_command


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(__doc__)
    add = parser.add_argument
    add("--data", help="street (drawn), penn_fudan (download), or a COCO, VOC or YOLO path")
    add("--task", choices=TASKS, help="masks: Mask R-CNN; boxes: Faster R-CNN")
    add("--backbone", choices=BACKBONES, help="network below the detector")
    add("--image-size", type=int, nargs=2, help="shorter and longer side the model sees, pixels")
    add_run_options(parser)
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    return run_command(parse_arguments(arguments), format_metrics)


if __name__ == "__main__":
    sys.exit(main())
