"""The one street scene that many figures show, and what trained models predicted on it.

The scene is drawn anew each time; the predictions are read from `predictions.json`, which
`make_predictions.py` writes, since the trained models are too large for the repository.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from lesson_modules import BOXES, MASK_RCNN

SCENE_SEED = 8  # one of the 100 test scenes, 0 to 99, on which no model was trained
PREDICTIONS = Path(__file__).resolve().parent / "predictions.json"
THUMBNAIL = (16, 12)  # width, height: enough to tell one scene from another
LARGEST_DIFFERENCE = 3.0  # gray levels; other versions of OpenCV round a pixel in another way


class PredictionsError(ValueError):
    """The stored predictions are missing, unreadable, or of another scene."""


@cache
def scene(seed: int = SCENE_SEED) -> Any:
    """Draw the scene: `street_scenes.Scene`, 320 x 240 pixels."""
    return MASK_RCNN.load("common.street.scenes").draw_scene(seed)


def thumbnail(image: np.ndarray) -> list[int]:
    """Return a tiny gray copy of an image, uint8 (H, W, 3), as whole numbers row by row."""
    small = cv2.resize(image, THUMBNAIL, interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).ravel().tolist()


@cache
def predictions(path: Path = PREDICTIONS) -> dict[str, Any]:
    """Read the stored predictions, and check that they belong to the scene.

    Returns:
        "classification": [{"class_name", "score"}] of all classes, "boxes" and "masks":
        [{"class_name", "label", "score", "box_xyxy" in pixels, and "segmentation" for masks}],
        "semantic": {class name: run lengths as COCO's text}, and "scene".

    Raises:
        PredictionsError: see there; the message names the command that makes them anew.
    """
    again = "make them anew: python assets/make_predictions.py --help"
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        known = np.array(stored["scene"]["thumbnail"], float)
        parts = [stored[name] for name in ("classification", "boxes", "masks", "semantic")]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PredictionsError(f"{path} cannot be used ({error!r}); {again}") from error
    today = np.array(thumbnail(scene().image), float)
    if known.shape != today.shape or np.abs(known - today).max() > LARGEST_DIFFERENCE:
        raise PredictionsError(f"{path} is of another scene than {SCENE_SEED}; {again}")
    if not all(parts):
        raise PredictionsError(f"{path} holds a task without any prediction; {again}")
    return stored


def decode_mask(text: str, size: tuple[int, int] = (240, 320)) -> np.ndarray:
    """Return the mask, bool (H, W), of COCO's text of run lengths."""
    masks = BOXES.load("masks")
    return masks.decode_runs(masks.unpack_runs(text), size)


def semantic_map(stored: dict[str, Any]) -> np.ndarray:
    """Return the predicted label map, uint8 (240, 320), of stored predictions."""
    names = MASK_RCNN.load("common.street.scenes").SEMANTIC_CLASSES
    result = np.full((240, 320), len(names), np.uint8)
    for name, text in stored["semantic"].items():
        result[decode_mask(text)] = names.index(name)
    if (result == len(names)).any():
        raise PredictionsError("the stored label map leaves pixels without a class")
    return result


def outlines(mask: np.ndarray) -> list[np.ndarray]:
    """Return the outer outlines of a mask, bool (H, W), as polygons (N, 2) in pixels."""
    found, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_TC89_L1)
    return [outline[:, 0] + 0.5 for outline in found if len(outline) > 2]


def true_objects() -> list[dict[str, Any]]:
    """List the scene's objects: "class_name", "mask" bool (H, W) and "box_xyxy", in pixels."""
    drawn, names = scene(), MASK_RCNN.load("common.street.scenes").INSTANCE_CLASSES
    objects = []
    for k, label in enumerate(drawn.labels.tolist()):
        mask = drawn.instances == k + 1
        y, x = np.nonzero(mask)
        box = [int(x.min()), int(y.min()), int(x.max()) + 1, int(y.max()) + 1]
        objects.append({"class_name": names[label - 1], "mask": mask, "box_xyxy": box})
    return objects
