"""Suppression by hand, against torchvision, OpenCV and a slow loop."""

import math

import cv2
import numpy as np
import pytest
import torch
import torchvision.ops as ops
from hypothesis import given, settings
from hypothesis import strategies as st

from boxes import box_iou
from suppression import class_aware_nms, nms, soft_nms

ROW = torch.tensor([[0.0, 0, 10, 10], [2, 0, 12, 10], [8, 0, 18, 10]])  # IoU 2/3, 1/9, 1/4


def test_nms_by_hand():
    scores = torch.tensor([0.8, 0.9, 0.7])
    assert nms(ROW, scores, 0.5).tolist() == [1, 2]
    assert nms(ROW, scores, 0.2).tolist() == [1]
    assert nms(ROW, scores, 1.0).tolist() == [1, 0, 2]
    assert nms(ROW[:0], scores[:0], 0.5).tolist() == []


def test_threshold_itself_does_not_drop():
    pair = torch.tensor([[0.0, 0, 4, 4], [0, 0, 4, 2]])  # IoU exactly 1/2
    assert nms(pair, torch.tensor([0.9, 0.8]), 0.5).tolist() == [0, 1]
    assert nms(pair, torch.tensor([0.9, 0.8]), 0.499).tolist() == [0]


def test_a_dropped_box_drops_nothing():
    # The second overlaps the first and the third; it is gone before it could drop the third.
    chain = torch.tensor([[0.0, 0, 10, 10], [4, 0, 14, 10], [8, 0, 18, 10]])
    assert nms(chain, torch.tensor([0.9, 0.8, 0.7]), 0.4).tolist() == [0, 2]


def test_10000_cases_equal_torchvisions(random_boxes, cases):
    # 10,000 sets of 2 to 15 boxes, crowded enough to overlap.
    everything = random_boxes(85_000, seed=9, extent=30)
    generator = torch.Generator().manual_seed(10)
    scores = torch.rand(85_000, generator=generator, dtype=torch.float64)
    start = 0
    for case in range(cases(10_000)):
        part = slice(start, start := start + 2 + case % 14)
        threshold = (case % 10) / 10
        expected = ops.nms(everything[part], scores[part], threshold)
        assert torch.equal(nms(everything[part], scores[part], threshold), expected), case


@settings(max_examples=200)
@given(data=st.data(), threshold=st.sampled_from([0.0, 0.25, 1 / 3, 0.5, 0.9]))
def test_ties_and_equal_boxes_as_torchvision(data, threshold, boxes_strategy):
    found = data.draw(boxes_strategy(1, 12))
    ranks = st.lists(st.integers(0, 3), min_size=len(found), max_size=len(found))
    scores = torch.tensor(data.draw(ranks), dtype=torch.float64) / 4
    labels = torch.tensor(data.draw(ranks))
    assert torch.equal(nms(found, scores, threshold), ops.nms(found, scores, threshold))
    expected = ops.batched_nms(found, scores, labels, threshold)
    assert torch.equal(class_aware_nms(found, scores, labels, threshold), expected)


def test_10000_cases_of_classes_equal_torchvisions(random_boxes, cases):
    everything = random_boxes(85_000, seed=11, extent=20)
    generator = torch.Generator().manual_seed(12)
    scores = torch.rand(85_000, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, 3, (85_000,), generator=generator)
    start = 0
    for case in range(cases(10_000)):
        part = slice(start, start := start + 2 + case % 9)
        arguments = everything[part], scores[part], labels[part], 0.4
        assert torch.equal(class_aware_nms(*arguments), ops.batched_nms(*arguments)), case


def slow_soft_nms(boxes_xyxy, scores, score_threshold, method, iou_threshold, sigma):
    left = list(range(len(scores)))
    values = scores.tolist()
    result = []
    while left:
        best = max(left, key=lambda i: (values[i], -i))
        if values[best] < score_threshold:
            break
        left.remove(best)
        result.append((best, values[best]))
        for i in left:
            overlap = box_iou(boxes_xyxy[best : best + 1], boxes_xyxy[i : i + 1]).item()
            if method == "gaussian":
                values[i] *= math.exp(-overlap * overlap / sigma)
            elif overlap > iou_threshold:
                values[i] *= 1 - overlap
    return result


@pytest.mark.parametrize("method", ["linear", "gaussian"])
def test_soft_nms_equals_a_slow_loop(method, random_boxes):
    generator = torch.Generator().manual_seed(13)
    for case in range(300):
        found = random_boxes(case % 12, seed=100 + case, extent=20)
        scores = torch.rand(len(found), generator=generator, dtype=torch.float64)
        kept, lowered = soft_nms(found, scores, 0.1, method, 0.3, 0.5)
        expected = slow_soft_nms(found, scores, 0.1, method, 0.3, 0.5)
        assert kept.tolist() == [index for index, _ in expected]
        assert lowered.tolist() == pytest.approx([score for _, score in expected])


@pytest.mark.parametrize("method", ["linear", "gaussian"])
def test_soft_nms_equals_opencvs_in_5000_cases_of_each_method(method):
    generator = np.random.default_rng(14)
    code = cv2.dnn.SOFT_NMSMETHOD_SOFTNMS_LINEAR, cv2.dnn.SOFT_NMSMETHOD_SOFTNMS_GAUSSIAN
    for case in range(5_000):
        corners = generator.integers(0, 20, (1 + case % 8, 2))
        sizes = generator.integers(5, 30, corners.shape)
        scores = generator.random(len(corners)).astype(np.float32)
        boxes_xyxy = torch.from_numpy(np.hstack((corners, corners + sizes))).float()
        kept, lowered = soft_nms(boxes_xyxy, torch.from_numpy(scores), 0.05, method, 0.3, 0.5)
        updated, indices = cv2.dnn.softNMSBoxes(
            np.hstack((corners, sizes)).tolist(),
            scores.tolist(),
            0.05,
            0.3,
            sigma=0.5,
            method=code[method == "gaussian"],
        )
        assert kept.tolist() == np.ravel(indices).tolist(), case
        assert np.allclose(lowered.numpy(), np.ravel(updated), rtol=0, atol=1e-5), case


def test_soft_nms_of_nothing_and_bad_settings():
    kept, lowered = soft_nms(ROW[:0], torch.zeros(0), 0.1)
    assert kept.tolist() == [] and lowered.tolist() == []
    with pytest.raises(ValueError, match="method is 'hard'; allowed are 'linear' and 'gaussian'"):
        soft_nms(ROW, torch.ones(3), 0.1, "hard")
    with pytest.raises(ValueError, match="sigma is 0; allowed are numbers above 0"):
        soft_nms(ROW, torch.ones(3), 0.1, sigma=0)


def test_soft_nms_leaves_its_arguments():
    scores = torch.tensor([0.8, 0.9, 0.7])
    soft_nms(ROW, scores, 0.1)
    assert scores.tolist() == pytest.approx([0.8, 0.9, 0.7])
