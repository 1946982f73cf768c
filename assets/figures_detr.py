"""Figures of DETR: the path of the data, the matching, and the mask of the denoising queries.

Shapes, costs and masks are computed by lesson 04's own modules.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse, Rectangle

import network_shapes
from figure_style import (
    BLUE,
    GRAY,
    GREEN,
    INK,
    LIGHT,
    OBJECT_COLORS,
    ORANGE,
    PURPLE,
    RED,
    SKY,
    SMALL,
    FigureMaker,
    arrow,
    block,
    by,
    new_card,
    picture_axes,
    plain_axes,
    rectangle,
    silhouette,
)
from lesson_modules import DETR
from street_scene import outlines, scene, true_objects

SIZE = (320, 240)  # width and height of the scene
GROUPS, GROUP_SIZE, QUERIES = 2, 3, 5  # of the mask that is drawn


def draw_path() -> Figure:
    """From a picture to scores and boxes, with the shape after each step."""
    shapes = network_shapes.detr()
    maps = ",  ".join(by(*one[1:]) for one in shapes["maps"])
    channels, coarsest = shapes["maps"][0][0], by(*shapes["maps"][-1][1:])
    places, queries = shapes["memory"][0], shapes["logits"][0]
    figure = new_card(8.15)
    ax = plain_axes(figure, (0, 0, 1, 1))
    steps = (
        (7.35, 0.55, f"picture {by(*shapes['input'])}", LIGHT),
        (6.0, 0.95, f"backbone, {channels} channels\n{maps}", GREEN),
        (4.65, 0.95, f"self-attention on {coarsest},\nfused into the finer maps", SKY),
        (3.7, 0.55, f"memory: {places:,} places", SKY),
        (2.55, 0.75, f"the {queries} surest places\nbecome queries", ORANGE),
    )
    for number, (y, height, text, color) in enumerate(steps):
        block(ax, 0.35, y, 4.1, height, text, color)
        if number:
            arrow(ax, (2.4, steps[number - 1][0] - 0.02), (2.4, y + height + 0.02))
    layers = (
        f"{shapes['layers']} decoder layers, each:\nlook at one another,\nat the memory, refine"
    )
    block(ax, 0.35, 1.0, 4.1, 1.15, layers, PURPLE)
    arrow(ax, (2.4, 2.53), (2.4, 2.17))
    scores, boxes = by(*shapes["logits"]), by(*shapes["boxes"])
    block(ax, 0.35, 0.15, 4.1, 0.5, f"scores {scores}, boxes {boxes}", BLUE)
    arrow(ax, (2.4, 0.98), (2.4, 0.67))
    # what exists in training alone
    ax.text(5.8, 4.55, "in training", ha="center", va="bottom", fontweight="bold")
    block(ax, 4.95, 3.2, 1.85, 1.2, "true boxes,\nshaken:\nnoisy queries", GRAY)
    arrow(ax, (5.85, 3.18), (4.47, 1.3), GRAY, connectionstyle="arc3,rad=-0.3")
    arrow(ax, (4.47, 3.97), (4.47, 1.95), SKY, connectionstyle="arc3,rad=-0.2")
    block(ax, 4.95, 0.15, 1.85, 1.2, "matching\none to one,\nlosses", RED)
    arrow(ax, (4.47, 0.4), (4.93, 0.4))
    return figure


def draw_small() -> Figure:
    """The scene of the other small pictures: each object has a query, the rest have none."""
    figure = new_card(1.86, width=2.4)
    ax = picture_axes(figure, (0.02, 0.026, 0.96, 0.948), SIZE)
    ax.imshow(scene().image, extent=(0, SIZE[0], SIZE[1], 0), alpha=0.55)
    boxes = sorted((one["box_xyxy"] for one in true_objects()), key=lambda box: box[0] + box[2])
    slots = np.linspace(12, SIZE[0] - 12, 12)
    ax.plot(slots, np.full(12, 228), "o", color=GRAY, markersize=4)
    for number, box in enumerate(boxes):
        color, x = OBJECT_COLORS[number % len(OBJECT_COLORS)], slots[number + 2]
        rectangle(ax, box, color, linewidth=1.8)
        ax.plot((x, (box[0] + box[2]) / 2), (228, box[3]), color=color, linewidth=1.2)
        ax.plot(x, 228, "o", color=color, markersize=5)
    return figure


def _objects() -> list[dict[str, Any]]:
    """The three largest objects of the scene, from left to right."""
    largest = sorted(true_objects(), key=lambda one: one["mask"].sum())[-3:]
    return sorted(largest, key=lambda one: one["box_xyxy"][0])


def _predictions(objects: list[dict[str, Any]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Four boxes xyxy in pixels and logits (4, 3), made up: two are near one object."""
    boxes = np.array([one["box_xyxy"] for one in objects], float)
    made = np.stack(
        (
            boxes[0] * 0.45 + boxes[1] * 0.55,
            boxes[0] + (20, -18, 24, -12),
            boxes[2] + (-10, 9, -2, 4),
            boxes[2] + (-70, -30, -70, -60),
        )
    )
    logits = torch.tensor([[1.0, 1.2, -2], [0.3, -2, -2], [-2, -1, 1.2], [-2, -1.5, -1.5]])
    return torch.from_numpy(made).float(), logits


