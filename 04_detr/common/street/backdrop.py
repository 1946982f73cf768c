"""What lies behind the things of a street: hour and weather, sky, house fronts and the ground."""

from dataclasses import dataclass

import cv2
import numpy as np

from common.street.clothes import one_colour, random_look
from common.street.furniture import poster
from common.street.people import pedestrian
from common.street.sketch import Colour, Dice, Sketch, mix, shade

# Numbers in the region map; the first eight are SEMANTIC_CLASSES, instances follow after GRASS.
SKY, BUILDING, VEGETATION, PAVEMENT, ROAD, OBJECT, GRASS = 0, 1, 2, 3, 4, 7, 8
WALLS = (
    (196, 170, 140), (176, 96, 76), (150, 84, 66), (214, 204, 188), (226, 208, 160),
    (160, 164, 168), (188, 150, 120), (132, 148, 160), (206, 176, 168), (168, 184, 158),
    (122, 110, 104), (230, 224, 214),
)  # fmt: skip
FAR = 400.0  # metres, as good as the horizon


@dataclass(frozen=True)
class Mood:
    """Hour and weather. `light_xz`: how far the shadow of 1 m falls; `gains`: per colour;
    `haze`: the share of the air's colour in all that stands still behind the scene."""

    sky_top: Colour
    sky_bottom: Colour
    clouds: float
    gains: tuple[float, float, float]
    contrast: float
    light_xz: tuple[float, float]
    shadow: float
    lit_windows: float
    rain: bool
    haze: float


def random_mood(dice: Dice) -> Mood:
    """Choose hour and weather."""
    hour = dice.choice(("day",) * 9 + ("grey",) * 5 + ("evening",) + ("dusk", "mist"))
    top, bottom = {
        "day": ((92, 150, 214), (190, 216, 236)),
        "grey": ((150, 156, 164), (196, 200, 204)),
        "evening": ((112, 124, 176), (246, 184, 130)),
        "dusk": ((44, 50, 92), (150, 112, 132)),
        "mist": ((196, 200, 202), (214, 216, 216)),
    }[hour]
    bright = {"day": 1.02, "grey": 0.92, "evening": 0.95, "dusk": 0.8, "mist": 1.0}[hour]
    warm = {"evening": 0.12, "dusk": -0.1}.get(hour, dice.uniform(-0.05, 0.05))
    bright *= dice.uniform(0.88, 1.1)
    return Mood(
        sky_top=shade(top, dice.uniform(0.85, 1.15)),
        sky_bottom=shade(bottom, dice.uniform(0.92, 1.06)),
        clouds={"day": dice.uniform(), "grey": 0.9, "mist": 0.0}.get(hour, 0.4),
        gains=(bright * (1 + warm), bright, bright * (1 - warm)),
        contrast={"mist": dice.uniform(0.75, 0.85)}.get(hour, dice.uniform(0.9, 1.08)),
        light_xz=(dice.choice((-1, 1)) * dice.uniform(0.35, 1.5), dice.uniform(-0.4, 0.7)),
        shadow={"day": 0.32, "evening": 0.3, "dusk": 0.12}.get(hour, 0.15),
        lit_windows={"dusk": 0.6, "evening": 0.3}.get(hour, 0.04),
        rain=hour in ("grey", "dusk") and dice.chance(0.35),
        haze=dice.uniform(0.35, 0.5),
    )


def paint_sky(canvas: np.ndarray, dice: Dice, mood: Mood, horizon: int) -> None:
    """Fill the canvas (H, W, 4) above row `horizon` with a graded sky and its clouds."""
    H, W = canvas.shape[:2]
    rows = np.minimum(np.arange(H), horizon)[:, None] * 256 // max(1, horizon)
    top, bottom = np.array((*mood.sky_top, SKY)), np.array((*mood.sky_bottom, SKY))
    column = ((top * (256 - rows) + bottom * rows) >> 8).astype(np.uint8)  # (H, 4)
    sky = canvas[:horizon]
    sky.view(np.uint32)[..., 0] = column.view(np.uint32)[:horizon]  # four bytes at once is faster
    white = mix(mood.sky_bottom, (255, 255, 255), 0.55)
    for _ in range(round(mood.clouds * 5)):
        x, y, size = dice.uniform(0, W), dice.uniform(0, horizon * 0.7), dice.uniform(0.03, 0.1) * W
        for k in range(5):
            centre = (int(x + (k - 2) * size * 0.7), int(y - size * 0.25 * (k % 2)))
            tint = shade(white, 0.96 + 0.02 * (k % 3))
            axes = (int(size * dice.uniform(0.5, 0.9)), int(size * dice.uniform(0.18, 0.34)))
            cv2.ellipse(canvas, centre, axes, 0, 0, 360, (*tint, SKY), -1)


