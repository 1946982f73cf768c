"""Change a photo at random and move its boxes along: scale, shift, flip, colours, mosaic.

A detector has to find an object wherever it stands, however large it is and in any light. A few
hundred photos do not show that; random changes of them do. Every change of place here is one
affine map (scale, mirror, shift) of the plane. The photo is drawn through it once, straight into
the network's input, and the boxes go through the same map, so the two cannot drift apart.

Coordinates are continuous: pixel i covers i to i + 1. A box that is cut at an edge keeps its
visible part, and goes where too little of it is visible to be recognised.

Colour changes are Darknet's: a random shift of the hue, factors for saturation and value in HSV.
The mosaic, four photos in one, is that of YOLOv4 (Bochkovskiy et al., 2020, arXiv:2004.10934,
section 3.3): four times as many objects in a batch, and none of them in its usual surroundings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from boxes import InputSize, height_width

GRAY = 128  # around the photo, as in detection
LEAST_VISIBLE = 0.25  # share of a box's area that has to be left
SMALLEST_SIDE = 2.0  # pixels of the network's input


@dataclass(frozen=True)
class Augmentation:
    """How strongly photos are changed.

    Attributes:
        flip: probability of mirroring left and right.
        scale: the size changes by a factor from 1 / (1 + scale) to 1 + scale.
        stretch: width and height additionally differ by a factor of up to 1 + stretch.
        shift: the middle moves by up to this share of the input, in both directions.
        hue: largest turn of the colour circle, as a share of it.
        saturation, exposure: largest factors (and 1 / factor the smallest).
        mosaic: probability of four photos in one.
        flip_vertical: probability of turning upside down, for photos that have no up, such as those
            of a microscope or from the air.
    """

    flip: float = 0.5
    scale: float = 0.4
    stretch: float = 0.15
    shift: float = 0.12
    hue: float = 0.03
    saturation: float = 1.4
    exposure: float = 1.4
    mosaic: float = 0.0
    flip_vertical: float = 0.0


NO_AUGMENTATION = Augmentation(0, 0, 0, 0, 0, 1, 1, 0)


@dataclass(frozen=True)
class Sample:
    """A photo with its objects.

    Attributes:
        image: uint8 (H, W, 3), RGB.
        boxes_xyxy: float32 (N, 4), pixels of the image.
        classes: int64 (N,), counted from 0.
    """

    image: np.ndarray
    boxes_xyxy: np.ndarray
    classes: np.ndarray


def letterbox_map(width: int, height: int, size: InputSize) -> np.ndarray:
    """Return the map of a photo into the middle of the network's input, its shape kept.

    Args:
        width, height: of the photo in pixels.
        size: of the input in pixels; see `boxes.height_width`.

    Returns:
        float64 (2, 3): x' = m[0, 0] x + m[0, 2], y' = m[1, 1] y + m[1, 2].
    """
    rows, columns = height_width(size)
    scale = min(columns / width, rows / height)
    return _map(scale, scale, (columns - scale * width) / 2, (rows - scale * height) / 2)


def random_map(
    width: int, height: int, size: InputSize, settings: Augmentation, random: np.random.Generator
) -> np.ndarray:
    """Return the letterbox map with random scale, shift and mirroring; see `letterbox_map`."""
    rows, columns = height_width(size)
    fit = min(columns / width, rows / height)
    zoom = (1 + settings.scale) ** random.uniform(-1, 1)
    stretch = (1 + settings.stretch) ** random.uniform(-0.5, 0.5)
    sx, sy = fit * zoom * stretch, fit * zoom / stretch
    middle = (columns, rows) * (0.5 + settings.shift * random.uniform(-1, 1, 2))
    mirrored, upside_down = _flips(settings, random)
    sx, sy = -sx if mirrored else sx, -sy if upside_down else sy
    return _map(sx, sy, middle[0] - sx * width / 2, middle[1] - sy * height / 2)


def draw_through(
    image: np.ndarray, mapping: np.ndarray, canvas: np.ndarray, offset: tuple[int, int] = (0, 0)
) -> None:
    """Draw an image through a map onto a canvas; what it does not cover stays as it is.

    Args:
        image: uint8 (H, W, 3).
        mapping: as `letterbox_map` returns it.
        canvas: uint8 (h, w, 3), changed in place.
        offset: x and y, in the map's coordinates, of the canvas's left top corner.
    """
    shifted = mapping.copy()
    # OpenCV counts from the middle of the first pixel: move there and back.
    shifted[:, 2] += shifted[:, :2] @ (0.5, 0.5) - 0.5 - np.array(offset)
    cv2.warpAffine(
        image, shifted, canvas.shape[1::-1], canvas, cv2.INTER_LINEAR, cv2.BORDER_TRANSPARENT
    )


def map_boxes(
    boxes_xyxy: np.ndarray, mapping: np.ndarray, region_xyxy: Sequence[float]
) -> tuple[np.ndarray, np.ndarray]:
    """Send boxes through a map and cut them at the edges of a region.

    Args:
        boxes_xyxy: float32 (N, 4).
        mapping: as `letterbox_map` returns it.
        region_xyxy: x1, y1, x2, y2 after the map.

    Returns:
        The boxes (N, 4), float32, and which of them stay, bool (N,): those with at least
        `LEAST_VISIBLE` of their area inside and `SMALLEST_SIDE` pixels on both sides.
    """
    scale, offset = mapping[[0, 1], [0, 1]], mapping[:, 2]
    ends = boxes_xyxy.reshape(-1, 2, 2) * scale + offset  # (N, 2 corners, xy)
    moved = np.concatenate((ends.min(axis=1), ends.max(axis=1)), axis=1)  # (N, 4)
    x1, y1, x2, y2 = region_xyxy
    cut = np.clip(moved, (x1, y1, x1, y1), (x2, y2, x2, y2))
    before, after = moved[:, 2:] - moved[:, :2], cut[:, 2:] - cut[:, :2]
    stay = (after.min(axis=1, initial=np.inf) >= SMALLEST_SIDE) & (
        after.prod(axis=1) >= LEAST_VISIBLE * before.prod(axis=1)
    )
    return cut.astype(np.float32), stay


def place(sample: Sample, mapping: np.ndarray, size: InputSize) -> Sample:
    """Draw a photo through a map into a gray input of `size` pixels, with its boxes."""
    rows, columns = height_width(size)
    canvas = np.full((rows, columns, 3), GRAY, np.uint8)
    draw_through(sample.image, mapping, canvas)
    boxes, stay = map_boxes(sample.boxes_xyxy, mapping, (0, 0, columns, rows))
    return Sample(canvas, boxes[stay], sample.classes[stay])


def mosaic(
    samples: Sequence[Sample],
    size: InputSize,
    settings: Augmentation,
    random: np.random.Generator,
) -> Sample:
    """Put four photos around a random point of the input, each cut to its quarter.

    Raises:
        ValueError: not four photos.
    """
    if len(samples) != 4:
        raise ValueError(f"a mosaic is made of 4 photos, not of {len(samples)}")
    rows, columns = height_width(size)
    canvas = np.full((rows, columns, 3), GRAY, np.uint8)
    px, py = (round(v) for v in random.uniform(0.3, 0.7, 2) * (columns, rows))
    regions = ((0, 0, px, py), (px, 0, columns, py), (0, py, px, rows), (px, py, columns, rows))
    boxes, classes = [], []
    for sample, region in zip(samples, regions, strict=True):
        mapping = _corner_map(sample.image.shape, region, (px, py), size, settings, random)
        x1, y1, x2, y2 = region
        draw_through(sample.image, mapping, canvas[y1:y2, x1:x2], (x1, y1))
        moved, stay = map_boxes(sample.boxes_xyxy, mapping, region)
        boxes.append(moved[stay])
        classes.append(sample.classes[stay])
    return Sample(canvas, np.concatenate(boxes), np.concatenate(classes))


def change_colors(
    image: np.ndarray, settings: Augmentation, random: np.random.Generator
) -> np.ndarray:
    """Turn the hue and stretch saturation and value at random; uint8 (H, W, 3), RGB, to the same.

    The same random numbers are drawn whatever the settings are.
    """
    hue, saturation, exposure = random.uniform(-1, 1, 3)
    if (settings.hue, settings.saturation, settings.exposure) == (0, 1, 1):
        return image
    ramp = np.arange(256)
    tables = (
        (ramp + round(180 * settings.hue * hue)) % 180,  # OpenCV counts hues in steps of 2 degrees
        (ramp * settings.saturation**saturation).clip(max=255),
        (ramp * settings.exposure**exposure).clip(max=255),
    )
    table = np.stack(tables, axis=-1).astype(np.uint8)[None]  # (1, 256, 3)
    return cv2.cvtColor(cv2.LUT(cv2.cvtColor(image, cv2.COLOR_RGB2HSV), table), cv2.COLOR_HSV2RGB)


def augment(
    samples: Sequence[Sample],
    size: InputSize,
    settings: Augmentation,
    random: np.random.Generator,
) -> Sample:
    """Make one training sample: a changed photo, or a mosaic where four photos are given.

    Args:
        samples: one, or four.
        size: of the result in pixels; see `boxes.height_width`.
        settings: how strongly.
        random: where all random numbers come from.
    """
    if len(samples) > 1:
        result = mosaic(samples, size, settings, random)
    else:
        height, width = samples[0].image.shape[:2]
        result = place(samples[0], random_map(width, height, size, settings, random), size)
    return Sample(change_colors(result.image, settings, random), result.boxes_xyxy, result.classes)


def _corner_map(
    shape: tuple[int, ...],
    region: Sequence[int],
    point: tuple[int, int],
    size: InputSize,
    settings: Augmentation,
    random: np.random.Generator,
) -> np.ndarray:
    """The map that lays one corner of a photo at the point where the quarters meet."""
    height, width = shape[:2]
    zoom = (1 + settings.scale) ** random.uniform(-1, 1)
    rows, columns = height_width(size)
    scale = zoom * min(columns / width, rows / height)
    left = region[0] if region[0] == point[0] else point[0] - scale * width
    top = region[1] if region[1] == point[1] else point[1] - scale * height
    mirrored, upside_down = _flips(settings, random)
    return _map(
        -scale if mirrored else scale,
        -scale if upside_down else scale,
        left + scale * width * mirrored,
        top + scale * height * upside_down,
    )


def _flips(settings: Augmentation, random: np.random.Generator) -> tuple[bool, bool]:
    """Choose whether to mirror, and whether to turn upside down."""
    mirrored = random.random() < settings.flip
    # No number is drawn for what never happens: runs without it stay as they were.
    return mirrored, settings.flip_vertical > 0 and random.random() < settings.flip_vertical


def _map(sx: float, sy: float, tx: float, ty: float) -> np.ndarray:
    return np.array([[sx, 0, tx], [0, sy, ty]], np.float64)
