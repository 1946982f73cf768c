"""Records that every annotation format is read into, and the checks they pass before training.

A detector that meets a class number it has no output for, a NaN or a box without area stops with
an index error far from the cause, or learns nothing and says nothing. So every value is checked
here, once, while the file and the line are still known.

Coordinates are pixels with x to the right and y down. A box is `(x1, y1, x2, y2)`: its left, top,
right and bottom *edges*, so that its width is `x2 - x1`, as in COCO (Lin et al. 2014).
"""

from __future__ import annotations

import math
import re
import reprlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from common.choices import ON_INVALID
from common.photos import PhotoError

PROBLEMS_SHOWN = 10
# Annotation tools round: up to one pixel over the border is cut off, more is reported.
BORDER_TOLERANCE = 1.0
# Thinner boxes can lose their area to rounding when float32 pixels are scaled.
SMALLEST_SIDE = 0.01
LARGEST_ID = 2**63 - 1
LARGEST_IMAGE_SIDE = 65535
# At most 40 digits in a row: an expression without bound needs quadratic time on a long one.
NUMBER = re.compile(r"[+-]?(\d{1,40}(\.\d{0,40})?|\.\d{1,40})([eE][+-]?\d{1,3})?", re.ASCII)


class AnnotationError(ValueError):
    """Say which annotation or folder cannot be used, and why."""


@dataclass(frozen=True)
class ObjectRecord:
    """One object: `label` 1..K (0 is the background), `box_xyxy` and `area` in pixels.

    `segmentation` is a list of COCO polygons `[x1, y1, x2, y2, ...]`, a compressed COCO RLE
    `{"size": [H, W], "counts": bytes}`, or None. `iscrowd` is 1 where the annotation covers a
    group. `source` tells where it was written, as "file:line" or "file: annotations[i] (id n)".
    """

    label: int
    box_xyxy: tuple[float, float, float, float]
    area: float
    source: str
    segmentation: Any = None
    iscrowd: int = 0


@dataclass(frozen=True)
class ImageRecord:
    """One picture with its size in pixels and its objects (none for a negative picture)."""

    path: Path
    width: int
    height: int
    image_id: int
    objects: tuple[ObjectRecord, ...] = ()


@dataclass(frozen=True)
class Problem:
    """One finding; `annotations` is how many annotations were left out because of it."""

    source: str
    message: str
    annotations: int = 1

    def __str__(self) -> str:
        return f"{self.source}: {self.message}"


@dataclass(frozen=True)
class AnnotationSet:
    """Everything one annotation file or folder says.

    Label `i` is `class_names[i - 1]`; `category_ids[i - 1]` is the number the file used for it.
    `kept + crowd + reported == total`: no annotation is lost.
    """

    source: Path
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    images: tuple[ImageRecord, ...]
    total: int
    problems: tuple[Problem, ...] = ()

    @property
    def kept(self) -> int:
        """Count the ordinary objects."""
        return sum(1 - one.iscrowd for image in self.images for one in image.objects)

    @property
    def crowd(self) -> int:
        """Count the crowd annotations."""
        return sum(one.iscrowd for image in self.images for one in image.objects)

    @property
    def reported(self) -> int:
        """Count the annotations that were left out; `problems` says why."""
        return sum(problem.annotations for problem in self.problems)

    def part(self, indices: Sequence[int]) -> AnnotationSet:
        """Return a set of these pictures only; what was left out belongs to the whole."""
        images = tuple(self.images[index] for index in indices)
        total = sum(len(image.objects) for image in images)
        return replace(self, images=images, total=total, problems=())

    def summary(self) -> str:
        """Describe the set in one line, and each problem in one more."""
        first = (
            f"{self.source}: {len(self.images)} images, {self.total} annotations = "
            f"{self.kept} kept + {self.crowd} crowd + {self.reported} left out"
        )
        return "\n".join([first, *(f"  {problem}" for problem in self.problems)])


