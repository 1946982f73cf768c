"""What stands along a street: lights, lamps, trees, bins, and the false people of stone and paper.

Every function returns a `Sketch` in metres that stands on the ground at (0, 0).
"""

import math

from common.street.clothes import one_colour, random_look
from common.street.people import pedestrian
from common.street.sketch import Colour, Dice, Sketch, mix, shade

STEEL = (84, 88, 92)
GREENS = ((58, 108, 52), (82, 128, 58), (44, 88, 60), (112, 138, 60), (150, 120, 50), (60, 96, 40))


def traffic_light_pole(height: float) -> Sketch:
    """Sketch the pole under a traffic light's head; it is no part of the labelled light."""
    sketch = Sketch()
    sketch.line([(0, 0), (0, height)], 0.17, STEEL)
    sketch.rectangles([(-0.12, 0, 0.12, 0.25)], shade(STEEL, 0.75))
    return sketch


def traffic_light(dice: Dice, bottom: float) -> Sketch:
    """Sketch a traffic light's head, 1.1 high, from `bottom` up: red, amber and green lamps."""
    sketch = Sketch()
    body = dice.choice(((36, 38, 40), (50, 56, 50), (70, 66, 40), (196, 156, 40)))
    top, half = bottom + 1.1, 0.22
    sketch.polygon(
        [
            (-half, bottom),
            (half, bottom),
            (half, top),
            (0.1, top + 0.07),
            (-0.1, top + 0.07),
            (-half, top),
        ],
        body,
    )
    lit = dice.choice((0, 2, 0, 2, 1))
    on = ((255, 50, 40), (255, 190, 40), (60, 250, 120))
    for k in range(3):
        y = top - 0.19 - 0.36 * k
        sketch.ellipse(0, y, 0.17, 0.165, (14, 14, 16))
        sketch.ellipse(
            0, y - 0.01, 0.135, 0.135, on[k] if k == lit else mix(on[k], (20, 20, 20), 0.8)
        )
    return sketch


def lamp(dice: Dice) -> Sketch:
    """Sketch a street lamp 4 to 5.5 high."""
    sketch = Sketch()
    height, colour = dice.uniform(4.0, 5.5), dice.choice((STEEL, (48, 52, 50), (60, 78, 66)))
    sketch.line([(0, 0), (0, height)], 0.16, colour)
    sketch.line([(0, 0), (0, 0.9)], 0.26, colour)
    if dice.chance(0.5):
        side = dice.choice((-1, 1))
        sketch.line(
            [(0, height), (side * 0.4, height + 0.3), (side * 1.1, height + 0.25)], 0.13, colour
        )
        sketch.line([(side * 0.9, height + 0.2), (side * 1.3, height + 0.2)], 0.14, (240, 232, 190))
    else:
        sketch.polygon(
            [(-0.2, height), (0.2, height), (0.28, height + 0.5), (-0.28, height + 0.5)],
            (246, 236, 190),
        )
        sketch.polygon([(-0.34, height + 0.5), (0.34, height + 0.5), (0, height + 0.75)], colour)
    return sketch


def tree(dice: Dice) -> Sketch:
    """Sketch a tree 4 to 7 high: a round crown of leaves, or a fir."""
    sketch = Sketch()
    height, green = dice.uniform(4.0, 7.0), shade(dice.choice(GREENS), dice.uniform(0.8, 1.2))
    trunk = shade((98, 70, 48), dice.uniform(0.7, 1.2))
    if dice.chance(0.25):
        sketch.line([(0, 0), (0, height * 0.4)], 0.22, trunk)
        for k in range(4):
            low, wide = height * (0.16 + 0.2 * k), height * (0.24 - 0.05 * k)
            sketch.polygon(
                [(-wide, low), (wide, low), (0, low + height * 0.34)], shade(green, 0.75 + 0.12 * k)
            )
        return sketch
    fork = height * 0.45
    sketch.polygon([(-0.16, 0), (0.16, 0), (0.09, fork), (-0.09, fork)], trunk)
    for side in (-1, 1):
        sketch.line([(0, fork * 0.9), (side * height * 0.16, height * 0.66)], 0.1, trunk)
    for k in range(11):
        angle = k * 2.4
        reach = height * 0.24 * math.sqrt(k / 10) * dice.uniform(0.8, 1.2)
        x, y = reach * math.cos(angle), height * 0.72 + reach * 0.8 * math.sin(angle)
        radius = height * dice.uniform(0.1, 0.16)
        sketch.ellipse(
            x, y, radius, radius, shade(green, 0.8 + 0.5 * (y / height - 0.5) + 0.1 * (k % 3))
        )
    return sketch


