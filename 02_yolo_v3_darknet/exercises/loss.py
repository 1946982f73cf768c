"""Check of the exercise 02.11: the loss of the one prediction that answers for an object.

The oracles are the lesson's `darknet_box_loss`, whose gradients its tests compare with Darknet's,
and PyTorch's cross-entropy; a test compares all three terms with `YoloLoss`.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits as yes_or_no
from torch.nn.functional import cross_entropy, one_hot

from common.checking.check import compare_function, exercise
from common.checking.sandbox import Attempt
from darknet.cfg import Yolo
from losses import darknet_box_loss
from targets import Assignment


def loss_of_one(
    values: Tensor,
    offset_xy: Tensor,
    size_wh: Tensor,
    anchor_wh: Tensor,
    input_size: int,
    label: int,
) -> Tensor:
    """Box, objectness and class loss (3,) of one prediction (5 + C,); see `losses.YoloLoss`."""
    block = Yolo(line=0, mask=(0,), anchors=tuple(anchor_wh.tolist()), classes=1, num=1)
    place, wanted = torch.zeros(1, dtype=torch.long), one_hot(torch.tensor(label), len(values) - 5)
    box = torch.cat((offset_xy, size_wh / input_size))[None]  # in a map of a single cell
    nothing = torch.zeros(1, 1, 1, 1, dtype=torch.bool)
    one = Assignment(place, place, place, place, place, box, wanted[None].float(), nothing)
    box_loss = darknet_box_loss(values[None, :4], block, one, (1, 1), (input_size, input_size))
    objectness = yes_or_no(values[4], torch.tensor(1.0))
    return torch.stack((box_loss[0], objectness, terms_of(values[5:], label).sum()))


def terms_of(values: Tensor, label: int) -> Tensor:
    """The cross-entropy of each class (C,), asked on its own."""
    wanted = one_hot(torch.tensor(label), len(values)).float()
    return yes_or_no(values, wanted, reduction="none")


@exercise("02.11", "The loss of one object")
def the_loss_of_one_object(attempt: Attempt) -> None:
    """Three terms of one prediction; the oracle is the lesson's published loss."""
    generator = np.random.default_rng(11)
    cases = []
    for classes in [1, 2, 2, 3, 5] * 4:
        cases.append(
            {
                "values": torch.from_numpy(generator.integers(-4, 5, 5 + classes) / 2).float(),
                "offset_xy": torch.from_numpy(generator.integers(1, 8, 2) / 8).float(),
                "size_wh": torch.from_numpy(generator.integers(8, 200, 2)).float(),
                "anchor_wh": torch.from_numpy(generator.integers(8, 200, 2)).float(),
                "input_size": int(generator.choice([256, 320, 416])),
                "label": int(generator.integers(0, classes)),
            }
        )
    compare_function(attempt, cases, loss_of_one, wrong_losses(), tolerance=1e-4)


def centre_term(values: Tensor, offset: Tensor) -> Tensor:
    """The centre's part of the box loss, ()."""
    return yes_or_no(values, offset, reduction="sum")


def size_term(values: Tensor, ratio: Tensor) -> Tensor:
    """The size's part of the box loss, (); `ratio` is size / anchor."""
    return (values - ratio.log()).square().sum() / 2


def small_counts_more(size_wh: Tensor, input_size: int) -> Tensor:
    """The factor 2 - w * h, ()."""
    return 2 - (size_wh / input_size).prod()


def objectness_term(value: Tensor) -> Tensor:
    """The objectness loss of a prediction that answers, ()."""
    return yes_or_no(value, torch.ones(()))


def class_term(values: Tensor, label: int) -> Tensor:
    """The class loss, ()."""
    return terms_of(values, label).sum()


def changed(
    factor: Callable = small_counts_more,
    centre: Callable = centre_term,
    size: Callable = size_term,
    objectness: Callable = objectness_term,
    classes: Callable = class_term,
) -> Callable:
    """`loss_of_one` in its parts, some of them replaced."""

    def loss(
        values: Tensor, offset: Tensor, wh: Tensor, anchor: Tensor, side: int, label: int
    ) -> Tensor:
        box = factor(wh, side) * (centre(values[:2], offset) + size(values[2:4], wh / anchor))
        return torch.stack((box, objectness(values[4]), classes(values[5:], label)))

    return loss


def wrong_losses() -> dict[str, Callable]:
    """Reasons and functions of the usual wrong ways to the loss of one object."""
    return {
        **wrong_factors(),
        **wrong_centres(),
        **wrong_sizes(),
        **wrong_classes(),
        **means(),
        **logistic_twice(),
        "objectness: this prediction answers for an object, it learns 1": changed(
            objectness=lambda t: yes_or_no(t, torch.zeros(()))
        ),
    }


