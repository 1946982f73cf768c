"""How the things of a street look: cars, bicycles, dogs, traffic lights, trees and furniture.

Every function returns a `Sketch` in metres that stands on the ground at (0, 0).
"""

import math
from collections.abc import Sequence

from common.street.sketch import CIRCLE, Colour, Dice, Sketch, mix, shade

PAINTS = (
    (186, 36, 40), (36, 70, 136), (240, 240, 238), (40, 42, 46), (60, 120, 180), (24, 120, 130),
    (40, 104, 84), (224, 178, 50), (90, 150, 206), (206, 100, 40), (130, 36, 56), (110, 60, 130),
)  # fmt: skip
GLASS, TYRE, STEEL = (46, 60, 74), (28, 28, 30), (92, 94, 98)

# Outline of each car from the rear bumper over the roof to the front bumper; then the numbers of
# the outline's edges that are rear window and windscreen; the side windows; the wheels' x.
CARS = {
    "sedan": (((-2.15, 0.3), (-2.15, 0.85), (-1.5, 0.98), (-0.95, 1.42), (0.35, 1.42), (1.0, 0.96),
               (1.95, 0.84), (2.15, 0.65), (2.15, 0.3)), (2, 4),
              (((-1.3, 1.0), (-0.88, 1.33), (-0.35, 1.34), (-0.35, 0.99)),
               ((-0.25, 0.99), (-0.25, 1.34), (0.3, 1.33), (0.78, 0.98))), (-1.3, 1.35)),
    "hatchback": (((-1.85, 0.3), (-1.88, 0.95), (-1.5, 1.44), (0.25, 1.48), (0.98, 1.0),
                   (1.7, 0.86), (1.88, 0.62), (1.88, 0.3)), (1, 3),
                  (((-1.5, 1.02), (-1.32, 1.36), (-0.55, 1.39), (-0.55, 1.01)),
                   ((-0.45, 1.01), (-0.45, 1.39), (0.2, 1.4), (0.76, 1.02))), (-1.18, 1.15)),
    "van": (((-2.3, 0.32), (-2.35, 1.2), (-2.3, 2.0), (1.25, 2.02), (1.85, 1.2), (2.3, 1.02),
             (2.4, 0.7), (2.4, 0.32)), (1, 3),
            (((0.35, 1.22), (0.35, 1.85), (1.2, 1.85), (1.62, 1.22)),), (-1.4, 1.55)),
    "suv": (((-2.1, 0.4), (-2.15, 1.05), (-1.9, 1.68), (0.35, 1.72), (1.05, 1.14), (1.95, 1.02),
             (2.12, 0.75), (2.12, 0.4)), (1, 3),
            (((-1.85, 1.14), (-1.68, 1.58), (-0.6, 1.6), (-0.6, 1.13)),
             ((-0.48, 1.13), (-0.48, 1.6), (0.3, 1.62), (0.82, 1.13))), (-1.3, 1.3)),
    "pickup": (((-2.45, 0.42), (-2.48, 1.02), (-0.75, 1.02), (-0.62, 1.62), (0.5, 1.64),
                (1.15, 1.1), (2.15, 1.0), (2.35, 0.75), (2.35, 0.42)), (2, 4),
               (((-0.5, 1.1), (-0.45, 1.52), (0.42, 1.54), (0.9, 1.1)),), (-1.5, 1.5)),
}  # fmt: skip


def car(dice: Dice, yaw: float, eye: tuple[float, float, float]) -> Sketch:
    """Sketch a car whose nose points along x, for a viewer at `eye` relative to it.

    A car is a solid: its outline extruded sideways. `yaw` is the turn it will be placed with; the
    faces that look away from `eye` are left out.
    """
    outline, glass, windows, wheels = CARS[dice.choice(tuple(CARS))]
    paint = shade(dice.choice(PAINTS), dice.uniform(0.85, 1.1))
    sketch = Sketch()
    cos, sin = math.cos(yaw), math.sin(yaw)
    eye_x, eye_z = eye[0] * cos + eye[2] * sin, -eye[0] * sin + eye[2] * cos  # in the car's frame
    near = -1 if eye_z < 0 else 1
    radius = 0.31 if outline[0][1] < 0.4 else 0.38
    _tyres(sketch, wheels, radius, near, eye_x)
    faces = []
    for k, ((ax, ay), (bx, by)) in enumerate(zip(outline, outline[1:], strict=False)):
        # The outward normal of an edge that runs rear to front over the top is (-dy, dx).
        facing = -(by - ay) * (eye_x - ax) + (bx - ax) * (eye[1] - ay)
        if facing > 0:
            faces.append((math.hypot(eye_x - (ax + bx) / 2, eye[1] - (ay + by) / 2), k))
    for _, k in sorted(faces, reverse=True):
        _face(sketch, outline, k, glass, paint)
    if abs(eye_z) > _half_width(0.5):
        _flank(sketch, dice, outline, windows, wheels, radius, near, paint)
    _ends(sketch, dice, outline, eye_x)
    return sketch


