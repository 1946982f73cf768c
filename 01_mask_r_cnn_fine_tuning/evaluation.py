"""COCO's box and mask metrics, and a validation loss for models that give losses only in training.

AP is the mean over ten IoU thresholds 0.50, 0.55 ... 0.95 of the area under the precision-recall
curve, averaged over the classes; AP50 and AP75 are at one threshold. All of it is computed by
pycocotools, COCO's own code (Lin et al., "Microsoft COCO", 2014).
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor, nn
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import RegionProposalNetwork
from tqdm import tqdm

STATISTICS = (
    "AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large",
    "AR1", "AR10", "AR100", "AR_small", "AR_medium", "AR_large",
)  # fmt: skip
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
        batches: (images, targets) as `dataset.collate` makes them; images float in 0..1.
        class_names: names of the labels 1, 2, ...
        progress: show a progress bar on stderr.

    Returns:
        {"bbox": {"AP": ..., "AP50": ..., ...}, "segm": the same if the targets have masks,
        "per_class": {name: {"bbox": {"AP", "AP50"}, "segm": ...}}}. Values are 0..1, or None where
        there is no object to measure with (COCO's -1).
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


def coco_metrics(truth: dict[str, Any], detections: list[dict[str, Any]]) -> dict[str, Any]:
    """Measure detections against the truth, both in COCO's own form; see `evaluate`."""
    kinds = ["bbox"]
    if any("segmentation" in one for one in truth["annotations"] + detections):
        kinds.append("segm")
    metrics: dict[str, Any] = {"per_class": {c["name"]: {} for c in truth["categories"]}}
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its tables
        ground_truth = COCO()
        ground_truth.dataset = truth
        ground_truth.createIndex()
        for kind in kinds:
            found = _load_results(ground_truth, detections, kind)
            measured = COCOeval(ground_truth, found, kind)
            measured.evaluate()
            measured.accumulate()
            measured.summarize()
            values = [_or_none(value) for value in measured.stats]
            metrics[kind] = dict(zip(STATISTICS, values, strict=True))
            for index, category in enumerate(truth["categories"]):
                metrics["per_class"][category["name"]][kind] = _of_class(measured, index)
    return metrics


def format_metrics(metrics: dict[str, Any]) -> str:
    """Lay metrics out as a table: one line for all classes, then one a class."""
    kinds = [kind for kind in ("bbox", "segm") if kind in metrics]
    columns = [(kind, name) for kind in kinds for name in ("AP", "AP50", "AP75")]
    heads = [f"{'box' if kind == 'bbox' else 'mask'} {name}" for kind, name in columns]
    rows = [("all", metrics), *metrics["per_class"].items()]
    width = max(len(name) for name, _ in rows)
    lines = [" " * width + "".join(f"{head:>11}" for head in heads)]
    for name, values in rows:
        cells = [_cell(values[kind].get(statistic)) for kind, statistic in columns]
        lines.append(f"{name:<{width}}" + "".join(f"{cell:>11}" for cell in cells))
    return "\n".join(lines)


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


def _load_results(ground_truth: COCO, detections: list[dict[str, Any]], kind: str) -> COCO:
    if not detections:  # loadRes refuses an empty list
        found = COCO()
        found.dataset = {**ground_truth.dataset, "annotations": []}
        found.createIndex()
        return found
    # Where an entry has both, loadRes takes its area from the box: wrong for masks.
    other = "bbox" if kind == "segm" else "segmentation"
    entries = [{key: one[key] for key in one if key != other} for one in detections]
    return ground_truth.loadRes(entries)


def _of_class(measured: COCOeval, index: int) -> dict[str, float | None]:
    """Read one class out of precision (T, R, K, A, M) at all areas and 100 detections."""
    precision = measured.eval["precision"][:, :, index, 0, -1]  # (T, R)
    return {"AP": _mean(precision), "AP50": _mean(precision[0]), "AP75": _mean(precision[5])}


def _mean(precision: np.ndarray) -> float | None:
    valid = precision[precision > -1]
    return float(valid.mean()) if valid.size else None


def _or_none(value: float) -> float | None:
    return None if value < 0 else float(value)


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
