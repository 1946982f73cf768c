"""The notebook's own algorithms give what the lesson's modules give, on random input."""

import re
import statistics
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
import torch

import anchors
import boxes
import coco_metrics
import masks
import metrics
import roi_pooling
import suppression

NOTEBOOK = Path(boxes.__file__).with_name("boxes_and_metrics.ipynb")
LONGEST, MEDIAN = 20, 6  # lines of a cell
SHOWN = {"anchors", "metrics", "roi_pooling", "suppression"}  # their algorithms stand in cells


@pytest.fixture(scope="module")
def sources() -> list[str]:
    """The code cells behind Colab's."""
    cells = nbformat.read(NOTEBOOK, 4).cells
    return [cell.source for cell in cells if cell.cell_type == "code"][1:]


@pytest.fixture(scope="module")
def cells(sources: list[str]) -> dict[str, Any]:
    """The imports of the notebook, and every function that its cells define."""
    found: dict[str, Any] = {}
    for source in sources:
        imports = re.match(r"(import|from) ", source)
        # A cell that begins with a function defines functions alone.
        if imports or source.startswith("def "):
            code = source if imports else re.split(r"\n\n\n(?!def )", source)[0]
            exec(compile(code, NOTEBOOK.name, "exec"), found)  # noqa: S102 (our own notebook)
    return found


def test_cells_are_short(sources):
    lengths = [len(source.splitlines()) for source in sources]
    assert max(lengths) <= LONGEST and statistics.median(lengths) <= MEDIAN


def test_the_algorithms_are_not_imported(sources):
    imported = set(re.findall(r"^(?:from|import) (\w+)", "\n".join(sources), re.MULTILINE))
    assert not imported & SHOWN


def close(ours: Any, theirs: Any) -> None:
    torch.testing.assert_close(torch.as_tensor(ours), torch.as_tensor(theirs))


def test_box_formats(cells, random_boxes):
    some = random_boxes(500, seed=1)
    for name in ("xyxy_to_xywh", "xyxy_to_cxcywh", "cxcywh_to_xyxy"):
        close(cells[name](some), getattr(boxes, name)(some))


@pytest.mark.parametrize("name", ["box_iou", "generalized_box_iou", "complete_box_iou"])
def test_agreement_of_boxes(name, cells, random_boxes):
    first, second = random_boxes(60, seed=2), random_boxes(80, seed=3)
    for a, b in ((first, second), (first.round(), first.round())):
        close(cells[name](a, b), getattr(boxes, name)(a, b))


def test_giou_and_ciou_are_negative_for_boxes_that_overlap(cells):
    square = torch.tensor([[0.0, 0, 20, 20]])
    aside, diagonal = square + torch.tensor([19, 0, 19, 0]), square + 18
    assert cells["box_iou"](square, torch.cat((aside, diagonal))).min() > 0
    assert cells["complete_box_iou"](square, aside).item() == pytest.approx(-0.162, abs=5e-4)
    assert cells["generalized_box_iou"](square, diagonal).item() == pytest.approx(-0.444, abs=5e-4)


@pytest.mark.parametrize("seed", range(20))
def test_anchors(seed, cells):
    random = np.random.default_rng(seed)
    sizes = random.integers(4, 200, random.integers(1, 5)).astype(float).tolist()
    ratios = random.choice([0.25, 0.5, 1, 2, 3], random.integers(1, 4), replace=False).tolist()
    grid, stride = tuple(random.integers(1, 9, 2).tolist()), int(random.integers(1, 33))
    base = cells["base_anchors"](sizes, ratios)
    assert torch.equal(base, anchors.base_anchors_xyxy(sizes, ratios))
    expected = anchors.grid_anchors_xyxy(base, grid, stride)
    assert torch.equal(cells["grid_anchors"](base, grid, stride), expected)


@pytest.mark.parametrize("seed", range(50))
def test_matching(seed, cells):
    random = np.random.default_rng(seed)
    iou = torch.from_numpy(random.integers(0, 11, random.integers(1, 9, 2)) / 10)  # has ties
    assert torch.equal(cells["match"](iou), anchors.match(iou, 0.7, 0.3))
    expected = anchors.match(iou, 0.7, 0.3, keep_best=True)
    assert torch.equal(cells["match_and_keep_best"](iou), expected)


def test_box_deltas(cells, random_boxes):
    some, priors = random_boxes(500, seed=4), random_boxes(500, seed=5)
    deltas = cells["encode_boxes"](some, priors)
    close(deltas, anchors.encode_boxes(some, priors))
    close(cells["decode_boxes"](deltas, priors), anchors.decode_boxes(deltas, priors))


@pytest.mark.parametrize("seed", range(30))
def test_suppression(seed, cells, random_boxes):
    random = np.random.default_rng(seed)
    crowd = random_boxes(seed, seed=seed, extent=30).round()
    ranks = torch.from_numpy(random.integers(0, 9, seed)) / 9.0  # some are equal
    assert torch.equal(cells["nms"](crowd, ranks, 0.4), suppression.nms(crowd, ranks, 0.4))
    scores, labels = torch.from_numpy(random.random(seed)), torch.from_numpy(
        random.integers(0, 3, seed)
    )  # fmt: skip
    if seed:
        kept = cells["class_aware_nms"](crowd, scores, labels, 0.4)
        expected = suppression.class_aware_nms(crowd, scores, labels, 0.4)
        assert torch.equal(kept, expected)
    for method in ("linear", "gaussian"):
        order, lowered = cells["soft_nms"](crowd, scores, 0.1, cells[method])
        expected, its_scores = suppression.soft_nms(crowd, scores, 0.1, method)
        assert order == expected.tolist()
        close(lowered, its_scores)


