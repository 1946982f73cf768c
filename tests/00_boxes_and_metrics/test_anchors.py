"""Anchors, their matching and their offsets, against torchvision's own classes."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.models.detection._utils import BoxCoder, Matcher
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList

from anchors import (
    BACKGROUND,
    IGNORED,
    base_anchors_xyxy,
    decode_boxes,
    encode_boxes,
    grid_anchors_xyxy,
    match,
)
from boxes import box_area, box_iou

SIDES = st.lists(st.integers(4, 600), min_size=1, max_size=4)
RATIOS = st.lists(st.floats(0.1, 10), min_size=1, max_size=4)


def test_base_anchors_by_hand():
    square, tall = base_anchors_xyxy([32], [1, 4]).tolist()
    assert square == [-16, -16, 16, 16]
    assert tall == [-8, -32, 8, 32]  # the same area; height / width is 4


def test_grid_by_hand():
    anchors = grid_anchors_xyxy(torch.tensor([[-1.0, -2, 1, 2]]), (2, 3), 8)
    centres = ((anchors[:, :2] + anchors[:, 2:]) / 2).tolist()
    assert centres == [[0, 0], [8, 0], [16, 0], [0, 8], [8, 8], [16, 8]]
    assert (box_area(anchors) == 8).all()


@settings(max_examples=200)
@given(SIDES, RATIOS, st.integers(1, 12), st.integers(1, 12), st.sampled_from([4, 8, 16, 32]))
def test_anchors_equal_torchvisions(sizes, ratios, rows, columns, stride):
    generator = AnchorGenerator((tuple(sizes),), (tuple(ratios),))
    image = torch.zeros(1, 3, rows * stride, columns * stride)
    images = ImageList(image, [(rows * stride, columns * stride)])
    expected = generator(images, [torch.zeros(1, 1, rows, columns)])[0]
    ours = grid_anchors_xyxy(base_anchors_xyxy(sizes, ratios), (rows, columns), stride)
    assert ours.shape == (rows * columns * len(sizes) * len(ratios), 4)
    assert torch.equal(ours, expected)


@pytest.mark.parametrize(("sizes", "ratios", "name"), [([], [1], "sizes"), ([8], [-1], "ratios")])
def test_bad_anchors_are_named(sizes, ratios, name):
    with pytest.raises(ValueError, match=rf"{name} are \[.*allowed are one or more numbers above"):
        base_anchors_xyxy(sizes, ratios)


def test_matching_by_hand():
    iou = torch.tensor([[0.8, 0.5, 0.1, 0.0], [0.2, 0.6, 0.2, 0.0]])
    assert match(iou, 0.7, 0.3).tolist() == [0, IGNORED, BACKGROUND, BACKGROUND]
    assert match(iou, 0.7, 0.3, keep_best=True).tolist() == [0, 1, BACKGROUND, BACKGROUND]
    assert match(torch.tensor([[0.7, 0.3]]), 0.7, 0.3).tolist() == [0, IGNORED]  # at the thresholds


def test_nothing_to_match():
    assert match(torch.zeros(0, 3), 0.7, 0.3).tolist() == [BACKGROUND] * 3
    assert match(torch.zeros(2, 0), 0.7, 0.3).tolist() == []
    with pytest.raises(ValueError, match=r"low_threshold is 0.8; allowed is at most .* 0.7"):
        match(torch.zeros(1, 1), 0.7, 0.8)


@pytest.mark.parametrize("keep_best", [False, True])
def test_matching_equals_torchvisions_in_5000_cases_of_each_kind(keep_best):
    matcher = Matcher(0.7, 0.3, allow_low_quality_matches=keep_best)
    generator = torch.Generator().manual_seed(5)
    for case in range(5_000):
        # Few distinct values, so that there are ties and values at the thresholds.
        table = torch.randint(0, 11, (1 + case % 4, 1 + case % 7), generator=generator) / 10
        assert torch.equal(match(table, 0.7, 0.3, keep_best), matcher(table)), table


@settings(max_examples=150)
@given(data=st.data(), high=st.floats(0, 1), share=st.floats(0, 1), keep_best=st.booleans())
def test_matching_of_boxes_equals_torchvisions(data, high, share, keep_best, boxes_strategy):
    iou = box_iou(data.draw(boxes_strategy(1, 4)), data.draw(boxes_strategy(1, 12)))
    expected = Matcher(high, high * share, keep_best)(iou)
    assert torch.equal(match(iou, high, high * share, keep_best), expected)


@pytest.mark.parametrize("weights", [(1, 1, 1, 1), (10, 10, 5, 5)])
def test_10000_offsets_equal_torchvisions(weights, random_boxes):
    boxes_xyxy, anchors = random_boxes(10_000, seed=6), random_boxes(10_000, seed=7)
    coder = BoxCoder(weights)
    offsets = encode_boxes(boxes_xyxy, anchors, weights)
    torch.testing.assert_close(offsets, coder.encode_single(boxes_xyxy, anchors))
    decoded = decode_boxes(offsets, anchors, weights)
    torch.testing.assert_close(decoded, coder.decode_single(offsets, anchors))
    torch.testing.assert_close(decoded, boxes_xyxy)  # there and back


def test_offsets_by_hand():
    anchor = torch.tensor([[0.0, 0, 10, 20]])
    offsets = encode_boxes(torch.tensor([[5.0, 0, 25, 20]]), anchor)
    assert offsets[0].tolist() == pytest.approx([1, 0, math.log(2), 0])


def test_wild_offsets_are_cut(random_boxes):
    anchors = random_boxes(100, seed=8)
    wild = torch.linspace(-20, 20, 400, dtype=torch.float64).view(100, 4)
    expected = BoxCoder((1, 1, 1, 1)).decode_single(wild, anchors)
    torch.testing.assert_close(decode_boxes(wild, anchors), expected)
    largest = decode_boxes(torch.tensor([[0.0, 0, 99, 0]]), torch.tensor([[0.0, 0, 16, 1]]))
    assert (largest[0, 2] - largest[0, 0]).item() == pytest.approx(1000)
