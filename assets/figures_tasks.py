"""The four tasks on one street scene, and one small picture for each lesson."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import matplotlib.patheffects as effects
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

import street_scene
from figure_style import (
    BLUE,
    INK,
    OBJECT_COLORS,
    SMALL,
    FigureMaker,
    new_card,
    picture_axes,
    rectangle,
)
from lesson_modules import BOXES, SEMANTIC
from street_scene import decode_mask, predictions, scene, semantic_map

MASK_ALPHA = 0.62
SURE = 0.5  # the score from which a class counts as seen
FEWEST_PIXELS_NAMED = 0.02  # share of the picture; smaller areas get no name
NAME_SIZE = 70, 24  # pixels of the picture that a class name takes at most


def draw_tasks(image: np.ndarray, found: dict[str, Any]) -> Figure:
    """Draw the answers to four questions about one picture.

    Args:
        image: uint8 (H, W, 3), RGB.
        found: what models predicted, as `street_scene.predictions` describes it.
    """
    figure = new_card(6.5)
    there = [one for one in found["classification"] if one["score"] >= SURE]
    named = [
        ("classification", f"{_count(len(there), 'class')} in the picture"),
        ("detection", f"{_count(len(found['boxes']), 'box')} with a class"),
        ("semantic segmentation", f"{_count(len(found['semantic']), 'class')}, every pixel"),
        ("instance segmentation", f"{_count(len(found['masks']), 'mask')}, one a person"),
    ]
    drawings = (draw_classes, draw_boxes, draw_semantic, draw_instances)
    for k, ((task, answer), draw) in enumerate(zip(named, drawings, strict=True)):
        row, column = divmod(k, 2)
        place = (0.02 + 0.485 * column, 0.545 - 0.485 * row, 0.475, 0.395)
        ax = picture_axes(figure, place, (320, 240))
        draw(ax, image, found)
        x, y = 0.2575 + 0.485 * column, 0.545 - 0.485 * row
        figure.text(x, y + 0.402, task, ha="center", va="bottom", fontweight="bold")
        figure.text(x, y - 0.008, answer, ha="center", va="top", fontsize=SMALL)
    return figure


def _show(ax: Axes, image: np.ndarray, found: dict[str, Any]) -> None:
    height, width = image.shape[:2]
    pixels = np.asarray(image).astype(np.uint8)
    ax.imshow(pixels, extent=(0, width, height, 0), interpolation="bilinear")


def _count(number: int, noun: str) -> str:
    plural = noun if number == 1 else noun + ("es" if noun[-1] in "sx" else "s")
    return f"{number} {plural}"


def draw_classes(ax: Axes, image: np.ndarray, found: dict[str, Any]) -> None:
    """Show how sure lesson 02's detector is that each class is in the picture."""
    _show(ax, image * 0.45 + 255 * 0.55, found)
    entries = found["classification"]
    step = 200 / len(entries)
    for k, one in enumerate(entries):
        y = 36 + k * step
        ax.barh(y, 130 * one["score"], step * 0.55, left=136, color=BLUE)
        ax.text(130, y, one["class_name"], ha="right", va="center", fontsize=SMALL)
        ax.text(141 + 130 * one["score"], y, f"{one['score']:.2f}", va="center", fontsize=SMALL)


def draw_boxes(ax: Axes, image: np.ndarray, found: dict[str, Any], named: bool = True) -> None:
    """Show the boxes that lesson 02's detector found, coloured by class."""
    _show(ax, image, found)
    names = sorted({one["class_name"] for one in found["boxes"]}, key=_first(found["boxes"]))
    for one in found["boxes"][::-1]:
        color = OBJECT_COLORS[names.index(one["class_name"])]
        rectangle(ax, one["box_xyxy"], "white", linewidth=3.6)
        rectangle(ax, one["box_xyxy"], color, linewidth=2.2)
    for name in names if named else ():  # each class is named once, at its best box
        one = next(one for one in found["boxes"] if one["class_name"] == name)
        x1, y1, x2, y2 = one["box_xyxy"]
        _label(ax, np.clip((x1 + x2) / 2, 28, 292), max(y1 - 9, 10), name)


