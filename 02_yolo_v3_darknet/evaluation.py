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

from boxes import Letterbox, box_iou, postprocess
from common.confusion import count_confusion
from darknet.network import Darknet
from darknet.size import InputSize, height_width
from dataset import PhotoSet
from speed.fast import FastDarknet

LOWEST_SCORE = 0.001
IOU_THRESHOLD = 0.5  # suppression; a little above detect.py's 0.45, for objects side by side
MOST_DETECTIONS = 100  # of a photo, all classes together: what detectors hand in to COCO
CONFUSION_SCORE, CONFUSION_IOU = 0.25, 0.5


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
    progress: bool = True,
) -> list[Found]:
    """Detect in every photo of a set.

    Args:
        model: the network; it is not changed.
        photos: where to look.
        input_size: of the network's input in pixels; see `input_size`.
        batch_size: photos that go through the network together.
        score_threshold: only objects with a score above it are returned.
        iou_threshold: of two boxes of one class that overlap more, the better one stays.
        progress: show a progress bar on stderr.
    """
    device = next(model.parameters()).device
    size = height_width(input_size)
    network = FastDarknet(model, device=device, input_size=size)
    found: list[Found] = []
    starts = range(0, len(photos), batch_size)
    for start in tqdm(starts, "evaluating", disable=not progress, leave=False):
        chosen = range(start, min(start + batch_size, len(photos)))
        images, letterboxes = _prepare(photos, chosen, size)
        raw = [one.float() for one in network(images.to(device))]
        parts = postprocess(raw, model.outputs, size, score_threshold, iou_threshold)
        found += [
            _in_photo(box, *(tensor[:MOST_DETECTIONS].cpu() for tensor in part))
            for box, part in zip(letterboxes, parts, strict=True)
        ]
    return found


def coco_truth(photos: PhotoSet) -> dict[str, Any]:
    """Return the labels of a set as COCO's annotation dict, with the ids of its own file."""
    ids = photos.category_ids
    images, annotations = [], []
    for record in photos.records:
        images.append({"id": record.image_id, "width": record.width, "height": record.height})
        for one in record.objects:
            x1, y1, x2, y2 = one.box_xyxy
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": record.image_id,
                    "category_id": ids[one.label - 1],
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": one.area,
                    "iscrowd": one.iscrowd,
                }
            )
    names = zip(ids, photos.class_names, strict=True)
    categories = [{"id": key, "name": name} for key, name in names]
    return {"info": {}, "images": images, "annotations": annotations, "categories": categories}


def coco_detections(
    photos: PhotoSet, found: Sequence[Found], class_map: Mapping[int, int] | None = None
) -> list[dict[str, Any]]:
    """Return detections as COCO's result list, with the image and category ids of the labels.

    Args:
        photos: where they were found.
        found: one for each photo.
        class_map: from the model's class index to the set's; what is not in it is left out. By
            default they are the same.
    """
    entries = []
    for record, one in zip(photos.records, found, strict=True):
        rows = (one.boxes_xyxy.tolist(), one.scores.tolist(), one.classes.tolist())
        for (x1, y1, x2, y2), score, label in zip(*rows, strict=True):
            index = label if class_map is None else class_map.get(label)
            if index is not None:
                entries.append(
                    {
                        "image_id": record.image_id,
                        "category_id": photos.category_ids[index],
                        "bbox": [x1, y1, x2 - x1, y2 - y1],
                        "score": score,
                    }
                )
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


def confusion_matrix(
    photos: PhotoSet,
    found: Sequence[Found],
    score_threshold: float = CONFUSION_SCORE,
    iou_threshold: float = CONFUSION_IOU,
) -> np.ndarray:
    """Count which class was taken for which, of the detections above a score.

    Crowd regions are left out.

    Returns:
        int64 (C + 1, C + 1), see `common.confusion.count_confusion`.
    """
    C = len(photos.class_names)
    matrix = np.zeros((C + 1, C + 1), np.int64)
    for index, one in enumerate(found):
        boxes_xyxy = torch.from_numpy(photos.boxes_xyxy(index))  # (N, 4)
        sure = one.scores > score_threshold
        overlap = box_iou(one.boxes_xyxy[sure], boxes_xyxy).numpy()  # (M, N)
        labels = one.classes[sure].numpy()
        matrix += count_confusion(photos.classes(index), labels, overlap, C, iou_threshold)
    return matrix


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
