"""Draw the figures of the READMEs from the lessons' own code.

Boxes, anchors, curves and shapes are computed while the figures are drawn, by the functions of the
lessons and by running their networks. What trained models predicted on the street scene comes from
predictions.json; make_predictions.py makes it anew.

Examples:
    python assets/make_figures.py                      all figures, into assets/
    python assets/make_figures.py iou.svg unet.svg     these two
    python assets/make_figures.py --out build/figures  somewhere else
    python assets/make_figures.py --list               what there is

A figure belongs to its code: after a change there, or of the street scenes, run this again.

Exit code: 0 done, 2 bad usage, or predictions that do not belong to the scene.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tqdm import tqdm

import figures_boxes
import figures_detectors
import figures_detr
import figures_metrics
import figures_segmentation
import figures_tasks
import figures_yolo
from figure_style import FigureMaker
from lesson_modules import TOOLS

FOLDER = Path(__file__).resolve().parent
MODULES = (
    figures_tasks,
    figures_boxes,
    figures_detectors,
    figures_yolo,
    figures_detr,
    figures_metrics,
    figures_segmentation,
)
MAKERS: dict[str, FigureMaker] = {
    maker.name: maker for module in MODULES for maker in module.MAKERS
}


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("names", nargs="*", metavar="NAME", help="figures to draw; without a name, all of them")
    add("--out", type=Path, default=FOLDER, help="folder to write to (assets/)")
    add("--list", action="store_true", help="list the figures and what they show")
    parsed = parser.parse_args(arguments)
    unknown = [name for name in parsed.names if name not in MAKERS]
    if unknown:
        parser.error(f"no figure is called {unknown[0]!r}; there are {', '.join(MAKERS)}")
    return parsed


def write_figures(names: list[str], folder: Path) -> None:
    """Draw the named figures into `folder`, each in one step."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in tqdm(names, "drawing", unit="figure"):
        content = MAKERS[name].save()
        with TOOLS.load("atomic").replacing(folder / name) as file:
            file.write(content)


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    options = parse_arguments(arguments)
    if options.list:
        print("\n".join(f"{maker.name:22}{maker.shows}" for maker in MAKERS.values()))
        return 0
    try:
        write_figures(options.names or list(MAKERS), options.out)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
