"""RoIPool and RoIAlign by hand on a 6 x 6 map, then against torchvision.ops."""

import pytest
import torch
import torchvision.ops as ops
from hypothesis import given, settings
from hypothesis import strategies as st

from roi_pooling import bilinear, roi_align, roi_pool

RAMP = torch.arange(36.0).view(1, 6, 6)  # the value of cell (row, column) is 6 row + column
EIGHTHS = st.integers(-24, 72).map(lambda n: n / 8)  # places in cells, halves among them


def batch(features, box):
    return features[None], [box[None]]


def test_roi_pool_by_hand():
    # 0.6, 0.6, 3.4, 3.4 in cells is rounded to cells 1 to 3: three rows in two bins share one.
    box = torch.tensor([0.6, 0.6, 3.4, 3.4])
    assert roi_pool(RAMP, box, 2, 1.0)[0].tolist() == [[14, 15], [20, 21]]


def test_roi_align_by_hand():
    # One sample in the middle of each bin. A ramp is interpolated exactly: 6 y + x - 3.5,
    # since cell (0, 0) has its value at (0.5, 0.5).
    box = torch.tensor([0.6, 0.6, 3.4, 3.4])
    places = [0.6 + 0.7, 0.6 + 2.1]
    expected = [[6 * y + x - 3.5 for x in places] for y in places]
    torch.testing.assert_close(roi_align(RAMP, box, 2, 1.0, samples=1)[0], torch.tensor(expected))


def test_bilinear_by_hand():
    y, x = torch.tensor([0.0, 1.5, -0.5, -1.5, 6.5]), torch.tensor([0.25])
    assert bilinear(RAMP, y, x)[0, :, 0].tolist() == [0.25, 9.25, 0.25, 0, 0]


@settings(max_examples=200)
@given(st.tuples(EIGHTHS, EIGHTHS), st.tuples(EIGHTHS, EIGHTHS), st.integers(1, 4))
def test_roi_pool_of_awkward_boxes_equals_torchvisions(xs, ys, size):
    box = torch.tensor([min(xs), min(ys), max(xs), max(ys)])
    expected = ops.roi_pool(*batch(RAMP, box), size, 1.0)[0]
    assert torch.equal(roi_pool(RAMP, box, size, 1.0), expected)


@settings(max_examples=200)
@given(
    st.tuples(EIGHTHS, EIGHTHS),
    st.tuples(EIGHTHS, EIGHTHS),
    st.integers(1, 4),
    st.integers(1, 3),
    st.booleans(),
)
def test_roi_align_of_awkward_boxes_equals_torchvisions(xs, ys, size, samples, aligned):
    box = torch.tensor([min(xs), min(ys), max(xs), max(ys)])
    expected = ops.roi_align(*batch(RAMP, box), size, 1.0, samples, aligned)[0]
    ours = roi_align(RAMP, box, size, 1.0, samples, aligned)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("scale", [1.0, 1 / 8])
def test_10000_boxes_equal_torchvisions(scale, random_boxes, cases):
    generator = torch.Generator().manual_seed(15)
    features = torch.randn((2, 13, 17), generator=generator, dtype=torch.float64)
    count = cases(5_000)
    boxes_xyxy = random_boxes(count, seed=16) * 0.1 / scale - 1
    index = torch.zeros(count, 1, dtype=torch.float64)
    rows = torch.cat((index, boxes_xyxy), dim=1)
    pooled = ops.roi_pool(features[None], rows, 3, scale)
    averaged = ops.roi_align(features[None], rows, 3, scale, 2, True)
    for i, box in enumerate(boxes_xyxy):
        assert torch.equal(roi_pool(features, box, 3, scale), pooled[i]), box
        ours = roi_align(features, box, 3, scale, samples=2)
        assert (ours - averaged[i]).abs().max() < 1e-9, box


def test_samples_must_be_positive():
    with pytest.raises(ValueError, match="samples is 0; allowed are whole numbers above 0"):
        roi_align(RAMP, torch.tensor([0.0, 0, 1, 1]), 2, 1.0, samples=0)