def _half_width(y: float) -> float:
    return 0.88 if y < 1.0 else max(0.62, 0.88 - 0.36 * (y - 1.0))


def _across(point: tuple[float, float], share: float = 1.0):
    x, y = point
    return (x, y, -share * _half_width(y)), (x, y, share * _half_width(y))


def _tyres(sketch: Sketch, wheels, radius: float, near: int, eye_x: float) -> None:
    for side in (-near, near):
        for x in wheels:
            front = x + math.copysign(radius * 0.8, eye_x - x)
            z0, z1 = side * 0.62, side * 0.86
            corners = [(front, 0, z0), (front, 0, z1), (front, 0.5, z1), (front, 0.5, z0)]
            sketch.polygon(corners, TYRE)


def _face(sketch: Sketch, outline, k: int, glass, paint: Colour) -> None:
    a, b = outline[k], outline[k + 1]
    flat = abs(b[0] - a[0]) / math.hypot(b[0] - a[0], b[1] - a[1])  # 1 for a roof, 0 for a front
    (a0, a1), (b0, b1) = _across(a), _across(b)
    sketch.polygon([a0, b0, b1, a1], shade(paint, 0.8 + 0.35 * flat))
    if k in glass:
        low, high = sorted((a, b), key=lambda p: p[1])
        inner = [
            (low[0] + (high[0] - low[0]) * t, low[1] + (high[1] - low[1]) * t) for t in (0.1, 0.88)
        ]
        (a0, a1), (b0, b1) = (_across(p, 0.86) for p in inner)
        sketch.polygon([a0, b0, b1, a1], GLASS)
        sketch.polygon([a0, b0, _between(b0, b1, 0.3), _between(a0, a1, 0.15)], shade(GLASS, 1.5))


def _between(first: Sequence, second: Sequence, share: float) -> tuple:
    """Return the point `share` of the way from the first to the second."""
    return tuple(a + (b - a) * share for a, b in zip(first, second, strict=True))


def _flank(sketch, dice, outline, windows, wheels, radius, near, paint) -> None:
    def on_side(points):
        return [(x, y, near * _half_width(y)) for x, y in points]

    sketch.polygon(on_side(outline), paint)
    (rear, low), (front, _) = outline[0], outline[-1]
    sill = [(rear, low), (front, low), (front, low + 0.16), (rear, low + 0.16)]
    sketch.polygon(on_side(sill), shade(paint, 0.72))
    for window in windows:
        sketch.polygon(on_side(window), GLASS)
        a, b, c, d = window
        sketch.polygon(on_side([a, b, _between(b, c, 0.4), _between(a, d, 0.2)]), shade(GLASS, 1.5))
    x = windows[-1][0][0] - 0.05
    sketch.line(on_side([(x, 0.5), (x, 0.98)]), 0.03, shade(paint, 0.6))
    sketch.line(on_side([(x - 0.3, 0.86), (x - 0.12, 0.86)]), 0.04, shade(paint, 0.55))
    rim = dice.choice(((180, 182, 186), (120, 122, 126), (210, 210, 212)))
    for wheel in wheels:
        for r, colour in (
            (radius * 1.15, shade(paint, 0.35)),
            (radius, TYRE),
            (radius * 0.58, rim),
            (radius * 0.2, STEEL),
        ):
            hub = [(wheel + r * c, max(0.0, radius + r * s), near * 0.9) for c, s in CIRCLE]
            low = outline[0][1] if r > radius else 0.0  # the arch is cut out of the body
            sketch.polygon([(x, max(low, y), z) for x, y, z in hub], colour)


