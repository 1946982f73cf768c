"""Checks of the exercises 03.1 to 03.3, about counting pixels and resizing label maps.

The oracles are this lesson's confusion matrix, which its tests compare with slow loops and with
torchmetrics, and PyTorch's `interpolate`.
"""

from collections.abc import Callable, Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from common.checking.check import compare_function, compare_value, exercise
from common.checking.sandbox import Attempt
from common.masks import IGNORE_INDEX
from metrics import ConfusionMatrix

ROAD, PERSON = 0, 3
PIXELS = (70, 20, 8, 2)  # of road, building, vegetation, person: the table in the notebook


def counted(predicted: Tensor, labels: Tensor, num_classes: int) -> ConfusionMatrix:
    """The confusion matrix of one pair of label maps."""
    matrix = ConfusionMatrix(num_classes)
    matrix.update(predicted, labels)
    return matrix


@exercise("03.1", "Why pixel accuracy lies")
def why_pixel_accuracy_lies(attempt: Attempt) -> None:
    """Accuracy and mean IoU of two bad models, counted from label maps of 100 pixels."""
    truth = torch.repeat_interleave(torch.arange(4), torch.tensor(PIXELS))
    constant = counted(torch.full_like(truth, ROAD), truth, 4)
    blind = counted(torch.where(truth == PERSON, ROAD, truth), truth, 4)
    accuracy = constant.pixel_accuracy(), blind.pixel_accuracy()
    mean_iou = constant.mean_iou(), blind.mean_iou()
    found = [m.counts.diag() / m.counts.sum(1) for m in (constant, blind)]
    share = torch.tensor(PIXELS) / sum(PIXELS)

    def answer(a: float | Tensor, b: float | Tensor) -> tuple[float, ...]:
        return accuracy[0], float(a), accuracy[1], float(b)

    iou, dice = [constant.iou(), blind.iou()], [constant.dice(), blind.dice()]
    road_right = (iou[1].sum() - iou[1][ROAD] + 1) / 4
    reasons = {
        "a class that is never found counts 0 in the mean, it is not left out": answer(
            iou[0].sum(), iou[1].sum() / 3
        ),
        "those are means of the share of each class that is found: wrong claims do not count "
        "there": answer(*(one.mean() for one in found)),
        "a person that is called road makes the union of road larger": answer(
            mean_iou[0], road_right
        ),
        "those are means of Dice": answer(*(one.mean() for one in dice)),
        "the IoUs are weighted with the classes' pixels: in the mean, every class counts alike": (
            answer(*((one * share).sum() for one in iou))
        ),
        "the IoU of road alone is no mean over all classes": answer(iou[0][ROAD], iou[1][ROAD]),
        "accuracy and mean IoU are swapped": (
            *(mean_iou[0], accuracy[0]),
            *(mean_iou[1], accuracy[1]),
        ),
    }
    compare_value(attempt, answer(*mean_iou), reasons)


def label_map_cases(generator: np.random.Generator) -> Iterator[dict]:
    """Pairs of label maps, small ones first, with ignored pixels and with absent classes."""
    sizes = [(1, 2)] * 6 + [(1, 3)] * 6 + [(2, 2)] * 8 + [(2, 3)] * 6 + [(4, 5)] * 3 + [(9, 7)]
    for size in sizes:
        num_classes = int(generator.integers(2, 5))
        labels = torch.from_numpy(generator.integers(0, num_classes, size))
        predicted = torch.from_numpy(generator.integers(0, num_classes, size))
        labels[torch.from_numpy(generator.random(size) < 0.2)] = IGNORE_INDEX
        yield {
            "predicted": predicted,
            "labels": labels,
            "num_classes": num_classes,
            "ignore_index": IGNORE_INDEX,
        }


def parts(predicted: Tensor, labels: Tensor, K: int, ignore_index: int) -> tuple[Tensor, ...]:
    """Right, predicted and true pixels of each class (K,), and predictions where ignored."""
    used = labels != ignore_index
    right, claimed, true = (
        torch.bincount(one, minlength=K).double()
        for one in (labels[used & (labels == predicted)], predicted[used], labels[used])
    )
    return right, claimed, true, torch.bincount(predicted[~used], minlength=K).double()


