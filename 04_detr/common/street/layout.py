"""Where things stand: three kinds of street, and who and what is put into them.

A street is seen from the front ("across": houses, pavement, road, pavement), along its length
("along": houses on both sides) or it is a square with grass, trees and a statue ("square").
"""

import math
from dataclasses import dataclass, field

import cv2
import numpy as np

from common.street.backdrop import OBJECT, VEGETATION, Mood, random_mood
from common.street.clothes import random_look
from common.street.furniture import (
    advertising,
    bench,
    bush,
    lamp,
    planter,
    small_furniture,
    statue,
    traffic_light,
    traffic_light_pole,
    tree,
)
from common.street.people import pedestrian, rider
from common.street.sketch import SUPERSAMPLING, Camera, Dice, Sketch
from common.street.things import bicycle, car, dog

PERSON, CAR, BICYCLE, DOG, LIGHT = 1, 2, 3, 4, 5  # labels
SEE_THROUGH = ("bicycle", "ridden bicycle", "furniture")
TOP_ONLY = ("tree", "rider")  # hide what is behind their upper half
LEAST_SHOWN = {PERSON: 0.55, CAR: 0.5, BICYCLE: 0.4, DOG: 0.6, LIGHT: 0.6}  # share of the box


@dataclass(frozen=True)
class Thing:
    """A sketch in its place; label 0 is a thing that is not labelled.

    `points` float64 (N, 3) are in metres, `pixels` int32 (N, 2) on the canvas, `scale` is the
    canvas pixels of a metre there, `region` the number painted into the region map; `view` says
    from where a person is seen: "front", "back" or "side".
    """

    kind: str
    sketch: Sketch
    x: float
    z: float
    points: np.ndarray
    pixels: np.ndarray
    scale: float
    label: int
    region: int
    view: str = ""

    def box_xywh(self) -> tuple[int, int, int, int]:
        """Return the bounding box in canvas pixels, parts outside the picture included."""
        return cv2.boundingRect(self.pixels)


@dataclass
class Plan:
    """A scene before it is painted; `kind` is "across", "along" or "square"."""

    seed: int
    camera: Camera
    mood: Mood
    kind: str
    wall: float  # z of the houses (across, square) or x of those on the right (along)
    road: tuple[float, float]  # from, to: z (across, square) or x (along)
    things: list[Thing] = field(default_factory=list)

    def half_width(self, z: float) -> float:
        """Return the x at which the picture ends at depth z."""
        half = self.camera.width / 2 / self.camera.scale(z)
        return min(half, self.wall - 0.6) if self.kind == "along" else half


def plan_scene(seed: int, width: int, height: int) -> Plan:
    """Decide everything about a scene; the same arguments give the same plan."""
    dice = Dice(seed)
    H, W = height * SUPERSAMPLING, width * SUPERSAMPLING
    camera = Camera(
        W,
        H,
        H * dice.uniform(0.95, 1.3),
        H * dice.uniform(0.3, 0.48),
        dice.choice((dice.uniform(0.9, 1.4), dice.uniform(1.2, 2.4))),
    )
    kind = dice.choice(("across", "across", "along", "along", "square"))
    if kind == "across":
        wall, near = dice.uniform(13, 20), dice.uniform(2.5, 6.0)
        road = (near, near + dice.uniform(4.5, 6.5))
    elif kind == "along":
        middle, half = dice.uniform(-2.0, 2.0), dice.uniform(2.6, 3.8)
        wall, road = half + dice.uniform(3.0, 5.0), (middle - half, middle + half)
    else:
        wall, road = dice.uniform(24, 32), (16.0, 22.0)
    plan = Plan(seed, camera, random_mood(dice), kind, wall, road)
    _add_greenery(plan, dice)
    _add_furniture(plan, dice)
    _add_cars(plan, dice)
    _add_bicycles(plan, dice)
    _add_traffic_lights(plan, dice)
    _add_people(plan, dice)
    _add_dogs(plan, dice)
    _drop_hidden(plan)
    return plan


def _depth(plan: Plan, dice: Dice, size: float, low: float, high: float) -> float:
    """Return the depth at which `size` metres take a share low..high of the picture's height."""
    return plan.camera.focal * size / (dice.uniform(low, high) * plan.camera.height)