def _ends(sketch: Sketch, dice: Dice, outline, eye_x: float) -> None:
    """Draw lights, plate and grille on the end that the viewer sees."""
    if outline[0][0] <= eye_x <= outline[-1][0]:
        return
    front = eye_x > 0
    x = outline[-1][0] if front else outline[0][0]
    top = outline[-2][1] if front else outline[1][1]
    lamp = (250, 244, 200) if front else (190, 24, 24)
    for side in (-1, 1):
        ring = [(x, top - 0.13 + 0.11 * s, side * (0.64 + 0.17 * c)) for c, s in CIRCLE]
        sketch.polygon(ring, lamp)
    if front:
        grille = [
            (x, top - 0.22, -0.42),
            (x, top - 0.22, 0.42),
            (x, top - 0.03, 0.42),
            (x, top - 0.03, -0.42),
        ]
        sketch.polygon(grille, (34, 34, 38))
    low = outline[0][1]
    bumper = [(x, low, -0.86), (x, low, 0.86), (x, low + 0.12, 0.86), (x, low + 0.12, -0.86)]
    sketch.polygon(bumper, (52, 52, 56))
    plate = [
        (x, low + 0.1, -0.24),
        (x, low + 0.1, 0.24),
        (x, low + 0.21, 0.24),
        (x, low + 0.21, -0.24),
    ]
    sketch.polygon(plate, dice.choice(((236, 236, 230), (240, 210, 80))))


def bicycle(dice: Dice) -> Sketch:
    """Sketch a bicycle from its side, 1.75 long, riding to the right."""
    sketch = Sketch()
    frame = dice.choice(
        ((200, 40, 40), (40, 90, 180), (30, 30, 34), (60, 150, 90), (235, 235, 230), (230, 150, 30))
    )
    rear, front, crank = (-0.53, 0.34), (0.53, 0.34), (-0.08, 0.3)
    seat, head = (-0.22, 0.82), (0.36, 0.86)
    for hub in (rear, front):
        circle = [(hub[0] + 0.31 * c, hub[1] + 0.31 * s) for c, s in CIRCLE]
        for k in (0, 3, 6):
            sketch.line([circle[k], circle[k + 8]], 0.012, (150, 150, 154))
        sketch.line([*circle, circle[0]], 0.085, TYRE)
    for tube in ([rear, crank, seat, rear], [crank, head], [seat, head], [head, front]):
        sketch.line(tube, 0.075, frame)
    sketch.line([head, (0.34, 1.0), (0.46, 1.04)], 0.045, (60, 60, 64))
    sketch.line([seat, (-0.25, 0.93)], 0.035, (80, 80, 84))
    sketch.line([(-0.36, 0.95), (-0.14, 0.94)], 0.075, (36, 30, 28))
    sketch.ellipse(*crank, 0.08, 0.08, (70, 70, 74))
    sketch.line([crank, (0.06, 0.2)], 0.03, (70, 70, 74))
    if dice.chance(0.35):  # basket
        sketch.rectangles([(0.42, 0.78, 0.7, 0.99)], (160, 116, 66))
        sketch.line([(0.43, 0.88), (0.69, 0.88)], 0.02, (110, 76, 40))
    if dice.chance(0.4):  # carrier
        sketch.line([(-0.78, 0.72), (-0.3, 0.74)], 0.035, (70, 70, 74))
        sketch.line([(-0.66, 0.72), rear], 0.02, (70, 70, 74))
    return sketch


def dog(dice: Dice) -> Sketch:
    """Sketch a dog about 0.6 high at the back, standing, walking or sitting."""
    coat = dice.choice(
        (
            (150, 98, 52),
            (60, 42, 32),
            (34, 32, 34),
            (214, 176, 120),
            (232, 224, 208),
            (176, 120, 70),
            (128, 124, 120),
        )
    )
    coat = shade(coat, dice.uniform(0.85, 1.12))
    patch = dice.choice((shade(coat, 0.6), mix(coat, (245, 240, 232), 0.75), coat))
    pose = dice.choice(("walk", "walk", "walk", "sit", "front"))
    sketch = {"walk": _walking_dog, "sit": _sitting_dog, "front": _facing_dog}[pose](
        dice, coat, patch
    )
    return sketch.mirrored() if pose != "front" and dice.chance(0.5) else sketch


def _walking_dog(dice: Dice, coat: Colour, patch: Colour) -> Sketch:
    sketch = Sketch()
    stout = dice.uniform(0.85, 1.25)
    stride = dice.uniform(0.02, 0.16)
    back, belly = 0.62, 0.45 - 0.11 * stout
    tail = dice.uniform(-0.15, 0.25)
    sketch.line(
        [(-0.4, back - 0.06), (-0.52, back + 0.02 + tail * 0.3), (-0.6, back + tail)],
        0.06,
        shade(coat, 0.9),
    )
    for x, lean, light in (
        (-0.3, stride, 0.7),
        (0.27, -stride, 0.7),
        (-0.34, -stride, 0.95),
        (0.31, stride, 0.95),
    ):
        leg = [(x, 0.45), (x + lean * 0.3 - 0.02, 0.24), (x + lean, 0.04)]
        sketch.line(leg, 0.085, shade(coat, light))
        sketch.line([leg[2], (leg[2][0] + 0.05, 0.035)], 0.065, shade(patch, light))
    sketch.polygon(
        [
            (-0.43, back - 0.05),
            (-0.34, back + 0.01),
            (0.1, back),
            (0.38, back + 0.04),
            (0.42, 0.5),
            (0.32, belly),
            (0.05, belly + 0.05),
            (-0.28, belly + 0.06),
            (-0.43, belly + 0.12),
        ],
        coat,
    )
    sketch.ellipse(-0.1, 0.53, 0.15, 0.09, patch)
    sketch.line([(0.33, 0.56), (0.47, 0.78)], 0.17, coat)
    _dog_head(sketch, dice, 0.52, 0.84, coat, patch)
    return sketch


