"""Losses for a class per pixel: cross-entropy, Dice, focal, and their weighted sum.

- Cross-entropy with class weights: each pixel is a classification of its own.
- Dice: after Milletari et al., "V-Net" (2016), section 3, whose denominator has squares; here it
  has none. For K classes it is the mean over the classes that occur. It compares areas, so a small
  class counts as much as a large one.
- Focal: Lin et al., "Focal Loss for Dense Object Detection" (2017), equation 4. Pixels that are
  right already count little.

All of them take `logits` (B, K, H, W), float of any range, and `labels` (B, H, W), whole numbers
0..K-1 or IGNORE_INDEX, and return a scalar. Where no pixel counts, the loss is 0, and so is its
gradient; PyTorch's own cross-entropy is NaN there.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from common.masks import IGNORE_INDEX

LOSSES = ("cross_entropy", "dice", "focal")
DICE_SMOOTHING = 1.0  # pixels; keeps the quotient steady for classes of a few pixels
AUX_WEIGHT = 0.5  # as in torchvision's reference training


def cross_entropy(
    logits: Tensor,
    labels: Tensor,
    class_weights: Tensor | None = None,
    ignore_index: int = IGNORE_INDEX,
) -> Tensor:
    """Return the mean of -log p(true class) over the pixels that count.

    Args:
        logits: (B, K, H, W).
        labels: (B, H, W), 0..K-1 or `ignore_index`.
        class_weights: (K,); with them it is the weighted mean, as in PyTorch.
        ignore_index: the label of pixels that do not count.
    """
    labels = labels.long()
    total = F.cross_entropy(
        logits.float(), labels, class_weights, ignore_index=ignore_index, reduction="sum"
    )
    counted = labels[labels != ignore_index]
    weight = counted.numel() if class_weights is None else class_weights[counted].sum()
    return total / max(weight, torch.finfo(torch.float32).tiny)


def dice_loss(logits: Tensor, labels: Tensor, ignore_index: int = IGNORE_INDEX) -> Tensor:
    """Return 1 - the mean Dice coefficient of the classes that occur in `labels`.

    A class's coefficient over the whole batch is (2 I + s) / (P + T + s): I is its probability
    summed over its true pixels, P summed over all pixels, T the number of its true pixels, and s
    DICE_SMOOTHING. Arguments as for `cross_entropy`.
    """
    counted = (labels != ignore_index)[:, None]  # (B, 1, H, W)
    probabilities = logits.float().softmax(dim=1) * counted  # (B, K, H, W)
    classes = torch.where(counted, labels[:, None], 0).long()
    truth = torch.zeros_like(probabilities).scatter_(1, classes, counted.float())  # 0 or 1
    intersection = (probabilities * truth).sum((0, 2, 3))  # (K,)
    sizes = truth.sum((0, 2, 3))  # (K,)
    cardinality = probabilities.sum((0, 2, 3)) + sizes  # (K,)
    dice = (2 * intersection + DICE_SMOOTHING) / (cardinality + DICE_SMOOTHING)
    occurs = sizes > 0
    return ((1 - dice) * occurs).sum() / occurs.sum().clamp(min=1)


def focal_loss(
    logits: Tensor,
    labels: Tensor,
    gamma: float = 2.0,
    ignore_index: int = IGNORE_INDEX,
) -> Tensor:
    """Return the mean of -(1 - p)^gamma log p, p the true class's probability, where it counts.

    Args:
        logits, labels, ignore_index: as for `cross_entropy`.
        gamma: 0 gives the cross-entropy; the paper's best is 2.
    """
    log_p = -F.cross_entropy(
        logits.float(), labels.long(), ignore_index=ignore_index, reduction="none"
    )  # (B, H, W), 0 where ignored
    counted = labels != ignore_index
    losses = -((1 - log_p.exp()).clamp(min=0) ** gamma) * log_p * counted
    return losses.sum() / counted.sum().clamp(min=1)


def segmentation_losses(
    logits: Tensor,
    labels: Tensor,
    loss_weights: Mapping[str, float],
    class_weights: Tensor | None = None,
    ignore_index: int = IGNORE_INDEX,
) -> dict[str, Tensor]:
    """Return each asked loss, unweighted, as {"loss_cross_entropy": scalar, ...}.

    Args:
        logits, labels, class_weights, ignore_index: as for `cross_entropy`.
        loss_weights: which of LOSSES are asked for, and their factors in the sum.

    Raises:
        ValueError: an unknown loss, or a label that is no class; see `check_labels`.
    """
    check_loss_weights(loss_weights)
    check_labels(labels, logits.shape[1], ignore_index)
    functions = {
        "cross_entropy": lambda: cross_entropy(logits, labels, class_weights, ignore_index),
        "dice": lambda: dice_loss(logits, labels, ignore_index),
        "focal": lambda: focal_loss(logits, labels, ignore_index=ignore_index),
    }
    return {f"loss_{name}": functions[name]() for name, w in loss_weights.items() if w}


def total_loss(
    outputs: Mapping[str, Tensor],
    labels: Tensor,
    loss_weights: Mapping[str, float],
    class_weights: Tensor | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return what a training minimises, a scalar, and the losses in it by name.

    Args:
        outputs: of a model: "out", logits (B, K, H, W), and perhaps "aux", a helper's logits, whose
            loss "loss_aux" counts AUX_WEIGHT.
        labels, loss_weights, class_weights: as for `segmentation_losses`.

    Raises:
        ValueError: see `segmentation_losses`.
    """
    losses = segmentation_losses(outputs["out"], labels, loss_weights, class_weights)
    loss = _weighted_sum(losses, loss_weights)
    if "aux" in outputs:
        helper = segmentation_losses(outputs["aux"], labels, loss_weights, class_weights)
        losses["loss_aux"] = _weighted_sum(helper, loss_weights)
        loss = loss + AUX_WEIGHT * losses["loss_aux"]
    return loss, losses


