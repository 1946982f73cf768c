"""The ground of a street and the house fronts that border it, painted before all things."""

import math
from dataclasses import dataclass

import cv2
import numpy as np

from common.street.backdrop import (
    BUILDING,
    FAR,
    GRASS,
    PAVEMENT,
    ROAD,
    Mood,
    house,
    paint_sky,
    skyline,
)
from common.street.layout import Plan
from common.street.sketch import Camera, Colour, Dice, Sketch, mix, shade

NEAR = 0.3  # metres; in front of it no ground is seen
Span = tuple[float, float]
Quad = tuple[float, float, float, float]  # x0, z0, x1, z1 on the ground, in metres


@dataclass(frozen=True)
class Ground:
    """A canvas (H, W, 4) and the camera through which the ground is painted on it."""

    canvas: np.ndarray
    camera: Camera

    def patch(self, xs: Span, zs: Span, colour: Colour, region: int) -> None:
        """Fill the rectangle between x = xs[0]..xs[1] and z = zs[0]..zs[1]."""
        cv2.fillConvexPoly(
            self.canvas, self._corners([(xs[0], zs[0], xs[1], zs[1])])[0], (*colour, region)
        )

    def patches(self, quads: list[Quad], colour: Colour, region: int) -> None:
        """Fill rectangles that do not overlap: the bars of a crossing, the dashes of a lane."""
        if quads:
            cv2.fillPoly(self.canvas, list(self._corners(quads)), (*colour, region))

    def joints(self, xs: Span, zs: Span, tile: float, colour: Colour) -> None:
        """Draw the joints between the square tiles of a pavement, at most 16 each way."""
        end = min(zs[1], 30.0)
        wide, deep = max(tile, (xs[1] - xs[0]) / 16), max(tile, (end - zs[0]) / 16)
        along = [xs[0] + k * wide for k in range(1, math.ceil((xs[1] - xs[0]) / wide))]
        across = [zs[0] + k * deep for k in range(1, math.ceil((end - zs[0]) / deep))]
        lines = [((x, 0, zs[0]), (x, 0, zs[1])) for x in along]
        lines += [((xs[0], 0, z), (xs[1], 0, z)) for z in across]
        points = self.camera.project(np.array(lines, dtype=np.float64).reshape(-1, 3))
        cv2.polylines(self.canvas, list(points.reshape(-1, 2, 2)), False, (*colour, PAVEMENT), 1)

    def _corners(self, quads: list[Quad]) -> np.ndarray:
        corners = [((a, 0, b), (c, 0, b), (c, 0, d), (a, 0, d)) for a, b, c, d in quads]
        points = self.camera.project(np.array(corners, dtype=np.float64).reshape(-1, 3))
        return points.reshape(-1, 4, 2)

    def stand(self, sketch: Sketch, x: float, z: float, yaw: float = 0.0) -> None:
        """Paint a house, its corner at (x, z)."""
        pixels = self.camera.project(sketch.placed(x, z, yaw))
        sketch.paint(self.canvas, pixels, self.camera.scale(z), BUILDING)


def paint_backdrop(canvas: np.ndarray, plan: Plan) -> None:
    """Paint sky, far houses, ground and house fronts, all a little veiled by the air."""
    dice, camera, mood = Dice(plan.seed + 2**40), plan.camera, plan.mood
    paint_sky(canvas, dice, mood, int(camera.horizon))
    wide = camera.width / 2 / camera.scale(FAR) * 1.1
    ground = Ground(canvas, camera)
    far_houses = skyline(dice, wide, mood)
    grey = dice.uniform(0.95, 1.15)
    paved = shade(dice.choice(((182, 174, 158), (194, 178, 154), (172, 168, 160))), grey)
    tar = shade(dice.choice(((82, 84, 90), (92, 92, 94), (74, 76, 84))), dice.uniform(0.85, 1.15))
    canvas[int(camera.horizon) :].view(np.uint32)[...] = np.array(
        (*paved, PAVEMENT), np.uint8
    ).view(np.uint32)
    ground.stand(far_houses, 0.0, FAR)
    {"across": _across_ground, "along": _along_ground, "square": _square_ground}[plan.kind](
        ground, plan, dice, paved, tar
    )
    _veil(canvas, mood)


def _veil(canvas: np.ndarray, mood: Mood) -> None:
    """Blend the colours of the canvas with the air's; the things in front stay vivid."""
    ramp = np.arange(256)
    air = mix(mood.sky_bottom, (216, 212, 204), 0.6)
    tables = [ramp * (1 - mood.haze) + colour * mood.haze for colour in air] + [ramp]
    table = np.rint(np.stack(tables, axis=1)).astype(np.uint8).reshape(1, 256, 4)
    cv2.LUT(canvas, table, dst=canvas)


