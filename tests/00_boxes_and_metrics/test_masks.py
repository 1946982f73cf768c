"""Masks and run lengths: by hand, and 10,000 random masks against pycocotools."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco

from common.mask_boxes import masks_to_boxes_xyxy
from masks import decode_runs, encode_runs, mask_dice, mask_iou, pack_runs, unpack_runs

SMALL = st.tuples(st.integers(1, 7), st.integers(1, 7), st.integers(0, 2**49 - 1)).map(
    lambda case: np.array([case[2] >> n & 1 for n in range(case[0] * case[1])]).reshape(case[:2])
)


def blobs(count, seed, size=None):
    """Masks of random size, with few or many runs."""
    generator = np.random.default_rng(seed)
    for _ in range(count):
        H, W = size or generator.integers(1, 40, 2)
        coarse = generator.random((max(1, H // 5), max(1, W // 5))) < generator.random()
        mask = np.kron(coarse, np.ones((6, 10), bool))[:H, :W]
        yield np.pad(mask, ((0, H - mask.shape[0]), (0, W - mask.shape[1])))


def test_masks_by_hand():
    a, b = np.zeros((2, 1, 4, 4), dtype=bool)
    a[0, :2, :2] = True  # 4 pixels
    b[0, :2, 1:3] = True  # 4 pixels, 2 shared
    assert mask_iou(a, b).tolist() == [[2 / 6]]
    assert mask_dice(a, b).tolist() == [[4 / 8]]
    assert mask_iou(a * False, b * False).tolist() == [[0]]
    with pytest.raises(ValueError, match=r"sizes \(4, 4\) and \(4, 3\)"):
        mask_iou(a, b[:, :, :3])


def test_runs_by_hand():
    mask = np.array([[0, 1, 1], [0, 0, 1]])
    assert encode_runs(mask) == [2, 1, 1, 2]  # down the columns: 0 0 | 1 0 | 1 1
    assert encode_runs(1 - mask) == [0, 2, 1, 1, 2]
    assert pack_runs([2, 1, 1, 2]) == "2111"  # the last is written as 2 - 1
    assert pack_runs([40]) == "X1"  # 40 = 8 + 32 * 1: "8" with the sign of more, then "1"
    assert decode_runs([6], (2, 3)).tolist() == [[False] * 3] * 2


@settings(max_examples=300)
@given(SMALL)
def test_small_masks_equal_pycocotools(mask):
    runs = encode_runs(mask)
    expected = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    assert pack_runs(runs) == expected["counts"].decode()
    assert unpack_runs(pack_runs(runs)) == runs
    assert np.array_equal(decode_runs(runs, mask.shape), mask)


def test_10000_masks_equal_pycocotools(cases):
    for case, mask in enumerate(blobs(cases(10_000), seed=17)):
        expected = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
        runs = encode_runs(mask)
        assert pack_runs(runs) == expected["counts"].decode(), case
        assert unpack_runs(expected["counts"].decode()) == runs, case
        assert np.array_equal(decode_runs(runs, mask.shape), mask), case


def test_10000_overlaps_equal_pycocotools():
    a, b = (np.stack(list(blobs(100, seed, (24, 31)))) for seed in (18, 19))
    codes = [coco.encode(np.asfortranarray(m.transpose(1, 2, 0).astype(np.uint8))) for m in (a, b)]
    expected = coco.iou(codes[0], codes[1], [0] * 100)
    np.testing.assert_allclose(mask_iou(a, b), expected, rtol=0, atol=1e-12)
    dice = mask_dice(a, b)
    np.testing.assert_allclose(dice, 2 * expected / (1 + expected), rtol=0, atol=1e-12)


def test_long_runs_equal_pycocotools():
    mask = np.zeros((2000, 1500), np.uint8)
    mask[3:, 700:1400] = 1
    assert pack_runs(encode_runs(mask)) == coco.encode(np.asfortranarray(mask))["counts"].decode()


def test_broken_runs_are_refused():
    with pytest.raises(ValueError, match=r"runs \[2, 3\] ... add up to 5; allowed is 2 x 3 pixels"):
        decode_runs([2, 3], (2, 3))
    with pytest.raises(ValueError, match="allowed is 2 x 3 pixels"):
        decode_runs([8, -2], (2, 3))
    for text in ("!", "2\x7f", "ooooooooooooooooooooo"):
        with pytest.raises(ValueError, match="is not COCO's text of run lengths"):
            unpack_runs(text)
    with pytest.raises(ValueError, match="'2X' ends in the middle of a number"):
        unpack_runs("2X")


@settings(max_examples=150)
@given(st.text(max_size=8))
def test_any_text_is_read_or_refused(text):
    try:
        runs = unpack_runs(text)
    except ValueError as error:
        assert "COCO's text" in str(error) or "middle of a number" in str(error)
    else:
        assert unpack_runs(pack_runs(runs)) == runs


def test_boxes_around_masks():
    masks = np.zeros((2, 5, 6), np.uint8)
    masks[0, 1:3, 2:5] = 1
    assert masks_to_boxes_xyxy(masks).tolist() == [[2, 1, 5, 3], [0, 0, 0, 0]]
