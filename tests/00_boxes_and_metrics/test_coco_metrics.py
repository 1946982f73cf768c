"""COCO's evaluation from scratch equals pycocotools, on 10,000 random pairs of image and class."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coco_metrics import AREA_RANGES, evaluate_coco, match_coco
from coco_metrics import ImageOfClass as Image
from coco_reference import SIZE, pycocotools_says, random_scene


def outlines(target, prediction, generator):
    """Give both masks: boxes with a random part missing."""
    for one in (target, prediction):
        masks = np.zeros((len(one["boxes"]), SIZE, SIZE), bool)
        for mask, (x1, y1, x2, y2) in zip(masks, one["boxes"].astype(int), strict=True):
            mask[y1:y2, x1:x2] = True
            mask[(y1 + y2) // 2 : y2, x1 : x1 + generator.integers(0, 3)] = False
        one["masks"] = masks


def assert_equal(targets, predictions, kind="boxes"):
    ours = evaluate_coco(targets, predictions, kind)
    precision, recall, stats = pycocotools_says(targets, predictions, kind)
    np.testing.assert_allclose(ours.precision, precision, rtol=0, atol=1e-9)
    np.testing.assert_allclose(ours.recall, recall, rtol=0, atol=1e-9)
    np.testing.assert_allclose(list(ours.summary().values()), stats, rtol=0, atol=1e-9)
    return ours


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_250_images_of_two_classes_equal_pycocotools(seed):
    generator = np.random.default_rng(seed)
    images = [random_scene(generator) for _ in range(250)]
    result = assert_equal(*zip(*images, strict=True))
    assert 0.05 < result.summary()["AP"] < 0.95  # neither trivial nor hopeless


def test_more_than_100_detections_equal_pycocotools():
    generator = np.random.default_rng(50)
    images = [random_scene(generator, most_objects=90) for _ in range(3)]
    assert max((image[1]["labels"] == 1).sum() for image in images) > 20
    images[0][1]["boxes"] = np.tile(images[0][1]["boxes"], (4, 1))
    images[0][1]["labels"] = np.tile(images[0][1]["labels"], 4)
    images[0][1]["scores"] = generator.random(len(images[0][1]["boxes"]))
    assert (images[0][1]["labels"] == 1).sum() > 100
    assert_equal(*zip(*images, strict=True))


@pytest.mark.parametrize("seed", range(3))
def test_masks_equal_pycocotools(seed):
    generator = np.random.default_rng(100 + seed)
    images = [random_scene(generator, most_objects=5) for _ in range(10)]
    for target, prediction in images:
        outlines(target, prediction, generator)
    assert_equal(*zip(*images, strict=True), kind="masks")


BOX = st.tuples(*[st.integers(0, 4)] * 2, *[st.integers(1, 3)] * 2).map(
    lambda b: (b[0] * 16, b[1] * 16, (b[0] + b[2]) * 16, (b[1] + b[3]) * 16)
)
OBJECT = st.tuples(BOX, st.booleans(), st.sampled_from([100.0, 1024.0, 1025.0, 9216.0, 9217.0]))
DETECTION = st.tuples(BOX, st.integers(0, 3))


@settings(max_examples=120)
@given(st.lists(st.tuples(st.lists(OBJECT, max_size=4), st.lists(DETECTION, max_size=5)),
                min_size=1, max_size=3))  # fmt: skip
def test_ties_and_areas_at_the_limits_equal_pycocotools(images):
    if not any(objects for objects, _ in images) or not any(found for _, found in images):
        return  # pycocotools cannot load an empty list of detections
    targets = [
        {
            "boxes": np.array([box for box, _, _ in objects], float).reshape(-1, 4),
            "labels": np.ones(len(objects), int),
            "iscrowd": np.array([crowd for _, crowd, _ in objects], bool),
            "area": np.array([area for _, _, area in objects], float),
        }
        for objects, _ in images
    ]
    predictions = [
        {
            "boxes": np.array([box for box, _ in found], float).reshape(-1, 4),
            "labels": np.ones(len(found), int),
            "scores": np.array([score for _, score in found], float) / 4,
        }
        for _, found in images
    ]
    assert_equal(targets, predictions)


def one_image(overlap, object_area=None, crowd=None, detection_area=None):
    overlap = np.array(overlap, float)
    D, G = overlap.shape
    return Image(
        overlap=overlap,
        scores=np.arange(D, 0, -1.0),
        detection_area=np.array(detection_area or [500.0] * D),
        object_area=np.array(object_area or [500.0] * G),
        crowd=np.array(crowd or [False] * G),
    )


def outcome(image, threshold=0.5, area="all"):
    correct, ignored, count = match_coco(image, threshold, AREA_RANGES[area])
    return "".join(
        "C" if c else "-" if i else "W" for c, i in zip(correct, ignored, strict=True)
    ), count


def test_matching_by_hand():
    assert outcome(one_image([[0.9], [0.8]])) == ("CW", 1)  # the second one is a duplicate
    assert outcome(one_image([[0.9, 0.6], [0.8, 0.6]])) == ("CC", 2)  # it may have the next object
    assert outcome(one_image([[0.5], [0.4]])) == ("CW", 1)  # the threshold itself is enough


def test_crowds_by_hand():
    crowd = [True, False]
    assert outcome(one_image([[0.9, 0], [0.8, 0], [0, 0.7]], crowd=crowd)) == ("--C", 1)
    # an object that counts is preferred, even with less overlap
    assert outcome(one_image([[0.9, 0.6]], crowd=crowd)) == ("C", 1)


def test_areas_by_hand():
    large = one_image([[0.9], [0.0], [0.0]], [5000.0], detection_area=[5000.0, 500.0, 5000.0])
    assert outcome(large, area="small") == ("-W-", 0)
    assert outcome(large, area="medium") == ("C-W", 1)


def test_crowds_overlap_by_the_detections_area():
    targets = [{"boxes": np.array([[0.0, 0, 100, 100]]), "labels": np.array([1]),
                "iscrowd": np.array([True])}]  # fmt: skip
    predictions = [{"boxes": np.array([[10.0, 10, 20, 20]]), "labels": np.array([1]),
                    "scores": np.array([0.9])}]  # fmt: skip
    result = evaluate_coco(targets, predictions)
    assert set(result.summary().values()) == {-1}  # nothing to find
    targets[0]["iscrowd"][:] = False
    assert evaluate_coco(targets, predictions).summary()["AP"] == 0


def test_nothing_found():
    target = {"boxes": np.array([[0.0, 0, 9, 9]]), "labels": np.array([1])}
    nothing = {"boxes": np.zeros((0, 4)), "labels": np.zeros(0, int), "scores": np.zeros(0)}
    summary = evaluate_coco([target], [nothing]).summary()
    assert summary["AP"] == summary["AR100"] == summary["AP_small"] == 0
    assert summary["AP_large"] == -1


def test_bad_arguments():
    with pytest.raises(ValueError, match="kind is 'box'; allowed are 'boxes' and 'masks'"):
        evaluate_coco([], [], "box")
    with pytest.raises(ValueError, match="2 targets and 1 predictions; allowed is one of each"):
        evaluate_coco([{}, {}], [{}])
    with pytest.raises(ValueError, match="one image at least"):
        evaluate_coco([], [])