def wrong_factors() -> dict[str, Callable]:
    """Ways without the factor 2 - w * h, or with another."""

    def on_the_size_alone(
        values: Tensor, offset: Tensor, wh: Tensor, anchor: Tensor, side: int, label: int
    ) -> Tensor:
        right = loss_of_one(values, offset, wh, anchor, side, label)
        extra = (small_counts_more(wh, side) - 1) * centre_term(values[:2], offset)
        return right - torch.stack((extra, torch.zeros(()), torch.zeros(())))

    return {
        "box: small objects count more, by the factor 2 - w * h": changed(lambda wh, side: 1.0),
        "box: w and h in the factor are fractions of the input, not pixels": changed(
            lambda wh, side: 2 - wh.prod()
        ),
        "box: the factor is 2 - w * h; with w * h alone, large objects count more": changed(
            lambda wh, side: (wh / side).prod()
        ),
        "box: the factor 2 - w * h belongs to the centre as well as to the size": on_the_size_alone,
    }


def wrong_centres() -> dict[str, Callable]:
    """Ways that measure the centre's error otherwise."""
    return {
        "box: the centre is a cross-entropy of sigmoid(t), not a squared difference": changed(
            centre=lambda t, offset: (t.sigmoid() - offset).square().sum()
        ),
        "box: the centre is a cross-entropy of sigmoid(t), not half a squared difference": changed(
            centre=lambda t, offset: (t.sigmoid() - offset).square().sum() / 2
        ),
        "box: the offset is compared with sigmoid(t), not with the raw t": changed(
            centre=lambda t, offset: (t - offset).square().sum()
        ),
        "box: the offset is compared with sigmoid(t), not half its square with the raw t": changed(
            centre=lambda t, offset: (t - offset).square().sum() / 2
        ),
        "box: of the centre the sigmoids are compared, by cross-entropy, not the raw t": changed(
            centre=lambda t, offset: (t - offset.logit()).square().sum() / 2
        ),
    }


def wrong_sizes() -> dict[str, Callable]:
    """Ways that measure the size's error otherwise."""
    return {
        "box: the size has half the squared error": changed(
            size=lambda t, ratio: (t - ratio.log()).square().sum()
        ),
        "box: the size is compared as t, with log(size / anchor), not as a factor": changed(
            size=lambda t, ratio: (t.exp() - ratio).square().sum() / 2
        ),
        "box: t is the logarithm of size / anchor: the log is missing": changed(
            size=lambda t, ratio: (t - ratio).square().sum() / 2
        ),
        "box: the log is of size / anchor, not of anchor / size": changed(
            size=lambda t, ratio: (t + ratio.log()).square().sum() / 2
        ),
        "box: half the sum of both squares, not half their mean": changed(
            size=lambda t, ratio: (t - ratio.log()).square().mean() / 2
        ),
    }


def wrong_classes() -> dict[str, Callable]:
    """Ways that ask about the classes otherwise."""
    return {
        "class: the classes do not compete, so each has a cross-entropy of its own": changed(
            classes=lambda values, label: cross_entropy(values, torch.tensor(label))
        ),
        "class: the classes that it is not are learned too, as 0": changed(
            classes=lambda values, label: terms_of(values, label)[label]
        ),
    }


def means() -> dict[str, Callable]:
    """Ways with a mean where a sum is asked for: PyTorch's reduction when none is given."""

    def centre(t: Tensor, offset: Tensor) -> Tensor:
        return centre_term(t, offset) / 2

    def size(t: Tensor, ratio: Tensor) -> Tensor:
        return size_term(t, ratio) / 2

    def classes(values: Tensor, label: int) -> Tensor:
        return terms_of(values, label).mean()

    return {
        "class: asked is the sum over the classes, not the mean": changed(classes=classes),
        "box: asked is the sum over x and y, not the mean": changed(centre=centre),
        "box and class: asked are sums; without reduction='sum' PyTorch takes the mean": changed(
            centre=centre, classes=classes
        ),
        "box: asked are sums, not the means of centre and size": changed(centre=centre, size=size),
        "asked are sums, not means, in all terms": changed(
            centre=centre, size=size, classes=classes
        ),
    }


def logistic_twice() -> dict[str, Callable]:
    """Ways that give sigmoid(t) to a cross-entropy that wants t."""

    def centre(t: Tensor, offset: Tensor) -> Tensor:
        return centre_term(t.sigmoid(), offset)

    def objectness(t: Tensor) -> Tensor:
        return objectness_term(t.sigmoid())

    def classes(values: Tensor, label: int) -> Tensor:
        return class_term(values.sigmoid(), label)

    return {
        "box: the cross-entropy has the sigmoid in it: give it t": changed(centre=centre),
        "objectness: the cross-entropy has the sigmoid in it: give it t": changed(
            objectness=objectness
        ),
        "class: the cross-entropy has the sigmoid in it: give it t": changed(classes=classes),
        "the cross-entropy has the sigmoid in it: give it t, in all three terms": changed(
            centre=centre, objectness=objectness, classes=classes
        ),
    }
