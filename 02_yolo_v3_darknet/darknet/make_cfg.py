"""Write the .cfg file of a network for own classes: five places edited in one go.

    B=darknet/networks/yolov3-tiny.cfg
    python -m darknet.make_cfg $B --classes 3 --size 320 --out cells.cfg
    python -m darknet.make_cfg $B --classes 1 --anchors 10,13 16,30 ... --out one.cfg

What a change of classes touches, in every output: `classes` of the [yolo] block, and `filters` of
the convolution before it, A * (5 + classes) for its A anchors. New anchors go into every [yolo]
block, a new size into [net]. All other lines stay as they are, comments included. The result is
checked by building its plan of layers.

Exit code: 0 when the file was written, 2 when not.
"""

import argparse
import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from anchors import check_sizes
from boxes import InputSize, check_size, parse_size
from common.command import Command
from common.files import replacing
from darknet.cfg import Convolutional, DarknetFileError, Net, Yolo, parse_cfg
from darknet.layers import input_stride, plan_layers

MAX_CLASSES = 10_000
# The comment above an output of this lesson's cfg files; it would be wrong after the edit.
SUM_COMMENT = re.compile(r"# \d+ anchors x \(4 box \+ 1 objectness \+ \d+ classes\) = \d+ channels")


def make_cfg(
    base_cfg: str | Path,
    num_classes: int,
    anchors: Sequence[Sequence[float]] | None = None,
    size: InputSize | None = None,
    *,
    scale_x_y: float | None = None,
) -> str:
    """Edit a cfg file for other classes, anchors or another input size.

    Args:
        base_cfg: the file to start from; it is not changed.
        num_classes: number of classes, from 1 to 10,000.
        anchors: (K, 2), width and height in pixels of the network's input, as many as the base has
            (9, or 6 in yolov3-tiny), smallest first; None keeps the base's.
        size: side of the square input in pixels, or (height, width); a multiple of 32 for the
            YOLOv3 family. None keeps the base's.
        scale_x_y: how much wider than its cell the range of a box's centre is, from 1 on (see
            `boxes.decode`); None keeps the base's. Darknet of 2018 does not know it.

    Returns:
        The text of the new file.

    Raises:
        ValueError: an argument that is not allowed, with its value.
        DarknetFileError: the base cannot be read, or has no [yolo] block after a convolution.
    """
    if not 1 <= num_classes <= MAX_CLASSES:
        raise ValueError(f"num_classes must be from 1 to {MAX_CLASSES}, got {num_classes}")
    if scale_x_y is not None and not 1 <= scale_x_y <= 2:
        raise ValueError(f"scale_x_y must be from 1 to 2, got {scale_x_y}")
    blocks = parse_cfg(base_cfg)
    yolo_edit = {"classes": str(num_classes)}
    if anchors is not None:
        yolo_edit["anchors"] = _anchor_text(anchors, blocks, base_cfg)
    if scale_x_y is not None:
        yolo_edit["scale_x_y"] = f"{scale_x_y:g}"
    edits = dict(_output_edits(blocks, base_cfg, num_classes, yolo_edit))
    if size is not None:
        edits[blocks[0].line] = _size_edit(size, blocks, base_cfg)
    text = _edit_lines(Path(base_cfg).read_text(encoding="utf-8-sig"), edits)
    _check(text, base_cfg)
    return text


def write_cfg(path: str | Path, text: str) -> None:
    """Write the text of a cfg file, the whole file or nothing.

    Raises:
        OSError: the folder cannot be written to.
    """
    with replacing(Path(path)) as file:
        file.write(text.encode())


def _output_edits(
    blocks: list, base_cfg: str | Path, num_classes: int, yolo_edit: dict[str, str]
) -> list[tuple[int, dict[str, str]]]:
    """(line of the block's header, keys to set) for each output and the convolution before it."""
    edits = []
    for before, block in zip(blocks, blocks[1:], strict=False):
        if not isinstance(block, Yolo):
            continue
        if not isinstance(before, Convolutional):
            raise DarknetFileError(
                f"{base_cfg}, line {block.line}: a [yolo] block must follow a [convolutional] one"
            )
        edits.append((before.line, {"filters": str(len(block.mask) * (5 + num_classes))}))
        edits.append((block.line, yolo_edit))
    if not edits:
        raise DarknetFileError(f"{base_cfg}: has no [yolo] block, it is no detector")
    return edits