def draw_semantic(ax: Axes, image: np.ndarray, found: dict[str, Any], named: bool = True) -> None:
    """Show the class of every pixel, as lesson 03's model predicted it."""
    labels = semantic_map(found)
    overlaid = SEMANTIC.load("common.masks.overlays").overlay(image, labels, alpha=0.7)
    _show(ax, overlaid, found)
    places: list[tuple[float, float]] = []
    for name, text in found["semantic"].items():
        mask = decode_mask(text)
        if named and mask.mean() > FEWEST_PIXELS_NAMED:
            places.append(_inner_point(mask, places))
            _label(ax, *places[-1], name)


def draw_instances(ax: Axes, image: np.ndarray, found: dict[str, Any]) -> None:
    """Show a mask for each person that lesson 01's detector found, each in another colour."""
    mixed = image.astype(float)
    for k, one in reversed(list(enumerate(found["masks"]))):
        mask = decode_mask(one["segmentation"])
        color = 255 * np.array(to_rgb(OBJECT_COLORS[k % len(OBJECT_COLORS)]))
        mixed[mask] = (1 - MASK_ALPHA) * image[mask] + MASK_ALPHA * color
    _show(ax, mixed.round().astype(np.uint8), found)
    for k, one in enumerate(found["masks"]):
        for outline in street_scene.outlines(decode_mask(one["segmentation"])):
            closed = np.concatenate((outline, outline[:1]))
            ax.plot(*closed.T, color="white", linewidth=1.6)
            ax.plot(*closed.T, color=OBJECT_COLORS[k % len(OBJECT_COLORS)], linewidth=0.8)


def _first(entries: Sequence[dict[str, Any]]) -> Any:
    order = [one["class_name"] for one in entries]
    return order.index


def _label(ax: Axes, x: float, y: float, text: str) -> None:
    words = ax.text(x, y, text, ha="center", va="center", fontsize=SMALL, color=INK, zorder=5)
    words.set_path_effects([effects.withStroke(linewidth=3, foreground="white")])


def _inner_point(mask: np.ndarray, taken: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Find the point of a mask that is farthest from its edge, away from sides and other names."""
    padded = np.pad(mask.astype(np.uint8), 1)
    distance = cv2.distanceTransform(padded, cv2.DIST_L2, 5)[1:-1, 1:-1]
    distance[:, :40] = distance[:, -40:] = 0
    width, height = NAME_SIZE
    for x, y in taken:
        top, left = max(0, round(y - height)), max(0, round(x - width))
        distance[top : round(y + height), left : round(x + width)] = 0
    y, x = np.unravel_index(distance.argmax(), distance.shape)
    return float(x), float(np.clip(y, 10, 230))


def _tasks() -> Figure:
    return draw_tasks(scene().image, predictions())


def _small_picture(draw: Any, **options: bool) -> Figure:
    figure = new_card(1.86, width=2.4)
    ax = picture_axes(figure, (0.02, 0.026, 0.96, 0.948), (320, 240))
    draw(ax, scene().image, predictions(), **options)
    return figure


def draw_coins() -> Figure:
    """Coins, found by bright discs that slide over a photo."""
    with BOXES:
        coins = BOXES.load("coins")
        image, _ = coins.load_coins()
        boxes, _ = coins.detect_coins(image, score_threshold=0.6)
    figure = new_card(1.86, width=2.4)
    height, width = image.shape
    ax = picture_axes(figure, (0.02, 0.026, 0.96, 0.948), (width, height))
    ax.imshow(image, cmap="gray", extent=(0, width, height, 0))
    for box in boxes:
        rectangle(ax, box, "white", linewidth=2.2)
        rectangle(ax, box, BLUE, linewidth=1.3)
    return figure


MAKERS = (
    FigureMaker("four_tasks.png", _tasks, "four questions about one scene, answered by models"),
    FigureMaker("lesson_00.png", draw_coins, "lesson 00: coins found by discs that slide"),
    FigureMaker("lesson_01.png", lambda: _small_picture(draw_instances), "lesson 01: masks"),
    FigureMaker(
        "lesson_02.png", lambda: _small_picture(draw_boxes, named=False), "lesson 02: boxes"
    ),
    FigureMaker(
        "lesson_03.png", lambda: _small_picture(draw_semantic, named=False), "lesson 03: label map"
    ),
)
