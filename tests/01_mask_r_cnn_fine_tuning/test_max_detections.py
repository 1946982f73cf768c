"""Pictures with more objects than COCO's evaluation counts detections."""

import copy

import pytest

from common.coco_metrics import coco_metrics
from common.coco_truth import crowded_note

NAMES = ("one", "two", "three")


def crowded(objects, pictures=1, classes=1):
    """Return the truth of pictures full of small boxes, and detections that are all right."""
    truth = {
        "info": {},
        "images": [{"id": key, "height": 500, "width": 500} for key in range(1, pictures + 1)],
        "categories": [{"id": key + 1, "name": NAMES[key]} for key in range(classes)],
        "annotations": [],
    }
    for image in truth["images"]:
        for k in range(objects):
            box = [k % 20 * 25.0, k // 20 * 25.0, 20.0, 20.0]
            one = {"id": len(truth["annotations"]) + 1, "image_id": image["id"], "bbox": box}
            one |= {"category_id": k % classes + 1, "area": 400.0, "iscrowd": 0}
            truth["annotations"].append(one)
    keys = ("image_id", "category_id", "bbox")
    found = [
        {**{key: one[key] for key in keys}, "score": 1 - one["id"] / 10_000}
        for one in truth["annotations"]
    ]
    return truth, found


def test_more_objects_than_detections_that_count():
    truth, found = crowded(150)
    hundred = coco_metrics(copy.deepcopy(truth), found)
    assert hundred["bbox"]["AP"] == pytest.approx(0.663, abs=1e-3)
    assert hundred["bbox"]["AR100"] == pytest.approx(100 / 150)
    metrics = coco_metrics(copy.deepcopy(truth), found, max_detections=150)
    for name in ("AP", "AP50", "AP75", "AP_small", "AR150", "AR_small"):
        assert metrics["bbox"][name] == pytest.approx(1)
    assert metrics["per_class"]["one"]["bbox"]["AP"] == pytest.approx(1)
    assert metrics["bbox"]["AR10"] == pytest.approx(10 / 150)
    assert "AR100" not in metrics["bbox"] and len(metrics["bbox"]) == 12
    few = coco_metrics(copy.deepcopy(truth), found, max_detections=5)["bbox"]
    assert few["AR1"] == pytest.approx(1 / 150) and few["AR5"] == pytest.approx(5 / 150)


@pytest.mark.parametrize("max_detections", [1, 10, 30, 100, 101, 1000])
def test_any_number_of_detections_is_the_same_where_it_is_enough(max_detections):
    truth, found = crowded(2, pictures=3, classes=2)
    found += [{**one, "bbox": [300, 300, 20, 20], "score": 0.1} for one in found[:1]]
    metrics = coco_metrics(truth, found, max_detections)
    usual = coco_metrics(truth, found)
    assert metrics["bbox"]["AP"] == usual["bbox"]["AP"] == pytest.approx(1)
    assert metrics["per_class"] == usual["per_class"]


def test_nothing_to_find_is_none_for_any_number():
    truth, _ = crowded(0)
    assert coco_metrics(truth, [], 150)["bbox"]["AP"] is None


def test_crowded_pictures_are_told():
    truth, _ = crowded(150, pictures=3, classes=2)
    assert crowded_note(truth, 150) is None
    assert crowded_note(truth, 100) == (
        "note: 3 pictures hold more than 100 objects (up to 150): "
        "--max-detections 150 measures them all"
    )
    for one in truth["annotations"][300:]:
        one["iscrowd"] = 1
    truth["annotations"] = truth["annotations"][:140] + truth["annotations"][300:]
    assert crowded_note(truth, 139).startswith("note: 1 picture holds more than 139 objects (up")
