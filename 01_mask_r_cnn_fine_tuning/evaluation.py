"""Run a detector over labelled pictures: COCO's metrics, and a validation loss.

torchvision's detectors give losses in training mode only; `validation_loss` gets them without
training.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import RegionProposalNetwork
from tqdm import tqdm

from common.choices import MAX_DETECTIONS
from common.coco_metrics import coco_metrics
from common.coco_truth import coco_detections, coco_truth
from common.loading import evaluation_loader
from common.validation import mean_losses
from common.validation import to_device as targets_to_device
from dataset import DetectionDataset
from model import MASK_THRESHOLD

LOSS_GIVERS = (GeneralizedRCNN, RegionProposalNetwork, RoIHeads)
Batch = tuple[Sequence[Tensor], Sequence[dict[str, Any]]]


@torch.inference_mode()
def evaluate(
    model: nn.Module,
    dataset: DetectionDataset,
    progress: bool = True,
    max_detections: int = MAX_DETECTIONS,
) -> dict[str, Any]:
    """Run the model on every picture and return COCO's metrics of its boxes and masks.

    Args:
        model: a torchvision detector; it is left in the mode it was in.
        dataset: with `evaluation_transforms`.
        progress: show a progress bar on stderr.
        max_detections: of a picture that count; the model has to find that many.

    Returns:
        See `common.coco_metrics.coco_metrics`.
    """
    truth, detections = collect(model, dataset, progress)
    return coco_metrics(truth, detections, max_detections)


@torch.inference_mode()
def collect(
    model: nn.Module, dataset: DetectionDataset, progress: bool = True
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return what is true, as COCO's annotation dict, and what was found, as COCO's result list."""
    truth = coco_truth(dataset.labels, dataset.has_masks)
    ids, device = dataset.annotations.category_ids, next(model.parameters()).device
    batches = evaluation_loader(dataset)
    detections: list[dict[str, Any]] = []
    with behaving(model, training=False):
        for images, targets in tqdm(batches, "evaluating", disable=not progress, leave=False):
            results = model([image.to(device) for image in images])
            for target, result in zip(targets, results, strict=True):
                detections += to_coco(result, int(target["image_id"]), ids)
    return truth, detections


def to_coco(
    result: dict[str, Tensor], image_id: int, category_ids: Sequence[int]
) -> list[dict[str, Any]]:
    """Turn a detector's result for one picture into COCO's result entries, masks as RLE."""
    ids = [category_ids[label - 1] for label in result["labels"].tolist()]
    masks = None
    if "masks" in result:
        masks = (result["masks"][:, 0] > MASK_THRESHOLD).cpu().numpy()  # (N, H, W)
    return coco_detections(image_id, result["boxes"], result["scores"], ids, masks)


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
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), behaving(model, training=True):
        torch.manual_seed(seed)
        return mean_losses(batches, lambda *batch: model(*to_device(*batch, device)))


def to_device(
    images: Sequence[Tensor], targets: Sequence[dict[str, Any]], device: torch.device
) -> tuple[list[Tensor], list[dict[str, Any]]]:
    """Copy images and the tensors of their targets to a device."""
    return [image.to(device) for image in images], targets_to_device(targets, device)


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
