"""The command that looks at data before a training: its options, its report, its sheet of pictures.

Each lesson's `check_data.py` gives it the function that reads the lesson's kind of labels.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import sys
from collections.abc import Callable
from pathlib import Path

from matplotlib.figure import Figure

from common.command import Command, make_parser
from common.files import replacing
from common.survey import Survey

ABOUT = """Look at your own data before you train on it: what is there, what was mended, what is
wrong. Pictures are read up to their header and their end, labels or masks wholly. Nothing is
changed."""
EPILOG = """examples:
  python check_data.py my_photos                  format, parts, classes, sizes, likely mistakes
  python check_data.py my_photos --draw 12        the same, and a sheet of twelve labelled pictures
  python check_data.py my_photos --decode         read every picture whole: finds damaged ones
  python check_data.py my_photos --json           one object on standard output, for programs

exit code: 0 usable, 1 usable with --on-invalid drop, 2 not usable, or bad usage"""
SPLITS = ("train_split", "validation_split", "test_split")
COLUMNS = 4
PANEL = 3.2  # inches


def parse_options(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(ABOUT, EPILOG)
    add = parser.add_argument
    add("path", metavar="PATH", help="folder or file, as for train.py --data")
    add("--draw", type=int, metavar="N", default=0, help="draw N pictures with their labels")
    add("--sheet", type=Path, default=Path("check_data.png"), metavar="FILE",
        help="where they are drawn (%(default)s)")  # fmt: skip
    add("--decode", action="store_true", help="read every picture whole")
    add("--json", action="store_true", help="print one JSON object and nothing else")
    for name in SPLITS:
        part = name.removesuffix("_split")
        option = f"--{name.replace('_', '-')}"
        add(option, metavar="NAME", help=f"the data's own list for the {part} part")
    options = parser.parse_args(arguments)
    if options.draw < 0:
        parser.error(f"--draw is {options.draw}; allowed are 0 and more")
    return options


def run(survey_data: Callable[..., Survey], options: argparse.Namespace) -> int:
    """Look at the data, print what was found, and return the exit code."""
    splits = {name: getattr(options, name) for name in SPLITS}
    with contextlib.redirect_stdout(sys.stderr):
        survey = survey_data(options.path, decode=options.decode, **splits)
    if options.json:
        print(json.dumps(survey.to_json()))
    else:
        print(survey.to_text())
    if options.draw and survey.num_pictures:
        draw_sheet(survey, options.draw, options.sheet)
        print(f"drawn: {options.sheet}", file=sys.stderr)
    return survey.exit_code


def draw_sheet(survey: Survey, count: int, path: Path, seed: int = 0) -> None:
    """Draw some of the pictures, chosen at random, into a PNG or another picture file."""
    count = min(count, survey.num_pictures)
    chosen = sorted(random.Random(seed).sample(range(survey.num_pictures), count))
    columns = min(COLUMNS, count)
    rows = -(-count // columns)
    figure = Figure(figsize=(PANEL * columns, PANEL * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).flat
    for axes, index in zip(grid, chosen, strict=False):
        survey.draw(axes, index)
    for axes in list(grid)[count:]:
        axes.set_axis_off()
    with replacing(path) as file:
        figure.savefig(file, dpi=100, format=path.suffix.lstrip(".") or "png")


def main(survey_data: Callable[..., Survey], arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code.

    Args:
        survey_data: called with a path, `decode` and the names of the data's own lists; returns
            what was found, and raises nothing about the data.
        arguments: of the command line.
    """
    options = parse_options(arguments)
    code = 2
    with Command("stopped; nothing was changed") as command:
        code = run(survey_data, options)
    return command.exit_code or code
