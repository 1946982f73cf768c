"""The exercises: solutions pass, blanks do not, and usual wrong ways get their reason."""

from itertools import permutations, product
from typing import ClassVar

import pytest
import torch

import evaluation
import losses
import matcher
from common.checking.check import examine
from exercises import checks
from exercises.attending import attended, seen, wrong_attention, wrong_positions
from exercises.boxes import giou_loss, refined, wrong_giou, wrong_refinement
from exercises.matching import assigned, is_clear, trained, wrong_assignments, wrong_trainings
from exercises.queries import denoising_mask, found, wrong_detections, wrong_masks
from notebook_suite import ExerciseSuite, NotebookSuite


class TestNotebooks(NotebookSuite):
    pass


class TestExercises(ExerciseSuite):
    """Every exercise of the lesson."""

    REASONS: ClassVar = {
        "04.1": [
            "two objects may not have one query",
            "the cheapest pair first is greedy",
            "object after object is greedy",
            "that is the dearest assignment",
        ],
        "04.2": [
            "each object asks for its nearest query",
            "each query goes to its nearest object",
            "half of the way in a step",
        ],
        "04.3": [
            "divided by the root of D before the softmax",
            "not of N, the number of keys",
            "the places compete, by a softmax",
            "attention is soft",
        ],
        "04.4": [
            "the positions are left out",
            "the values carry what is there, without them",
            "the queries none",
            "added, not multiplied",
        ],
        "04.5": [
            "the sign: empty room",
            "that is GIoU",
            "that is 1 - IoU",
            "not of the union",
        ],
        "04.6": [
            "it leaves 0..1",
            "has no gradient",
            "has to become a logit",
            "the logit is infinite",
        ],
        "04.7": [
            "the queries see the groups",
            "the groups see one another",
            "True and False are swapped",
            "row and column are swapped",
        ],
        "04.8": [
            "there is no suppression here",
            "a query may answer with several classes",
            "classes do not compete",
            "height and width are swapped",
        ],
    }


WAYS = {
    "04.1": (assigned, wrong_assignments),
    "04.2": (trained, wrong_trainings),
    "04.3": (attended, wrong_attention),
    "04.4": (seen, wrong_positions),
    "04.5": (giou_loss, wrong_giou),
    "04.6": (refined, wrong_refinement),
    "04.7": (denoising_mask, wrong_masks),
    "04.8": (found, wrong_detections),
}


@pytest.mark.parametrize("exercise_id", WAYS)
def test_every_wrong_way_gets_its_own_reason(exercise_id: str) -> None:
    right, wrong = WAYS[exercise_id]
    assert checks.check(exercise_id, right).passed
    for reason, way in wrong().items():
        assert examine(exercise_id, way).reason.startswith(reason)


def test_the_assignment_is_the_best_of_all_ways() -> None:
    random = torch.Generator().manual_seed(0)
    for things in (1, 2, 3, 4) * 5:
        costs = torch.randint(0, 9, (5, things), generator=random).float()
        totals = [costs[list(way), range(things)].sum() for way in permutations(range(5), things)]
        chosen = assigned(costs)
        assert costs[chosen, range(things)].sum() == min(totals)
        assert is_clear(costs) == (totals.count(min(totals)) == 1)


def test_two_objects_are_found_where_argmax_finds_none() -> None:
    queries, objects = torch.tensor([5.0, 9]), torch.tensor([3.0, 5])
    assert trained(queries, objects, 30).tolist() == pytest.approx([3, 5])
    collapsed = next(iter(wrong_trainings().values()))(queries, objects, 30)
    assert collapsed.tolist() == pytest.approx([4, 9])


def test_attention_by_loops() -> None:
    query, keys, values = torch.randn(4), torch.randn(3, 4), torch.randn(3, 2)
    grown = [torch.exp(sum(q * k for q, k in zip(query, key, strict=True)) / 2) for key in keys]
    wanted = [float(one / sum(grown)) for one in grown]
    weights, result = attended(query, keys, values)
    assert weights.tolist() == pytest.approx(wanted, rel=1e-4)
    mean = sum(weight * value for weight, value in zip(wanted, values, strict=True))
    assert result.tolist() == pytest.approx(mean.tolist(), rel=1e-4, abs=1e-6)


def test_positions_make_the_order_matter() -> None:
    tokens, positions, order = torch.randn(5, 4), torch.randn(5, 4), torch.tensor([3, 1, 4, 0, 2])
    without = seen(tokens[order], 0 * positions) - seen(tokens, 0 * positions)[order]
    assert without.abs().max() < 1e-5
    assert (seen(tokens[order], positions) - seen(tokens, positions)[order]).abs().max() > 0.01


def test_giou_is_that_of_the_lesson() -> None:
    boxes = 0.2 + 0.5 * torch.rand(20, 2, 4)
    _, giou = losses.iou_and_giou(boxes[:, 0], boxes[:, 1])
    corners = matcher.to_xyxy(boxes)
    ours = torch.stack([giou_loss(*pair) for pair in corners])
    torch.testing.assert_close(ours, 1 - giou)


def test_boxes_are_refined_as_in_the_decoder(tiny_detr) -> None:
    """The decoder's second answer, from the first one and its head's correction."""
    model, noted = tiny_detr(num_queries=2), []
    model.box_heads[-1].register_forward_hook(lambda _, __, delta: noted.append(delta))
    with torch.no_grad():
        answer = model(torch.rand(1, 3, 64, 64))["boxes_cxcywh"][:, 0]
    torch.testing.assert_close(refined(answer[-2], noted[-1][0]), answer[-1])


@pytest.mark.parametrize("sizes", [*product((1, 3), (1, 2), (1, 4))])
def test_the_mask_is_that_of_the_lesson(sizes: tuple[int, int, int]) -> None:
    assert torch.equal(denoising_mask(*sizes), matcher.group_mask(*sizes))


def test_detections_are_those_of_the_lesson() -> None:
    logits, boxes = torch.randn(6, 3), 0.3 + 0.2 * torch.rand(6, 4)
    outputs = {"logits": logits[None, None], "boxes_cxcywh": boxes[None, None]}
    (theirs,) = evaluation.detections(outputs, most=9)
    scores, classes, corners = found(logits, boxes, 240, 320, 9)
    assert torch.equal(classes, theirs["classes"])
    torch.testing.assert_close(scores, theirs["scores"])
    in_photo = evaluation.to_photo(theirs["boxes_cxcywh"], (240, 320), 240, 320)
    torch.testing.assert_close(corners, in_photo)
