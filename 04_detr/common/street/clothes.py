"""What people wear and carry, and their heads; measured in body heights, like `street_people`."""

import math
from dataclasses import dataclass, replace

from common.street.sketch import Colour, Dice, Sketch, mix, shade

SKINS = (
    (250, 220, 195),
    (236, 188, 150),
    (214, 160, 120),
    (172, 118, 82),
    (124, 80, 54),
    (84, 54, 38),
)
HAIRS = ((28, 22, 20), (40, 28, 22), (62, 40, 26), (84, 50, 30), (110, 72, 38), (60, 60, 62))
TOPS = (
    (188, 44, 48), (222, 120, 40), (236, 196, 70), (70, 128, 78), (44, 92, 160), (84, 160, 200),
    (120, 70, 140), (224, 110, 150), (30, 126, 122), (150, 30, 90),
)  # fmt: skip
BOTTOMS = (
    (38, 54, 96), (52, 84, 156), (34, 34, 40), (120, 36, 44), (186, 100, 50), (86, 56, 120),
    (28, 96, 92), (60, 44, 36),
)  # fmt: skip


@dataclass(frozen=True)
class Look:
    """Colours and clothes of one person; `face` is False for a statue or a shop's mannequin."""

    skin: Colour
    hair: Colour
    top: Colour
    bottom: Colour
    shoes: Colour
    legs: str  # trousers, shorts, skirt
    coat: bool
    pattern: str  # plain, stripes, open
    hair_style: str  # short, long, bun, bald
    hat: str  # none, cap, beanie, brim
    carries: str  # none, backpack, handbag, bag, umbrella
    build: float  # 1 is average
    head: float  # 1 is an adult's
    face: bool = True


def random_look(dice: Dice, child: bool = False, rain: bool = False) -> Look:
    """Dress somebody."""
    bags = ("none",) * 16 + ("backpack", "backpack", "handbag", "bag")
    legs = dice.choice(("trousers",) * 14 + ("shorts", "skirt"))
    top = shade(dice.choice(TOPS), dice.uniform(0.75, 1.15))
    bottom = shade(dice.choice(BOTTOMS), dice.uniform(0.75, 1.15))
    if legs == "skirt" and dice.chance(0.4):  # a dress
        bottom = top
    return Look(
        skin=dice.choice(SKINS),
        hair=shade(dice.choice(HAIRS), dice.uniform(0.8, 1.15)),
        top=top,
        bottom=bottom,
        shoes=dice.choice(((30, 28, 28), (30, 28, 28), (52, 36, 28), (28, 30, 44))),
        legs=legs,
        coat=dice.chance(0.4 if rain else 0.06),
        pattern=dice.choice(("plain", "plain", "plain", "plain", "stripes", "open")),
        hair_style=dice.choice(("short",) * 9 + ("long", "long", "bun", "bald")),
        hat=dice.choice(("none",) * 21 + ("cap", "beanie", "brim")),
        carries="umbrella" if dice.chance(0.3 if rain else 0.01) else dice.choice(bags),
        build=dice.uniform(1.0, 1.25),
        head=dice.uniform(1.25, 1.45) if child else dice.uniform(0.98, 1.1),
    )


def one_colour(look: Look, colour: Colour) -> Look:
    """Return the look cast in one material: a statue of stone, a mannequin of plastic."""
    tones = {"skin": 1.05, "hair": 0.85, "top": 1.0, "bottom": 0.92, "shoes": 0.8}
    cast = {name: shade(colour, tone) for name, tone in tones.items()}
    return replace(look, **cast, pattern="plain", carries="none", hat="none", face=False)


def skirt_and_coat(sketch: Sketch, look: Look, half: float, stride: float) -> None:
    """Draw what hangs from the waist, `half` wide to each side."""
    flare = half + 0.03 + stride * 0.12
    if look.legs == "skirt":
        hem = 0.3 if look.build < 1.1 else 0.2
        skirt = [(-half, 0.53), (half, 0.53), (flare, hem), (-flare, hem)]
        sketch.polygon(skirt, shade(look.bottom, 1.1))
    if look.coat:
        coat = [(-half - 0.005, 0.56), (half + 0.005, 0.56), (flare, 0.33), (-flare, 0.33)]
        sketch.polygon(coat, shade(look.top, 0.92))


def pattern(sketch: Sketch, look: Look, half: float, view: str) -> None:
    """Shade the torso, and draw stripes or an open jacket."""
    if look.pattern == "stripes" and look.face:
        stripe = mix(look.top, (250, 250, 245) if sum(look.top) < 420 else (40, 50, 90), 0.6)
        for k in range(4):
            y = 0.55 + 0.065 * k
            sketch.line([(-half * 0.75, y), (half * 0.75, y)], 0.02, stripe)
    elif look.pattern == "open" and view == "front":
        shirt = mix(look.bottom, (245, 240, 230), 0.65)
        sketch.polygon([(-0.03, 0.835), (0.03, 0.835), (0.018, 0.5), (-0.018, 0.5)], shirt)
    else:
        sketch.line([(-half * 0.7, 0.53), (-half * 0.75, 0.74)], 0.03, shade(look.top, 0.86))


