"""The words in which every lesson writes what a model has found in a photo.

    {"file", "width", "height",                   of the photo, pixels
     "detections": [{"label",                     1, 2, ...; 0 would be the background
                     "class_name", "score",
                     "box_xyxy",                  x1, y1, x2, y2 in pixels of the photo
                     "segmentation"}]}            the mask in COCO's form, where there are masks

"segmentation" is COCO's RLE, {"size": [height, width], "counts"}, or a list of COCO's polygons,
[[x1, y1, x2, y2, ...], ...]: the outlines in pixels of the photo, along the pixels' edges. Polygons
cannot hold holes; those are filled. A mask without a pixel has no polygon.

A frame of a film has its number as "frame" too. A model that gives every pixel a class writes
"classes" instead: {"label", "class_name", "pixels", "share"}, for the classes that occur.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any


def photo_entry(file: object, width: int, height: int, **more: Any) -> dict[str, Any]:
    """Return a photo's own entry; `more` is what was found in it."""
    return {"file": str(file), "width": width, "height": height, **more}


def detection_entry(
    label: int,
    class_name: str,
    score: float,
    box_xyxy: Iterable[float],
    segmentation: dict[str, Any] | list[list[int]] | None = None,
) -> dict[str, Any]:
    """Return the entry of one object, in plain values."""
    box = [round(float(edge), 2) for edge in box_xyxy]
    entry = {"label": label, "class_name": class_name, "score": round(score, 5), "box_xyxy": box}
    return entry if segmentation is None else {**entry, "segmentation": segmentation}


def class_entries(pixels: Sequence[int], class_names: Sequence[str]) -> list[dict[str, Any]]:
    """Return the entries of the classes that occur; `pixels` counts those of labels 0, 1, ..."""
    total = sum(pixels)
    return [
        {"label": label, "class_name": name, "pixels": count, "share": count / total}
        for label, (name, count) in enumerate(zip(class_names, pixels, strict=True))
        if count
    ]
