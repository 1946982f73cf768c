"""Run a network over a set of photos and put what it finds beside what is true.

Photos go through the same steps as in detection: letterbox, network, decoding, suppression. Scores
down to 0.001 are kept, since the precision-recall curve needs the doubtful ones too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from boxes import InputSize, Letterbox, height_width, postprocess
from common.choices import MAX_DETECTIONS
from common.coco_truth import coco_detections, coco_truth
from darknet.network import Darknet
from dataset import PhotoSet
from speed.engines import Computed, build_network

LOWEST_SCORE = 0.001
IOU_THRESHOLD = 0.5  # suppression; a little above detect.py's 0.45, for objects side by side


@dataclass(frozen=True)
class Found:
    """What was found in one photo, best first.

    Attributes:
        boxes_xyxy: float32 (N, 4), pixels of the photo, cut at its edges.
        scores: float32 (N,).
        classes: int64 (N,), counted from 0.
    """

    boxes_xyxy: torch.Tensor
    scores: torch.Tensor
    classes: torch.Tensor


@torch.inference_mode()
def find_all(
    model: Darknet,
    photos: PhotoSet,
    input_size: InputSize,
    *,
    batch_size: int = 8,
    score_threshold: float = LOWEST_SCORE,
    iou_threshold: float = IOU_THRESHOLD,
    max_detections: int = MAX_DETECTIONS,
    progress: bool = True,
    network: Computed | None = None,
) -> list[Found]:
    """Detect in every photo of a set.

    Args:
        model: the network; it is not changed.
        photos: where to look.
        input_size: of the network's input in pixels; see `boxes.height_width`.
        batch_size: photos that go through the network together.
        score_threshold: only objects with a score above it are returned.
        iou_threshold: of two boxes of one class that overlap more, the better one stays.
        max_detections: the best so many of a photo are returned, all classes together.
        progress: show a progress bar on stderr.
        network: what computes the raw outputs, by default PyTorch.
    """
    device = next(model.parameters()).device
    size = height_width(input_size)
    network = network or build_network(model, "torch", size, device=device)
    found: list[Found] = []
    starts = range(0, len(photos), batch_size)
    for start in tqdm(starts, "evaluating", disable=not progress, leave=False):
        chosen = range(start, min(start + batch_size, len(photos)))
        images, letterboxes = _prepare(photos, chosen, size)
        raw = [one.float() for one in network(images.to(device))]
        parts = postprocess(raw, model.outputs, size, score_threshold, iou_threshold)
        found += [
            _in_photo(box, *(tensor[:max_detections].cpu() for tensor in part))
            for box, part in zip(letterboxes, parts, strict=True)
        ]
    return found


def collect(
    model: Darknet,
    photos: PhotoSet,
    input_size: InputSize,
    progress: bool = True,
    max_detections: int = MAX_DETECTIONS,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return what is true, as COCO's annotation dict, and what was found, as COCO's result list.

    Arguments as for `find_all`.
    """
    found = find_all(model, photos, input_size, max_detections=max_detections, progress=progress)
    return coco_truth(photos.labels), to_coco(photos, found)


def to_coco(
    photos: PhotoSet, found: Sequence[Found], class_map: Mapping[int, int] | None = None
) -> list[dict[str, Any]]:
    """Return detections as COCO's result list, with the image and category ids of the labels.

    Args:
        photos: where they were found.
        found: one for each photo.
        class_map: from the model's class index to the set's; what is not in it is left out. By
            default they are the same.
    """
    ids = dict(enumerate(photos.labels.category_ids))
    if class_map is not None:
        ids = {label: ids[index] for label, index in class_map.items()}
    entries = []
    for record, one in zip(photos.labels.images, found, strict=True):
        known = [k for k, label in enumerate(one.classes.tolist()) if label in ids]
        keys = [ids[int(one.classes[k])] for k in known]
        entries += coco_detections(record.image_id, one.boxes_xyxy[known], one.scores[known], keys)
    return entries


def match_class_names(
    model_names: Sequence[str], data_names: Sequence[str]
) -> tuple[dict[int, int], list[str]]:
    """Find the classes of a dataset among those of a model, by their names.

    Darknet's coco.names calls six of COCO's classes by their names in Pascal VOC; those match too.

    Returns:
        The map from the model's class index to the dataset's, and the dataset's classes that the
        model does not know.

    Raises:
        ValueError: the model knows none of them.
    """
    index_of = {_plain(name): index for index, name in enumerate(data_names)}
    class_map = {
        k: index_of[_plain(name)] for k, name in enumerate(model_names) if _plain(name) in index_of
    }
    unknown = [name for k, name in enumerate(data_names) if k not in class_map.values()]
    if not class_map:
        raise ValueError(
            f"the model knows none of the classes {', '.join(data_names)}; "
            f"its own are {', '.join(model_names)}"
        )
    return class_map, unknown


def _prepare(
    photos: PhotoSet, chosen: Sequence[int], size: tuple[int, int]
) -> tuple[torch.Tensor, list[Letterbox]]:
    pictures = [photos.photo(index) for index in chosen]
    letterboxes = [Letterbox(*one.shape[1::-1], size[1], size[0]) for one in pictures]
    fitted = [box.apply(np.array(one)) for box, one in zip(letterboxes, pictures, strict=True)]
    return torch.stack(fitted), letterboxes


def _in_photo(
    letterbox: Letterbox, boxes_xyxy: torch.Tensor, scores: torch.Tensor, classes: torch.Tensor
) -> Found:
    edge = boxes_xyxy.new_tensor((letterbox.photo_width, letterbox.photo_height) * 2)
    return Found(letterbox.to_photo(boxes_xyxy).clamp(min=0).minimum(edge), scores, classes)


_SAME_NAMES = {
    "aeroplane": "airplane",
    "motorbike": "motorcycle",
    "sofa": "couch",
    "tvmonitor": "tv",
}


def _plain(name: str) -> str:
    """A name in small letters without blanks and hyphens, COCO's word for Pascal VOC's."""
    letters = "".join(sign for sign in name.lower() if sign.isalnum())
    return _SAME_NAMES.get(letters, letters)
