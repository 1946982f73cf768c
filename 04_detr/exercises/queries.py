"""Checks of the exercises 04.7 and 04.8: the mask of the denoising groups, and the detections.

The oracles are written here; tests compare them with the lesson's modules.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import batched_nms, box_convert

from common.checking.check import compare_function, exercise
from common.checking.sandbox import Attempt


def denoising_mask(groups: int, size: int, queries: int) -> Tensor:
    """Who may not look at whom, bool (N, N), N = groups * size + queries: True is forbidden.

    Row: who looks. Column: at whom. The groups come first, the queries last.
    """
    noisy = groups * size
    number = torch.arange(noisy + queries)
    group = torch.where(number < noisy, number // size, -1)  # -1: the queries
    return (group >= 0)[None] & (group[None] != group[:, None])


@exercise("04.7", "Find the bug: the mask of the denoising groups")
def mask_of_the_groups(attempt: Attempt) -> None:
    """One to four groups of one to three, and one to four queries."""
    cases = [
        {"groups": groups, "size": size, "queries": queries}
        for total in range(3, 12)
        for groups in range(1, 5)
        for size in range(1, 4)
        for queries in range(1, 5)
        if groups + size + queries == total
    ]
    compare_function(attempt, cases, denoising_mask, wrong_masks(), tolerance=0)


def wrong_masks() -> dict[str, Callable]:
    """Reasons and functions of the usual wrong ways to mask the groups."""

    def way(change: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Callable:
        def mask(groups: int, size: int, queries: int) -> Tensor:
            noisy = groups * size
            number = torch.arange(noisy + queries)
            return change(denoising_mask(groups, size, queries), number >= noisy, number // size)

        return mask

    return {
        "the queries see the groups: the answers, only a little noisy. In training they copy "
        "them, and in the test there are none": way(
            lambda mask, query, group: mask & ~query[:, None]
        ),
        "the groups see one another: what one has lost, another still shows": way(
            lambda mask, query, group: mask & query[:, None]
        ),
        "row and column are swapped: the row is who looks": way(lambda mask, query, group: mask.T),
        "True and False are swapped: True forbids, as in nn.MultiheadAttention": way(
            lambda mask, query, group: ~mask
        ),
        "the queries may see one another: that is how they agree who answers": way(
            lambda mask, query, group: mask | (query[:, None] & query)
        ),
        "a group may see the queries: they know nothing that it should not": way(
            lambda mask, query, group: mask | (~query[:, None] & query)
        ),
        "the members of a group see one another, as queries do": way(
            lambda mask, query, group: (
                mask | (~query[:, None] & ~query & (torch.eye(len(query)) == 0))
            )
        ),
        "nothing is forbidden here": way(lambda mask, query, group: mask & False),
    }


def found(
    logits: Tensor, boxes_cxcywh: Tensor, height: int, width: int, count: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The best pairs of a query and a class: scores (K,), labels (K,), boxes (K, 4) in pixels."""
    scores, places = logits.sigmoid().flatten().topk(min(count, logits.numel()))
    corners = box_convert(boxes_cxcywh, "cxcywh", "xyxy")
    pixels = corners * torch.tensor([width, height, width, height])
    classes = logits.shape[1]
    return scores, places % classes, pixels[places // classes]


@exercise("04.8", "No suppression: from scores to detections")
def without_suppression(attempt: Attempt) -> None:
    """Few queries and classes, some boxes on one place, scores without ties."""
    generator = np.random.default_rng(48)
    cases = []
    for queries, classes, count in [(1, 2, 1), (2, 2, 2), (2, 3, 4), (3, 2, 3), (5, 4, 8)] * 6:
        values = generator.permutation(np.arange(-40, 41))[: queries * classes] / 10
        centre = generator.integers(6, 15, (queries, 2)) / 20
        boxes = np.concatenate((centre, generator.integers(2, 10, (queries, 2)) / 20), axis=1)
        if queries > 1:
            boxes[1] = boxes[0]  # two queries on one place, which is no fault by itself
        cases.append(
            {
                "logits": torch.from_numpy(values.reshape(queries, classes)).float(),
                "boxes_cxcywh": torch.from_numpy(boxes).float(),
                "height": int(generator.integers(5, 15)) * 20,
                "width": int(generator.integers(16, 25)) * 20,
                "count": count,
            }
        )
    compare_function(attempt, cases, found, wrong_detections(), tolerance=1e-4)


def suppressed(*inputs: object) -> tuple[Tensor, ...]:
    """`found`, and then class-aware suppression."""
    scores, labels, boxes = found(*inputs)
    kept = batched_nms(boxes, scores, labels, 0.5)
    return scores[kept], labels[kept], boxes[kept]


def best_class_alone(
    logits: Tensor, boxes: Tensor, height: int, width: int, count: int
) -> tuple[Tensor, ...]:
    """Each query answers with its best class at most."""
    only = torch.full_like(logits, -torch.inf)
    only[torch.arange(len(logits)), logits.argmax(dim=1)] = logits.amax(dim=1)
    return found(only, boxes, height, width, min(count, len(logits)))


def by_columns(
    logits: Tensor, boxes: Tensor, height: int, width: int, count: int
) -> tuple[Tensor, ...]:
    """The places in the flattened table are read as if its rows were the classes."""
    scores, places = logits.sigmoid().flatten().topk(count)
    corners = box_convert(boxes, "cxcywh", "xyxy") * torch.tensor([width, height, width, height])
    return scores, places // len(logits), corners[places % len(logits)]


def still_logits(*inputs: object) -> tuple[Tensor, ...]:
    """`found` without the sigmoid."""
    scores, labels, boxes = found(*inputs)
    return scores.logit(), labels, boxes


def wrong_detections() -> dict[str, Callable]:
    """Reasons and functions of the usual wrong ways from scores to detections."""
    return {
        "there is no suppression here: two queries on one place are two answers": suppressed,
        "a query may answer with several classes: all pairs of a query and a class "
        "compete": best_class_alone,
        "classes do not compete: a sigmoid for each, no softmax": (
            lambda logits, *others: found(logits.softmax(dim=1).logit(), *others)
        ),
        "place // C is the query and place % C the class, with C classes in a row": by_columns,
        "height and width are swapped: x is a fraction of the width": (
            lambda logits, boxes, height, width, count: found(logits, boxes, width, height, count)
        ),
        "the boxes are still centre and size": (
            lambda logits, boxes, *others: found(
                logits, box_convert(boxes, "xyxy", "cxcywh"), *others
            )
        ),
        "the boxes are still fractions of the picture": (
            lambda logits, boxes, height, width, count: found(logits, boxes, 1, 1, count)
        ),
        "the scores are still logits": still_logits,
    }
