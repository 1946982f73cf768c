"""Anchors that fit a dataset: k-means over the sizes of its objects, with the IoU as distance.

YOLOv3 predicts the size of a box as a factor on an anchor (paper, section 2.1, figure 2). The
closer the anchors are to the sizes that occur, the less is left to learn, and an object whose
shape no anchor overlaps has no prediction that is good at it. Clustering by 1 - IoU instead of by
the distance in pixels treats a small and a large box alike (YOLO9000, Redmon and Farhadi, 2016,
arXiv:1612.08242, section 2).

Sizes are (width, height) in pixels of the network's input: letterbox the boxes first.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torchvision.ops import box_iou

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ITERATIONS = 300  # of one k-means run; it usually stands still after 20 to 50


def shape_iou(sizes_wh: Tensor, anchors_wh: Tensor) -> Tensor:
    """IoU of boxes that share their centre, so that only the shapes count.

    Args:
        sizes_wh: (M, 2), widths and heights, above 0.
        anchors_wh: (K, 2), the same unit.

    Returns:
        (M, K) in (0, 1].
    """
    around_zero = (torch.cat((-wh / 2, wh / 2), dim=-1) for wh in (sizes_wh, anchors_wh))
    return box_iou(*around_zero)


def best_ious(sizes_wh: ArrayLike, anchors_wh: ArrayLike) -> np.ndarray:
    """The shape IoU of each size (M, 2) with the anchor of (K, 2) that fits it best: (M,).

    Raises:
        ValueError: see `check_sizes`.
    """
    sizes, anchors = check_sizes(sizes_wh, "sizes_wh"), check_sizes(anchors_wh, "anchors_wh")
    return shape_iou(torch.from_numpy(sizes), torch.from_numpy(anchors)).amax(dim=1).numpy()


def mean_best_iou(sizes_wh: ArrayLike, anchors_wh: ArrayLike) -> float:
    """The mean of `best_ious`: what k-means makes large."""
    return float(best_ious(sizes_wh, anchors_wh).mean())


def anchor_recall(sizes_wh: ArrayLike, anchors_wh: ArrayLike, threshold: float = 0.5) -> float:
    """The share of sizes that some anchor overlaps by more than `threshold`, from 0 to 1."""
    return float((best_ious(sizes_wh, anchors_wh) > threshold).mean())


def check_sizes(sizes_wh: ArrayLike, name: str = "sizes_wh") -> np.ndarray:
    """Return sizes as float64 (M, 2).

    Raises:
        ValueError: another shape, no size at all, or one that is not finite and above 0; names the
            row and its values.
    """
    sizes = np.array(sizes_wh, dtype=np.float64)
    if sizes.ndim != 2 or sizes.shape[1] != 2 or not len(sizes):
        raise ValueError(f"{name} must have shape (M, 2) with M >= 1, got {sizes.shape}")
    wrong = ~(np.isfinite(sizes) & (sizes > 0)).all(axis=1)
    if wrong.any():
        row = int(wrong.argmax())
        raise ValueError(f"{name}, row {row}: {sizes[row].tolist()} must be finite and above 0")
    return sizes


def kmeans_anchors(
    sizes_wh: ArrayLike, count: int, *, seed: int = 0, restarts: int = 10
) -> np.ndarray:
    """Find the anchors that overlap the sizes of a dataset best.

    Args:
        sizes_wh: (M, 2), widths and heights of the dataset's objects in pixels of the network's
            input.
        count: how many anchors, as many as the cfg has (9; 6 for yolov3-tiny).
        seed: equal seeds give equal anchors.
        restarts: k-means ends in a local optimum; the best of this many runs is returned.

    Returns:
        float64 (count, 2), from the smallest area to the largest, as Darknet's cfg files list them.

    Raises:
        ValueError: fewer different sizes than `count`, or see `check_sizes`.
    """
    sizes = check_sizes(sizes_wh)
    different = len(np.unique(sizes, axis=0))
    if not 1 <= count <= different:
        raise ValueError(
            f"count must be from 1 to {different}, the number of different sizes; got {count}"
        )
    if restarts < 1:
        raise ValueError(f"restarts must be 1 or more, got {restarts}")
    random = np.random.default_rng(seed)
    runs = (_one_run(torch.from_numpy(sizes), count, random) for _ in range(restarts))
    _, anchors = max(runs, key=lambda run: run[0])
    return anchors[np.argsort(anchors.prod(axis=1), kind="stable")]


def _one_run(sizes: Tensor, count: int, random: np.random.Generator) -> tuple[float, np.ndarray]:
    """(mean IoU, anchors (count, 2)) of one k-means run; the best moment of the run counts.

    The mean of a group is not exactly the anchor that overlaps the group best, so that a step may
    be a step down.
    """
    anchors = _first_anchors(sizes, count, random)
    best = (-1.0, anchors)
    before = None
    for _ in range(ITERATIONS):
        overlap, group = shape_iou(sizes, anchors).max(dim=1)
        if overlap.mean().item() > best[0]:
            best = (overlap.mean().item(), anchors.clone())
        if before is not None and torch.equal(group, before):
            break
        before = group
        members = torch.nn.functional.one_hot(group, count).to(sizes)  # (M, count)
        filled = members.sum(dim=0) > 0
        means = members.T @ sizes / members.sum(dim=0).clamp(min=1)[:, None]
        anchors = torch.where(filled[:, None], means, anchors)
    return best[0], best[1].numpy()


def _first_anchors(sizes: Tensor, count: int, random: np.random.Generator) -> Tensor:
    """Sizes of the dataset, each drawn with a chance that grows with its distance from those
    drawn before (k-means++, Arthur and Vassilvitskii, 2007)."""
    drawn = [int(random.integers(len(sizes)))]
    while len(drawn) < count:
        distance = 1 - shape_iou(sizes, sizes[drawn]).amax(dim=1).numpy()
        chance = np.clip(distance, 0, None) ** 2
        drawn.append(int(random.choice(len(sizes), p=chance / chance.sum())))
    return sizes[drawn].clone()


def plot_anchors(
    axes: "Axes", sizes_wh: ArrayLike, anchors_wh: ArrayLike, labels: Iterable[int] | None = None
) -> "Axes":
    """Draw the sizes of objects as dots and the anchors as crosses with their rectangles.

    Args:
        axes: where to draw.
        sizes_wh: (M, 2) in pixels of the network's input.
        anchors_wh: (K, 2), the same.
        labels: a class index for each size; dots are then coloured by class.
    """
    sizes, anchors = check_sizes(sizes_wh), check_sizes(anchors_wh, "anchors_wh")
    colours = "0.6" if labels is None else [f"C{label % 10}" for label in labels]
    axes.scatter(*sizes.T, s=6, c=colours, alpha=0.5, linewidths=0)
    for width, height in anchors:
        axes.plot([0, width, width], [height, height, 0], color="black", linewidth=0.6)
    axes.scatter(*anchors.T, marker="x", s=50, color="black", zorder=3, label="anchors")
    recall, overlap = anchor_recall(sizes, anchors), mean_best_iou(sizes, anchors)
    axes.set_title(f"mean best IoU {overlap:.2f}, above 0.5: {recall:.0%}")
    axes.set(xlabel="width, pixels", ylabel="height, pixels", xlim=(0, None), ylim=(0, None))
    return axes