def _kerb_place(plan: Plan, dice: Dice, near: float, far: float) -> tuple[float, float]:
    """Return a place (x, z) on the pavement beside the kerb."""
    if plan.kind == "along":
        side = dice.choice((-1, 1))
        x = plan.road[1] + 0.5 if side > 0 else plan.road[0] - 0.5
        in_sight = 2.3 * plan.camera.focal * abs(x) / plan.camera.width
        return x, dice.uniform(max(near, in_sight), far)
    z = plan.road[1] + 0.5 if dice.chance(0.6) else max(near, plan.road[0] - 0.5)
    z = z if plan.kind == "across" else dice.uniform(near, far)
    return plan.half_width(z) * dice.uniform(-0.95, 0.95), z


def _add(
    plan: Plan,
    kind: str,
    sketch: Sketch,
    place: tuple[float, float],
    yaw: float = 0.0,
    label: int = 0,
    region: int = OBJECT,
    view: str = "",
) -> None:
    x, z = place
    points = sketch.placed(x, z, yaw)
    pixels, scale = plan.camera.project(points), plan.camera.scale(z)
    plan.things.append(Thing(kind, sketch, x, z, points, pixels, scale, label, region, view))


def _drop_hidden(plan: Plan) -> None:
    """Sort the things from far to near, and drop the labelled ones that hardly show.

    Everything counts as a box here, a little narrower than it is, on a grid of 8 pixels.
    """
    plan.things.sort(key=lambda thing: -thing.z)
    camera, cells = plan.camera, 8
    grid = np.full((camera.height // cells + 1, camera.width // cells + 1), -1, np.int16)
    areas = []
    for k, thing in enumerate(plan.things):
        x, y, w, h = thing.box_xywh()
        trim = 0 if thing.label == CAR else w // 5
        left, right = (x + trim) // cells, (x + w - trim) // cells + 1
        top, low = y // cells, (y + (h // 2 if thing.kind in TOP_ONLY else h)) // cells + 1
        areas.append((right - left) * (low - top))
        place = (slice(max(0, top), max(0, low)), slice(max(0, left), max(0, right)))
        if thing.kind in SEE_THROUGH:
            grid[place][::2] = k
        elif thing.kind not in ("lamp", "pole"):
            grid[place] = k
    seen = np.bincount(grid.ravel() + 1, minlength=len(areas) + 1)[1:]
    plan.things[:] = [
        thing
        for k, thing in enumerate(plan.things)
        if not thing.label
        or thing.kind == "ridden bicycle"  # nobody rides on air
        or seen[k] >= LEAST_SHOWN[thing.label] * areas[k]
    ]


def _add_greenery(plan: Plan, dice: Dice) -> None:
    many = {"across": dice.integer(0, 3), "along": dice.integer(0, 4), "square": dice.integer(3, 8)}
    for _ in range(many[plan.kind]):
        _add(plan, "tree", tree(dice), _kerb_place(plan, dice, 6.0, 22.0), region=VEGETATION)
    for _ in range(dice.integer(0, 2) + 2 * (plan.kind == "square")):
        _add(plan, "bush", bush(dice), _kerb_place(plan, dice, 4.5, 20.0), region=VEGETATION)


def _add_furniture(plan: Plan, dice: Dice) -> None:
    for _ in range(dice.choice((0, 0, 1, 1, 2))):
        _add(plan, "lamp", lamp(dice), _kerb_place(plan, dice, 4.0, 13.0))
    for _ in range(dice.integer(0, 3)):
        _add(plan, "furniture", small_furniture(dice), _kerb_place(plan, dice, 3.0, 11.0))
    if dice.chance(0.35 if plan.kind == "square" else 0.1):
        _add(plan, "statue", statue(dice), _kerb_place(plan, dice, 4.0, 14.0))
    if dice.chance(0.16):
        _add(plan, "poster", advertising(dice), _kerb_place(plan, dice, 4.0, 13.0))


def _add_cars(plan: Plan, dice: Dice) -> None:
    used: list[tuple[float, float]] = []
    gap_x, gap_z = (1.9, 5.4) if plan.kind == "along" else (5.0, 1.9)
    for _ in range(dice.choice((0, 1, 1, 1, 2, 2, 3))):
        x, z, yaw = _car_place(plan, dice)
        if any(abs(x - a) < gap_x and abs(z - b) < gap_z for a, b in used):
            continue
        used.append((x, z))
        eye = (-x, plan.camera.eye_height, -z)
        _add(plan, "car", car(dice, yaw, eye), (x, z), yaw=yaw, label=CAR)


def _add_bicycles(plan: Plan, dice: Dice) -> None:
    for _ in range(dice.choice((0, 0, 1, 1, 1, 2))):
        z = _depth(plan, dice, 1.05, 0.12, 0.36)
        x = plan.half_width(z) * dice.uniform(-0.9, 0.9)
        yaw = dice.choice((0, math.pi)) + dice.uniform(-0.6, 0.6)
        ridden = dice.chance(0.12)
        kind = "ridden bicycle" if ridden else "bicycle"
        _add(plan, kind, bicycle(dice), (x, z), yaw=yaw, label=BICYCLE)
        if ridden:
            figure = rider(dice, random_look(dice))
            _add(plan, "rider", figure, (x, z - 0.01), yaw=yaw, label=PERSON, view="side")


def _car_place(plan: Plan, dice: Dice) -> tuple[float, float, float]:
    """Return x, z and yaw of a car that is parked at the kerb or drives in its lane."""
    left, right = plan.road
    turn = dice.uniform(-0.12, 0.12)
    if plan.kind == "along":
        z = dice.uniform(5.5, 15.0)
        lane = dice.choice((left + 1.1, right - 1.1, left + 1.1, right - 1.1, (left + right) / 2))
        return lane, z, dice.choice((-1, 1)) * math.pi / 2 + turn
    z = dice.choice((max(3.6, left + 1.1), right - 1.1))
    if dice.chance(0.15):
        turn += dice.uniform(-0.9, 0.9)  # leaves its parking lot
    return plan.half_width(z) * dice.uniform(-0.9, 0.9), z, dice.choice((0, math.pi)) + turn


def _add_traffic_lights(plan: Plan, dice: Dice) -> None:
    for _ in range(dice.choice((0, 0, 0, 1, 1, 1, 2))):
        z = _depth(plan, dice, 1.15, 0.11, 0.32)
        room = plan.camera.eye_height + plan.camera.horizon * 0.96 / plan.camera.scale(z) - 1.2
        bottom = max(0.8, min(dice.uniform(2.0, 2.8), room))
        x = plan.half_width(z) * dice.uniform(-0.95, 0.95)
        _add(plan, "pole", traffic_light_pole(bottom), (x, z))
        _add(plan, "light", traffic_light(dice, bottom), (x, z - 0.01), label=LIGHT)


def _add_people(plan: Plan, dice: Dice) -> None:
    if dice.chance(0.08):
        plan.things[:] = [thing for thing in plan.things if thing.kind != "rider"]
        return
    camera, x, z, side, company = plan.camera, 0.0, 0.0, 1, False
    in_full = camera.focal * camera.eye_height / (0.985 * camera.height - camera.horizon)
    for k in range(dice.choice((1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 4, 6))):
        child = dice.chance(0.06)
        height = dice.uniform(0.95, 1.35) if child else dice.uniform(1.55, 1.92)
        company = k > 0 and dice.chance(0.3 if company else 0.7)
        if company:
            x, z = x + side * dice.uniform(0.26, 0.4), z + dice.uniform(0.1, 0.3)
        else:
            low, high = (0.09, 0.15) if dice.chance(0.09) else (0.45, 0.84)
            z = _depth(plan, dice, height, low, high)
            z = max(z, 0.0 if dice.chance(0.08) else in_full)
            x, side = plan.half_width(z) * dice.uniform(-0.9, 0.9), dice.choice((-1, 1))
        view = dice.choice(("side", "front", "back"))
        figure = pedestrian(dice, random_look(dice, child, plan.mood.rain), view, dice.chance(0.7))
        sketch = Sketch()
        sketch.add(figure, 0.0, 0.0, height)
        _add(plan, "person", sketch, (x, z), label=PERSON, view=view)
        if not company and dice.chance(0.08):  # behind something
            low = dice.choice((planter, planter, planter, bench))(dice)
            _add(plan, "furniture", low, (x + dice.uniform(-0.4, 0.4), z - dice.uniform(0.4, 0.6)))


def _add_dogs(plan: Plan, dice: Dice) -> None:
    people = [thing for thing in plan.things if thing.kind == "person" and 2.5 < thing.z < 12]
    for _ in range(dice.choice((0, 0, 0, 1, 1, 1, 2))):
        z = _depth(plan, dice, 0.9, 0.16, 0.36)
        x = plan.half_width(z) * dice.uniform(-0.95, 0.95)
        if people and dice.chance(0.4):
            owner = dice.choice(people)
            x, z = owner.x + dice.choice((-1, 1)) * dice.uniform(0.5, 0.9), owner.z - 0.2
        _add(plan, "dog", dog(dice), (x, z), label=DOG)
