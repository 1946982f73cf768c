"""Labels and detections in COCO's own form, which its evaluation reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from pycocotools import mask as coco_mask
from torch import Tensor

if TYPE_CHECKING:  # predicting does without the readers of labels
    from common.labels.records import AnnotationSet


def coco_truth(labels: AnnotationSet, masks: bool = False) -> dict[str, Any]:
    """Return labels as COCO's annotation dict, with the category numbers of their own file.

    Args:
        labels: of the pictures to measure on.
        masks: whether to compare masks too; every object needs one then.
    """
    ids = labels.category_ids
    images, annotations = [], []
    for record in labels.images:
        images.append({"id": record.image_id, "width": record.width, "height": record.height})
        for one in record.objects:
            annotation = {
                "id": len(annotations) + 1,
                "image_id": record.image_id,
                "category_id": ids[one.label - 1],
                "bbox": to_xywh(one.box_xyxy),
                "area": one.area,
                "iscrowd": one.iscrowd,
            }
            if masks:
                annotation["segmentation"] = one.segmentation
            annotations.append(annotation)
    names = zip(ids, labels.class_names, strict=True)
    categories = [{"id": key, "name": name} for key, name in names]
    return {"info": {}, "images": images, "annotations": annotations, "categories": categories}


def crowded_note(truth: dict[str, Any], max_detections: int) -> str | None:
    """Say how many pictures hold more objects than detections are measured, or None.

    Args:
        truth: what `coco_truth` returned; crowd regions are no objects.
        max_detections: of a picture.
    """
    objects = [one for one in truth["annotations"] if not one["iscrowd"]]
    counts = Counter(one["image_id"] for one in objects).values()
    crowded = [count for count in counts if count > max_detections]
    if not crowded:
        return None
    pictures = "1 picture holds" if len(crowded) == 1 else f"{len(crowded)} pictures hold"
    most = max(crowded)
    return (
        f"note: {pictures} more than {max_detections} objects (up to {most}): "
        f"--max-detections {most} measures them all"
    )


def coco_detections(
    image_id: int,
    boxes_xyxy: Tensor,
    scores: Tensor,
    category_ids: Iterable[int],
    masks: Iterable[np.ndarray] | None = None,
) -> list[dict[str, Any]]:
    """Return what was found in one picture as entries of COCO's result list.

    Args:
        image_id: as in the labels.
        boxes_xyxy: (N, 4), pixels of the picture.
        scores: (N,).
        category_ids: N numbers, as in the labels' file.
        masks: N of bool (H, W), or None.
    """
    columns = zip(boxes_xyxy.tolist(), scores.tolist(), category_ids, strict=True)
    entries = [
        {"image_id": image_id, "category_id": key, "bbox": to_xywh(box), "score": score}
        for box, score, key in columns
    ]
    if masks is not None:
        for entry, mask in zip(entries, masks, strict=True):
            entry["segmentation"] = encode_mask(mask)
    return entries


def to_xywh(box_xyxy: Sequence[float]) -> list[float]:
    """Turn a box's edges x1, y1, x2, y2 into COCO's x, y, width, height."""
    x1, y1, x2, y2 = box_xyxy
    return [x1, y1, x2 - x1, y2 - y1]


def encode_mask(mask: np.ndarray) -> dict[str, Any]:
    """Return the run lengths of a mask (H, W) as COCO's compressed RLE, its counts as a str."""
    rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": [int(side) for side in rle["size"]], "counts": rle["counts"].decode("ascii")}


def encode_polygons(mask: np.ndarray) -> list[list[int]]:
    """Return the outlines of a mask (H, W) as COCO's polygons [[x1, y1, x2, y2, ...], ...].

    They run along the pixels' edges, in pixels, so that pycocotools makes the same mask of them,
    but for holes: COCO's polygons cannot hold any, and they are filled. A mask without a pixel has
    no polygon.
    """
    pixels = np.ascontiguousarray(mask, dtype=np.uint8)
    x, y, width, height = cv2.boundingRect(pixels)
    if not width:
        return []
    # OpenCV's contours join the centres of pixels. With four pixels for each, those of one pixel
    # have the columns 2x and 2x + 1, which stand for its edges x and x + 1.
    doubled = pixels[y : y + height, x : x + width].repeat(2, axis=0).repeat(2, axis=1)
    contours, _ = cv2.findContours(doubled, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    corners = [cv2.approxPolyDP((contour + 1) // 2, 0, closed=True) for contour in contours]
    return [(outline[:, 0] + (x, y)).ravel().tolist() for outline in corners]