@dataclass
class Collector:
    """Gather the problems of one source while its good annotations are read.

    Raises:
        ValueError: `on_invalid` is neither "refuse" nor "drop".
    """

    source: Path
    on_invalid: str
    total: int = 0
    problems: list[Problem] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.on_invalid not in ON_INVALID:
            raise ValueError(f"on_invalid is {self.on_invalid!r}; allowed are {ON_INVALID}")

    @contextmanager
    def reporting(self, source: str, annotations: int = 1) -> Iterator[None]:
        """Turn an AnnotationError or PhotoError raised inside into a problem at `source`."""
        try:
            yield
        except (AnnotationError, PhotoError) as error:
            self.problems.append(Problem(source, str(error), annotations))

    def finish(
        self, images: Sequence[ImageRecord], class_names: Sequence[str], category_ids: Sequence[int]
    ) -> AnnotationSet:
        """Return the set, or refuse it.

        Raises:
            AnnotationError: there are problems and `on_invalid` is "refuse", or no image is left.
        """
        if self.problems and self.on_invalid == "refuse":
            raise AnnotationError(self._refusal())
        if not images:
            found = "".join(f"\n  {problem}" for problem in self.problems[:PROBLEMS_SHOWN])
            raise AnnotationError(f"{self.source}: no image is left to use{found}")
        return AnnotationSet(
            self.source,
            tuple(class_names),
            tuple(category_ids),
            tuple(images),
            self.total,
            tuple(self.problems),
        )

    def _refusal(self) -> str:
        shown = [f"  {problem}" for problem in self.problems[:PROBLEMS_SHOWN]]
        more = len(self.problems) - len(shown)
        count = f"{len(self.problems)} problem{'s' * (len(self.problems) > 1)}"
        head = (
            f"{self.source}: {count} in {self.total} annotations"
            " (--on-invalid drop, or on_invalid='drop', leaves them out):"
        )
        return "\n".join([head, *shown, *([f"  ... and {more} more"] if more else [])])


def shown(value: object) -> str:
    """Quote a value for an error message, short enough for one line."""
    return reprlib.repr(value)


def number(value: object, name: str) -> float:
    """Return a finite float from a JSON number, or from text that is nothing but one number.

    Raises:
        AnnotationError: it is something else, NaN or infinite.
    """
    if isinstance(value, str) and NUMBER.fullmatch(value.strip()):
        value = float(value)
    if isinstance(value, str) and value.strip().lower().lstrip("+-") in ("nan", "inf", "infinity"):
        raise AnnotationError(f"{name} is {shown(value)}, not a finite number")
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise AnnotationError(f"{name} is {shown(value)}, not a number")
    if not abs(value) < 1e12:
        raise AnnotationError(f"{name} is {shown(value)}, not a finite number")
    return float(value)


def whole_number(value: object, name: str, low: int, high: int = LARGEST_ID) -> int:
    """Return an int between `low` and `high`, both allowed, from a JSON integer.

    Raises:
        AnnotationError: it is no integer or lies outside.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise AnnotationError(f"{name} is {shown(value)}, not a whole number")
    if not low <= value <= high:
        raise AnnotationError(f"{name} is {shown(value)}; allowed is {low} to {high}")
    return value


def check_box(
    box_xyxy: Sequence[float], width: int, height: int
) -> tuple[float, float, float, float]:
    """Return the box cut to the image, which may take off up to `BORDER_TOLERANCE` pixels a side.

    Args:
        box_xyxy: left, top, right, bottom edge in pixels.
        width: the image's width in pixels.
        height: the image's height in pixels.

    Raises:
        AnnotationError: an edge is not finite, there is no area, or the box leaves the image.
    """
    text = "(" + ", ".join(f"{edge:.6g}" for edge in box_xyxy) + ")"
    if not all(math.isfinite(edge) for edge in box_xyxy):
        raise AnnotationError(f"box {text} is not finite")
    x1, y1, x2, y2 = box_xyxy
    if x2 - x1 < SMALLEST_SIDE or y2 - y1 < SMALLEST_SIDE:
        raise AnnotationError(f"box {text} has no area (x1, y1, x2, y2 in pixels)")
    if x2 <= 0 or y2 <= 0 or x1 >= width or y1 >= height:
        raise AnnotationError(f"box {text} lies outside the {width} x {height} image")
    if max(-x1, -y1, x2 - width, y2 - height) > BORDER_TOLERANCE:
        raise AnnotationError(f"box {text} leaves the {width} x {height} image")
    cut = (max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height)))
    if cut[2] - cut[0] < SMALLEST_SIDE or cut[3] - cut[1] < SMALLEST_SIDE:
        raise AnnotationError(f"box {text} has no area inside the {width} x {height} image")
    return cut


def check_class_names(names: Sequence[object], source: Path | str) -> tuple[str, ...]:
    """Return the names as a tuple: at least one, none empty, none twice, all printable text.

    Raises:
        AnnotationError: a name breaks one of these.
    """
    if not names:
        raise AnnotationError(f"{source}: no class is named")
    for index, name in enumerate(names):
        if not isinstance(name, str) or not name.strip() or not name.isprintable():
            raise AnnotationError(f"{source}: class name {index} is {shown(name)}")
        if name in names[:index]:
            raise AnnotationError(f"{source}: class name {shown(name)} appears twice")
    return tuple(str(name) for name in names)