def draw_matching() -> Figure:
    """Objects and answers in a scene, the table of their costs, and the assignment in it."""
    objects = _objects()
    boxes_xyxy, logits = _predictions(objects)
    matcher = DETR.load("matcher")
    scale = torch.tensor([*SIZE, *SIZE])
    true = torch.tensor([one["box_xyxy"] for one in objects]).float() / scale
    costs = matcher.cost_matrix(
        logits, _to_cxcywh(boxes_xyxy / scale), torch.arange(3), _to_cxcywh(true)
    )
    queries, things = matcher.assign(costs)
    figure = new_card(6.35)
    ax = picture_axes(figure, (0.03, 0.47, 0.62, 0.51), SIZE)
    for one, gray in zip(objects, ("#b3b2ac", "#d6d5cf", "#c4c3bd"), strict=True):
        silhouette(ax, outlines(one["mask"]), gray)
    colors = [ORANGE, BLUE, GREEN, RED]
    for number, box in enumerate(boxes_xyxy.tolist()):
        rectangle(ax, box, colors[number], linewidth=2.5)
        x, y = box[0] + 4, box[1] + 4
        ax.text(x, y, str(number), color=colors[number], va="top", fontweight="bold")
    for name, one, share in zip("abc", objects, (0.5, 0.85, 0.6), strict=True):
        y, x = (np.quantile(side, share) for side in np.nonzero(one["mask"]))
        ax.text(x, y, name, ha="center", va="center", fontweight="bold")
    lines = "gray: 3 objects\n\nboxes: answers\nof 4 queries"
    figure.text(0.68, 0.955, lines, va="top", linespacing=1.3)
    table = plain_axes(figure, (0.02, 0.02, 0.96, 0.42), (-1.75, 6.05), (4.35, -1.0))
    _draw_costs(table, costs.numpy(), colors)
    for query, thing in zip(queries.tolist(), things.tolist(), strict=True):
        table.add_patch(Ellipse((thing, query), 0.9, 0.86, fill=False, edgecolor=RED, linewidth=3))
    cheapest = costs.argmin(dim=0)
    lowest, total = costs.amin(dim=0).sum().item(), costs[queries, things].sum().item()
    table.text(2.75, 0.0, "cheapest of each column:", va="center")
    table.text(2.75, 0.65, f"{lowest:.1f}, {_verdict(cheapest.tolist())}", va="center")
    table.text(2.75, 2.0, "circled: the best that", va="center")
    table.text(2.75, 2.65, "gives each its own:", va="center")
    table.text(2.75, 3.3, f"{total:.1f}", va="center")
    return figure


def _verdict(best: list[int]) -> str:
    """Say whether the cheapest query of each object is another one."""
    twice = next((query for query in best if best.count(query) > 1), None)
    return "one for each" if twice is None else f"but query {twice} twice"


def _to_cxcywh(boxes_xyxy: torch.Tensor) -> torch.Tensor:
    low, high = boxes_xyxy.split(2, dim=-1)
    return torch.cat(((low + high) / 2, high - low), dim=-1)


def _draw_costs(ax: Axes, costs: np.ndarray, colors: list[str]) -> None:
    """Write the costs (queries, objects) into the squares of a table."""
    share = (costs - costs.min()) / np.ptp(costs)
    for (query, thing), cost in np.ndenumerate(costs):
        gray = 1 - 0.35 * share[query, thing]
        ax.add_patch(Rectangle((thing - 0.5, query - 0.5), 1, 1, facecolor=str(gray), ec="white"))
        ax.text(thing, query, f"{cost:.1f}", ha="center", va="center")
    for thing, name in enumerate("abc"):
        ax.text(thing, -0.65, name, ha="center", va="center", fontweight="bold")
    for query, color in enumerate(colors):
        ax.text(-0.65, query, f"query {query}", ha="right", va="center", color=color)


def draw_denoising() -> Figure:
    """Who may look at whom: two groups of noisy queries, and the ordinary ones."""
    mask = DETR.load("matcher").group_mask(GROUPS, GROUP_SIZE, QUERIES).numpy()
    noisy = GROUPS * GROUP_SIZE
    kinds = [*np.repeat(np.arange(GROUPS), GROUP_SIZE), *[GROUPS] * QUERIES]
    colors = (ORANGE, SKY, GREEN)
    names = (*(f"group {k + 1}" for k in range(GROUPS)), "queries")
    figure = new_card(5.6)
    ax = plain_axes(figure, (0.2, 0.03, 0.79, 0.94), (-0.1, len(mask) + 4.2), (len(mask), -1.9))
    ax.set_aspect("equal", anchor="W")
    for (row, column), blocked in np.ndenumerate(mask):
        color = LIGHT if blocked else colors[kinds[column]]
        square = {"facecolor": color, "edgecolor": "white", "linewidth": 2}
        ax.add_patch(Rectangle((column, row), 1, 1, **square))
    edges = [*range(0, noisy + 1, GROUP_SIZE), len(mask)]
    for k, name in enumerate(names):
        middle = (edges[k] + edges[k + 1]) / 2
        ax.text(middle, -0.2, name, ha="center", va="bottom", fontsize=SMALL)
        ax.text(-0.25, middle, name, ha="right", va="center", fontsize=SMALL, clip_on=False)
    ax.text(len(mask) / 2, -1.05, "is looked at", ha="center", va="bottom", fontweight="bold")
    ax.text(-0.25, -0.2, "who\nlooks", ha="right", va="bottom", fontweight="bold")
    x = len(mask) + 0.4
    ax.text(x, 1.5, "gray:\nmay not\nlook", va="center", color=INK)
    ax.text(x, 8.4, "the queries\nsee no\nnoisy one", va="center", color=INK)
    return figure


MAKERS = (
    FigureMaker("lesson_04.png", draw_small, "lesson 04: a query for each object"),
    FigureMaker("detr.svg", draw_path, "the path of the data through lesson 04's DETR"),
    FigureMaker(
        "detr_matching.svg", draw_matching, "objects, answers, their costs, the assignment"
    ),
    FigureMaker("detr_denoising.svg", draw_denoising, "which denoising query may look at which"),
)