def bush(dice: Dice) -> Sketch:
    """Sketch a bush, with blossoms at times."""
    sketch = Sketch()
    green, wide = shade(dice.choice(GREENS), dice.uniform(0.7, 1.1)), dice.uniform(0.6, 1.6)
    for k in range(6):
        x = wide * (k / 2.5 - 1) * 0.7
        sketch.ellipse(
            x, dice.uniform(0.25, 0.45), 0.35, 0.4, shade(green, dice.uniform(0.85, 1.2))
        )
    sketch.rectangles([(-wide * 0.8, 0, wide * 0.8, 0.3)], shade(green, 0.8))
    if dice.chance(0.4):
        blossom = dice.choice(((230, 90, 120), (240, 230, 230), (240, 200, 70)))
        for _ in range(8):
            x, y = dice.uniform(-wide, wide) * 0.8, dice.uniform(0.15, 0.65)
            sketch.ellipse(x, y, 0.05, 0.05, blossom)
    return sketch


def small_furniture(dice: Dice) -> Sketch:
    """Sketch a bin, a bollard, a hydrant, a letter box, a bench, a planter or a sign."""
    kind = dice.choice((_bin, _bollard, _hydrant, _letter_box, bench, planter, _sign, _sign))
    return kind(dice)


def _bin(dice: Dice) -> Sketch:
    sketch, colour = Sketch(), dice.choice(((60, 90, 70), (70, 74, 80), (190, 110, 40)))
    sketch.polygon([(-0.22, 0), (0.22, 0), (0.28, 0.85), (-0.28, 0.85)], colour)
    sketch.rectangles([(-0.31, 0.85, 0.31, 0.97)], shade(colour, 0.7))
    sketch.rectangles([(-0.16, 0.66, 0.16, 0.74)], (20, 20, 22))
    return sketch


def _bollard(dice: Dice) -> Sketch:
    sketch = Sketch()
    for x in (-1.4, 0.0, 1.4)[: dice.integer(1, 3)]:
        sketch.line([(x, 0.05), (x, 0.85)], 0.15, (70, 72, 76))
        sketch.line([(x, 0.7), (x, 0.76)], 0.15, (225, 225, 220))
    return sketch


def _hydrant(dice: Dice) -> Sketch:
    sketch, red = Sketch(), dice.choice(((196, 40, 36), (220, 170, 40)))
    sketch.line([(0, 0.1), (0, 0.6)], 0.28, red)
    sketch.ellipse(0, 0.68, 0.19, 0.15, shade(red, 0.85))
    sketch.line([(-0.22, 0.46), (0.22, 0.46)], 0.14, shade(red, 0.75))
    return sketch


def _letter_box(dice: Dice) -> Sketch:
    sketch, paint = Sketch(), dice.choice(((240, 196, 30), (190, 30, 36), (36, 70, 140)))
    sketch.line([(0, 0), (0, 0.8)], 0.12, STEEL)
    sketch.rectangles([(-0.32, 0.75, 0.32, 1.45)], paint)
    sketch.rectangles([(-0.22, 1.2, 0.22, 1.27)], shade(paint, 0.4))
    return sketch


def bench(dice: Dice) -> Sketch:
    """Sketch a bench 0.85 high."""
    sketch, wood = Sketch(), shade((150, 104, 62), dice.uniform(0.7, 1.2))
    for x in (-0.75, 0.75):
        sketch.line([(x, 0), (x, 0.9)], 0.12, (52, 54, 56))
    for y in (0.45, 0.62, 0.78):
        sketch.line([(-0.95, y), (0.95, y)], 0.145, shade(wood, 0.7 + y * 0.4))
    return sketch