def _anchor_text(anchors: Sequence[Sequence[float]], blocks: list, base_cfg: str | Path) -> str:
    pairs = check_sizes(anchors, "anchors").tolist()
    counts = {block.num for block in blocks if isinstance(block, Yolo)}
    if counts - {len(pairs)}:
        wanted = " and ".join(map(str, sorted(counts)))
        raise ValueError(f"anchors must be {wanted} pairs as in {base_cfg}, got {len(pairs)}")
    # At most a hundredth of a pixel is lost.
    return ", ".join(",".join(f"{round(value, 2):g}" for value in pair) for pair in pairs)


def _size_edit(size: InputSize, blocks: list, base_cfg: str | Path) -> dict[str, str]:
    assert isinstance(blocks[0], Net), "parse_cfg puts [net] first"
    height, width = check_size(size, input_stride(plan_layers(blocks, base_cfg)))
    return {"width": str(width), "height": str(height)}


def _edit_lines(text: str, edits: dict[int, dict[str, str]]) -> str:
    """Set keys in blocks that are named by the line of their header."""
    lines, result = text.splitlines(), []
    waiting: dict[str, str] = {}
    for number, line in enumerate([*lines, "["], 1):
        key, equals, _ = re.sub(r"\s", "", line).partition("=")
        if key.startswith("["):
            _add_missing(result, waiting)
            waiting = dict(edits.get(number, {}))
        elif equals and key in waiting:
            line = f"{key}={waiting.pop(key)}"
        result.append(line)
    return "\n".join(_renew_comments(result[:-1])) + "\n"


def _add_missing(result: list[str], waiting: dict[str, str]) -> None:
    """Put keys that the block did not have at its end, before the blank lines and comments."""
    place = len(result)
    while place and (not result[place - 1].strip() or result[place - 1].lstrip()[0] in "#;"):
        place -= 1
    result[place:place] = [f"{key}={value}" for key, value in waiting.items()]


def _renew_comments(lines: list[str]) -> list[str]:
    """Bring the sums in the comments above the outputs up to date."""
    filters = {i: int(line[8:]) for i, line in enumerate(lines) if line.startswith("filters=")}
    renewed = list(lines)
    for number, line in enumerate(lines):
        if SUM_COMMENT.fullmatch(line.strip()):
            channels = next((filters[i] for i in sorted(filters) if i > number), 0)
            anchors = int(line.split()[1])
            renewed[number] = (
                f"# {anchors} anchors x (4 box + 1 objectness + {channels // anchors - 5} classes) "
                f"= {channels} channels"
            )
    return renewed


def _check(text: str, base_cfg: str | Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / Path(base_cfg).name
        copy.write_text(text, encoding="utf-8")
        plan_layers(parse_cfg(copy), base_cfg)


def parse_pair(text: str) -> tuple[float, float]:
    """Read `10,13` as an anchor."""
    try:
        width, height = (float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} must be WIDTH,HEIGHT in pixels") from None
    return width, height


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(
        description="Write a network's cfg file for your own classes, anchors and input size.",
        epilog="Anchors for your own boxes: kmeans_anchors in anchors.py finds them.",
    )
    add = parser.add_argument
    add("base", help="the cfg file to start from, such as darknet/networks/yolov3-tiny.cfg")
    add("--classes", type=int, required=True, metavar="N", help="how many classes there are")
    about = "as many anchors as the base has, in pixels of the input (default: the base's)"
    add("--anchors", type=parse_pair, nargs="+", metavar="W,H", help=about)
    add("--size", type=parse_size, metavar="N|HxW", help="of the input (default: the base's)")
    about = "let boxes leave their cell, such as 2; not for Darknet of 2018 (default: the base's)"
    add("--scale-x-y", type=float, metavar="S", help=about)
    add("--out", required=True, metavar="FILE", help="the cfg file to write")
    options = parser.parse_args(arguments)
    with Command("stopped; nothing was written") as command:
        text = make_cfg(
            options.base,
            options.classes,
            options.anchors,
            options.size,
            scale_x_y=options.scale_x_y,
        )
        write_cfg(options.out, text)
        print(f"{options.out}: {options.classes} classes, from {options.base}")
    return command.exit_code


if __name__ == "__main__":
    sys.exit(main())
