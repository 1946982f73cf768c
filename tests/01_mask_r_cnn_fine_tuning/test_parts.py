"""Training, validation and test: which pictures are which, and one reader for all of them."""

import json
import shutil

import pytest
from PIL import Image

from common.labels.sources import load_labels
from common.labels.values import AnnotationError
from common.parts import divide, plan_parts
from common.settings import change_preset
from dataset import load_data
from settings import PRESETS, make_settings


def lists(*known, **asked):
    return {
        name: (part.source, tuple(part.shares)) for name, part in plan_parts(known, **asked).items()
    }


ALL = ("train", "validation", "test")


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        ((), dict.fromkeys(ALL, (None, ALL))),
        (("train",), dict.fromkeys(ALL, ("train", ALL))),
        (
            ("test", "train", "val"),
            {"train": ("train", ("train",)), "validation": ("val", ("validation",)),
             "test": ("test", ("test",))},
        ),
        (
            ("train2017", "val2017"),  # what is called validation is the test
            {"train": ("train2017", ("train", "validation")),
             "validation": ("train2017", ("train", "validation")), "test": ("val2017", ("test",))},
        ),
        (
            ("test", "train", "trainval", "val"),
            {"train": ("train", ("train",)), "validation": ("val", ("validation",)),
             "test": ("test", ("test",))},
        ),
        (
            ("test", "trainval"),
            {"train": ("trainval", ("train", "validation")),
             "validation": ("trainval", ("train", "validation")), "test": ("test", ("test",))},
        ),
    ],
)  # fmt: skip
def test_where_each_part_comes_from(known, expected):
    assert lists(*known) == expected


def test_lists_that_were_asked_for():
    found = lists("a", "b", "c", train="a", validation="b", test="c")
    assert {name: source for name, (source, _) in found.items()} == {
        "train": "a", "validation": "b", "test": "c",
    }  # fmt: skip
    with pytest.raises(ValueError, match="there is no list 'd'; the data's lists are: a, b"):
        plan_parts(("a", "b"), train="d")
    with pytest.raises(
        ValueError, match=r"which list to train on\? .* val; choose with --train-sp"
    ):
        plan_parts(("val",))


def test_dividing_is_seeded_complete_and_of_penn_fudans_sizes():
    shares = {"train": 10, "validation": 2, "test": 5}
    parts = divide(170, shares, seed=0)
    assert {name: len(part) for name, part in parts.items()} == {
        "train": 100, "validation": 20, "test": 50,
    }  # fmt: skip
    assert sorted(sum(parts.values(), [])) == list(range(170))
    assert divide(170, shares, seed=0) == parts != divide(170, shares, seed=1)
    assert [len(part) for part in divide(3, shares, seed=0).values()] == [1, 1, 1]
    assert divide(5, {"test": 1}, seed=0) == {"test": [0, 1, 2, 3, 4]}
    with pytest.raises(ValueError, match=r"2 picture\(s\) cannot be divided into train, valid"):
        divide(2, shares, seed=0)


def write_yolo(folder, split, names):
    for name in names:
        for kind in ("images", "labels"):
            (folder / split / kind).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 30)).save(folder / split / "images" / f"{name}.png")
        (folder / split / "labels" / f"{name}.txt").write_text("0 0.5 0.5 0.4 0.4\n")


def test_a_folder_with_its_own_three_lists(tmp_path):
    for split, names in (("train", "abcd"), ("valid", "e"), ("test", "fg")):
        write_yolo(tmp_path, split, names)
    (tmp_path / "classes.txt").write_text("cat\n")
    found = load_labels(str(tmp_path))
    assert [
        [one.path.stem for one in part.images]
        for part in (found.train, found.validation, found.test)
    ] == [list("abcd"), ["e"], list("fg")]
    assert found.class_names == ("cat",)
    assert found.report.splitlines()[-1] == "pictures: 4 train, 1 validation, 2 test"


def test_with_two_lists_validation_is_taken_from_training(tmp_path):
    write_yolo(tmp_path, "train", "abcdefghijkl")
    write_yolo(tmp_path, "val", "xyz")
    (tmp_path / "classes.txt").write_text("cat\n")
    found = load_labels(str(tmp_path))
    stems = [[one.path.stem for one in part.images] for part in (found.train, found.validation)]
    assert (len(stems[0]), sorted(stems[0] + stems[1])) == (10, list("abcdefghijkl"))
    assert [one.path.stem for one in found.test.images] == list("xyz")


def test_what_cannot_be_trained_on_is_refused(tmp_path, scenes):
    with pytest.raises(
        AnnotationError, match="'nothing': allowed are street, penn_fudan or a path"
    ):
        load_labels("nothing")
    shutil.copytree(scenes, tmp_path / "scenes")
    file = tmp_path / "scenes" / "annotations.json"
    content = json.loads(file.read_text())
    file.write_text(json.dumps({**content, "annotations": []}))
    with pytest.raises(AnnotationError, match="pictures to train on have no object at all"):
        load_labels(str(tmp_path / "scenes"))


def test_parts_with_other_classes_are_refused(tmp_path):
    for split, name in (("train", "cat"), ("test", "dog")):
        folder = tmp_path / split
        folder.mkdir()
        images = []
        for k in (1, 2, 3):
            Image.new("RGB", (40, 30)).save(folder / f"{k}.png")
            images.append({"id": k, "file_name": f"{k}.png", "width": 40, "height": 30})
        one = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 9, 9], "area": 81}
        content = {"images": images, "annotations": [one | {"iscrowd": 0}]}
        content["categories"] = [{"id": 1, "name": name}]
        (folder / "annotations.json").write_text(json.dumps(content))
    with pytest.raises(AnnotationError, match="has the classes cat, but the test part .* has dog"):
        load_labels(str(tmp_path))


def test_bad_labels_are_dropped_when_asked_for(tmp_path, scenes):
    folder = shutil.copytree(scenes, tmp_path / "scenes")
    file = folder / "annotations.json"
    content = json.loads(file.read_text())
    content["annotations"][0]["bbox"] = [5, 5, 0, 10]
    file.write_text(json.dumps(content))
    settings = {"data": str(folder), "task": "boxes", "num_scenes": 8}
    with pytest.raises(AnnotationError, match="has no area"):
        load_data(make_settings("street", **settings))
    data = load_data(make_settings("street", on_invalid="drop", **settings))
    assert "1 left out" in data.report
    assert len(data.train) + len(data.validation) + len(data.test) == 8


def test_the_masks_of_a_street_are_the_pedestrians(scenes):
    masks, boxes = (load_labels(str(scenes), masks=asked) for asked in (True, False))
    assert masks.class_names == ("pedestrian",)
    assert len(boxes.class_names) == 5
    people = {one.path.name: len(one.objects) for part in (masks.train, masks.test)
              for one in part.images}  # fmt: skip
    pedestrian = boxes.class_names.index("person") + 1
    for part in (boxes.train, boxes.test):
        for one in part.images:
            if one.path.name in people:
                count = sum(label.label == pedestrian for label in one.objects)
                assert count == people[one.path.name]


def test_a_preset_is_chosen_by_name_or_by_data():
    assert change_preset(PRESETS, None, {"data": "x"}).preset == "photos"
    assert change_preset(PRESETS, "street", {"data": "x"}).preset == "street"
    with pytest.raises(TypeError, match="nonsense"):
        change_preset(PRESETS, "street", {"nonsense": 1})
