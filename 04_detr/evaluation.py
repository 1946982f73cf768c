"""A finished detector: load it, find objects with it, measure what it finds with COCO's metrics.

What the queries answer is the result. Nothing is suppressed; `suppress` is here to show that it
would change little.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torchvision.ops import batched_nms, box_convert
from tqdm import tqdm

from common.checkpoint import load_weights
from common.choices import MAX_DETECTIONS
from common.settings import read_run
from detr import DETR, build_model
from settings import Settings

GRAY = 127  # around a picture of another shape
BATCH_SIZE = 4


def load_detector(path: str | Path) -> tuple[DETR, tuple[str, ...], Settings]:
    """Build the model of a checkpoint, with its weights; return its class names and settings too.

    Raises:
        CheckpointError: see `common.settings.read_run`.
    """
    checkpoint, class_names, settings = read_run(path, Settings)
    model = build_model(settings, len(class_names), pretrained=False)
    load_weights(checkpoint, model)
    return model.eval(), class_names, settings


def fit_scale(height: int, width: int, size: tuple[int, int]) -> float:
    """Return the factor that makes a picture just fit into (H, W)."""
    return min(size[0] / height, size[1] / width)


def fit_picture(image: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, float]:
    """Scale a picture until it fits into a canvas, and put it there, top left, on gray.

    Args:
        image: uint8 (h, w, 3).
        size: (H, W) of the canvas.

    Returns:
        uint8 (H, W, 3), and the scale: pixels of the picture times it are pixels of the canvas.
    """
    scale = fit_scale(*image.shape[:2], size)
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    if (height, width) != image.shape[:2]:
        how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        image = cv2.resize(image, (width, height), interpolation=how)
    below, right = size[0] - height, size[1] - width
    return cv2.copyMakeBorder(
        image, 0, below, 0, right, cv2.BORDER_CONSTANT, value=(GRAY,) * 3
    ), scale


def to_input(images: Tensor, device: torch.device) -> Tensor:
    """Turn uint8 images (B, 3, H, W) into the model's float32 input in 0..1, channels last."""
    moved = images.to(device, non_blocking=True)
    return moved.to(torch.float32, memory_format=torch.channels_last).div_(255)


def detections(
    outputs: Mapping[str, Any], most: int = MAX_DETECTIONS, stage: int = -1
) -> list[dict[str, Tensor]]:
    """Return what was found: the best pairs of a query and a class, and nothing is suppressed.

    Args:
        outputs: of the model.
        most: pairs of a picture; there are Q * C.
        stage: whose answers; -1 is the last.

    Returns:
        For each picture, best first: "boxes_cxcywh" (K, 4), "classes" int64 (K,), "scores" (K,) in
        0..1, "queries" int64 (K,).
    """
    logits, boxes_cxcywh = (outputs[name][stage] for name in ("logits", "boxes_cxcywh"))
    pairs = logits.sigmoid().flatten(1)  # (B, Q * C), of logits (B, Q, C)
    found = []
    for score, boxes in zip(pairs, boxes_cxcywh, strict=True):
        scores, best = score.topk(min(most, len(score)))  # (K,)
        queries, classes = best // logits.shape[-1], best % logits.shape[-1]
        one = {"boxes_cxcywh": boxes[queries], "classes": classes}
        found.append({**one, "scores": scores, "queries": queries})
    return found


def to_photo(boxes_cxcywh: Tensor, size: tuple[int, int], height: int, width: int) -> Tensor:
    """Turn boxes (K, 4), fractions of a canvas, into edges in pixels of the photo that lies in it.

    Args:
        size: (H, W) of the canvas.
        height, width: of the photo; boxes are cut at its edges.
    """
    sides = boxes_cxcywh.new_tensor((size[1], size[0]) * 2) / fit_scale(height, width, size)
    boxes_xyxy = box_convert(boxes_cxcywh * sides, "cxcywh", "xyxy")
    return boxes_xyxy.clamp(min=0).minimum(boxes_xyxy.new_tensor((width, height) * 2))


def evaluate(
    model: nn.Module,
    dataset: Any,
    progress: bool = True,
    max_detections: int = MAX_DETECTIONS,
) -> dict[str, Any]:
    """Run the model on every picture and return COCO's metrics of its boxes.

    Args:
        model: it is left in the mode it was in.
        dataset: a `dataset.DetectionDataset` without random changes.
        progress: show a progress bar on stderr.
        max_detections: of a picture that count.

    Returns:
        See `common.coco_metrics.coco_metrics`.
    """
    from common.coco_metrics import coco_metrics  # what only measuring needs, predicting leaves out

    truth, (found,) = collect(model, dataset, progress, max_detections)
    return coco_metrics(truth, found, max_detections)


@torch.inference_mode()
def collect(
    model: nn.Module,
    dataset: Any,
    progress: bool = True,
    max_detections: int = MAX_DETECTIONS,
    stages: Sequence[int] = (-1,),
) -> tuple[dict[str, Any], list[list[dict[str, Any]]]]:
    """Return what is true, as COCO's annotation dict, and of each stage what it found.

    Arguments as for `evaluate`; `stages` says whose answers, see `detections`. What a stage found
    is COCO's result list.
    """
    from common.coco_truth import coco_detections, coco_truth
    from common.loading import evaluation_loader

    labels, device, training = dataset.labels, next(model.parameters()).device, model.training
    records, entries = {one.image_id: one for one in labels.images}, [[] for _ in stages]
    batches = evaluation_loader(dataset, BATCH_SIZE)
    model.eval()
    for images, targets in tqdm(batches, "evaluating", disable=not progress, leave=False):
        outputs = model(to_input(images, device))
        for stage, listed in zip(stages, entries, strict=True):
            found = detections(outputs, max_detections, stage)
            for one, target in zip(found, targets, strict=True):
                record = records[target["image_id"]]
                boxes = to_photo(one["boxes_cxcywh"], dataset.size, record.height, record.width)
                ids = [labels.category_ids[label] for label in one["classes"].tolist()]
                listed += coco_detections(record.image_id, boxes, one["scores"], ids)
    model.train(training)
    return coco_truth(labels), entries


def suppress(entries: Sequence[dict[str, Any]], iou_threshold: float = 0.7) -> list[dict[str, Any]]:
    """Return entries of COCO's result list without the worse of two that overlap.

    Args:
        entries: with "image_id", "category_id", "score" and "bbox" (x, y, width, height).
        iou_threshold: of two boxes of one class that overlap more, the better one stays.
    """
    if not entries:
        return []
    boxes_xyxy = box_convert(torch.tensor([one["bbox"] for one in entries]), "xywh", "xyxy")
    scores = torch.tensor([one["score"] for one in entries])
    kinds = [(one["image_id"], one["category_id"]) for one in entries]
    numbers = {kind: k for k, kind in enumerate(dict.fromkeys(kinds))}
    groups = torch.tensor([numbers[kind] for kind in kinds])
    kept = batched_nms(boxes_xyxy.double(), scores.double(), groups, iou_threshold)
    return [entries[k] for k in sorted(kept.tolist())]