def planter(dice: Dice) -> Sketch:
    """Sketch a wooden or concrete tub with leaves and blossoms, about 0.8 high."""
    sketch, half = Sketch(), dice.uniform(0.5, 0.9)
    tub = shade(
        dice.choice(((150, 104, 62), (164, 160, 152), (112, 78, 60))), dice.uniform(0.8, 1.1)
    )
    green = shade(dice.choice(GREENS), dice.uniform(0.8, 1.15))
    for k in range(6):
        x = half * (k / 2.5 - 1) * 0.9
        sketch.ellipse(x, dice.uniform(0.45, 0.6), 0.24, 0.24, shade(green, 0.85 + 0.1 * (k % 3)))
    sketch.polygon([(-half, 0.42), (half, 0.42), (half * 0.93, 0), (-half * 0.93, 0)], tub)
    sketch.rectangles([(-half - 0.04, 0.34, half + 0.04, 0.43)], shade(tub, 0.8))
    blossom = dice.choice(((230, 90, 120), (240, 230, 230), (240, 200, 70), (190, 110, 200)))
    for _ in range(7):
        x, y = dice.uniform(-half, half) * 0.9, dice.uniform(0.45, 0.75)
        sketch.ellipse(x, y, 0.05, 0.05, blossom)
    return sketch


def _sign(dice: Dice) -> Sketch:
    sketch, y = Sketch(), dice.uniform(2.0, 2.6)
    sketch.line([(0, 0), (0, y)], 0.13, (110, 114, 118))
    kind = dice.integer(0, 2)
    if kind == 0:
        sketch.ellipse(0, y, 0.36, 0.36, (196, 34, 40))
        sketch.ellipse(0, y, 0.26, 0.26, (244, 244, 240))
    elif kind == 1:
        sketch.polygon([(-0.42, y - 0.3), (0.42, y - 0.3), (0, y + 0.42)], (196, 34, 40))
        sketch.polygon([(-0.25, y - 0.2), (0.25, y - 0.2), (0, y + 0.22)], (244, 244, 240))
    else:
        sketch.rectangles([(-0.34, y - 0.34, 0.34, y + 0.34)], (36, 80, 170))
        sketch.line(
            [(-0.1, y - 0.2), (-0.1, y + 0.2), (0.12, y + 0.1), (-0.1, y)], 0.08, (244, 244, 244)
        )
    return sketch


def statue(dice: Dice) -> Sketch:
    """Sketch a statue on its plinth: the shape of a person, but of stone or bronze."""
    sketch, stone = Sketch(), dice.choice(((168, 166, 160), (128, 130, 132), (96, 126, 112)))
    plinth, high = mix(stone, (150, 146, 138), 0.6), dice.uniform(0.5, 1.1)
    sketch.rectangles([(-0.5, 0, 0.5, high)], plinth)
    sketch.rectangles([(-0.6, 0, 0.6, 0.14), (-0.6, high - 0.1, 0.6, high)], shade(plinth, 0.85))
    look = one_colour(random_look(dice), stone)
    figure = pedestrian(dice, look, dice.choice(("front", "side")), walking=dice.chance(0.5))
    sketch.add(figure, 0, high, 1.75)
    return sketch


def advertising(dice: Dice) -> Sketch:
    """Sketch a framed poster on legs that shows a person: paper, not a person."""
    sketch = Sketch()
    for x in (-0.5, 0.5):
        sketch.line([(x, 0), (x, 0.5)], 0.1, STEEL)
    sketch.rectangles([(-0.72, 0.3, 0.72, 2.5)], (56, 58, 62))
    poster(sketch, dice, 0.0, 0.38, 1.26, 2.04)
    return sketch


def poster(sketch: Sketch, dice: Dice, x: float, bottom: float, wide: float, high: float) -> None:
    """Add a printed sheet with one person and some lines of text, centred on x."""
    paper: Colour = dice.choice(
        ((238, 214, 120), (226, 120, 110), (130, 190, 210), (236, 232, 222), (150, 120, 180))
    )
    sketch.rectangles([(x - wide / 2, bottom, x + wide / 2, bottom + high)], paper)
    text = [
        (x - wide * 0.38, bottom + high * t, x + wide * 0.3, bottom + high * (t + 0.035))
        for t in (0.05, 0.11)
    ]
    sketch.rectangles(text, shade(paper, 0.45))
    ink = one_colour(random_look(dice), shade(paper, 0.55))
    figure = pedestrian(dice, ink, dice.choice(("front", "side")), walking=True)
    sketch.add(figure, x, bottom + high * 0.17, high * 0.7)
