"""Checks of the exercises 01.1 to 01.3, about what a detector is given: boxes, flips, masks.

The oracles are this lesson's `masks_to_boxes_xyxy`, torchvision's transforms of tv_tensors, and
`repeat_interleave`; the tests compare the first and the last with torchvision too.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as v2

from common.checking.check import compare_function, exercise
from common.checking.sandbox import Attempt
from common.mask_boxes import masks_to_boxes_xyxy

Target = dict[str, Any]


def random_masks(generator: np.random.Generator, count: int, height: int, width: int) -> Tensor:
    """Masks (count, height, width), uint8 0 or 1: one to three pixels each."""
    masks = torch.zeros(count, height, width, dtype=torch.uint8)
    for mask in masks:
        for _ in range(generator.integers(1, 4)):
            mask[generator.integers(height), generator.integers(width)] = 1
    return masks


def boxes_of(masks: Tensor) -> Tensor:
    """The right boxes (N, 4) of masks (N, H, W)."""
    return torch.from_numpy(masks_to_boxes_xyxy(masks.numpy()))


@exercise("01.1", "Boxes from masks", seconds=20)
def boxes_from_masks(attempt: Attempt) -> None:
    """Boxes (N, 4) around masks (N, H, W); a mask without a pixel has 0, 0, 0, 0."""
    generator = np.random.default_rng(1)
    sizes = [(1, 2, 3)] * 3 + [(1, 3, 4)] * 4 + [(2, 4, 3)] * 3 + [(3, 6, 9)] * 4
    cases = [{"masks": random_masks(generator, *size)} for size in sizes]
    some_empty = random_masks(generator, 4, 7, 9)
    some_empty[[1, 3]] = 0
    cases += [{"masks": some_empty}, {"masks": torch.zeros(1, 12, 25, dtype=torch.uint8)}]
    cases += [{"masks": torch.zeros(0, 5, 6, dtype=torch.uint8)}]

    def last_pixel(masks: Tensor) -> Tensor:
        inside = masks.flatten(1).bool().any(1)[:, None]
        return boxes_of(masks) - inside * torch.tensor([0.0, 0, 1, 1])

    def as_xywh(masks: Tensor) -> Tensor:
        boxes = boxes_of(masks)
        return torch.cat((boxes[:, :2], boxes[:, 2:] - boxes[:, :2]), dim=1)

    def inside_out(masks: Tensor) -> Tensor:
        H, W = masks.shape[1:]
        empty = ~masks.flatten(1).bool().any(1)[:, None]
        return boxes_of(masks) + empty * torch.tensor([W, H, 0.0, 0])

    compare_function(
        attempt,
        cases,
        boxes_of,
        {
            "the right and bottom edges lie behind the last pixel, not on it": last_pixel,
            "x and y are swapped: the column of a pixel is x": lambda masks: boxes_of(
                masks.transpose(1, 2)
            ),
            "that is x, y, width, height: asked are two corners": as_xywh,
            "a mask without a pixel has no corner to find: its box is 0, 0, 0, 0": inside_out,
            "one box around all masks: each mask has its own": lambda masks: boxes_of(
                masks.amax(dim=0)[None]
            ),
        },
    )


def flip_cases(generator: np.random.Generator) -> Iterator[dict[str, Any]]:
    """Small pictures with two objects or fewer; their boxes are those of their masks."""
    for count, height, width in [(1, 2, 3)] * 4 + [(1, 3, 4)] * 4 + [(2, 4, 7)] * 4 + [(0, 6, 9)]:
        masks = random_masks(generator, count, height, width)
        labels = torch.from_numpy(generator.integers(1, 6, count))
        image = torch.from_numpy(generator.integers(0, 256, (3, height, width), dtype=np.uint8))
        yield {
            "image": image,
            "target": {"boxes": boxes_of(masks), "labels": labels, "masks": masks},
        }


def flipped_by_torchvision(image: Tensor, target: Target) -> tuple[Tensor, Target]:
    """What torchvision's flip makes of a picture and its target, as plain tensors."""
    size = tuple(image.shape[-2:])
    boxes = tv_tensors.BoundingBoxes(target["boxes"], format="XYXY", canvas_size=size)
    masks = tv_tensors.Mask(target["masks"])
    moved = {"boxes": v2.horizontal_flip(boxes), "masks": v2.horizontal_flip(masks)}
    plain = {key: value.as_subclass(Tensor) for key, value in moved.items()}
    return v2.horizontal_flip(image), {**target, **plain}


