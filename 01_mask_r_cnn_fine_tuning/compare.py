"""Compare ways of training by several trainings: minutes to an hour on two cores.

The result is written to `results/NAME.json` after each training. A comparison that was stopped goes
on where it was; delete its file to begin anew.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from common.coco_metrics import coco_metrics
from common.command import Command, make_parser
from common.comparison import mean_and_spread, read_comparison, run_comparison
from common.confusion import confusion_matrix
from dataset import DetectionData, load_data
from engine import train
from evaluation import collect
from settings import Settings, make_settings

RESULTS = Path(__file__).parent / "results"
PICTURES = (10, 30, 100, 300)
STEPS = 400  # of each of them, whatever the number of pictures
CONFUSION_SCORE = 0.5

EPILOG = """comparisons:
  pictures      Faster R-CNN, five classes, from 10, 30, 100 and 300 drawn scenes, 400 steps each
  batch_norm    Mask R-CNN with fixed and with live statistics of batch norm

example:
  python compare.py pictures --seeds 3"""


def fit(settings: Settings, data: DetectionData) -> dict[str, Any]:
    """Train, measure on the test pictures, and return plain values."""
    run = train(settings, data, None, progress=False)
    truth, detections = collect(run.model, data.test, progress=False)
    metrics = coco_metrics(truth, detections)
    kinds = {kind: metrics[kind] for kind in ("bbox", "segm") if kind in metrics}
    table = confusion_matrix(truth, detections, CONFUSION_SCORE)
    return {**kinds, "confusion": table.tolist(), "seconds": run.seconds}


def train_on_few(count: int, seed: int) -> dict[str, Any]:
    """Train on the first scenes again and again, as many steps as on many scenes."""
    settings = make_settings("street", task="boxes", num_scenes=max(PICTURES), seed=seed)
    data = load_data(settings, progress=False)
    indices = [k % count for k in range(STEPS * settings.batch_size)]
    few = data.train.subset(indices, data.train.transforms)
    part = DetectionData(few, data.validation, data.test)
    return {"classes": list(data.class_names), **fit(settings, part)}


def train_with(batch_norm: str, seed: int) -> dict[str, Any]:
    """Train the preset `street` with one of the two kinds of batch norm."""
    settings = make_settings("street", batch_norm=batch_norm, seed=seed)
    return fit(settings, load_data(settings, progress=False))


COMPARISONS = {
    "pictures": (
        f"AP on 100 unseen scenes after {STEPS} steps on few or many pictures",
        {str(count): lambda seed, count=count: train_on_few(count, seed) for count in PICTURES},
    ),
    "batch_norm": (
        "AP on 100 unseen scenes with fixed and with live statistics of batch norm",
        {kind: lambda seed, kind=kind: train_with(kind, seed) for kind in ("fixed", "live")},
    ),
}


def parse_options(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(__doc__, EPILOG)
    parser.add_argument("name", choices=COMPARISONS, help="which comparison")
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="seeds of each (1)")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the result (results)")
    options = parser.parse_args(arguments)
    if options.seeds < 1:
        parser.error(f"--seeds is {options.seeds}; allowed are 1 and more")
    return options


def run(options: argparse.Namespace) -> None:
    """Make the comparison and print its table."""
    question, arms = COMPARISONS[options.name]
    path = options.out / f"{options.name}.json"
    run_comparison(path, question, arms, range(options.seeds))
    print(question)
    for arm, runs in read_comparison(path).items():
        for kind in ("bbox", "segm"):
            if kind in runs[0]:
                values = [one[kind]["AP"] for one in runs]
                print(f"  {arm:8} {kind} AP {mean_and_spread(values)}")


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    options = parse_options(arguments)
    with Command(f"stopped; go on with python compare.py {options.name}") as command:
        run(options)
    return command.exit_code


if __name__ == "__main__":
    sys.exit(main())