def head(sketch: Sketch, look: Look, x: float, view: str) -> None:
    """Draw neck, head, hair, face and hat; `x` is the middle of the head."""
    big = look.head
    rx, ry = 0.053 * big, 0.067 * big
    y = 0.865 + ry * 0.85
    back = view == "back"
    if look.hair_style == "long":
        shift = -0.022 if view == "side" else 0.0
        sketch.polygon(
            [
                (x + shift - rx, y),
                (x + shift + rx * 0.9, y + 0.02),
                (x + shift + (0.3 if view == "side" else 1.1) * rx, y - ry * 1.9),
                (x + shift - rx * 1.15, y - ry * 1.9),
            ],
            shade(look.hair, 0.85),
        )
    sketch.line([(x * 0.8, 0.82), (x, y - ry * 0.5)], 0.045, shade(look.skin, 0.88))
    sketch.ellipse(x, y, rx, ry, look.hair if back and look.hair_style != "bald" else look.skin)
    if view == "side":
        sketch.ellipse(x + rx * 0.98, y - ry * 0.12, rx * 0.22, ry * 0.18, look.skin)
    _hair(sketch, look, x, y, rx, ry, view)
    if look.hat != "none":
        _hat(sketch, look, x, y, rx, ry, view)
    if look.face and not back:
        eyes = (0.55,) if view == "side" else (-0.4, 0.4)
        for eye in eyes:
            sketch.ellipse(x + eye * rx, y + 0.02 * ry, 0.0075, 0.009, (30, 24, 24))
        mouth = (0.45, 0.85) if view == "side" else (-0.25, 0.25)
        sketch.line(
            [(x + mouth[0] * rx, y - 0.5 * ry), (x + mouth[1] * rx, y - 0.5 * ry)],
            0.008,
            shade(look.skin, 0.6),
        )


def _hair(sketch: Sketch, look: Look, x: float, y: float, rx: float, ry: float, view: str) -> None:
    side = view == "side"
    if look.hair_style != "bald" and view != "back":
        arc = [math.pi * (k / 10) for k in range(-1 if side else 0, 11)]
        cap = [(x + 1.08 * rx * math.cos(a), y + 0.05 * ry + 1.08 * ry * math.sin(a)) for a in arc]
        fringe = [(x - 1.1 * rx, y - ry * 0.55), (x - 0.35 * rx, y - ry * 0.1)] if side else []
        cap = cap[2:] if side else cap
        sketch.polygon(
            [*cap, *fringe, (x - 0.1 * rx, y + ry * 0.45), (x + 0.5 * rx, y + ry * 0.5)], look.hair
        )
    if look.hair_style == "bun":
        sketch.ellipse(
            x - (rx * 0.9 if side else 0),
            y + ry * (0.6 if side else 1.1),
            0.03,
            0.03,
            shade(look.hair, 0.9),
        )


def _hat(sketch: Sketch, look: Look, x: float, y: float, rx: float, ry: float, view: str) -> None:
    colour = shade(look.top, 0.7) if look.hat == "beanie" else shade(look.bottom, 1.15)
    tall = 1.15 if look.hat == "brim" else 0.85
    arc = [(math.cos(math.pi * k / 8), math.sin(math.pi * k / 8)) for k in range(9)]
    sketch.polygon([(x + 1.12 * rx * c, y + ry * (0.35 + tall * s)) for c, s in arc], colour)
    if look.hat == "cap" and view != "back":
        peak = x + rx * (1.6 if view == "side" else 0.5)
        sketch.line([(x, y + ry * 0.38), (peak, y + ry * 0.34)], 0.02, colour)
    elif look.hat == "brim":
        brim = [(x - rx * 1.6, y + ry * 0.4), (x + rx * 1.6, y + ry * 0.4)]
        sketch.line(brim, 0.018, shade(colour, 0.85))


def backpack(sketch: Sketch, look: Look, view: str) -> None:
    """Draw a backpack from behind, or its straps from the front."""
    if view == "back":
        pack = shade(look.bottom, 1.3)
        sketch.polygon([(-0.07, 0.8), (0.07, 0.8), (0.08, 0.57), (-0.08, 0.57)], pack)
        sketch.line([(-0.06, 0.66), (0.06, 0.66)], 0.012, shade(pack, 0.6))
    else:
        for x in (-0.065, 0.065):
            sketch.line([(x, 0.82), (x, 0.64)], 0.022, shade(look.bottom, 0.8))


def carried(sketch: Sketch, look: Look, hand: tuple[float, float], head_x: float) -> None:
    """Draw what the hand holds; it counts as part of the person."""
    x, y = hand
    if look.carries != "umbrella" and y > 0.7:
        return
    colour = shade(look.top, 0.6) if sum(look.top) > 330 else (150, 96, 60)
    if look.carries == "handbag":
        sketch.line([(x - 0.03, y - 0.08), (x, y), (x + 0.03, y - 0.08)], 0.012, colour)
        sketch.rectangles([(x - 0.065, y - 0.18, x + 0.065, y - 0.07)], colour)
    elif look.carries == "bag":
        paper = mix(colour, (240, 236, 225), 0.7)
        sketch.rectangles([(x - 0.055, y - 0.22, x + 0.055, y - 0.03)], paper)
        sketch.rectangles([(x - 0.03, y - 0.15, x + 0.03, y - 0.1)], colour)
    elif look.carries == "umbrella":
        top = 1.2
        cloth = shade(look.bottom, 1.2)
        sketch.line([(x, y), (head_x + 0.05, top)], 0.014, (50, 50, 54))
        dome = [
            (
                head_x + 0.05 + 0.27 * math.cos(math.pi * k / 10),
                top - 0.12 + 0.15 * math.sin(math.pi * k / 10),
            )
            for k in range(11)
        ]
        sketch.polygon(dome, cloth)
        for k in (3, 5, 7):
            sketch.line([dome[k], (head_x + 0.05, top + 0.03)], 0.008, shade(cloth, 0.75))
