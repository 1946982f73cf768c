"""The size of a network's input: the side of a square, or height and width.

Most photos are wider than high. A square input is then gray above and below, a quarter of it for
a photo of 4:3, and the network computes there too. An input of the photos' own shape shows them
larger for the same work: 288 x 384 pixels hardly cost more than 320 x 320.
"""

from __future__ import annotations

from argparse import ArgumentTypeError

InputSize = int | tuple[int, int]
LARGEST_SIDE = 4096


def height_width(size: InputSize) -> tuple[int, int]:
    """Return (height, width) in pixels of a square's side, or of (height, width) itself."""
    height, width = (size, size) if isinstance(size, int) else size
    return height, width


def check_size(size: InputSize, stride: int, largest: int = LARGEST_SIDE) -> tuple[int, int]:
    """Return (height, width) of a size that a network can take.

    Args:
        size: see `height_width`.
        stride: both sides have to be a multiple of it, 32 in the YOLOv3 family.
        largest: side that is allowed.

    Raises:
        ValueError: with the side and what is allowed.
    """
    for side in height_width(size):
        if not stride <= side <= largest or side % stride:
            raise ValueError(
                f"size must be a multiple of {stride}, from {stride} to {largest}, got {side}"
            )
    return height_width(size)


def parse_size(text: str) -> InputSize:
    """Read a size from a command line: `320`, or height and width as in `288x384`.

    Raises:
        argparse.ArgumentTypeError: anything else.
    """
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.isdecimal() for side in sides):
        raise ArgumentTypeError(f"{text!r} is no size; 320 and 288x384 (height x width) are")
    return int(text) if len(sides) == 1 else (int(sides[0]), int(sides[1]))
