"""Random scenes with everything that makes evaluation hard, and what pycocotools says of them.

The lesson compares its own evaluation with these answers. Nothing here is used by coco_metrics.py.
"""

import contextlib
import io

import numpy as np
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from metrics import Boxes

CLASSES = (1, 2)
EXTENT = 300  # pixels, within which boxes begin
LARGEST_SIDE = 2**8
CROWD_SHARE = 0.15
SIZE = EXTENT + 2 * LARGEST_SIDE  # of the images, which hold all boxes


def random_scene(generator: np.random.Generator, most_objects: int = 6) -> tuple[Boxes, Boxes]:
    """Make one image's objects and detections.

    Objects are of all sizes and some are crowds. Detections lie on them, none to two on each, one
    exactly, and three anywhere. Pixels are whole and scores have two decimals, so that overlaps
    and scores may be equal.

    Args:
        generator: source of the random numbers.
        most_objects: the largest number of objects.

    Returns:
        Target and prediction, as `coco_metrics.evaluate_coco` takes them.
    """
    G = generator.integers(0, most_objects + 1)
    corner = generator.integers(0, EXTENT, (G, 2))
    size = (2 ** generator.uniform(2, np.log2(LARGEST_SIDE), (G, 2))).round()
    boxes = np.hstack((corner, corner + size))
    labels = generator.choice(CLASSES, G)
    hit = np.repeat(np.arange(G), generator.integers(0, 3, G))
    moved = boxes[hit] + generator.normal(0, 0.08, (len(hit), 4)) * np.tile(size[hit], 2)
    start = generator.integers(0, EXTENT, (3, 2))
    anywhere = np.hstack((start, start + generator.integers(3, 200, (3, 2))))
    detected = np.vstack((moved, boxes[:1], anywhere)).round().clip(0, SIZE - 1)
    detected[:, 2:] = np.maximum(detected[:, 2:], detected[:, :2] + 1)
    target = {
        "boxes": boxes,
        "labels": labels,
        "iscrowd": generator.random(G) < CROWD_SHARE,
        "area": (size.prod(axis=1) * generator.uniform(0.4, 1, G)).round(),  # as of a mask
    }
    prediction = {
        "boxes": detected,
        "labels": np.concatenate((labels[hit], labels[:1], generator.choice(CLASSES, 3))),
        "scores": generator.random(len(detected)).round(2),
    }
    return target, prediction


def pycocotools_says(
    targets: list[Boxes], predictions: list[Boxes], kind: str = "boxes"
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Let pycocotools evaluate; arguments as in `coco_metrics.evaluate_coco`.

    Returns:
        Precision (10, 101, K, 4, 3), recall (10, K, 4, 3), and its twelve numbers.
    """
    labels = sorted({int(label) for target in targets for label in target["labels"]})
    truth, found = [], []
    for image_id, (target, prediction) in enumerate(zip(targets, predictions, strict=True)):
        for n, entry in enumerate(_entries(target, image_id, kind)):
            x1, y1, x2, y2 = target["boxes"][n].tolist()
            area = target["area"][n] if "area" in target else (x2 - x1) * (y2 - y1)
            crowd = int(target["iscrowd"][n]) if "iscrowd" in target else 0
            identity = {"id": len(truth) + 1, "bbox": [x1, y1, x2 - x1, y2 - y1]}
            truth.append(entry | identity | {"area": float(area), "iscrowd": crowd})
        for entry, score in zip(
            _entries(prediction, image_id, kind), prediction["scores"].tolist(), strict=True
        ):
            found.append(entry | {"score": score})
    with contextlib.redirect_stdout(io.StringIO()):  # it prints a dozen lines
        coco = COCO()
        coco.dataset = {
            "images": [{"id": i, "width": SIZE, "height": SIZE} for i in range(len(targets))],
            "categories": [{"id": label} for label in labels],
            "annotations": truth,
        }
        coco.createIndex()
        judge = COCOeval(coco, coco.loadRes(found), "bbox" if kind == "boxes" else "segm")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return judge.eval["precision"], judge.eval["recall"], judge.stats


def _entries(image: Boxes, image_id: int, kind: str) -> list[dict[str, object]]:
    """The objects or detections of one image in COCO's format, without score and identity."""
    entries = []
    for n, label in enumerate(image["labels"].tolist()):
        entry: dict[str, object] = {"image_id": image_id, "category_id": label}
        if kind == "boxes":
            x1, y1, x2, y2 = image["boxes"][n].tolist()
            entry["bbox"] = [x1, y1, x2 - x1, y2 - y1]
        else:
            mask = np.asfortranarray(image["masks"][n].astype(np.uint8))
            entry["segmentation"] = coco_mask.encode(mask)
        entries.append(entry)
    return entries
