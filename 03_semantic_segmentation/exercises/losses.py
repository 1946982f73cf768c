"""Checks of the exercises 03.4 and 03.5, about losses for a class per pixel.

The oracles are PyTorch's cross-entropy and this lesson's Dice loss, which the tests compare with a
slow loop.
"""

from collections.abc import Callable, Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from common.checking.check import compare_function, exercise
from common.checking.sandbox import Attempt
from common.masks import IGNORE_INDEX
from losses import dice_loss

Loss = Callable[..., Tensor]


def loss_cases(
    generator: np.random.Generator, num_classes: tuple[int, ...], batches: tuple[int, ...]
) -> Iterator[dict]:
    """Logits (B, K, H, W) and labels (B, H, W), half of the cases with ignored pixels."""
    sizes = [(1, 1), (1, 2), (2, 1), (2, 2), (2, 3), (3, 2), (4, 5)]
    for ignored in (0, 0.4):
        for size in sizes:
            for B in batches:
                K = int(generator.choice(num_classes))
                labels = torch.from_numpy(generator.integers(0, K, (B, *size)))
                labels[torch.from_numpy(generator.random((B, *size)) < ignored)] = IGNORE_INDEX
                labels[0, 0, 0] = 0  # one pixel counts
                logits = torch.from_numpy(generator.integers(-4, 5, (B, K, *size)) / 2).float()
                yield {"logits": logits, "labels": labels}


def weighted_loss(
    logits: Tensor,
    labels: Tensor,
    class_weights: Tensor,
    ignore_index: int,
    axis: int = 1,
    divisor: str = "weights",
    skip_ignored: bool = True,
) -> Tensor:
    """Weighted cross-entropy, and its usual wrong ways."""
    used = (labels != ignore_index) if skip_ignored else torch.ones_like(labels, dtype=torch.bool)
    true = torch.where(labels == ignore_index, 0, labels)
    losses = -logits.log_softmax(dim=axis).gather(1, true[:, None])[:, 0]  # (B, H, W)
    weight = class_weights[true] * used
    by = {"weights": weight.sum(), "counted": used.sum(), "all": used.numel()}
    return (losses * weight).sum() / by[divisor]


@exercise("03.4", "Find the bugs: weighted cross-entropy")
def find_the_bugs_in_cross_entropy(attempt: Attempt) -> None:
    """A weighted mean over the pixels that count; the oracle is PyTorch's."""
    generator = np.random.default_rng(4)
    cases = [
        {
            **case,
            "class_weights": torch.from_numpy(
                generator.integers(1, 9, case["logits"].shape[1]) / 4
            ).float(),
            "ignore_index": IGNORE_INDEX,
        }
        for case in loss_cases(generator, (2, 3), (1, 2))
    ]

    def oracle(logits: Tensor, labels: Tensor, weights: Tensor, ignore_index: int) -> Tensor:
        return F.cross_entropy(logits, labels, weights, ignore_index=ignore_index)

    def way(**options: int | str | bool) -> Loss:
        return lambda *inputs: weighted_loss(*inputs, **options)

    def unweighted(logits: Tensor, labels: Tensor, weights: Tensor, ignored: int) -> Tensor:
        return F.cross_entropy(logits, labels, ignore_index=ignored)

    by_all = "the mean divides by all pixels"
    axis = "the softmax does not run over the classes"
    compare_function(
        attempt,
        cases,
        oracle,
        {
            f"there is more than one bug: {axis}, and {by_all}": way(axis=-1, divisor="all"),
            f"{axis}: at each pixel, the probabilities of the classes sum to 1": way(axis=-1),
            f"{by_all}, also by ignored ones": way(divisor="all"),
            "the mean divides by the number of pixels that count: in a weighted mean, a pixel of "
            "weight 3 counts three times, above and below": way(divisor="counted"),
            "ignored pixels count as class 0": way(skip_ignored=False),
            "the class weights are not used": unweighted,
        },
    )


def dice_parts(
    logits: Tensor, labels: Tensor, ignore_index: int, activation: str = "softmax"
) -> tuple[Tensor, Tensor, Tensor]:
    """Probabilities and truth (B, K, H, W), and which pixels count (B, 1, H, W)."""
    K, used = logits.shape[1], (labels != ignore_index)[:, None]
    truth = F.one_hot(torch.where(used[:, 0], labels, 0), K).movedim(-1, 1) * used
    if activation == "argmax":
        return F.one_hot(logits.argmax(1), K).movedim(-1, 1).float(), truth, used
    return (logits.sigmoid() if activation == "sigmoid" else logits.softmax(1)), truth, used


def dice_way(
    smoothing: float = 1,
    twice: int = 2,
    absent: bool = False,
    ignored: bool = False,
    activation: str = "softmax",
) -> Loss:
    """A way to compute the Dice loss that differs from the asked one in one respect."""

    def way(logits: Tensor, labels: Tensor, ignore_index: int) -> Tensor:
        p, truth, used = dice_parts(logits, labels, ignore_index, activation)
        p = p if ignored else p * used
        shared, size = (p * truth).sum((0, 2, 3)), truth.sum((0, 2, 3))
        dice = (twice * shared + smoothing) / (p.sum((0, 2, 3)) + size + smoothing)
        return 1 - (dice.mean() if absent else dice[size > 0].mean())

    return way


@exercise("03.5", "A Dice loss that survives empty classes")
def dice_that_survives(attempt: Attempt) -> None:
    """The mean over the classes that occur, over the whole batch; the oracle is this lesson's."""
    cases = [
        {**case, "ignore_index": IGNORE_INDEX}
        for case in loss_cases(np.random.default_rng(5), (2, 3, 4), (1, 2))
    ]
    nothing = {**cases[5], "labels": torch.full_like(cases[5]["labels"], IGNORE_INDEX)}

    def by_picture(logits: Tensor, labels: Tensor, ignore_index: int) -> Tensor:
        pairs = zip(logits.split(1), labels.split(1), strict=True)
        return torch.stack([dice_loss(a, b, ignore_index) for a, b in pairs]).mean()

    compare_function(
        attempt,
        [*cases, nothing],
        dice_loss,
        {
            "where every pixel is ignored, the loss is 0": dice_way(),
            "classes that do not occur take part in the mean": dice_way(absent=True),
            "the probabilities at ignored pixels still count": dice_way(ignored=True),
            "the mean is taken picture by picture: asked are the sums over the batch": by_picture,
            "the smoothing is missing above and below": dice_way(smoothing=0),
            "the shared part counts once above: it takes twice": dice_way(twice=1),
            "that is the coefficient, which is best at 1: a loss is best at 0": (
                lambda *inputs: 1 - dice_loss(*inputs)
            ),
            "the probabilities come from a sigmoid: classes exclude one another here": dice_way(
                activation="sigmoid"
            ),
            "areas of the largest class are counted: that has no gradient": dice_way(
                activation="argmax"
            ),
        },
    )
