"""Matching against all assignments there are; losses against libraries and slow references."""

from functools import cache
from itertools import permutations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torchvision.ops import (
    box_convert,
    box_iou,
    generalized_box_iou,
    generalized_box_iou_loss,
    sigmoid_focal_loss,
)

from losses import WEIGHTS, detr_loss, iou_and_giou, varifocal
from matcher import assign, cost_matrix, match, noisy_queries, objects_of


def xyxy(boxes):
    return box_convert(boxes, "cxcywh", "xyxy")


def some_boxes(count, seed):
    random = torch.Generator().manual_seed(seed)
    return 0.05 + 0.9 * torch.rand(count, 4, generator=random)


@cache
def all_choices(rows, columns):
    """Every way of giving each of the columns a row of its own, (ways, columns)."""
    return np.array(list(permutations(range(rows), columns)), np.int64)


def least_cost(cost):
    """Try every way of giving each object, or each query if they are fewer, a partner."""
    cost = cost.T if cost.shape[0] < cost.shape[1] else cost
    return cost[all_choices(*cost.shape), np.arange(cost.shape[1])].sum(axis=1).min()


def test_assignment_against_all_there_are():
    random = np.random.default_rng(0)
    for case in range(1000):
        objects = int(random.integers(1, 7))
        queries = int(random.integers(max(1, objects - 1), 8))
        cost = random.normal(size=(queries, objects))
        if case % 3 == 0:
            cost = cost.round()  # ties
        chosen, found = (one.tolist() for one in assign(torch.from_numpy(cost)))
        assert len(set(chosen)) == len(set(found)) == len(chosen) == min(queries, objects)
        total = sum(cost[q, k] for q, k in zip(chosen, found, strict=True))
        assert total == pytest.approx(least_cost(cost), abs=1e-9)


def answers(stages, pictures, queries, classes, seed=0):
    random = torch.Generator().manual_seed(seed)
    logits = torch.randn(stages, pictures, queries, classes, generator=random)
    boxes = 0.1 + 0.6 * torch.rand(stages, pictures, queries, 4, generator=random)
    return logits, boxes


def test_cost_number_by_number(some_targets):
    logits, boxes = answers(1, 1, 4, 3)
    (target,) = some_targets(3)
    logits, boxes = logits[0, 0], boxes[0, 0]
    cost = cost_matrix(logits, boxes, target["classes"], target["boxes_cxcywh"])
    for q in range(4):
        for k, label in enumerate(target["classes"].tolist()):
            one = logits[q, label]
            yes, no = (sigmoid_focal_loss(one, torch.tensor(answer)) for answer in (1.0, 0.0))
            box, other = boxes[q], target["boxes_cxcywh"][k]
            giou = generalized_box_iou(xyxy(box[None]), xyxy(other[None]))[0, 0]
            expected = 2 * (yes - no) + 5 * (box - other).abs().sum() - 2 * giou
            assert cost[q, k].item() == pytest.approx(expected.item(), abs=1e-4)


def test_cost_of_a_batch_is_that_of_each(some_targets):
    logits, boxes = answers(2, 3, 5, 3)
    classes, wanted = objects_of(some_targets(2, 4, 0))
    together = cost_matrix(logits, boxes, classes, wanted)
    assert together.shape == (2, 3, 5, 6)
    for stage in range(2):
        for picture in range(3):
            one = cost_matrix(logits[stage, picture], boxes[stage, picture], classes, wanted)
            torch.testing.assert_close(together[stage, picture], one)


def test_a_sure_answer_costs_finite(some_targets):
    logits = torch.tensor([[200.0, -200, 0], [-200, 200, 0]])
    (target,) = some_targets(3)
    assert (
        cost_matrix(logits, some_boxes(2, 0), target["classes"], some_boxes(3, 1)).isfinite().all()
    )


def test_match_of_a_batch(some_targets):
    targets = some_targets(2, 0, 4, 7)  # more objects than queries in the last picture
    logits, boxes = answers(3, 4, 5, 3)
    found = match(logits, boxes, targets)
    starts, seen = [0, 2, 2, 6], set()
    for stage in range(3):
        for picture, target in enumerate(targets):
            own = (found.stage == stage) & (found.picture == picture)
            numbers = found.object[own] - starts[picture]
            count = len(target["classes"])
            assert len(numbers) == min(5, count)
            assert all(0 <= k < count for k in numbers.tolist())
            cost = cost_matrix(logits[stage, picture], boxes[stage, picture], *target_of(target))
            total = cost[found.query[own], numbers].sum().item()
            assert total == pytest.approx(least_cost(cost.double().numpy()), abs=1e-4)
            seen |= {(stage, picture, q) for q in found.query[own].tolist()}
    assert len(seen) == len(found.stage) == 3 * (2 + 4 + 5)


def target_of(target):
    return target["classes"], target["boxes_cxcywh"]


def test_match_without_objects(some_targets):
    found = match(*answers(2, 2, 5, 3), some_targets(0, 0))
    assert [one.shape for one in found] == [(0,)] * 4


def test_iou_and_giou_are_torchvisions():
    boxes, others = some_boxes(200, 0), some_boxes(200, 1)
    boxes[:20, 2:] /= 30  # some that do not touch
    boxes[20] = others[20]
    iou, giou = iou_and_giou(boxes, others)
    torch.testing.assert_close(iou, box_iou(xyxy(boxes), xyxy(others)).diagonal())
    torch.testing.assert_close(giou, generalized_box_iou(xyxy(boxes), xyxy(others)).diagonal())
    loss = generalized_box_iou_loss(xyxy(boxes), xyxy(others))
    torch.testing.assert_close(1 - giou, loss)
    assert giou[20].item() == pytest.approx(1) and giou.min() < 0


