"""Checks of the exercises 01.7 and 01.8, about five classes: a confusion matrix, a new last layer.

The new layer gets what the ImageNet backbone says of boxes in drawn streets, some of them around
nothing. Its scores are measured by pycocotools on scenes that it has not seen.
"""

from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize
from torchvision import ops

from common.checking.check import compare_value, exercise
from common.checking.compare import kind
from common.checking.sandbox import Attempt, WrongAnswerError, check_signature
from common.coco_metrics import coco_metrics
from common.efficientnet_lite import IMAGE_MEAN, IMAGE_STD
from common.mask_boxes import masks_to_boxes_xyxy
from common.street.scenes import INSTANCE_CLASSES, draw_scene
from model import SmallBackbone

NAMES = ("person", "car", "dog")
# Row = true class, column = found class; last row: nothing there, last column: not found.
CONFUSION = np.array([[60, 1, 4, 10], [2, 45, 0, 3], [6, 0, 18, 6], [12, 4, 2, 0]])


@exercise("01.7", "Read a confusion matrix")
def read_a_confusion_matrix(attempt: Attempt) -> None:
    """Precision of `person`, recall of `dog`, and the objects that nobody found."""
    rows, columns = CONFUSION.sum(axis=1), CONFUSION.sum(axis=0)
    inner = CONFUSION[:-1, :-1]
    right = CONFUSION.diagonal()
    precision, recall, missed = right[0] / columns[0], right[2] / rows[2], columns[-1]
    compare_value(
        attempt,
        (precision, recall, missed),
        {
            "rows and columns are swapped: a row is a true class": (
                *(right[0] / rows[0], right[2] / columns[2]),
                rows[-1],
            ),
            "precision divides by all that was called person, also where nothing is": (
                *(right[0] / inner.sum(axis=0)[0], recall),
                missed,
            ),
            "recall divides by all dogs, also by those that were missed": (
                *(precision, right[2] / inner.sum(axis=1)[2]),
                missed,
            ),
            "the third number is that of the findings where nothing is": (
                *(precision, recall),
                rows[-1],
            ),
            "the third number asks for all classes, not for one": (
                *(precision, recall),
                CONFUSION[2, -1],
            ),
            "the third number has those in it that were found under a wrong name": (
                *(precision, recall),
                missed + inner.sum() - inner.trace(),
            ),
        },
    )


TRAINING_SCENES, TEST_SCENES = range(300_000, 300_024), range(310_000, 310_016)
ASKED_AP50 = 0.7
BUDGET_SECONDS = 60


@cache
def backbone() -> SmallBackbone:
    """The backbone with ImageNet's weights; nothing in it is trained here."""
    return SmallBackbone().eval()


def candidates(boxes_xyxy: Tensor, generator: np.random.Generator, size: tuple) -> Tensor:
    """A box near each of the given ones (N, 4), and 4 N + 4 boxes elsewhere."""
    H, W = size
    extent = (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]).repeat(1, 2)
    near = boxes_xyxy + torch.from_numpy(generator.uniform(-0.1, 0.1, extent.shape)) * extent
    count = 4 * len(boxes_xyxy) + 4
    sides = torch.from_numpy(generator.uniform(12, 90, (count, 2)))
    corner = torch.from_numpy(generator.random((count, 2))) * (torch.tensor([W, H]) - sides)
    return torch.cat((near, torch.cat((corner, corner + sides), dim=1))).float()


def labels_of(boxes_xyxy: Tensor, truth_xyxy: Tensor, labels: Tensor) -> Tensor:
    """The label of the object that each box covers with an IoU of 0.5 or more, else 0."""
    if not len(labels):
        return torch.zeros(len(boxes_xyxy), dtype=torch.int64)
    overlap, nearest = ops.box_iou(boxes_xyxy, truth_xyxy).max(dim=1)
    return torch.where(overlap >= 0.5, labels[nearest], 0)


@cache
def boxes_in_scenes(seeds: range) -> dict[str, Any]:
    """Boxes of drawn scenes with what the backbone says of them; the labels; COCO's truth.

    `features` float32 (M, 1368), each of length 1; `labels` int64 (M,); `boxes` (M, 4) xyxy;
    `image_ids` (M,).
    """
    generator, parts = np.random.default_rng(seeds[0]), []
    truth = {"images": [], "annotations": []}
    truth["categories"] = [{"id": k, "name": n} for k, n in enumerate(INSTANCE_CLASSES, start=1)]
    for seed in seeds:
        scene = draw_scene(seed)
        numbers = np.arange(1, len(scene.labels) + 1)[:, None, None]
        masks = (scene.instances == numbers).astype(np.uint8)
        own, labels = torch.from_numpy(masks_to_boxes_xyxy(masks)), torch.from_numpy(scene.labels)
        boxes = candidates(own, generator, scene.instances.shape)
        ids = torch.full((len(boxes),), seed)
        parts.append((features_of(scene.image, boxes), labels_of(boxes, own, labels), boxes, ids))
        truth["images"].append({"id": seed, "height": 240, "width": 320})
        truth["annotations"] += [
            {"id": len(truth["annotations"]) + k, "image_id": seed, "iscrowd": 0, **entry}
            for k, entry in enumerate(as_coco(own, labels), start=1)
        ]
    keys = ("features", "labels", "boxes", "image_ids")
    return {
        **dict(zip(keys, map(torch.cat, zip(*parts, strict=True)), strict=True)),
        "truth": truth,
    }