@exercise("03.2", "IoU of every class")
def iou_of_every_class(attempt: Attempt) -> None:
    """IoU (K,), NaN for classes that do not appear, ignored pixels left out."""

    def oracle(predicted: Tensor, labels: Tensor, K: int, ignore_index: int) -> Tensor:
        return counted(predicted, labels, K).iou()

    def with_ignored(*inputs: Tensor) -> Tensor:
        right, claimed, true, ignored = parts(*inputs)
        return right / (claimed + ignored + true - right)

    def union_too_large(*inputs: Tensor) -> Tensor:
        right, claimed, true, _ = parts(*inputs)
        return right / (claimed + true)

    def recall(*inputs: Tensor) -> Tensor:
        right, _, true, _ = parts(*inputs)
        return right / true

    def precision(*inputs: Tensor) -> Tensor:
        right, claimed, _, _ = parts(*inputs)
        return right / claimed

    compare_function(
        attempt,
        label_map_cases(np.random.default_rng(2)),
        oracle,
        {
            "a class that does not appear at all counts 0: it has no IoU, so NaN": (
                lambda *inputs: oracle(*inputs).nan_to_num(0)
            ),
            "a class that does not appear at all counts 1: it has no IoU, so NaN": (
                lambda *inputs: oracle(*inputs).nan_to_num(1)
            ),
            "what is predicted on ignored pixels still counts as a wrong claim": with_ignored,
            "the union counts the shared part twice": union_too_large,
            "that is Dice": lambda *inputs: 2 * union_too_large(*inputs),
            "that is the share of the true pixels that is found: wrong claims count too": recall,
            "that is the share of the claims that is right: missed pixels count too": precision,
        },
    )


def enlarged(image: Tensor, factor: int, mode: str, corners: bool | None = None) -> Tensor:
    """Enlarge (C, H, W), float, by a whole factor."""
    return F.interpolate(image[None], scale_factor=factor, mode=mode, align_corners=corners)[0]


def enlarge_cases(generator: np.random.Generator) -> Iterator[dict]:
    """Photos and label maps of 8 classes with ignored pixels, and whole factors."""
    sizes = [(1, 2), (2, 1), (1, 2), (1, 3), (2, 2), (2, 2), (2, 3), (3, 4), (5, 4)]
    for k, size in enumerate(sizes):
        C, factor = (1, 2) if k < 3 else (3, int(generator.integers(2, 4)))
        labels = torch.from_numpy(generator.integers(0, 8, size)).to(torch.uint8)
        labels[torch.from_numpy(generator.random(size) < 0.1)] = IGNORE_INDEX
        image = torch.from_numpy(generator.integers(0, 9, (C, *size)) / 8).float()
        yield {"image": image, "labels": labels, "factor": factor}


@exercise("03.3", "Find the bug: a resized label map")
def find_the_bug_in_resizing(attempt: Attempt) -> None:
    """The photo bilinear, the label map by repeating; the oracle is PyTorch's."""

    def resized(labels: Tensor, factor: int, mode: str) -> Tensor:
        return enlarged(labels[None].float(), factor, mode)[0]

    def way(photo: str = "bilinear", corners: bool | None = None) -> Callable:
        def both(image: Tensor, labels: Tensor, factor: int) -> tuple[Tensor, Tensor]:
            nearest = resized(labels, factor, "nearest").byte()
            return enlarged(image, factor, photo, corners), nearest

        return both

    def mixed(image: Tensor, labels: Tensor, factor: int) -> tuple[Tensor, Tensor]:
        between = resized(labels, factor, "bilinear").round().byte()
        return enlarged(image, factor, "bilinear"), between

    def cut(image: Tensor, labels: Tensor, factor: int) -> tuple[Tensor, Tensor]:
        return enlarged(image, factor, "bilinear"), resized(labels, factor, "bilinear").byte()

    def tiled(image: Tensor, labels: Tensor, factor: int) -> tuple[Tensor, Tensor]:
        return enlarged(image, factor, "bilinear"), labels.repeat(factor, factor)

    mixing = "labels are mixed: halfway between road (4) and vehicle (6) lies no person (5)"
    compare_function(
        attempt,
        enlarge_cases(np.random.default_rng(3)),
        way(),
        {
            mixing: mixed,
            f"{mixing}, and the fractions are cut off": cut,
            "the label map is laid out like tiles: asked is each pixel beside itself": tiled,
            "the photo is not to be mended: bilinear is right for colours": way("nearest"),
            "the photo's corners are pinned, the label map's are not: both drift apart": way(
                "bilinear", corners=True
            ),
        },
    )
