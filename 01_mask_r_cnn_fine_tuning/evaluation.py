"""Run a detector over labelled pictures: COCO's metrics, confusion, and a validation loss.

torchvision's detectors give losses in training mode only; `validation_loss` gets them without
training.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from pycocotools import mask as coco_mask
from torch import Tensor, nn
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import RegionProposalNetwork
from torchvision.ops import box_iou
from tqdm import tqdm

from common.coco_metrics import coco_metrics
from common.confusion import count_confusion

MASK_THRESHOLD = 0.5
LOSS_GIVERS = (GeneralizedRCNN, RegionProposalNetwork, RoIHeads)
Batch = tuple[Sequence[Tensor], Sequence[dict[str, Any]]]


@torch.inference_mode()
def evaluate(
    model: nn.Module,
    batches: Iterable[Batch],
    class_names: Sequence[str],
    progress: bool = True,
) -> dict[str, Any]:
    """Run the model on every batch and return COCO's metrics.

    Args:
        model: a torchvision detector; it is left in the mode it was in.
        batches: (images, targets) as `DetectorItems.collate` makes them; images float in 0..1.
        class_names: names of the labels 1, 2, ...
        progress: show a progress bar on stderr.

    Returns:
        The metrics of the boxes and, if the targets have masks, of the masks; see
        `common.coco_metrics.coco_metrics`.
    """
    truth, detections = collect(model, batches, class_names, progress)
    return coco_metrics(truth, detections)


def collect(
    model: nn.Module,
    batches: Iterable[Batch],
    class_names: Sequence[str],
    progress: bool = True,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return what is true, as COCO's annotation dict, and what was found, as COCO's result list."""
    truth: dict[str, Any] = {
        "info": {},
        "images": [],
        "annotations": [],
        "categories": [{"id": k, "name": name} for k, name in enumerate(class_names, start=1)],
    }
    detections: list[dict[str, Any]] = []
    with behaving(model, training=False):
        for images, targets in tqdm(batches, "evaluating", disable=not progress, leave=False):
            device = next(model.parameters()).device
            results = model([image.to(device) for image in images])
            for image, target, result in zip(images, targets, results, strict=True):
                _add_truth(truth, image, target)
                detections += to_coco(result, int(target["image_id"]))
    return truth, detections


def confusion_matrix(
    truth: dict[str, Any],
    detections: list[dict[str, Any]],
    num_classes: int,
    score_threshold: float = 0.5,
    iou_threshold: float = 0.5,
) -> np.ndarray:
    """Count which class was taken for which; crowd regions are left out.

    Args:
        truth, detections: as `collect` returns them.
        num_classes: C, without the background.
        score_threshold: detections that score less are left out.
        iou_threshold: see `common.confusion.count_confusion`.

    Returns:
        int64 (C + 1, C + 1); row and column c are of label c + 1, see `count_confusion`.
    """
    matrix = np.zeros((num_classes + 1, num_classes + 1), np.int64)
    sure = [one for one in detections if one["score"] >= score_threshold]
    sure.sort(key=lambda one: -one["score"])
    objects = [one for one in truth["annotations"] if not one["iscrowd"]]
    for image in truth["images"]:
        sides = [_of_image(image["id"], both) for both in (sure, objects)]
        (found_boxes, found_classes), (true_boxes, true_classes) = sides
        overlap = box_iou(found_boxes, true_boxes).numpy()  # (M, N)
        matrix += count_confusion(true_classes, found_classes, overlap, num_classes, iou_threshold)
    return matrix


@torch.no_grad()
def validation_loss(model: nn.Module, batches: Iterable[Batch], seed: int = 0) -> dict[str, float]:
    """Return the mean of every loss term over the batches, and their sum as "loss".

    A torchvision detector gives its losses in training mode only. Here its loss-giving parts are in
    training mode while the layers inside, batch norm and dropout among them, are not: no running
    statistic moves. The model draws samples at random for its losses; `seed` makes them
    the same each time, and the global random state is put back afterwards.

    Raises:
        ValueError: there is no batch.
    """
    device = next(model.parameters()).device
    totals: dict[str, float] = {}
    count = 0
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), behaving(model, training=True):
        torch.manual_seed(seed)
        for images, targets in batches:
            losses = model(*to_device(images, targets, device))
            for name, value in losses.items():
                totals[name] = totals.get(name, 0.0) + float(value) * len(images)
            count += len(images)
    if not count:
        raise ValueError("there is no batch to compute a validation loss from")
    means = {name: total / count for name, total in totals.items()}
    return {"loss": sum(means.values()), **means}