def _weighted_sum(losses: Mapping[str, Tensor], factors: Mapping[str, float]) -> Tensor:
    return sum(value * factors[name.removeprefix("loss_")] for name, value in losses.items())


def check_loss_weights(loss_weights: Mapping[str, float]) -> None:
    """Refuse unknown losses, negative factors, and a sum of nothing.

    Raises:
        ValueError: with what is allowed.
    """
    unknown = [name for name in loss_weights if name not in LOSSES]
    if unknown:
        raise ValueError(f"the loss {unknown[0]!r} is unknown; allowed are {', '.join(LOSSES)}")
    if min(loss_weights.values(), default=0) < 0 or not any(loss_weights.values()):
        raise ValueError(f"loss weights are {dict(loss_weights)}; one at least must be above 0")


def check_labels(labels: Tensor, num_classes: int, ignore_index: int = IGNORE_INDEX) -> None:
    """Refuse labels that are neither a class nor ignored.

    Raises:
        ValueError: with the label and what is allowed.
    """
    wrong = (labels < 0) | (labels >= num_classes)
    wrong &= labels != ignore_index
    if wrong.any():
        value = labels[wrong][0].item()
        raise ValueError(
            f"a pixel's label is {value}; allowed are 0 to {num_classes - 1} and {ignore_index} "
            "for ignored pixels"
        )


def balanced_class_weights(pixel_counts: Tensor) -> Tensor:
    """Return class weights (K,) that grow as a class gets rarer: 1 / sqrt(share), of mean 1.

    The square root is a compromise: with 1 / share, a class of few pixels rules the gradient.

    Args:
        pixel_counts: (K,), pixels of each class in the training data; at least one is above 0.
            Classes that do not occur get the weight 0.
    """
    counts = pixel_counts.double()
    weights = torch.where(counts > 0, (counts.sum() / counts.clamp(min=1)).sqrt(), 0.0)
    return (weights * (counts > 0).sum() / weights.sum()).float()
