"""Precision, recall and the three kinds of AP: by hand, and against slow loops."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metrics import (
    average_precision_11_points,
    average_precision_101_points,
    average_precision_all_points,
    envelope,
    match_voc,
    overlaps,
    precision_recall,
    voc_curve,
)

# Five detections, right wrong right right wrong, of four objects.
PRECISION, RECALL = precision_recall(
    np.array([0.5, 0.9, 0.8, 0.7, 0.6]), np.array([False, True, False, True, True]), 4
)


def test_precision_and_recall_by_hand():
    assert PRECISION.tolist() == [1, 1 / 2, 2 / 3, 3 / 4, 3 / 5]
    assert RECALL.tolist() == [1 / 4, 1 / 4, 2 / 4, 3 / 4, 3 / 4]
    assert envelope(PRECISION).tolist() == [1, 3 / 4, 3 / 4, 3 / 4, 3 / 5]


def test_average_precision_by_hand():
    # up to recall 1/4 the envelope is 1, up to 3/4 it is 3/4, then 0
    assert average_precision_all_points(PRECISION, RECALL) == pytest.approx(1 / 4 + 3 / 4 / 2)
    # recalls 0, 0.1, 0.2 have 1; 0.3 to 0.7 have 3/4; 0.8 to 1 have 0
    assert average_precision_11_points(PRECISION, RECALL) == pytest.approx((3 + 5 * 3 / 4) / 11)
    # 0 to 0.25 are 26 points, 0.26 to 0.75 are 50
    expected = (26 + 50 * 3 / 4) / 101
    assert average_precision_101_points(PRECISION, RECALL) == pytest.approx(expected)


def test_recall_of_three_tenths_is_reached():
    # In binary, 3 x 0.1 is a little more than 0.3: the point must be 3 / 10.
    precision, recall = precision_recall(np.array([3, 2, 1.0]), np.ones(3, bool), 10)
    assert average_precision_11_points(precision, recall) == pytest.approx(4 / 11)


def test_nothing_found_and_nothing_to_find():
    precision, recall = precision_recall(np.zeros(0), np.zeros(0, bool), 3)
    for average in (average_precision_11_points, average_precision_all_points):
        assert average(precision, recall) == 0
    with pytest.raises(ValueError, match="num_objects is 0; allowed are whole numbers above 0"):
        precision_recall(np.zeros(2), np.zeros(2, bool), 0)


def slow_curve(scores, is_correct, num_objects):
    ranked = sorted(range(len(scores)), key=lambda i: -scores[i])
    found, points = 0, []
    for count, i in enumerate(ranked, 1):
        found += bool(is_correct[i])
        points.append((found / num_objects, found / count))
    return points


def slow_average(points, recalls):
    best = [max((p for r, p in points if r >= at), default=0) for at in recalls]
    return sum(best) / len(best)


@pytest.mark.parametrize("part", range(4))
def test_10000_curves_equal_slow_loops(part):
    generator = np.random.default_rng(part)
    for case in range(2_500):
        count = int(generator.integers(0, 13))
        scores = generator.integers(0, 9, count) / 10  # some are equal
        is_correct = generator.random(count) < 0.6
        num_objects = int(is_correct.sum() + generator.integers(0, 4)) or 1
        points = slow_curve(scores.tolist(), is_correct.tolist(), num_objects)
        precision, recall = precision_recall(scores, is_correct, num_objects)
        assert list(zip(recall.tolist(), precision.tolist(), strict=True)) == points, case
        eleven = slow_average(points, [k / 10 for k in range(11)])
        assert abs(average_precision_11_points(precision, recall) - eleven) < 1e-12, case
        # The area of the steps, in as many pieces as there are objects.
        every = slow_average(points, [(k + 1) / num_objects for k in range(num_objects)])
        assert abs(average_precision_all_points(precision, recall) - every) < 1e-12, case


def slow_voc(iou, threshold):
    taken, result = set(), []
    for row in iou:
        best = max(range(len(row)), key=lambda g: (row[g], -g), default=None)
        right = best is not None and row[best] > threshold and best not in taken
        result.append(right)
        if right:
            taken.add(best)
    return result


@settings(max_examples=300)
@given(st.integers(0, 5), st.integers(0, 3), st.integers(0, 10_000))
def test_voc_matching_equals_a_slow_loop(detections, objects, seed):
    iou = np.random.default_rng(seed).integers(0, 11, (detections, objects)) / 10
    assert match_voc(iou, 0.5)[0].tolist() == slow_voc(iou.tolist(), 0.5)


def test_voc_matching_by_hand():
    # Both detections overlap object 0 most. VOC counts the second as wrong, COCO would give it
    # object 1.
    is_correct, nearest = match_voc(np.array([[0.9, 0.6], [0.8, 0.6]]))
    assert is_correct.tolist() == [True, False] and nearest.tolist() == [0, 0]
    assert match_voc(np.array([[0.5]]))[0].tolist() == [False]  # the overlap must exceed 0.5


def test_difficult_objects_do_not_count():
    boxes = np.array([[0.0, 0, 10, 10], [50, 50, 60, 60], [90, 0, 99, 9]])
    target = {"boxes": boxes, "labels": np.array([1, 1, 2])}
    found = {"boxes": boxes, "labels": np.array([1, 1, 1]), "scores": np.array([0.7, 0.9, 0.8])}
    precision, recall = voc_curve([target], [found], label=1)
    assert precision.tolist() == [1, 1 / 2, 2 / 3] and recall.tolist() == [1 / 2, 1 / 2, 1]
    difficult = target | {"difficult": np.array([False, True, False])}
    precision, recall = voc_curve([difficult], [found], label=1)
    assert precision.tolist() == [0, 1 / 2] and recall.tolist() == [0, 1]


def test_voc_curve_of_bad_arguments():
    with pytest.raises(ValueError, match="0 targets and 0 predictions"):
        voc_curve([], [], 1)
    nothing = {"boxes": np.zeros((0, 4)), "labels": np.zeros(0), "scores": np.zeros(0)}
    with pytest.raises(ValueError, match="num_objects is 0"):
        voc_curve([nothing], [nothing], 1)


def test_overlaps_are_numpys():
    assert overlaps(np.array([[0, 0, 2, 2]]), np.array([[0, 0, 2, 1]])).tolist() == [[0.5]]