def to_device(
    images: Sequence[Tensor], targets: Sequence[dict[str, Any]], device: torch.device
) -> tuple[list[Tensor], list[dict[str, Any]]]:
    """Copy images and the tensors of their targets to a device."""
    moved = [
        {key: v.to(device) if isinstance(v, Tensor) else v for key, v in target.items()}
        for target in targets
    ]
    return [image.to(device) for image in images], moved


@contextlib.contextmanager
def behaving(model: nn.Module, training: bool) -> Iterator[None]:
    """Put a detector into evaluation, or into giving losses with evaluation's layers, for a while.

    With `training`, only the three classes that compute losses are in training mode; every layer
    inside them, batch norm and dropout among them, stays in evaluation mode.
    """
    modes = {module: module.training for module in model.modules()}
    model.eval()
    for module in model.modules():
        module.training = training and isinstance(module, LOSS_GIVERS)
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def to_coco(result: dict[str, Tensor], image_id: int) -> list[dict[str, Any]]:
    """Turn a detector's result for one image into COCO's result entries, masks as RLE."""
    boxes_xywh = result["boxes"].clone()  # (N, 4)
    boxes_xywh[:, 2:] -= boxes_xywh[:, :2]
    entries = [
        {"image_id": image_id, "category_id": label, "bbox": box, "score": score}
        for box, label, score in zip(
            boxes_xywh.tolist(), result["labels"].tolist(), result["scores"].tolist(), strict=True
        )
    ]
    if "masks" in result:
        masks = (result["masks"][:, 0] > MASK_THRESHOLD).cpu().numpy()  # (N, H, W)
        for entry, mask in zip(entries, masks, strict=True):
            entry["segmentation"] = encode_mask(mask)
    return entries


def encode_mask(mask: np.ndarray) -> dict[str, Any]:
    """Return the run lengths of a mask (H, W) as COCO's compressed RLE, its counts as a str."""
    rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": [int(side) for side in rle["size"]], "counts": rle["counts"].decode("ascii")}


def _add_truth(truth: dict[str, Any], image: Tensor, target: dict[str, Any]) -> None:
    height, width = image.shape[-2:]
    image_id = int(target["image_id"])
    truth["images"].append({"id": image_id, "height": height, "width": width})
    boxes_xywh = torch.as_tensor(target["boxes"]).clone()
    boxes_xywh[:, 2:] -= boxes_xywh[:, :2]
    columns = [boxes_xywh, target["labels"], target["area"], target["iscrowd"]]
    for k, (box, label, area, iscrowd) in enumerate(
        zip(*(column.tolist() for column in columns), strict=True)
    ):
        annotation = {"id": len(truth["annotations"]) + 1, "image_id": image_id}
        annotation |= {"category_id": label, "bbox": box, "area": area, "iscrowd": iscrowd}
        if "masks" in target:
            annotation["segmentation"] = encode_mask(target["masks"][k].cpu().numpy())
        truth["annotations"].append(annotation)


def _of_image(image_id: int, objects: Sequence[dict[str, Any]]) -> tuple[Tensor, np.ndarray]:
    """Return boxes (N, 4) XYXY and classes (N,) from 0 of one image's objects in COCO's form."""
    own = [one for one in objects if one["image_id"] == image_id]
    corners = [(x, y, x + w, y + h) for x, y, w, h in (one["bbox"] for one in own)]
    boxes_xyxy = torch.tensor(corners, dtype=torch.float32).reshape(-1, 4)
    return boxes_xyxy, np.array([one["category_id"] - 1 for one in own], np.int64)