def _sitting_dog(dice: Dice, coat: Colour, patch: Colour) -> Sketch:
    sketch = Sketch()
    sketch.line([(-0.25, 0.06), (-0.42, 0.05), (-0.52, 0.14)], 0.06, shade(coat, 0.85))
    sketch.line([(0.12, 0.45), (0.16, 0.05)], 0.085, shade(coat, 0.72))
    sketch.polygon(
        [
            (-0.3, 0.05),
            (-0.33, 0.25),
            (-0.12, 0.55),
            (0.1, 0.75),
            (0.24, 0.62),
            (0.2, 0.3),
            (0.02, 0.05),
        ],
        coat,
    )
    sketch.ellipse(-0.14, 0.17, 0.19, 0.16, shade(coat, 0.92))
    sketch.line([(-0.15, 0.04), (0.04, 0.04)], 0.075, shade(patch, 0.95))
    sketch.line([(0.17, 0.5), (0.2, 0.05), (0.26, 0.04)], 0.085, shade(coat, 0.97))
    sketch.line([(0.14, 0.66), (0.2, 0.82)], 0.18, coat)
    _dog_head(sketch, dice, 0.24, 0.9, coat, patch)
    return sketch


def _dog_head(sketch: Sketch, dice: Dice, x: float, y: float, coat: Colour, patch: Colour) -> None:
    """Draw the head in profile, its nose to the right."""
    long_nose = dice.uniform(0.16, 0.24)
    sketch.line([(x + 0.04, y - 0.03), (x + long_nose, y - 0.055)], 0.1, patch)
    sketch.ellipse(x, y, 0.125, 0.11, coat)
    sketch.ellipse(x + long_nose + 0.045, y - 0.03, 0.03, 0.028, (20, 18, 18))
    sketch.ellipse(x + 0.055, y + 0.03, 0.017, 0.019, (20, 18, 18))
    if dice.chance(0.6):
        ear = [
            (x - 0.06, y + 0.08),
            (x - 0.14, y + 0.02),
            (x - 0.13, y - 0.15),
            (x - 0.04, y - 0.1),
        ]
    else:
        ear = [(x - 0.11, y + 0.04), (x - 0.07, y + 0.22), (x + 0.03, y + 0.09)]
    sketch.polygon(ear, shade(coat, 0.65))
    sketch.line(
        [(x - 0.1, y - 0.12), (x - 0.02, y - 0.14)],
        0.035,
        dice.choice(((190, 40, 40), (40, 80, 170), (40, 40, 44))),
    )


def _facing_dog(dice: Dice, coat: Colour, patch: Colour) -> Sketch:
    sketch = Sketch()
    sketch.line([(0.1, 0.6), (0.22, 0.78)], 0.05, shade(coat, 0.85))
    for x, light in ((-0.15, 0.72), (0.15, 0.72), (-0.09, 0.97), (0.09, 0.97)):
        sketch.line([(x, 0.4), (x * 1.05, 0.04)], 0.09, shade(coat, light))
    sketch.ellipse(0, 0.48, 0.2, 0.2, coat)
    sketch.ellipse(0, 0.46, 0.1, 0.15, patch)
    sketch.ellipse(0, 0.78, 0.15, 0.15, coat)
    floppy = dice.chance(0.6)
    for side in (-1, 1):
        ear = [(side * 0.08, 0.91), (side * 0.2, 0.86), (side * 0.21, 0.66), (side * 0.13, 0.72)]
        tall = [(side * 0.03, 0.9), (side * 0.13, 1.06), (side * 0.15, 0.84)]
        sketch.polygon(ear if floppy else tall, shade(coat, 0.65))
        sketch.ellipse(side * 0.06, 0.82, 0.018, 0.02, (20, 18, 18))
    sketch.ellipse(0, 0.72, 0.08, 0.07, patch)
    sketch.ellipse(0, 0.75, 0.035, 0.026, (20, 18, 18))
    return sketch