def _house_row(ground: Ground, plan: Plan, dice: Dice, gaps: float) -> None:
    half = plan.camera.width / 2 / plan.camera.scale(plan.wall)
    x = -half - dice.uniform(0, 4)
    while x < half:
        wide = dice.uniform(5.0, 10.0)
        if not dice.chance(gaps):
            sketch = house(dice, wide, plan.mood)
            ground.stand(sketch, x, plan.wall)
        x += wide + (dice.uniform(1, 3) if dice.chance(0.2) else 0)


def _across_ground(ground: Ground, plan: Plan, dice: Dice, paved: Colour, tar: Colour) -> None:
    camera, (near, far) = plan.camera, plan.road
    half = camera.width / 2 / camera.scale(plan.wall) + 30
    _house_row(ground, plan, dice, 0.12)
    inner = camera.width / 2 / camera.scale(plan.wall) + 1
    ground.joints((-inner, inner), (far, plan.wall), 1.2, shade(paved, 0.86))
    ground.joints((-inner, inner), (1.0, near), 0.9, shade(paved, 0.86))
    ground.patch((-half, half), (near - 0.18, far + 0.18), shade(paved, 1.15), PAVEMENT)
    ground.patch((-half, half), (near, far), tar, ROAD)
    middle, paint = (near + far) / 2, mix(tar, (240, 240, 232), 0.75)
    dashes = [(k * 2.6 - 26, middle - 0.07, k * 2.6 - 24.7, middle + 0.07) for k in range(20)]
    ground.patches(dashes, paint, ROAD)
    if dice.chance(0.4):
        x = dice.uniform(-0.6, 0.6) * camera.width / 2 / camera.scale(middle)
        bars = [(x + k * 0.9, near + 0.1, x + k * 0.9 + 0.5, far - 0.1) for k in range(-2, 3)]
        ground.patches(bars, paint, ROAD)


def _along_ground(ground: Ground, plan: Plan, dice: Dice, paved: Colour, tar: Colour) -> None:
    camera, (left, right), end = plan.camera, plan.road, 50.0
    for xs in ((-plan.wall, left), (right, plan.wall)):
        ground.joints(xs, (1.0, end), 0.9, shade(paved, 0.86))
    ground.patch((left - 0.2, right + 0.2), (NEAR, FAR), shade(paved, 1.15), PAVEMENT)
    ground.patch((left, right), (NEAR, FAR), tar, ROAD)
    paint, middle = mix(tar, (240, 240, 232), 0.75), (left + right) / 2
    dashes = [(middle - 0.07, 1 + 3.2 * k, middle + 0.07, 2.7 + 3.2 * k) for k in range(20)]
    ground.patches(dashes, paint, ROAD)
    if dice.chance(0.45):
        z = dice.uniform(5, 11)
        count = int((right - left) / 0.9)
        bars = [(left + 0.2 + k * 0.9, z, left + 0.7 + k * 0.9, z + 2.6) for k in range(count)]
        ground.patches(bars, paint, ROAD)
    start = camera.scale(1) * plan.wall / camera.width * 2 * 0.55
    for side in (-1, 1):
        rows, z = [], start
        while z < end:
            wide = dice.uniform(6.5, 12.0)
            rows.append((house(dice, wide, plan.mood, z < 14), z))
            z += wide + (dice.uniform(2, 5) if dice.chance(0.15) else 0)
        for sketch, z in reversed(rows):
            ground.stand(sketch, side * plan.wall, z, math.pi / 2)


def _square_ground(ground: Ground, plan: Plan, dice: Dice, paved: Colour, tar: Colour) -> None:
    camera, (near, far) = plan.camera, plan.road
    half = camera.width / 2 / camera.scale(plan.wall) + 30
    _house_row(ground, plan, dice, 0.35)
    ground.patch((-half, half), (near, far), tar, ROAD)
    inner = camera.width / 2 / camera.scale(near) + 1
    ground.joints((-inner, inner), (1.0, near), 1.0, shade(paved, 0.87))
    green = shade((104, 142, 72), dice.uniform(0.75, 1.15))
    path = dice.uniform(-0.5, 0.5) * inner
    lawns = [(-half, path - 1.2), (path + 1.2, half)]
    low = dice.uniform(5.0, 10.0)
    for xs in lawns:
        ground.patch(xs, (low, near - 1.0), green, GRASS)