@pytest.mark.parametrize("seed", range(100))
def test_pooling_of_boxes(seed, cells):
    random = np.random.default_rng(seed)
    features = torch.from_numpy(random.normal(size=(2, 9, 12)))
    stride, bins = int(random.choice([1, 4, 16])), int(random.integers(1, 5))
    low, high = np.array([0.5, 0.5]), np.array([11.4, 8.4])  # half a cell within the map
    places = np.sort(random.uniform(low, high, (2, 2)), axis=0).ravel() * stride
    places = torch.from_numpy(np.clip(np.round(places), 0.5 * stride, None))
    ours = cells["roi_pool"](features, places, bins, stride)
    assert torch.equal(ours, roi_pooling.roi_pool(features, places, bins, 1 / stride))
    ours = cells["roi_align"](features, places, bins, stride, samples=3)
    expected = roi_pooling.roi_align(features, places, bins, 1 / stride, samples=3)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-5)  # the points are float32


def test_what_rounding_costs(cells, sources):
    (cell,) = [source for source in sources if source.startswith("middles =")]
    exec(compile(cell, NOTEBOOK.name, "exec"), cells)  # noqa: S102 (our own notebook)
    pool, align = cells["read_by_pool"], cells["read_by_align"]
    assert pool(80, 144) == (80, 160) and pool(26, 90) == (32, 112)
    off = np.array([pool(left, left + 64) for left in range(80, 129)])
    off -= [(left, left + 64) for left in range(80, 129)]
    assert (off.min(axis=0).tolist(), off.max(axis=0).tolist()) == ([-7, 9], [8, 24])
    for left in range(80, 129):
        assert align(left, left + 64) == pytest.approx((left, left + 64), abs=1e-3)


@pytest.mark.parametrize("seed", range(20))
def test_masks(seed, cells):
    random = np.random.default_rng(seed)
    a, b = random.random((2, *random.integers(1, 9, 2))) < 0.6
    a[0, 0] = True
    assert cells["mask_iou"](a, b) == pytest.approx(masks.mask_iou(a[None], b[None])[0, 0])
    assert cells["mask_dice"](a, b) == pytest.approx(masks.mask_dice(a[None], b[None])[0, 0])
    for mask in (a, b, ~a):
        assert cells["encode_runs"](mask) == masks.encode_runs(mask)


@pytest.mark.parametrize("seed", range(100))
def test_average_precision(seed, cells):
    random = np.random.default_rng(seed)
    count = int(random.integers(1, 30))
    scores, is_correct = random.integers(0, 9, count) / 9, random.random(count) < 0.6
    num_objects = max(int(is_correct.sum()), 1) + int(random.integers(0, 4))
    curve = metrics.precision_recall(scores, is_correct, num_objects)
    np.testing.assert_array_equal(cells["precision_recall"](scores, is_correct, num_objects), curve)
    np.testing.assert_array_equal(cells["envelope"](curve[0]), metrics.envelope(curve[0]))
    for ours, theirs in (
        ("ap_voc_2007", metrics.average_precision_11_points),
        ("ap_voc_2010", metrics.average_precision_all_points),
        ("ap_coco", metrics.average_precision_101_points),
    ):
        assert cells[ours](*curve) == pytest.approx(theirs(*curve), abs=1e-12), ours


@pytest.mark.parametrize("seed", range(100))
def test_matching_of_detections(seed, cells):
    random = np.random.default_rng(seed)
    detections, objects = random.integers(1, 8, 2)
    # Tenths, so that some lie exactly on the threshold; in a row no two are equal.
    iou = np.stack([random.permutation(11)[:objects] / 10 for _ in range(detections)])
    assert cells["match_voc"](iou).tolist() == metrics.match_voc(iou)[0].tolist()
    image = coco_metrics.ImageOfClass(
        iou, np.zeros(detections), np.ones(detections), np.ones(objects), np.zeros(objects, bool)
    )
    correct, _, _ = coco_metrics.match_coco(image, 0.5, coco_metrics.AREA_RANGES["all"])
    assert cells["match_coco"](iou).tolist() == correct.tolist()


@pytest.mark.parametrize("seed", range(10))
def test_cocos_mean(seed, cells, random_boxes):
    random = np.random.default_rng(seed)
    objects = random_boxes(8, seed=seed)
    shift = torch.from_numpy(np.tile(random.normal(0, 3, (8, 2)), 2))
    found = torch.cat((objects + shift, objects[:2] + 1))
    scores = np.sort(random.random(10))[::-1].copy()
    cells |= {"objects": objects, "IOU_THRESHOLDS": coco_metrics.IOU_THRESHOLDS}
    labels = np.ones(10, dtype=int)
    result = coco_metrics.evaluate_coco(
        [{"boxes": objects.numpy(), "labels": labels[:8]}],
        [{"boxes": found.numpy(), "scores": scores, "labels": labels}],
    )
    ours = cells["ap_at_each_threshold"](found, scores)
    assert ours.mean() == pytest.approx(result.summary()["AP"], abs=1e-9)
    assert ours[5] == pytest.approx(result.summary()["AP75"], abs=1e-9)
