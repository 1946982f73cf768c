"""How people move: joints first, then the clothes around them.

All but the rider is measured in body heights: 0 is the ground, 1 the top of the head.
"""

import math
from dataclasses import replace

from common.street.clothes import Look, backpack, carried, head, pattern, skirt_and_coat
from common.street.sketch import Dice, Sketch, shade

Point = tuple[float, float]
HIP, THIGH, SHIN, UPPER_ARM, FOREARM = 0.515, 0.245, 0.235, 0.16, 0.15


def pedestrian(dice: Dice, look: Look, view: str, walking: bool) -> Sketch:
    """Sketch somebody on foot, 1 high, feet at (0, 0), seen from "front", "back" or "side"."""
    body = _from_the_side(dice, look, walking) if view == "side" else _facing(dice, look, view)
    if view == "side" and dice.chance(0.5):
        return body.mirrored()
    return body


def _bend(start: Point, first: float, second: float, lengths: Point) -> list[Point]:
    """Return start, middle and end of a limb; angles from straight down, positive to the right."""
    x, y = start[0] + lengths[0] * math.sin(first), start[1] - lengths[0] * math.cos(first)
    end = (x + lengths[1] * math.sin(second), y - lengths[1] * math.cos(second))
    return [start, (x, y), end]


def _from_the_side(dice: Dice, look: Look, walking: bool) -> Sketch:
    """Sketch a person who looks to the right."""
    stride = dice.uniform(0.14, 0.26) if walking else dice.uniform(0.0, 0.06)
    bend = dice.uniform(0.05, 0.25) if walking else 0.02
    swing = dice.choice((-1, 1))
    angles = [(stride, stride - 0.12), (-stride, -stride - bend)][::swing]
    legs = [_bend((0.0, 0.0), a, b, (THIGH, SHIN)) for a, b in angles]
    hip = 0.035 - min(leg[2][1] for leg in legs)  # a long stride lowers the body
    sketch = Sketch()
    for leg, light in zip(legs, (0.75, 1.0), strict=True):
        _leg(sketch, look, [(x, y + hip) for x, y in leg], light, 0.05)
    sketch.add(_upper_body_from_the_side(dice, look, stride, swing), 0.0, hip - HIP)
    return sketch


def _upper_body_from_the_side(dice: Dice, look: Look, stride: float, swing: int) -> Sketch:
    sketch, lean = Sketch(), dice.uniform(0.0, 0.05)
    far, near = (
        _arm(dice, (lean, 0.79), -swing * side * (stride + 0.05), from_the_side=True)
        for side in (1, -1)
    )
    _sleeve(sketch, look, far, 0.75)
    if look.carries == "backpack":
        pack = [(lean - 0.04, 0.82), (lean - 0.15, 0.79), (-0.15, 0.6), (-0.03, 0.58)]
        sketch.polygon(pack, shade(look.bottom, 1.3))
    deep = 0.068 * look.build
    back = [(-deep, 0.5), (lean - deep, 0.72), (lean - 0.045, 0.835)]
    front = [(lean + 0.04, 0.835), (lean + deep, 0.7), (deep, 0.5)]
    skirt_and_coat(sketch, look, deep, stride)
    sketch.polygon(back + front, look.top)
    pattern(sketch, look, deep, "side")
    head(sketch, look, lean * 1.3 + 0.008, "side")
    _sleeve(sketch, look, near, 1.08)
    carried(sketch, look, near[2], lean)
    return sketch


def _facing(dice: Dice, look: Look, view: str) -> Sketch:
    """Sketch a person who comes towards the viewer or goes away."""
    sketch, wide = Sketch(), look.build
    spread = dice.uniform(0.0, 0.1)
    for side, up in ((-1, dice.choice((0.0, 0.0, 0.0, 0.03))), (1, 0.0)):
        hip = (side * 0.048 * wide, HIP)
        hip, knee, foot = _bend(hip, side * spread, side * spread * 0.6, (THIGH, SHIN))
        leg = [hip, (knee[0], knee[1] + up * 0.5), (foot[0], foot[1] + up)]
        _leg(sketch, look, leg, 0.9 if up else 1.0, side * 0.015)
    shoulder, waist = 0.1 * (0.5 + wide / 2), 0.082 * wide
    arms = [_arm(dice, (side * shoulder, 0.79), side * dice.uniform(0.08, 0.2)) for side in (-1, 1)]
    skirt_and_coat(sketch, look, 0.09 * wide, spread)
    right = [(0.05, 0.84), (shoulder + 0.012, 0.795), (waist, 0.63), (waist + 0.008, 0.49)]
    sketch.polygon(right + [(-x, y) for x, y in reversed(right)], look.top)
    pattern(sketch, look, waist, view)
    for arm in arms:
        _sleeve(sketch, look, arm, 0.93)
    if look.carries == "backpack":
        backpack(sketch, look, view)
    head(sketch, look, 0.0, view)
    low, high = sorted((arm[2] for arm in arms), key=lambda hand: hand[1])
    carried(sketch, look, high if look.carries == "umbrella" else low, 0.0)
    return sketch


