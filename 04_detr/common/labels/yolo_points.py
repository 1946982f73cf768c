"""Tell YOLO's boxes with key points from its polygons: both are lines of many numbers.

class cx cy w h x1 y1 (v1) x2 y2 (v2) ...     a box, then points in it
class x1 y1 x2 y2 x3 y3 ...                   the corners of a polygon
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median

from common.labels.values import AnnotationError, number

SHARE = 0.95  # of the long lines that have to look like one of the two
TOLERANCE = 0.01  # of the picture: key points at a box's border
SPREAD = 0.34  # of the box: key points mostly lie further apart
Corners = list[tuple[float, float]]


def have_keypoints(texts: Iterable[tuple[Path | None, list[tuple[int, str]]]]) -> bool:
    """Tell whether the long lines are boxes with key points after them, not polygons.

    All lines are equally long then, and the points lie in the box that the first four numbers
    give. A polygon's first two corners are such a box by chance alone, or where small outlines
    lie in the middle of their pictures: then the second corner is near the others, and the
    others lie close together in the large box.

    Args:
        texts: each label file with its full lines and their numbers.

    Raises:
        AnnotationError: the lines can be both; names the first of them.
    """
    split = [
        (f"{path}:{number}", line.replace(",", " ").split())
        for path, lines in texts
        for number, line in lines
    ]
    places = [place for place, words in split if len(words) > 5]
    long = [words for _, words in split if len(words) > 5]
    if not long or len({len(words) for words in long}) > 1:
        return False
    lines = [values for words in long if (values := _numbers(words)) is not None]
    if len(lines) < SHARE * len(long):
        return False
    points = [_points_in_box(values) for values in lines]
    found = [(line, one) for line, one in zip(lines, points, strict=True) if one is not None]
    if len(found) < SHARE * len(long):
        return False
    outlines = [_pairs(values, 2) for values in lines]
    if all(len(one) == 4 for one in outlines) and _share(outlines, _is_parallelogram) >= SHARE:
        return False  # boxes by their four corners
    together = median(_spread(line, one) for line, one in found) < SPREAD
    if len(long[0]) % 2 and together and _share(outlines, _second_is_near) >= SHARE:
        raise AnnotationError(
            f"{places[0]}: the lines of {len(long[0])} numbers can be polygons, or boxes with key "
            "points: write `task: segment` into data.yaml for polygons, or `task: pose`"
        )
    return True


def _numbers(words: Sequence[str]) -> list[float] | None:
    try:
        return [number(word, "value") for word in words[1:]]
    except AnnotationError:
        return None


def _pairs(values: Sequence[float], dims: int) -> Corners:
    return list(zip(values[0::dims], values[1::dims], strict=False))


def _points_in_box(values: Sequence[float]) -> Corners | None:
    """Return the points after the box that are seen, where all of them lie in it; else None."""
    cx, cy, w, h, *rest = values
    if min(cx - w / 2, cy - h / 2) < -TOLERANCE or max(cx + w / 2, cy + h / 2) > 1 + TOLERANCE:
        return None
    for dims in (2, 3):
        if len(rest) % dims or (dims == 3 and not set(rest[2::3]) <= {0, 1, 2}):
            continue
        seen = [one for one in _pairs(rest, dims) if one != (0, 0)]
        if all(
            abs(x - cx) <= w / 2 + TOLERANCE and abs(y - cy) <= h / 2 + TOLERANCE for x, y in seen
        ):
            return seen
    return None


def _share(outlines: Sequence[Corners], test) -> float:
    return sum(map(test, outlines)) / len(outlines)


def _is_parallelogram(corners: Corners) -> bool:
    one, two, three, four = corners
    gaps = (a + c - b - d for a, b, c, d in zip(one, two, three, four, strict=True))
    return all(abs(gap) <= 2 * TOLERANCE for gap in gaps)


def _second_is_near(corners: Corners) -> bool:
    """Tell whether the second corner lies in the box around the others, or one box beside it."""
    others = [corners[0], *corners[2:]]
    for axis in (0, 1):
        values = [one[axis] for one in others]
        low, high = min(values), max(values)
        room = max(high - low, TOLERANCE)
        if not low - room <= corners[1][axis] <= high + room:
            return False
    return True


def _spread(values: Sequence[float], points: Corners) -> float:
    """Return how much of the box, in its better direction, lies between the points."""
    if len(points) < 2:
        return 0.0
    w, h = values[2:4]
    xs, ys = zip(*points, strict=True)
    return max((max(xs) - min(xs)) / max(w, TOLERANCE), (max(ys) - min(ys)) / max(h, TOLERANCE))
