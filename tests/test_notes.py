"""The numbers that the theory notes compute, computed again: with torchvision or by search."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torchvision.ops import (
    box_iou,
    complete_box_iou,
    generalized_box_iou,
    roi_pool,
)
from torchvision.ops.poolers import LevelMapper

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "assets"))  # the scripts there import one another by bare name

import figures_metrics  # noqa: E402
import figures_segmentation  # noqa: E402
from lesson_modules import BOXES, MASK_RCNN  # noqa: E402
from street_scene import scene  # noqa: E402

NOTES = (ROOT / "README.md").read_text(encoding="utf-8")


def test_boxes_that_overlap_a_little() -> None:
    """The notes say 0.005, -0.44 and 0.026, -0.16."""
    square = torch.tensor([[0.0, 0, 20, 20]], dtype=torch.float64)
    values = []
    for move, ways in (
        ((18, 18), (box_iou, generalized_box_iou)),
        ((19, 0), (box_iou, complete_box_iou)),
    ):
        moved = square + torch.tensor(move * 2)
        values += [way(square, moved).item() for way in ways]
    text = (
        "both ways: IoU {:.3f}, GIoU {:.2f}. Moved by 19 to the right only: IoU {:.3f}, CIoU {:.2f}"
    )
    assert text.format(*values).replace("-", "−") in NOTES


def test_the_pull_of_the_focal_loss() -> None:
    logit = torch.logit(torch.tensor(0.9, dtype=torch.float64)).requires_grad_()
    probability = torch.sigmoid(logit)
    cross_entropy = -probability.log()
    focal = -((1 - probability) ** 2) * probability.log()
    pulls = [
        torch.autograd.grad(loss, logit, retain_graph=True)[0] for loss in (cross_entropy, focal)
    ]
    assert (cross_entropy / focal).item() == pytest.approx(100)
    assert f"is {(pulls[0] / pulls[1]).item():.1f} times smaller" in NOTES


@pytest.mark.parametrize("scale", [224, 448])
def test_the_level_of_a_box(scale: int) -> None:
    border = scale // 2
    boxes = torch.tensor([[0, 0, side, side] for side in (border - 1.0, border)])
    strides = 2 ** (LevelMapper(2, 5, canonical_scale=scale)([boxes]) + 2)
    assert strides.tolist() == [4, 8]
    assert re.search(rf"below {border} pixels", NOTES)
    assert MASK_RCNN.load("model").CANONICAL_SCALE == 448


@pytest.mark.parametrize(("edges", "read"), [((26, 90), (32, 112)), ((80, 144), (80, 160))])
def test_what_roi_pool_reads(edges: tuple[int, int], read: tuple[int, int]) -> None:
    lefts = torch.arange(40.0).expand(1, 1, 40, 40).contiguous() * 16
    roi = torch.tensor([[0, edges[0], 96, edges[1], 160.0]])
    first, last = -roi_pool(-lefts, roi, 1, 1 / 16).item(), roi_pool(lefts, roi, 1, 1 / 16).item()
    assert (first, last + 16) == read
    assert f"from {edges[0]} to {edges[1]}" in NOTES


def test_gaps_between_two_detectors_of_coins() -> None:
    target, found = figures_metrics.coin_results()
    coco = BOXES.load("coco_metrics")
    results = [coco.evaluate_coco([target], [one]).precision for one in found]
    curves = [precision[:, :, 0, 0, -1].mean(axis=1) for precision in results]
    gaps = curves[1] - curves[0]
    widest = coco.IOU_THRESHOLDS[gaps.argmax()]
    text = f"from {gaps[0]:.2f} at 0.5 to {gaps.max():.2f} at {widest:.2f}; at 0.95"
    assert text in NOTES
    assert f"it is {gaps[-1]:.2f}" in NOTES


def mean_iou(matrix: np.ndarray) -> float:
    """Return the mean IoU of a confusion matrix (K, K) over the classes that occur."""
    right = matrix.diagonal()
    union = matrix.sum(0) + matrix.sum(1) - right
    return float((right[union > 0] / union[union > 0]).mean())


def relabelled(counts: np.ndarray) -> tuple[float, float]:
    """Return the mean IoU of the majority vote, and after giving single cells other classes.

    Args:
        counts: (cells, K), how many pixels of each class a cell has.
    """
    labels = counts.argmax(1)
    matrix = np.stack([counts[labels == k].sum(0) for k in range(counts.shape[1])], axis=1)
    voted = best = mean_iou(matrix)
    better = True
    while better:
        better = False
        for cell, own in enumerate(counts):
            for label in np.flatnonzero(own):
                changed = matrix.copy()
                changed[:, labels[cell]] -= own
                changed[:, label] += own
                if (value := mean_iou(changed)) > best + 1e-12:
                    best, matrix, labels[cell], better = value, changed, label, True
    return voted, best


def test_the_majority_vote_is_no_upper_bound() -> None:
    truth = torch.from_numpy(scene().semantic).long()
    classes = len(figures_segmentation.class_names())
    one_hot = F.one_hot(truth, classes).permute(2, 0, 1)[None].double()
    pairs = []
    for cell in (8, 16, 32):
        padded = F.pad(one_hot, (0, -truth.shape[1] % cell, 0, -truth.shape[0] % cell))
        counts = F.avg_pool2d(padded, cell)[0].reshape(classes, -1).T * cell**2
        pairs.append(relabelled(counts.round().numpy()))
    votes = "{:.2f} for cells of 8 pixels, {:.2f} for 16, {:.2f} for 32"
    assert votes.format(*(vote for vote, _ in pairs)) in NOTES
    # another class reaches 0.750, 0.618 and 0.500
    assert "reaches {:.3f}, {:.3f} and {:.3f}".format(*(best for _, best in pairs)) in NOTES