def skyline(dice: Dice, half_width: float, mood: Mood) -> Sketch:
    """Sketch far houses, hazy, from x = -half_width to half_width."""
    sketch, x = Sketch(), -half_width
    while x < half_width:
        wide, high = dice.uniform(0.1, 0.28) * half_width, dice.uniform(0.1, 0.42) * half_width
        wall = mix(dice.choice(WALLS), mood.sky_bottom, dice.uniform(0.2, 0.4))
        sketch.rectangles([(x, -1, x + wide, high)], wall)
        if dice.chance(0.3):
            sketch.polygon(
                [(x, high), (x + wide, high), (x + wide / 2, high * 1.3)], shade(wall, 0.9)
            )
        step = half_width * 0.05
        columns, floors = int(wide / step), int(high / step / 1.3)
        panes = [
            (
                x + (k + 0.3) * step,
                (j + 0.4) * step * 1.3,
                x + (k + 0.75) * step,
                (j + 1.0) * step * 1.3,
            )
            for k in range(columns)
            for j in range(floors)
        ]
        sketch.rectangles(panes, shade(wall, dice.choice((0.82, 1.12))))
        x += wide
        if dice.chance(0.15):
            x += 0.15 * half_width
    return sketch


def house(dice: Dice, wide: float, mood: Mood, near: bool = True) -> Sketch:
    """Sketch a house front from x = 0 to `wide` metres; one that is not near has a plain shop."""
    sketch = Sketch()
    wall = shade(dice.choice(WALLS), dice.uniform(0.85, 1.1))
    floors, storey = dice.integer(1, 3), dice.uniform(2.7, 3.3)
    base = storey if dice.chance(0.6) else 0.0  # a ground floor of its own has a shop
    high = floors * storey + 0.5
    sketch.rectangles([(0, 0, wide, high)], wall)
    _roof(sketch, dice, wide, high, wall)
    sketch.rectangles([(0, 0, wide, 0.35)], shade(wall, 0.7))
    columns = max(1, int(wide / dice.uniform(1.7, 2.6)))
    step, half = wide / columns, dice.uniform(0.38, 0.6)
    spots = [
        ((k + 0.5) * step, j * storey)
        for j in range(1 if base else 0, floors)
        for k in range(columns)
    ]
    door = dice.integer(0, columns - 1)
    if not base:
        spots = [s for s in spots if s[1] > 0 or int(s[0] / step) != door]
    _windows(sketch, dice, spots, half, mood, wall)
    if base:
        _shop(sketch, dice, wide, storey, mood, near)
    else:
        _door(sketch, dice, (door + 0.5) * step, wall)
    return sketch


def _roof(sketch: Sketch, dice: Dice, wide: float, high: float, wall: Colour) -> None:
    tiles = shade(dice.choice(((150, 74, 56), (92, 84, 88), (120, 92, 74))), dice.uniform(0.8, 1.1))
    kind = dice.integer(0, 2)
    if kind == 0:
        sketch.rectangles([(-0.1, high - 0.25, wide + 0.1, high)], shade(wall, 0.8))
    elif kind == 1:
        sketch.polygon(
            [
                (-0.2, high),
                (wide + 0.2, high),
                (wide * 0.85, high + 1.6),
                (wide * 0.15, high + 1.6),
            ],
            tiles,
        )
        sketch.rectangles(
            [(wide * 0.3, high + 1.0, wide * 0.3 + 0.6, high + 2.2)], shade(wall, 0.75)
        )
    else:
        sketch.polygon([(-0.2, high), (wide + 0.2, high), (wide / 2, high + wide * 0.35)], tiles)