def test_giou_by_hand():
    """Two unit squares with a gap of one between them: the box around both is a third empty."""
    boxes = torch.tensor([[0.5, 0.5, 1, 1]]), torch.tensor([[2.5, 0.5, 1, 1]])
    iou, giou = iou_and_giou(*boxes)
    assert (iou.item(), giou.item()) == pytest.approx((0, -1 / 3))


def test_varifocal_number_by_number():
    logits = torch.tensor([2.0, -1, 0.5, 30, -30])
    quality = torch.tensor([0.8, 0.0, 0.0, 1.0, 0.0])
    found = varifocal(logits, quality).tolist()
    for one, wanted, value in zip(logits.double(), quality.double(), found, strict=True):
        p = one.sigmoid()
        entropy = F.binary_cross_entropy(p, wanted)
        expected = wanted * entropy if wanted > 0 else 0.75 * p**2 * entropy
        assert value == pytest.approx(expected.item(), rel=1e-4, abs=1e-6)


def test_varifocal_is_least_at_the_quality():
    logits = torch.linspace(-5, 5, 1001)
    for quality in (0.2, 0.5, 0.9):
        losses = varifocal(logits, torch.full_like(logits, quality))
        assert logits[losses.argmin()].sigmoid().item() == pytest.approx(quality, abs=0.01)


def slow_terms(logits, boxes, pairs, target):
    """One picture of one stage; pairs of query and object."""
    quality = torch.zeros_like(logits)
    l1 = giou = 0.0
    for q, k in pairs:
        ours, true = xyxy(boxes[q][None]), xyxy(target["boxes_cxcywh"][k][None])
        quality[q, target["classes"][k]] = max(box_iou(ours, true).item(), 0.05)
        l1 += (boxes[q] - target["boxes_cxcywh"][k]).abs().sum().item()
        giou += 1 - generalized_box_iou(ours, true).item()
    p = logits.sigmoid()
    weight = torch.where(quality > 0, quality, 0.75 * p**2)
    entropy = F.binary_cross_entropy(p, quality, weight, reduction="sum").item()
    return np.array([entropy, l1, giou]) * [WEIGHTS[name] for name in ("class", "l1", "giou")]


def test_loss_against_loops(some_targets):
    targets, (logits, boxes) = some_targets(2, 0, 4), answers(3, 3, 6, 3)
    outputs = {"logits": logits, "boxes_cxcywh": boxes, "denoised": None}
    found = detr_loss(outputs, targets)
    expected = np.zeros(3)
    for stage in range(3):
        for picture, target in enumerate(targets):
            one = logits[stage, picture], boxes[stage, picture]
            cost = cost_matrix(*one, *target_of(target))
            expected += slow_terms(*one, zip(*assign(cost), strict=True), target)
    assert [one.item() for one in found.values()] == pytest.approx(
        (expected / 6).tolist(), rel=1e-4
    )
    assert list(found) == ["class", "l1", "giou"]


def test_denoising_loss_against_loops(some_targets):
    targets = some_targets(2, 0, 3)
    noisy = noisy_queries(targets, 3, groups=2)
    logits, boxes = answers(3, 3, 6, 3, seed=1)
    outputs = dict(zip(("logits", "boxes_cxcywh"), answers(4, 3, 5, 3), strict=True))
    outputs["denoised"] = {"logits": logits, "boxes_cxcywh": boxes}
    found, expected = detr_loss(outputs, targets, noisy), np.zeros(3)
    for stage in range(3):
        for picture, target in enumerate(targets):
            n = len(target["classes"])
            for start in (0, 3):  # two groups of three, filled up with padding
                own = slice(start, start + n)
                one = logits[stage, picture, own], boxes[stage, picture, own]
                expected += slow_terms(*one, zip(range(n), range(n), strict=True), target)
    names = ["denoising_class", "denoising_l1", "denoising_giou"]
    assert [found[name].item() for name in names] == pytest.approx(
        (expected / 10).tolist(), rel=1e-4
    )
    plain = detr_loss(outputs, targets)
    assert list(found) == [*plain, *names]
    assert all(found[name] == plain[name] for name in plain)


def test_loss_without_objects_has_finite_gradients(tiny_detr, some_targets):
    model, targets = tiny_detr(), some_targets(0, 0)
    noisy = noisy_queries(targets, 3, groups=2)
    losses = detr_loss(model(torch.rand(2, 3, 64, 96), noisy), targets, noisy)
    assert losses["class"] > 0
    assert all(losses[name] == 0 for name in losses if name != "class")
    sum(losses.values()).backward()
    for name, one in model.named_parameters():  # each is used: processes can share the gradients
        assert not one.requires_grad or one.grad.isfinite().all(), name


def test_a_second_query_on_an_object_learns_nothing_but_no():
    """What makes suppression needless: of two equal boxes one is matched, the other sinks."""
    logits = torch.zeros(1, 1, 2, 1, requires_grad=True)
    box = torch.tensor([[0.5, 0.5, 0.2, 0.4]])
    outputs = {"logits": logits, "boxes_cxcywh": box.expand(1, 1, 2, 4), "denoised": None}
    detr_loss(outputs, [{"boxes_cxcywh": box, "classes": torch.tensor([0])}])["class"].backward()
    assert sorted(logits.grad.sign().flatten().tolist()) == [-1, 1]


def test_numbers_that_are_none_reach_the_loss(some_targets):
    logits, boxes = answers(1, 1, 3, 3)
    outputs = {"logits": logits * torch.nan, "boxes_cxcywh": boxes, "denoised": None}
    assert detr_loss(outputs, some_targets(2))["class"].isnan()
