"""Boxes have to move with the pixels: each object has a colour of its own and is found again."""

import dataclasses

import numpy as np
import pytest
import torch

from augmentation import (
    GRAY,
    LEAST_VISIBLE,
    NO_AUGMENTATION,
    SMALLEST_SIDE,
    Augmentation,
    Sample,
    augment,
    change_colors,
    draw_through,
    letterbox_map,
    map_boxes,
    mosaic,
    place,
    random_map,
)
from boxes import InputSize, Letterbox, height_width

# On black, a blend at an edge is a darker tone of the same colour.
COLORS = ((250, 0, 0), (0, 250, 0), (0, 0, 250), (250, 250, 0), (0, 250, 250))
PLAIN_COLORS = Augmentation(hue=0, saturation=1, exposure=1)


def painted(random: np.random.Generator, first_class: int = 0) -> Sample:
    """A black photo with five rectangles apart from one another, each in its colour."""
    width, height = (int(v) for v in random.integers(120, 400, 2))
    image = np.zeros((height, width, 3), np.uint8)
    boxes = []
    for k, color in enumerate(COLORS):
        low, high = (int(width * (k + share) / 5) for share in (0.15, 0.85))
        y1 = int(random.integers(0, height // 2))
        y2 = int(random.integers(y1 + height // 6, height + 1))
        image[y1:y2, low:high] = color
        boxes.append((low, y1, high, y2))
    classes = np.arange(first_class, first_class + 5)
    return Sample(image, np.array(boxes, np.float32), classes)


def seen_box(image: np.ndarray, color: tuple[int, ...]) -> tuple[float, ...] | None:
    """The edges of the pixels of one colour, found pixel by pixel."""
    rows, columns = [], []
    for y, line in enumerate(image.tolist()):
        for x, pixel in enumerate(line):
            if all(v > 125 if c else v < 60 for v, c in zip(pixel, color, strict=True)):
                rows.append(y)
                columns.append(x)
    if not rows:
        return None
    return min(columns), min(rows), max(columns) + 1, max(rows) + 1


def check(result: Sample, tolerance: float = 1.5) -> int:
    """Compare each box of a result with the pixels of its colour; returns how many there were."""
    for box, label in zip(result.boxes_xyxy, result.classes, strict=True):
        seen = seen_box(result.image, COLORS[label % 5])
        assert seen is not None
        assert np.abs(np.array(seen) - box).max() <= tolerance, (seen, box)
    return len(result.boxes_xyxy)


@pytest.mark.parametrize("size", [160, (128, 192), (192, 96)])
@pytest.mark.parametrize("seed", range(8))
def test_random_map_moves_boxes_with_pixels(seed: int, size: InputSize) -> None:
    random = np.random.default_rng(seed)
    strong = {"scale": 0.6, "stretch": 0.3, "shift": 0.3, "flip_vertical": 0.5}
    settings = dataclasses.replace(PLAIN_COLORS, **strong)
    result = augment([painted(random)], size, settings, random)
    assert result.image.shape == (*height_width(size), 3)
    check(result)


def test_random_map_keeps_most_boxes_and_mirrors_half() -> None:
    random = np.random.default_rng(7)
    kept, mirrored = 0, 0
    for _ in range(60):
        mapping = random_map(200, 150, 160, PLAIN_COLORS, random)
        mirrored += mapping[0, 0] < 0
        sample = painted(random)
        kept += len(place(sample, mapping, 160).boxes_xyxy)
    assert 20 <= mirrored <= 40
    assert kept > 0.6 * 300


def test_upside_down_only_when_asked() -> None:
    def directions(share: float) -> list[tuple[bool, bool]]:
        settings = dataclasses.replace(PLAIN_COLORS, flip_vertical=share)
        random = np.random.default_rng(8)
        maps = [random_map(200, 150, 160, settings, random) for _ in range(60)]
        return [(mapping[0, 0] < 0, mapping[1, 1] < 0) for mapping in maps]

    assert sum(down for _, down in directions(0.0)) == 0
    assert sum(down for _, down in directions(1.0)) == 60
    assert 20 <= sum(down for _, down in directions(0.5)) <= 40
    assert 5 <= sum(both == (True, True) for both in directions(0.5)) <= 25  # not tied together


@pytest.mark.parametrize("size", [192, (160, 256)])
@pytest.mark.parametrize("seed", range(4))
def test_mosaic_moves_boxes_with_pixels(seed: int, size: InputSize) -> None:
    random = np.random.default_rng(100 + seed)
    # One photo has objects, the other three are empty: colours stay unique.
    place_of_painted = seed % 4
    empty = Sample(
        np.zeros((90, 130, 3), np.uint8), np.zeros((0, 4), np.float32), np.zeros(0, np.int64)
    )
    samples = [painted(random) if k == place_of_painted else empty for k in range(4)]
    settings = dataclasses.replace(PLAIN_COLORS, flip_vertical=0.5)
    result = mosaic(samples, size, settings, random)
    check(result)


def test_mosaics_have_objects_of_all_four() -> None:
    random = np.random.default_rng(3)
    found = set()
    for _ in range(20):
        samples = [painted(random, first_class=5 * k) for k in range(4)]
        found |= {int(label) // 5 for label in mosaic(samples, 256, PLAIN_COLORS, random).classes}
    assert found == {0, 1, 2, 3}


def test_mosaic_wants_four_photos() -> None:
    random = np.random.default_rng(0)
    with pytest.raises(ValueError, match="made of 4 photos, not of 3"):
        mosaic([painted(random)] * 3, 64, PLAIN_COLORS, random)


@pytest.mark.parametrize("rows", [96, 128, 192])
@pytest.mark.parametrize(("width", "height"), [(640, 480), (100, 300), (320, 320), (333, 211)])
def test_no_augmentation_is_the_letterbox_of_detection(width: int, height: int, rows: int) -> None:
    random = np.random.default_rng(width)
    image = random.integers(0, 256, (height, width, 3)).astype(np.uint8)
    boxes = np.array([[3.0, 4, width - 9, height - 2]], np.float32)
    size = (rows, 128)
    result = augment([Sample(image, boxes, np.zeros(1, np.int64))], size, NO_AUGMENTATION, random)
    letterbox = Letterbox(width, height, 128, rows)
    wanted = letterbox.to_network(torch.from_numpy(boxes)).numpy()
    assert np.abs(result.boxes_xyxy - wanted).max() <= 1  # detection cuts the size to whole pixels
    smooth = np.zeros_like(image) + np.linspace(0, 250, width).astype(np.uint8)[None, :, None]
    ours = augment([Sample(smooth, boxes, np.zeros(1, np.int64))], size, NO_AUGMENTATION, random)
    theirs = letterbox.apply(smooth).permute(1, 2, 0).numpy() * 255
    inner = slice(rows // 2 - 14, rows // 2 + 14), slice(50, 78)
    assert np.abs(ours.image[inner].astype(float) - theirs[inner]).max() <= 6


def test_identity_map_changes_nothing() -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    canvas = np.full_like(image, GRAY)
    draw_through(image, letterbox_map(64, 64, 64), canvas)
    assert np.array_equal(canvas, image)


def test_half_is_cut_and_what_is_left_stays() -> None:
    shift = np.array([[1.0, 0, -10], [0, 1, 0]])
    boxes = np.array([[0, 0, 20, 20], [0, 0, 13, 20], [0, 0, 14, 20], [30, 0, 31, 40]], np.float32)
    moved, stay = map_boxes(boxes, shift, (0, 0, 50, 50))
    assert moved[0].tolist() == [0, 0, 10, 20]
    # 3 of 13 columns are below the least share, 4 of 14 above it; one pixel wide is too small
    assert 3 / 13 < LEAST_VISIBLE < 4 / 14 and SMALLEST_SIDE > 1
    assert stay.tolist() == [True, False, True, False]


def test_no_boxes() -> None:
    moved, stay = map_boxes(np.zeros((0, 4), np.float32), letterbox_map(9, 9, 9), (0, 0, 9, 9))
    assert moved.shape == (0, 4) and stay.shape == (0,)


def test_colors_change_within_their_limits() -> None:
    random = np.random.default_rng(1)
    image = np.full((4, 4, 3), (200, 100, 50), np.uint8)
    settings = Augmentation(hue=0, saturation=1, exposure=2)
    values = [change_colors(image, settings, random).max() for _ in range(50)]
    assert min(values) >= 99 and max(values) == 255 and len(set(values)) > 20
    assert change_colors(image, NO_AUGMENTATION, random) is image


def test_hue_turns_red_towards_its_neighbours_only() -> None:
    random = np.random.default_rng(2)
    image = np.full((2, 2, 3), (200, 0, 0), np.uint8)
    for _ in range(40):
        red, green, blue = change_colors(image, Augmentation(hue=0.05, saturation=1), random)[
            0, 0
        ].tolist()
        assert red > max(green, blue) and min(green, blue) <= 1
