"""Box formats and overlaps: by hand, then 10,000 random pairs and awkward ones of torchvision."""

import math

import pytest
import torch
import torchvision.ops as ops
from hypothesis import given, settings
from hypothesis import strategies as st

import boxes
from boxes import (
    box_iou,
    check_boxes_xyxy,
    complete_box_iou,
    cxcywh_to_xyxy,
    generalized_box_iou,
    xywh_to_xyxy,
    xyxy_to_cxcywh,
    xyxy_to_xywh,
)

PAIRS = [
    (box_iou, ops.box_iou),
    (generalized_box_iou, ops.generalized_box_iou),
    (complete_box_iou, ops.complete_box_iou),
]


def test_formats_by_hand():
    assert cxcywh_to_xyxy(torch.tensor([10.0, 20, 4, 6])).tolist() == [8, 17, 12, 23]
    assert xyxy_to_cxcywh(torch.tensor([8.0, 17, 12, 23])).tolist() == [10, 20, 4, 6]
    assert xywh_to_xyxy(torch.tensor([8.0, 17, 4, 6])).tolist() == [8, 17, 12, 23]
    assert xyxy_to_xywh(torch.tensor([8.0, 17, 12, 23])).tolist() == [8, 17, 4, 6]
    assert cxcywh_to_xyxy(torch.zeros(0, 4)).shape == (0, 4)


@pytest.mark.parametrize("fmt", ["xywh", "cxcywh"])
def test_formats_equal_torchvisions_on_10000_boxes(fmt, random_boxes):
    boxes_xyxy = random_boxes(10_000, seed=0)
    there = getattr(boxes, f"xyxy_to_{fmt}")(boxes_xyxy)
    torch.testing.assert_close(there, ops.box_convert(boxes_xyxy, "xyxy", fmt))
    torch.testing.assert_close(getattr(boxes, f"{fmt}_to_xyxy")(there), boxes_xyxy)


def test_overlaps_by_hand():
    a = torch.tensor([[0.0, 0, 10, 10]])
    b = torch.tensor([[0.0, 0, 10, 10], [5, 0, 15, 10], [20, 0, 30, 10], [2, 2, 4, 4]])
    assert box_iou(a, b)[0].tolist() == pytest.approx([1, 1 / 3, 0, 0.04])
    # the hull of the third pair is 30 x 10, a third of it empty
    assert generalized_box_iou(a, b)[0].tolist() == pytest.approx([1, 1 / 3, -1 / 3, 0.04])
    # equal shapes: only the centres count, 5 and 20 pixels apart
    expected = [1, 1 / 3 - 25 / (15**2 + 10**2), -400 / (30**2 + 10**2)]
    assert complete_box_iou(a, b)[0, :3].tolist() == pytest.approx(expected, abs=1e-6)


def test_complete_iou_of_another_shape_by_hand():
    a, b = torch.tensor([[0.0, 0, 2, 8]]), torch.tensor([[-3.0, 3, 5, 5]])  # a cross, one centre
    iou = 4 / 28
    v = 4 / math.pi**2 * (math.atan(4) - math.atan(1 / 4)) ** 2
    expected = iou - v * v / (1 - iou + v)
    assert complete_box_iou(a, b).item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_overlaps_equal_torchvisions_on_40000_pairs(ours, theirs, dtype, random_boxes):
    a, b = random_boxes(200, seed=1).to(dtype), random_boxes(200, seed=2).to(dtype)
    assert ours(a, b).dtype == dtype
    tolerance = 1e-5 if dtype == torch.float32 else 1e-12
    torch.testing.assert_close(ours(a, b), theirs(a, b), rtol=0, atol=tolerance)


@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
@settings(max_examples=120)
@given(data=st.data())
def test_awkward_overlaps_equal_torchvisions(ours, theirs, data, boxes_strategy):
    a, b = data.draw(boxes_strategy()), data.draw(boxes_strategy())
    result = ours(a, b)
    torch.testing.assert_close(result, theirs(a, b), rtol=0, atol=1e-12)
    torch.testing.assert_close(result, ours(b, a).T, rtol=0, atol=1e-12)
    assert (result <= 1 + 1e-12).all()


def test_boxes_without_area_have_no_overlap():
    point = torch.tensor([[3.0, 3, 3, 3]])
    assert box_iou(point, point).tolist() == [[0]]  # torchvision: NaN
    assert generalized_box_iou(point, point).tolist() == [[0]]
    assert complete_box_iou(point, point).isfinite().all()


@pytest.mark.parametrize(("ours", "theirs"), PAIRS[1:])
def test_gradients_equal_torchvisions(ours, theirs, random_boxes):
    a, b = random_boxes(30, seed=3), random_boxes(30, seed=4)
    gradients = []
    for function in (ours, theirs):
        leaf = a.clone().requires_grad_()
        (1 - function(leaf, b)).sum().backward()
        gradients.append(leaf.grad)
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-9)


def test_unusable_boxes_are_named():
    assert check_boxes_xyxy(torch.zeros(0, 4)).shape == (0, 4)
    good = [0.0, 0, 1, 1]
    for bad in ([5.0, 5, 4, 6], [0.0, 9, 3, 2], [0.0, 0, math.nan, 1], [0.0, 0, math.inf, 1]):
        with pytest.raises(ValueError, match=r"box 1 is \[.*allowed are finite numbers with x1 <="):
            check_boxes_xyxy(torch.tensor([good, bad]))
    with pytest.raises(ValueError, match=r"shape \(3, 5\); allowed is \(N, 4\)"):
        check_boxes_xyxy(torch.zeros(3, 5))
