"""A label set with one rare class, made from the painter's instances: dogs and everything else.

It serves one comparison alone, that of the losses: in the lesson's eight classes the rarest has
more pixels. The masks are written beside the drawn scenes, from the COCO file that the painter has
left there.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from common.files import replacing

RARE_CLASSES = ("other", "dog")
RARE_FOLDER = "RareMasks"


def write_rare_masks(scenes: Path) -> list[tuple[Path, Path]]:
    """Write a mask for each drawn scene, 1 where a dog is seen, unless they lie there already.

    Args:
        scenes: folder of `common.street.parts.draw_part`.

    Returns:
        The (picture, mask) files.
    """
    content = json.loads((scenes / "annotations.json").read_text(encoding="utf-8"))
    numbers = {one["name"]: one["id"] for one in content["categories"]}
    dogs = defaultdict(list)
    for one in content["annotations"]:
        if one["category_id"] == numbers["dog"]:
            dogs[one["image_id"]].append(one["segmentation"]["counts"])
    (scenes / RARE_FOLDER).mkdir(exist_ok=True)
    pairs = []
    for one in content["images"]:
        picture = scenes / "PNGImages" / one["file_name"]
        mask = scenes / RARE_FOLDER / one["file_name"]
        if not mask.is_file():
            labels = union(dogs[one["id"]], one["height"], one["width"])
            with replacing(mask) as file:
                Image.fromarray(labels).save(file, "PNG")
        pairs.append((picture, mask))
    return pairs


def union(run_lengths: Sequence[Sequence[int]], height: int, width: int) -> np.ndarray:
    """Return uint8 (H, W): 1 where any of the masks is, each given as COCO's run lengths.

    Run lengths go down the columns, and begin with the pixels that are outside.
    """
    flat = np.zeros(height * width, np.uint8)
    for counts in run_lengths:
        edges = np.cumsum(counts)
        for start, end in zip(edges[0::2], edges[1::2], strict=False):
            flat[start:end] = 1
    return flat.reshape(width, height).T