def wrong_flips() -> dict[str, Callable]:
    """Reason and function of each mixture of a way with the boxes and one with the masks."""

    def way(edges: Callable[[Tensor, int], Tensor], with_masks: bool) -> Callable:
        def flip(image: Tensor, target: Target) -> tuple[Tensor, Target]:
            masks = target["masks"].flip(-1) if with_masks else target["masks"]
            boxes = edges(target["boxes"], image.shape[-1])
            return image.flip(-1), {**target, "boxes": boxes, "masks": masks}

        return flip

    def mirrored(boxes: Tensor, width: int, more: int = 0) -> Tensor:
        x1, y1, x2, y2 = boxes.unbind(1)
        return torch.stack((width - more - x2, y1, width - more - x1, y2), dim=1)

    of_boxes = {
        "": mirrored,
        "the boxes stay where they were": lambda boxes, width: boxes,
        "the boxes have a negative width: the right edge becomes the left one": (
            lambda boxes, width: mirrored(boxes, width)[:, [2, 1, 0, 3]]
        ),
        "an edge is a line, not a pixel: the boxes are one pixel off": (
            lambda boxes, width: mirrored(boxes, width, more=1)
        ),
    }
    of_masks = {"": True, "the masks stay where they were": False}
    return {
        ", and ".join(filter(None, (of_box, of_mask))): way(edges, with_masks)
        for of_box, edges in of_boxes.items()
        for of_mask, with_masks in of_masks.items()
        if of_box or of_mask
    }


@exercise("01.2", "Find the bug: a flip", seconds=20)
def find_the_bug_in_a_flip(attempt: Attempt) -> None:
    """The mirrored picture and its target; the oracle is torchvision's flip of tv_tensors."""

    def upside_down(image: Tensor, target: Target) -> tuple[Tensor, Target]:
        x1, y1, x2, y2 = target["boxes"].unbind(1)
        H = image.shape[-2]
        boxes = torch.stack((x1, H - y2, x2, H - y1), dim=1)
        return image.flip(-2), {**target, "boxes": boxes, "masks": target["masks"].flip(-2)}

    compare_function(
        attempt,
        flip_cases(np.random.default_rng(2)),
        flipped_by_torchvision,
        {**wrong_flips(), "upside down: asked is left and right": upside_down},
    )


def enlarge(numbers: Tensor, factor: int) -> Tensor:
    """Each pixel (H, W) becomes a block of factor x factor equal ones."""
    return numbers.repeat_interleave(factor, dim=0).repeat_interleave(factor, dim=1)


@exercise("01.3", "Find the bug: enlarged masks", seconds=20)
def find_the_bug_in_enlarged_masks(attempt: Attempt) -> None:
    """A map of object numbers made larger; every number must be one that was there."""
    generator = np.random.default_rng(3)
    sizes = [(1, 2)] * 3 + [(2, 2)] * 4 + [(2, 3)] * 4 + [(4, 6)] * 3
    cases = [
        {
            "numbers": torch.from_numpy(generator.choice([0, 1, 4, 9], size).astype(np.uint8)),
            "factor": int(generator.integers(2, 5)),
        }
        for size in sizes
    ]

    def smooth(mode: str, finish: Callable[[Tensor], Tensor] = torch.round) -> Callable:
        def way(numbers: Tensor, factor: int) -> Tensor:
            whole = numbers[None, None].float()
            larger = interpolate(whole, scale_factor=float(factor), mode=mode)[0, 0]
            return finish(larger).clamp(0, 255).to(torch.uint8)

        return way

    mixed = "numbers are mixed: between objects 1 and 9 appears a 5, an object that is not there"
    compare_function(
        attempt,
        cases,
        enlarge,
        {
            mixed: smooth("bilinear"),
            f"{mixed}, and cutting off the decimals does not help": smooth("bilinear", torch.floor),
            f"{mixed}; a cubic curve mixes too": smooth("bicubic"),
            "the whole map is repeated: each pixel shall become a block": (
                lambda numbers, factor: numbers.repeat(factor, factor)
            ),
            "only the width has grown": lambda numbers, factor: numbers.repeat_interleave(
                factor, 1
            ),
            "only the height has grown": lambda numbers, factor: numbers.repeat_interleave(
                factor, 0
            ),
            "the objects have lost their numbers: asked is not 0 or 1": lambda numbers, factor: (
                enlarge(numbers, factor) > 0
            ).to(torch.uint8),
        },
    )
