"""Drawn street scenes with every label known: a data set that needs no download.

`draw_scene(seed)` gives a picture, its instances with their classes and a semantic map.
`write_dataset` writes many of them as files: Penn-Fudan's folders (pedestrians) and COCO's JSON
(all classes). People are hard to find on purpose: they hide one another, stand behind cars, are
cut by the border, and come with statues, mannequins and posters that only look like people.

What counts as what:
- Instances are people (riders too, with all they wear and carry), cars, bicycles, dogs and the
  heads of traffic lights. Statues, mannequins and people on posters are no instances.
- In the semantic map, vehicles are cars and bicycles; objects are dogs, lamps, traffic lights,
  street furniture, statues and standing posters; what is painted on a house belongs to it, a
  shop's mannequin included; lawns are vegetation.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from common.files import replacing
from common.street.backdrop import GRASS, PAVEMENT, ROAD, VEGETATION
from common.street.ground import paint_backdrop
from common.street.layout import BICYCLE, CAR, PERSON, Plan, Thing, plan_scene
from common.street.sketch import SUPERSAMPLING, Dice

INSTANCE_CLASSES = ("person", "car", "bicycle", "dog", "traffic light")  # label = index + 1
SEMANTIC_CLASSES = (
    "sky",
    "building",
    "vegetation",
    "pavement",
    "road",
    "person",
    "vehicle",
    "object",
)
SMALLEST_SIDE, LARGEST_SIDE = 64, 7000
FEWEST_PIXELS = 12  # an instance of which less is seen is not labelled ...
LEAST_SEEN = 0.1  # ... nor one that fills less than this share of its unhidden bounding box
FIRST_INSTANCE = GRASS + 1
# Noise hardly compresses: a picture stored as it is takes half as much room again, but is
# written more than ten times faster. OpenCV before 4.12 has no PNG filters to choose from.
STORED = [cv2.IMWRITE_PNG_COMPRESSION, 0]
if hasattr(cv2, "IMWRITE_PNG_FILTER"):
    STORED += [cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_NONE]


@dataclass(frozen=True)
class Scene:
    """A drawn street scene.

    Attributes:
        image: uint8 (H, W, 3), red, green, blue.
        instances: uint16 (H, W); 0 is background, 1..N the visible pixels of each instance.
        labels: int64 (N,); the label of instance i + 1: 1 + its index in INSTANCE_CLASSES.
        semantic: uint8 (H, W); every pixel's index in SEMANTIC_CLASSES.
        views: N texts; from where each person is seen, "front", "back" or "side"; "" for a thing.
    """

    image: np.ndarray
    instances: np.ndarray
    labels: np.ndarray
    semantic: np.ndarray
    views: tuple[str, ...]


def draw_scene(seed: int, width: int = 320, height: int = 240) -> Scene:
    """Draw the scene of this seed; the same arguments give the same pixels.

    Raises:
        ValueError: a negative seed, or a side under 64 or over 7000 pixels.
    """
    if seed < 0:
        raise ValueError(f"seed is {seed}, but has to be 0 or more")
    if min(width, height) < SMALLEST_SIDE or max(width, height) > LARGEST_SIDE:
        allowed = f"{SMALLEST_SIDE} to {LARGEST_SIDE}"
        raise ValueError(f"a scene of {width} x {height} pixels: each side has to be {allowed}")
    plan = plan_scene(seed, width, height)
    canvas = np.empty((height * SUPERSAMPLING, width * SUPERSAMPLING, 4), np.uint8)
    paint_backdrop(canvas, plan)
    shadows, areas = _paint_things(canvas, plan)
    small = cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA)
    image = cv2.cvtColor(small, cv2.COLOR_RGBA2RGB)  # (H, W, 3)
    regions = np.ascontiguousarray(canvas[::SUPERSAMPLING, ::SUPERSAMPLING, 3])
    image = _expose(_cast_shadows(image, regions, shadows, plan.mood.shadow), plan)
    kept = _kept(regions, areas)
    things = [_labelled(plan)[k] for k in kept]
    labels = np.array([thing.label for thing in things], np.int64)
    semantic = cv2.LUT(regions, _semantic_table(plan))
    views = tuple(thing.view for thing in things)
    return Scene(image, _instance_map(regions, kept), labels, semantic, views)


def _labelled(plan: Plan) -> list[Thing]:
    return [thing for thing in plan.things if thing.label]


def _paint_things(canvas: np.ndarray, plan: Plan) -> tuple[np.ndarray, list[float]]:
    """Paint things from far to near.

    Returns:
        The plane (H, W) of their shadows on the ground, and the area of each labelled thing's
        bounding box in pixels of the picture.
    """
    shadows, areas = np.zeros(canvas.shape[:2], np.uint8), []
    light_x, light_z = plan.mood.light_xz
    for thing in plan.things:
        region = thing.region
        if thing.label:
            region = FIRST_INSTANCE + len(areas)
            _, _, w, h = thing.box_xywh()
            areas.append(w * h / SUPERSAMPLING**2)
        thing.sketch.paint(canvas, thing.pixels, thing.scale, region)
        cast = thing.points.copy()
        cast[:, 0] += light_x * cast[:, 1]
        cast[:, 2] += light_z * cast[:, 1]
        cast[:, 1] = 0
        thing.sketch.silhouette(shadows, plan.camera.project(cast), thing.scale * 0.6, 255)
    return shadows, areas


def _cast_shadows(
    image: np.ndarray, regions: np.ndarray, shadows: np.ndarray, strength: float
) -> np.ndarray:
    """Darken the ground where it lies in shadow."""
    table = np.zeros(256, np.uint8)
    table[[PAVEMENT, ROAD, GRASS]] = 255
    soft = cv2.resize(shadows, regions.shape[::-1], interpolation=cv2.INTER_AREA)
    soft = cv2.bitwise_and(soft, cv2.LUT(regions, table))
    light = cv2.LUT(soft, np.array([255 - round(v * strength) for v in range(256)], np.uint8))
    return cv2.multiply(image, cv2.merge([light, light, light]), scale=1 / 255)


def _expose(image: np.ndarray, plan: Plan) -> np.ndarray:
    """Give the picture its light, blur and noise."""
    dice, mood = Dice(plan.seed + 2**41), plan.mood
    ramp = np.arange(256)
    middle = 128 + (1 - mood.contrast) * 60
    tables = [
        np.clip(((ramp * gain) - 128) * mood.contrast + middle, 0, 255) for gain in mood.gains
    ]
    image = cv2.LUT(image, np.stack(tables, axis=1).astype(np.uint8).reshape(1, 256, 3))
    if dice.chance(0.4):
        image = cv2.GaussianBlur(image, (3, 3), dice.uniform(0.3, 0.7))
    noise = _noise(*image.shape[:2], dice.integer(0, 127), dice.integer(0, 127))
    return cv2.add(image, (noise * dice.integer(1, 4)) >> 4, dtype=cv2.CV_8U)


def _noise(height: int, width: int, top: int, left: int) -> np.ndarray:
    """Return a cut (height, width, 3) from the noise tile, which repeats."""
    tile = _noise_tile()
    if top + height <= len(tile) and left + width <= len(tile):
        return tile[top : top + height, left : left + width]
    rows, columns = (np.arange(height) + top) % len(tile), (np.arange(width) + left) % len(tile)
    return tile[rows[:, None], columns]


@cache
def _noise_tile() -> np.ndarray:
    """Return int16 (512, 512, 3) noise of standard deviation 16.

    It is the sum of four uniform whole numbers: nearly normal, and the same on every machine.
    """
    draws = np.random.default_rng(0).integers(0, 28, (4, 512, 512, 3), dtype=np.int16)
    return draws.sum(axis=0, dtype=np.int16) - 54


def _semantic_table(plan: Plan) -> np.ndarray:
    table = np.arange(256, dtype=np.uint8)
    table[GRASS] = VEGETATION
    meaning = {PERSON: "person", CAR: "vehicle", BICYCLE: "vehicle"}
    for k, thing in enumerate(_labelled(plan)):
        name = meaning.get(thing.label, "object")
        table[FIRST_INSTANCE + k] = SEMANTIC_CLASSES.index(name)
    return table


def _instance_map(regions: np.ndarray, kept: list[int]) -> np.ndarray:
    """Return uint16 (H, W): the kept instances, numbered 1, 2, ..."""
    table = np.zeros(256, np.uint8)
    table[[FIRST_INSTANCE + k for k in kept]] = range(1, len(kept) + 1)
    return cv2.LUT(regions, table).astype(np.uint16)


def _kept(regions: np.ndarray, areas: list[float]) -> list[int]:
    """Return the numbers of the labelled things that are seen well enough."""
    counts = np.bincount(regions.ravel(), minlength=256)[FIRST_INSTANCE:].tolist()
    return [k for k, area in enumerate(areas) if counts[k] >= max(FEWEST_PIXELS, LEAST_SEEN * area)]


def full_masks(seed: int, width: int = 320, height: int = 240) -> np.ndarray:
    """Return bool (N, H, W): each instance of the scene as if nothing stood in front of it."""
    plan, masks = plan_scene(seed, width, height), []
    canvas = np.zeros((height * SUPERSAMPLING, width * SUPERSAMPLING, 4), np.uint8)
    _, areas = _paint_things(canvas, plan)
    for k in _kept(canvas[::SUPERSAMPLING, ::SUPERSAMPLING, 3], areas):
        thing, plane = _labelled(plan)[k], np.zeros(canvas.shape[:2], np.uint8)
        thing.sketch.silhouette(plane, thing.pixels, thing.scale, 1)
        masks.append(plane[::SUPERSAMPLING, ::SUPERSAMPLING] > 0)
    return np.array(masks, dtype=bool).reshape(-1, height, width)


def write_dataset(
    folder: str | Path,
    seeds: Iterable[int],
    width: int = 320,
    height: int = 240,
    progress: bool = True,
) -> Path:
    """Write one scene a seed and return the folder; written again, the files are the same.

    The folder gets `PNGImages/scene_00012.png` (the picture), `PedMasks/scene_00012_mask.png`
    (uint8, 0 or the pedestrian's number 1..n), `SemanticMasks/scene_00012_semantic.png` (uint8,
    indices into SEMANTIC_CLASSES) and, last, `annotations.json`: COCO's format, all five
    classes, masks as uncompressed run lengths, file names relative to PNGImages, image ids = seeds,
    and for a person the `view`.

    Raises:
        ValueError: a seed given twice, or scenes of other seeds in the folder already.
    """
    folder, seeds = Path(folder), [int(seed) for seed in seeds]
    if len(set(seeds)) < len(seeds):
        twice = next(seed for k, seed in enumerate(seeds) if seed in seeds[:k])
        raise ValueError(f"seed {twice} is given twice; every seed gives one scene")
    expected = {f"scene_{seed:05d}.png" for seed in seeds}
    for path in sorted(folder.glob("PNGImages/*")):
        if path.name not in expected and not path.name.endswith(".part"):
            raise ValueError(f"{path} is of another data set; choose an empty folder or delete it")
    for name in ("PNGImages", "PedMasks", "SemanticMasks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    images, annotations = [], []
    for seed in tqdm(seeds, "drawing", unit="scene", disable=not progress):
        scene, stem = draw_scene(seed, width, height), f"scene_{seed:05d}"
        _write_pictures(folder, stem, scene)
        images.append({"id": seed, "file_name": f"{stem}.png", "width": width, "height": height})
        annotations += _coco_annotations(scene, seed, first_id=len(annotations) + 1)
    categories = [{"id": k + 1, "name": name} for k, name in enumerate(INSTANCE_CLASSES)]
    info = {"description": "Drawn street scenes", "version": "1.0"}
    content = {"info": info, "images": images, "annotations": annotations, "categories": categories}
    _write(folder / "annotations.json", json.dumps(content).encode())
    return folder


def _write_pictures(folder: Path, stem: str, scene: Scene) -> None:
    people = np.zeros(256, np.uint8)
    is_person = np.flatnonzero(scene.labels == PERSON)
    people[is_person + 1] = np.arange(1, len(is_person) + 1)
    image = cv2.cvtColor(scene.image, cv2.COLOR_RGB2BGR)
    pedestrians = cv2.LUT(scene.instances.astype(np.uint8), people)
    for path, picture, settings in (
        (folder / "PNGImages" / f"{stem}.png", image, STORED),
        (folder / "PedMasks" / f"{stem}_mask.png", pedestrians, []),
        (folder / "SemanticMasks" / f"{stem}_semantic.png", scene.semantic, []),
    ):
        _, data = cv2.imencode(".png", picture, settings)
        _write(path, data.tobytes())


def _write(path: Path, data: bytes) -> None:
    with replacing(path) as file:
        file.write(data)


def _coco_annotations(scene: Scene, image_id: int, first_id: int) -> list[dict]:
    H, W = scene.instances.shape
    columnwise = scene.instances.T.astype(np.uint8).ravel()
    painted = np.flatnonzero(columnwise)
    numbers = columnwise[painted]
    painted = painted[np.argsort(numbers, kind="stable")]
    ends = np.cumsum(np.bincount(numbers, minlength=1)[1:])
    annotations = []
    parts = np.split(painted, ends)[:-1]
    for k, (label, view, places) in enumerate(
        zip(scene.labels.tolist(), scene.views, parts, strict=True)
    ):
        x, y = places // H, places % H
        left, top = int(x[0]), int(y.min())
        annotations.append(
            {
                "id": first_id + k,
                "image_id": image_id,
                "category_id": label,
                "bbox": [left, top, int(x[-1]) - left + 1, int(y.max()) - top + 1],
                "area": len(places),
                "iscrowd": 0,
                "segmentation": {"size": [H, W], "counts": _run_lengths(places, H * W)},
                **({"view": view} if view else {}),
            }
        )
    return annotations


def _run_lengths(places: np.ndarray, size: int) -> list[int]:
    """Return COCO's run lengths, zeros first, of a mask whose pixels are at these places."""
    breaks = np.flatnonzero(np.diff(places) > 1)
    edges = np.empty(2 * len(breaks) + 4, np.int64)  # 0, start, end, start, end, ..., size
    edges[0], edges[1], edges[-2], edges[-1] = 0, places[0], places[-1] + 1, size
    edges[2:-2:2], edges[3:-2:2] = places[breaks] + 1, places[breaks + 1]
    runs = np.diff(edges).tolist()
    return runs if runs[-1] else runs[:-1]