def _windows(sketch: Sketch, dice: Dice, spots, half: float, mood: Mood, wall: Colour) -> None:
    frame = mix(wall, (250, 250, 246), 0.6) if dice.chance(0.7) else shade(wall, 0.6)
    glass = mix((70, 84, 100), mood.sky_bottom, dice.uniform(0, 0.4))
    lit = [s for s in spots if dice.chance(mood.lit_windows)]
    dark = [s for s in spots if s not in lit]
    border = 0.09
    outer = [(x - half - border, y + 0.95, x + half + border, y + 2.35) for x, y in spots]
    sketch.rectangles(outer, frame)
    for some, colour in ((dark, glass), (lit, (255, 226, 150))):
        panes = [
            (x + a, y + 1.04, x + b, y + 2.26)
            for x, y in some
            for a, b in ((-half, -0.03), (0.03, half))
        ]
        sketch.rectangles(panes, colour)
    kind = dice.integer(0, 4)
    if kind == 0:  # shutters
        paint = dice.choice(((70, 104, 84), (110, 60, 50), (70, 86, 120)))
        leaves = [
            (x + s * (half + 0.28) - 0.19, y + 0.95, x + s * (half + 0.28) + 0.19, y + 2.35)
            for x, y in spots
            for s in (-1, 1)
        ]
        sketch.rectangles(leaves, paint)
    elif kind == 1:  # balconies
        rails = [(x - half - 0.2, y + 0.75, x + half + 0.2, y + 1.25) for x, y in spots if y > 0]
        sketch.rectangles(rails, shade(wall, 0.5))


def _door(sketch: Sketch, dice: Dice, x: float, wall: Colour) -> None:
    paint = dice.choice(((96, 52, 40), (50, 80, 70), (60, 66, 96), (120, 84, 50)))
    sketch.rectangles([(x - 0.62, 0, x + 0.62, 2.35)], shade(wall, 1.2))
    sketch.rectangles([(x - 0.48, 0, x + 0.48, 2.2)], paint)
    sketch.rectangles([(x - 0.32, 1.3, x + 0.32, 2.0)], (80, 96, 108))
    sketch.rectangles([(x - 0.8, 0, x + 0.8, 0.16)], (150, 148, 144))


def _shop(sketch: Sketch, dice: Dice, wide: float, storey: float, mood: Mood, near: bool) -> None:
    """Draw a shop: its windows (at times with a mannequin), a door, an awning and a sign."""
    trim = dice.choice(((60, 70, 64), (110, 40, 44), (40, 56, 90), (206, 196, 176), (70, 52, 42)))
    sketch.rectangles([(0.15, 0, wide - 0.15, storey - 0.1)], trim)
    inside = (255, 228, 160) if dice.chance(mood.lit_windows + 0.1) else (104, 112, 116)
    door = dice.choice((wide * 0.2, wide * 0.5, wide * 0.8))
    for a, b in ((0.4, door - 0.65), (door + 0.65, wide - 0.4)):
        if b - a > 0.5:
            sketch.rectangles([(a, 0.5, b, storey - 0.7)], inside)
        if near and b - a > 1.2 and dice.chance(0.3):
            plastic = one_colour(random_look(dice), dice.choice(((214, 196, 178), (120, 122, 126))))
            sketch.add(
                pedestrian(dice, plastic, "front", False), (a + b) / 2, 0.55, (storey - 1.3) / 1.02
            )
        elif near and b - a > 1.2 and dice.chance(0.35):
            poster(sketch, dice, (a + b) / 2, 0.6, 0.9, storey - 1.4)
    sketch.rectangles([(door - 0.5, 0, door + 0.5, storey - 0.7)], shade(trim, 0.7))
    sketch.rectangles([(door - 0.38, 0.3, door + 0.38, storey - 0.85)], shade(inside, 0.85))
    awning = dice.choice(((186, 50, 46), (56, 110, 80), (50, 80, 140), (220, 150, 50)))
    if dice.chance(0.55):
        stripes = max(4, int(wide / 0.5))
        step = (wide - 0.2) / stripes
        for parity, colour in ((0, awning), (1, (238, 234, 224))):
            cloth = [
                (0.1 + k * step, storey - 0.75, 0.1 + (k + 1) * step, storey - 0.1)
                for k in range(parity, stripes, 2)
            ]
            sketch.rectangles(cloth, colour)
    else:
        sketch.rectangles([(0.3, storey - 0.6, wide - 0.3, storey - 0.1)], awning)
        letters = [
            (x, storey - 0.48, x + 0.22, storey - 0.22)
            for x in np.arange(0.8, wide - 1.0, 0.36).tolist()
        ]
        sketch.rectangles(letters, (240, 234, 214))
