"""Checks of the exercises 04.5 and 04.6: GIoU's sign, and boxes refined as logits.

The oracles are torchvision's `generalized_box_iou` and PyTorch's `logit`; a test compares the
second with the lesson's decoder.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import box_convert, generalized_box_iou

from common.checking.check import compare_function, exercise
from common.checking.sandbox import Attempt

NEAREST = 1e-4  # to 0 and to 1 that a reference may come, as in `detr.py`


def giou_loss(predicted_xyxy: Tensor, object_xyxy: Tensor) -> Tensor:
    """1 - GIoU, (), of two boxes (4,)."""
    return 1 - generalized_box_iou(predicted_xyxy[None], object_xyxy[None])[0, 0]


@exercise("04.5", "GIoU's sign")
def the_sign_of_giou(attempt: Attempt) -> None:
    """Pairs that are equal, one in the other, that overlap, touch, and lie far apart."""
    generator = np.random.default_rng(45)
    cases = []
    for number in range(40):
        box = np.concatenate([corner := generator.integers(0, 10, 2), corner + 4])
        other = np.concatenate([corner := generator.integers(0, 10, 2), corner + 6])
        kinds = (other, box, box + (1, 1, -1, -1), box + 2, box + (4, 0, 4, 0), box + 30)
        pair = (box, kinds[number % len(kinds)])
        first, second = pair if number % 4 < 2 else pair[::-1]
        cases.append(
            {
                "predicted_xyxy": torch.from_numpy(first).float(),
                "object_xyxy": torch.from_numpy(second).float(),
            }
        )
    compare_function(attempt, cases, giou_loss, wrong_giou())


def parts(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Areas of the intersection, the union and the smallest box around both, of boxes (4,)."""
    shared = (torch.minimum(a[2:], b[2:]) - torch.maximum(a[:2], b[:2])).clamp(min=0).prod()
    union = (a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - shared
    around = (torch.maximum(a[2:], b[2:]) - torch.minimum(a[:2], b[:2])).prod()
    return shared, union, around


def unclamped(a: Tensor, b: Tensor) -> Tensor:
    """The loss whose intersection may have two negative sides."""
    shared = (torch.minimum(a[2:], b[2:]) - torch.maximum(a[:2], b[:2])).prod()
    union = (a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - shared
    around = (torch.maximum(a[2:], b[2:]) - torch.minimum(a[:2], b[:2])).prod()
    return 1 - shared / union + (around - union) / around


def wrong_giou() -> dict[str, Callable]:
    """Reasons and functions of the usual wrong ways to GIoU as a loss."""

    def of_parts(loss: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Callable:
        return lambda a, b: loss(*parts(a, b))

    return {
        "the sign: empty room around both boxes has to cost, here it is a reward": of_parts(
            lambda shared, union, around: 1 - shared / union - (around - union) / around
        ),
        "that is GIoU: it grows as boxes come together, and a loss has to fall": of_parts(
            lambda shared, union, around: shared / union - (around - union) / around
        ),
        "1 + GIoU grows as boxes come together; a loss has to fall": of_parts(
            lambda shared, union, around: 1 + shared / union - (around - union) / around
        ),
        "that is 1 - IoU: the same 1 for all boxes that do not touch": of_parts(
            lambda shared, union, around: 1 - shared / union
        ),
        "without the 1, equal boxes have a loss of -1": of_parts(
            lambda shared, union, around: -(shared / union - (around - union) / around)
        ),
        "the empty room is a share of the box around both, not of the union": of_parts(
            lambda shared, union, around: 1 - shared / union + (around - union) / union
        ),
        "the room is what the union does not fill, not what the intersection does not": of_parts(
            lambda shared, union, around: 1 - shared / union + (around - shared) / around
        ),
        "boxes that are apart share nothing: two negative sides give an area": unclamped,
    }


def refined(reference_cxcywh: Tensor, delta: Tensor) -> Tensor:
    """Boxes (N, 4) in 0..1: the reference, moved by delta as logits."""
    return (reference_cxcywh.clamp(NEAREST, 1 - NEAREST).logit() + delta).sigmoid()


@exercise("04.6", "Boxes refined in logit space")
def boxes_as_logits(attempt: Attempt) -> None:
    """References inside the picture and on its edges, small and large deltas."""
    generator = np.random.default_rng(46)
    cases = []
    for count in [1, 1, 1, 2, 3] * 6:
        reference = generator.integers(1, 20, (count, 4)) / 20
        if len(cases) % 3 == 0:  # after the others of the same size: they show the rule
            reference[0, generator.integers(4)] = generator.integers(2)
        cases.append(
            {
                "reference_cxcywh": torch.from_numpy(reference).float(),
                "delta": torch.from_numpy(generator.integers(-12, 13, (count, 4)) / 4).float(),
            }
        )
    compare_function(attempt, cases[1:] + cases[:1], refined, wrong_refinement())


def wrong_refinement() -> dict[str, Callable]:
    """Reasons and functions of the usual wrong ways to refine a box."""

    def logit(value: Tensor) -> Tensor:
        return value.clamp(NEAREST, 1 - NEAREST).logit()

    return {
        "the sum is in fractions of the picture: it leaves 0..1": lambda box, delta: box + delta,
        "cut at 0 and 1, a box that left the picture has no gradient": (
            lambda box, delta: (box + delta).clamp(0, 1)
        ),
        "the reference has to become a logit before delta is added": (
            lambda box, delta: (box + delta).sigmoid()
        ),
        "the sum is a logit still: a sigmoid brings it back to 0..1": (
            lambda box, delta: logit(box) + delta
        ),
        "delta alone is not enough: the layer corrects the reference": (
            lambda box, delta: delta.sigmoid()
        ),
        "delta has no sigmoid of its own: add first, then one sigmoid": (
            lambda box, delta: (logit(box) + delta.sigmoid()).sigmoid()
        ),
        "at 0 and 1 the logit is infinite, and no delta can move the box: keep the reference "
        f"{NEAREST:g} away from them": lambda box, delta: (box.logit() + delta).sigmoid(),
        "the order of centre and size stays as it is": (
            lambda box, delta: box_convert(refined(box, delta), "cxcywh", "xyxy")
        ),
    }