def as_coco(boxes_xyxy: Tensor, labels: Tensor) -> list[dict[str, Any]]:
    """Boxes and labels in COCO's words."""
    boxes_xywh = torch.cat((boxes_xyxy[:, :2], boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]), dim=1)
    pairs = zip(boxes_xywh.tolist(), labels.tolist(), strict=True)
    return [{"bbox": box, "category_id": label, "area": box[2] * box[3]} for box, label in pairs]


@torch.no_grad()
def features_of(image: np.ndarray, boxes_xyxy: Tensor) -> Tensor:
    """RoIAlign on two levels of the backbone, (M, 40 * 9 + 112 * 9), each row of length 1."""
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None] / 255  # (1, 3, H, W)
    pixels = (pixels - IMAGE_MEAN[0]) / IMAGE_STD[0]
    levels = backbone().body(pixels)[1:3]  # strides 8 and 16
    cut = [
        ops.roi_align(level, [boxes_xyxy], 3, 1 / stride, 2, aligned=True).flatten(1)
        for level, stride in zip(levels, (8, 16), strict=True)
    ]
    return torch.cat([normalize(part) for part in cut], dim=1) / 2**0.5


def training_boxes() -> tuple[Tensor, Tensor]:
    """The features (M, 1368) and labels (M,) to train with; label 0 is the background."""
    found = boxes_in_scenes(TRAINING_SCENES)
    return found["features"], found["labels"]


def measure_ap50(logits: Tensor) -> float:
    """COCO's AP50 of the test boxes with these scores (M, 6)."""
    test = boxes_in_scenes(TEST_SCENES)
    detections = []
    scores = logits.softmax(dim=1)
    for label in range(1, logits.shape[1]):
        entries = as_coco(test["boxes"], torch.full((len(logits),), label))
        for entry, score, image_id in zip(
            entries, scores[:, label].tolist(), test["image_ids"].tolist(), strict=True
        ):
            detections.append({**entry, "score": score, "image_id": image_id})
    return coco_metrics(test["truth"], detections)["bbox"]["AP50"]


@exercise("01.8", "Train a last layer", seconds=BUDGET_SECONDS)
def train_a_last_layer(attempt: Attempt) -> None:
    """A head that reaches an AP50 on unseen boxes; measured by pycocotools."""
    check_signature(attempt.answer, ["features", "labels"])  # before anything is drawn
    features, labels = training_boxes()
    head = attempt.call({"features": features, "labels": labels})
    if not callable(head):
        raise WrongAnswerError(f"the function returns {kind(head)}; expected is the trained head")
    if isinstance(head, torch.nn.Module):
        head = head.eval()
    test = boxes_in_scenes(TEST_SCENES)
    logits = attempt.run(head, {"features": test["features"]})
    check_logits(logits, len(test["labels"]))
    logits = logits.detach().float()
    ap50 = measure_ap50(logits)
    reason = what_is_found(logits)
    if ap50 < ASKED_AP50 or reason:
        raise WrongAnswerError(f"{reason}AP50 is {ap50:.2f}, asked is {ASKED_AP50}")


def check_logits(logits: Any, count: int) -> None:
    """Raise unless these are finite scores (count, 6)."""
    if not isinstance(logits, Tensor) or logits.dim() != 2 or len(logits) != count:
        raise WrongAnswerError(f"the head gives {kind(logits)}; expected are scores (M, 6)")
    outputs = len(INSTANCE_CLASSES) + 1
    if logits.shape[1] == outputs - 1:
        raise WrongAnswerError("the head has 5 outputs: the background is a class too")
    if logits.shape[1] != outputs:
        raise WrongAnswerError(f"the head has {logits.shape[1]} outputs; expected are {outputs}")
    if not logits.isfinite().all():
        raise WrongAnswerError("the scores are not finite: the learning rate is far too high")


def what_is_found(logits: Tensor) -> str:
    """Say what is striking about the classes that a head finds; "" for nothing."""
    found = set(logits.argmax(dim=1).tolist())
    names = ("background", *INSTANCE_CLASSES)
    if len(found) == 1:
        return f"every box is called {names[found.pop()]}: "
    if found == {0, 1}:
        return "no other class than person is ever found, as if all labels were ones: "
    if 0 not in found:
        return "no box is ever called background: train with the boxes around nothing too: "
    return ""
