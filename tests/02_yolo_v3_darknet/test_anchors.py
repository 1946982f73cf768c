"""k-means with the IoU as distance: against a slow reference and sizes whose answer is known."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

from anchors import anchor_recall, best_ious, kmeans_anchors, mean_best_iou, plot_anchors, shape_iou


def slow_iou(a, b):
    shared = min(a[0], b[0]) * min(a[1], b[1])
    return shared / (a[0] * a[1] + b[0] * b[1] - shared)


def slow_best(size, anchors):
    return max(slow_iou(size, anchor) for anchor in anchors)


def slow_kmeans(sizes, first):
    """Plain k-means from given first anchors, in Python; the best mean IoU on the way."""
    anchors, best, before = [tuple(a) for a in first], -1.0, None
    while True:
        ious = [[slow_iou(size, anchor) for anchor in anchors] for size in sizes]
        groups = [row.index(max(row)) for row in ious]
        best = max(best, sum(max(row) for row in ious) / len(sizes))
        if groups == before:
            return best
        before = groups
        for k in range(len(anchors)):
            mine = [size for size, group in zip(sizes, groups, strict=True) if group == k]
            if mine:
                anchors[k] = tuple(sum(side) / len(mine) for side in zip(*mine, strict=True))


def clustered_sizes(seed=0, each=60):
    random = np.random.default_rng(seed)
    centres = np.array([(12, 10), (20, 45), (60, 30), (90, 110)], float)
    return np.concatenate([c * np.exp(random.normal(0, 0.12, (each, 2))) for c in centres]), centres


def test_iou_by_hand():
    iou = shape_iou(torch.tensor([[2.0, 2.0]]), torch.tensor([[2.0, 2.0], [4.0, 1.0], [1.0, 1.0]]))
    assert iou[0].tolist() == pytest.approx([1, 2 / 6, 1 / 4])


def test_iou_equals_torchvision():
    random = torch.Generator().manual_seed(0)
    a, b = (torch.rand(n, 2, generator=random) * 50 + 1 for n in (40, 9))
    centred = [torch.cat((-size / 2, size / 2), dim=1) for size in (a, b)]
    torch.testing.assert_close(shape_iou(a, b), box_iou(*centred))


def test_figures_equal_the_slow_reference():
    sizes, _ = clustered_sizes()
    anchors = [(15, 12), (50, 40), (80, 100)]
    slow = [slow_best(size, anchors) for size in sizes]
    assert best_ious(sizes, anchors) == pytest.approx(slow)
    assert mean_best_iou(sizes, anchors) == pytest.approx(sum(slow) / len(slow))
    share = sum(value > 0.6 for value in slow) / len(slow)
    assert 0.1 < share < 0.9 and anchor_recall(sizes, anchors, 0.6) == share


@pytest.mark.parametrize(("threshold", "recall"), [(0.49, 1.0), (0.5, 0.0), (0.51, 0.0)])
def test_recall_counts_what_is_above_the_threshold(threshold, recall):
    assert anchor_recall([(2, 2)], [(2, 4)], threshold) == recall  # their IoU is exactly 0.5


def test_clusters_are_found():
    sizes, centres = clustered_sizes()
    anchors = kmeans_anchors(sizes, 4)
    assert anchors == pytest.approx(centres, rel=0.08)  # from small to large
    assert (np.diff(anchors.prod(axis=1)) > 0).all()


@pytest.mark.parametrize("seed", range(3))
def test_no_worse_than_slow_kmeans_from_thirty_starts(seed):
    random = np.random.default_rng(seed)
    sizes = np.exp(random.uniform(np.log(5), np.log(200), (80, 2)))
    starts = [sizes[random.choice(80, 5, replace=False)] for _ in range(30)]
    slow = max(slow_kmeans(sizes.tolist(), start) for start in starts)
    assert mean_best_iou(sizes, kmeans_anchors(sizes, 5)) >= slow - 0.005


def test_better_than_the_anchors_of_coco():
    sizes, _ = clustered_sizes()
    coco = [(10, 14), (23, 27), (37, 58), (81, 82), (135, 169), (344, 319)]
    own = kmeans_anchors(sizes, 6)
    assert mean_best_iou(sizes, own) > mean_best_iou(sizes, coco) + 0.1
    assert anchor_recall(sizes, own, 0.7) > anchor_recall(sizes, coco, 0.7) + 0.3


def test_one_seed_one_answer():
    sizes, _ = clustered_sizes()
    assert np.array_equal(kmeans_anchors(sizes, 6, seed=3), kmeans_anchors(sizes, 6, seed=3))


def test_more_restarts_are_never_worse():
    sizes, _ = clustered_sizes(each=15)
    scores = [mean_best_iou(sizes, kmeans_anchors(sizes, 7, restarts=n)) for n in (1, 5, 25)]
    assert scores == sorted(scores)


def test_one_anchor_for_each_size_fits_exactly():
    sizes = [(10, 20), (40, 10), (30, 30)]
    assert mean_best_iou(sizes, kmeans_anchors(sizes, 3)) == pytest.approx(1)


def test_the_sizes_stay_as_they_were():
    sizes, _ = clustered_sizes()
    before = sizes.copy()
    anchors = kmeans_anchors(sizes, len(sizes))  # every size is an anchor
    anchors[:] = 0
    assert np.array_equal(sizes, before)


def test_plot_shows_sizes_and_anchors():
    sizes, centres = clustered_sizes()
    figure, axes = plt.subplots()
    assert plot_anchors(axes, sizes, centres, labels=np.arange(len(sizes)) // 60) is axes
    dots, crosses = axes.collections
    assert np.array_equal(dots.get_offsets(), sizes)
    assert np.array_equal(crosses.get_offsets(), centres)
    assert len(np.unique(dots.get_facecolors(), axis=0)) == 4
    assert f"{mean_best_iou(sizes, centres):.2f}" in axes.get_title()
    plt.close(figure)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: kmeans_anchors([(1, 2), (1, 2)], 2), "count must be from 1 to 1, .* got 2"),
        (lambda: kmeans_anchors([(1, 2)], 0), "count must be from 1 to 1, .* got 0"),
        (lambda: kmeans_anchors([(1, 2)], 1, restarts=0), "restarts must be 1 or more, got 0"),
        (lambda: kmeans_anchors([], 3), r"sizes_wh must have shape \(M, 2\) .* got \(0,\)"),
        (lambda: kmeans_anchors([(1, 2), (3, 0)], 1), r"sizes_wh, row 1: \[3.0, 0.0\] must be fin"),
        (lambda: best_ious([(1, np.nan)], [(1, 1)]), r"sizes_wh, row 0: \[1.0, nan\] must be"),
        (lambda: anchor_recall([(1, 2)], [(1, -1)]), r"anchors_wh, row 0: \[1.0, -1.0\] must be"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
