"""Sketches in metres, the camera that projects them and the dice that vary them.

A thing is first sketched in metres (`Sketch`: x to the right, y up from the ground, z away from
the viewer) and painted later. So one sketch gives the picture, the region map, the shadow on the
ground and the silhouette without what stands in front of it.
"""

import math
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

SUPERSAMPLING = 2  # drawn at twice the size, then averaged: smooth edges, and faster than LINE_AA
NEAREST = 0.25  # metres; what would lie behind the viewer is drawn at this depth
CIRCLE = [(math.cos(2 * math.pi * k / 16), math.sin(2 * math.pi * k / 16)) for k in range(16)]
DISC = np.array([(x, y, 0.0) for x, y in CIRCLE])
Colour = tuple[int, int, int]  # red, green, blue in 0..255


class Dice:
    """Random numbers by seed, drawn in blocks: one at a time NumPy takes ten times longer."""

    def __init__(self, seed: int) -> None:
        self._generator = np.random.default_rng(seed)
        self._pool: list[float] = []

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        """Return a float in [low, high)."""
        if not self._pool:
            self._pool = self._generator.random(512).tolist()
        return low + (high - low) * self._pool.pop()

    def integer(self, low: int, high: int) -> int:
        """Return an int in low..high, both included."""
        return low + int(self.uniform(0, high - low + 1))

    def chance(self, probability: float) -> bool:
        """Return True with this probability."""
        return self.uniform() < probability

    def choice(self, options: Sequence):
        """Return one of the options."""
        return options[int(self.uniform(0, len(options)))]


def shade(colour: Colour, factor: float) -> Colour:
    """Return the colour made darker (factor < 1) or lighter (factor > 1)."""
    red, green, blue = colour
    return (
        min(255, int(red * factor + 0.5)),
        min(255, int(green * factor + 0.5)),
        min(255, int(blue * factor + 0.5)),
    )


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """Return the colour `share` of the way from the first to the second."""
    return tuple(round(a + (b - a) * share) for a, b in zip(first, second, strict=True))


@dataclass(frozen=True)
class Camera:
    """A pinhole camera that looks straight ahead over flat ground.

    All lengths in pixels are those of the supersampled canvas; `eye_height` is in metres.
    """

    width: int
    height: int
    focal: float
    horizon: float
    eye_height: float

    def project(self, points: np.ndarray) -> np.ndarray:
        """Project (N, 3) float points in metres to (N, 2) int32 canvas pixels, x before y."""
        scale = self.focal / np.maximum(points[:, 2], NEAREST)
        pixels = np.empty((len(points), 2))
        pixels[:, 0] = self.width / 2 + scale * points[:, 0]
        pixels[:, 1] = self.horizon + scale * (self.eye_height - points[:, 1])
        np.rint(pixels, out=pixels)
        np.minimum(pixels, 16000, out=pixels)  # np.clip does the same, but slower
        return np.maximum(pixels, -16000, out=pixels).astype(np.int32)

    def scale(self, z: float) -> float:
        """Return how many canvas pixels a metre has at depth z."""
        return self.focal / max(z, NEAREST)


class Sketch:
    """Shapes in metres, in the order in which they are painted."""

    def __init__(self) -> None:
        self._flat = array("d")  # x, y, z of one point after the other
        self._shapes: list[tuple] = []  # (kind, first point, colour, line width)

    def polygon(self, points: Sequence, colour: Colour) -> None:
        """Add a filled polygon of (x, y) or (x, y, z) points."""
        self._add("convex" if len(points) < 5 else "fill", points, colour, 0.0)

    def rectangles(self, corners: Sequence, colour: Colour) -> None:
        """Add upright rectangles (x0, y0, x1, y1) that do not overlap, of one colour."""
        if corners:
            kind = "convex" if len(corners) == 1 else "quads"
            self._shapes.append((kind, len(self._flat) // 3, colour, 0.0))
            for a, b, c, d in corners:
                self._flat.extend((a, b, 0.0, c, b, 0.0, c, d, 0.0, a, d, 0.0))

    def ellipse(self, x: float, y: float, rx: float, ry: float, colour: Colour) -> None:
        """Add a filled ellipse around (x, y)."""
        self._shapes.append(("convex", len(self._flat) // 3, colour, 0.0))
        self._flat.frombytes((DISC * (rx, ry, 0.0) + (x, y, 0.0)).tobytes())

    def line(self, points: Sequence, width: float, colour: Colour) -> None:
        """Add a line with round ends through the points."""
        self._add("line", points, colour, width)

    def add(self, other: "Sketch", x: float, y: float, size: float = 1.0) -> None:
        """Add another sketch, moved by (x, y) after it was scaled by `size`."""
        first = len(self._flat) // 3
        moved = other.points() * size + np.array([x, y, 0.0])
        self._flat.frombytes(moved.tobytes())
        for kind, start, colour, width in other._shapes:
            self._shapes.append((kind, first + start, colour, width * size))

    def mirrored(self) -> "Sketch":
        """Return the sketch with left and right exchanged."""
        other = Sketch()
        other._flat.frombytes((self.points() * np.array([-1.0, 1.0, 1.0])).tobytes())
        other._shapes = list(self._shapes)
        return other

    def points(self) -> np.ndarray:
        """Return a copy of all points: float64 (N, 3)."""
        return np.array(self._flat).reshape(-1, 3)

    def _add(self, kind: str, points: Sequence, colour: Colour, width: float) -> None:
        self._shapes.append((kind, len(self._flat) // 3, colour, width))
        if len(points[0]) == 2:
            self._flat.extend([value for x, y in points for value in (x, y, 0.0)])
        else:
            self._flat.extend([value for point in points for value in point])

    def placed(self, x: float, z: float, yaw: float = 0.0) -> np.ndarray:
        """Return the points (N, 3) turned by `yaw` radians about the vertical, then moved."""
        placed = self.points()
        if yaw:
            cos, sin = math.cos(yaw), math.sin(yaw)
            turned_x = placed[:, 0] * cos - placed[:, 2] * sin
            placed[:, 2] = placed[:, 0] * sin + placed[:, 2] * cos
            placed[:, 0] = turned_x
        placed[:, 0] += x
        placed[:, 2] += z
        return placed

    def paint(self, canvas: np.ndarray, pixels: np.ndarray, scale: float, region: int) -> None:
        """Paint on the canvas (H, W, 4): red, green, blue and the region's number."""
        for kind, points, colour, width in self._parts(pixels):
            _paint_shape(canvas, kind, points, (*colour, region), width * scale)

    def silhouette(self, plane: np.ndarray, pixels: np.ndarray, scale: float, value: int) -> None:
        """Fill the outline on a plane (H, W)."""
        for kind, points, _, width in self._parts(pixels):
            _paint_shape(plane, kind, points, value, width * scale)

    def _parts(self, pixels: np.ndarray) -> Iterator[tuple]:
        end = len(pixels)
        parts = []
        for kind, start, colour, width in reversed(self._shapes):
            parts.append((kind, pixels[start:end], colour, width))
            end = start
        return reversed(parts)


def _paint_shape(image: np.ndarray, kind: str, points: np.ndarray, colour, width: float) -> None:
    if kind == "convex":
        cv2.fillConvexPoly(image, points, colour)
    elif kind == "line":
        cv2.polylines(image, [points], False, colour, max(1, round(width)))
    else:
        cv2.fillPoly(image, list(points.reshape(-1, 4, 2)) if kind == "quads" else [points], colour)