def _arm(dice: Dice, shoulder: Point, angle: float, from_the_side: bool = False) -> list[Point]:
    """Choose what an arm does: mostly swing, sometimes wave, hold a phone or rest on the hip."""
    outwards = 1 if from_the_side or angle > 0 else -1
    pose = dice.uniform()
    if pose < 0.02:  # wave
        return _bend(shoulder, outwards * 2.0, outwards * 2.9, (UPPER_ARM, FOREARM))
    if pose < 0.05:  # phone
        return _bend(shoulder, outwards * 0.35, outwards * 2.6, (UPPER_ARM, FOREARM))
    if pose < 0.08 and not from_the_side:  # hand on the hip
        return _bend(shoulder, outwards * 0.75, -outwards * 0.7, (UPPER_ARM, FOREARM))
    bend = dice.uniform(0.05, 0.5) if from_the_side else -angle * dice.uniform(0.2, 1.4)
    return _bend(shoulder, angle, angle + bend, (UPPER_ARM, FOREARM))


def _sleeve(sketch: Sketch, look: Look, arm: list[Point], light: float) -> None:
    sleeve = shade(look.top, light * 0.93)
    bare = look.legs == "shorts" and not look.coat
    skin = shade(look.skin, min(1.0, light))
    sketch.line(arm[1:], 0.066 * look.build, skin if bare else sleeve)
    sketch.line(arm[:2], 0.07 * look.build, sleeve)
    sketch.ellipse(arm[2][0], arm[2][1], 0.034, 0.034, skin)


def _leg(sketch: Sketch, look: Look, leg: list[Point], light: float, toe: float) -> None:
    wide = 0.5 + look.build / 2
    cloth, skin = shade(look.bottom, light), shade(look.skin, light)
    foot = leg[2]
    shoe = shade(look.shoes, light)
    sketch.line([foot, (foot[0] + toe, foot[1] - 0.012)], 0.064, shoe)
    bare = look.legs != "trousers"
    sketch.line(leg[1:], 0.08 * wide, skin if bare else cloth)
    sketch.line(leg[:2], 0.094 * wide, skin if look.legs == "skirt" else cloth)


def rider(dice: Dice, look: Look) -> Sketch:
    """Sketch somebody who rides `bicycle` (in metres, to the right, wheels at (0, 0))."""
    sketch = Sketch()
    hip, shoulder, hand = (-0.2, 0.98), (0.08, 1.5), (0.42, 1.08)
    turn = dice.uniform(0, 2 * math.pi)
    for phase, light in ((math.pi, 0.75), (0.0, 1.0)):
        foot = (0.0 + 0.17 * math.cos(turn + phase), 0.3 + 0.17 * math.sin(turn + phase))
        knee = ((hip[0] + foot[0]) / 2 + 0.26, (hip[1] + foot[1]) / 2 + 0.1)
        tinted = replace(look, shoes=shade(look.shoes, light))
        sketch.line([foot, (foot[0] + 0.1, foot[1] - 0.02)], 0.09, tinted.shoes)
        bare = shade(look.skin, light) if look.legs != "trousers" else shade(look.bottom, light)
        sketch.line([knee, foot], 0.1, bare)
        sketch.line([hip, knee], 0.15, shade(look.bottom, light))
    sketch.polygon(
        [(-0.32, 0.95), (-0.08, 0.92), (0.2, 1.4), (0.14, 1.56), (0.0, 1.56), (-0.12, 1.42)],
        look.top,
    )
    face = Sketch()
    head(face, replace(look, head=1.0), 0.0, "side")
    sketch.add(face, 0.16, 0.12, 1.72)
    elbow = (0.3, 1.2)
    sketch.line([shoulder, elbow], 0.1, shade(look.top, 0.9))
    sketch.line([elbow, hand], 0.08, shade(look.top, 0.9))
    sketch.ellipse(*hand, 0.05, 0.05, look.skin)
    return sketch
