"""COCO's JSON as people bring it: what is read, what is mended, what is refused."""

import json

import pytest
from label_files import (
    BOX,
    check,
    coco,
    coco_folder,
    entry,
    named,
    objects,
    photo,
    write,
    write_json,
)
from PIL import Image

from common.labels.read import find_layout, list_splits, read_annotations, read_layout
from common.labels.records import ReadOptions
from common.labels.sources import load_labels
from common.labels.values import AnnotationError

CAT = ("cat", BOX)
SQUARE = [5, 6, 25, 6, 25, 20, 5, 20]
BY_NAME = {"picture found by its name in another folder": 1}


COCO_MENDS = {
    "ids as text": (coco(entry("7", image_id="1", category_id="1")), "numbers written as text"),
    "numbers as text": (coco(entry(bbox=["5", "6", "20", "14"])), "numbers written as text"),
    "flat polygon": (coco(entry(segmentation=SQUARE)), "flat list of corners taken as one polygon"),
    "two points": (
        coco(entry(segmentation=[[5, 6, 25, 20]])),
        "outline that cannot be drawn left out, its box kept",
    ),
    "area null": (coco(entry(area=None)), "area computed, as none above 0 is given"),
    "area 0": (coco(entry(area=0)), "area computed, as none above 0 is given"),
    "area -1": (coco(entry(area=-1)), "area computed, as none above 0 is given"),
    "area missing": (coco(entry(area=...)), "area computed, as none above 0 is given"),
    "size -1": (coco(entry(), width=-1, height=-1), "size taken from the picture"),
    "size null": (coco(entry(), width=None), "size taken from the picture"),
    "no size": (coco(entry(), width=..., height=...), "size taken from the picture"),
    "backslash": (coco(entry(), file_name="images\\a.png"), "backslashes in names of pictures"),
    "absolute": (coco(entry(), file_name="/home/me/set/a.png"), next(iter(BY_NAME))),
    "drive": (coco(entry(), file_name="C:\\me\\a.png"), next(iter(BY_NAME))),
    "up": (coco(entry(), file_name="../../media/a.png"), next(iter(BY_NAME))),
    "address": (coco(entry(), file_name="https://x.org/a.png"), next(iter(BY_NAME))),
    "flag as text": (coco(entry(iscrowd="0")), "iscrowd written as text, true or false"),
    "flag false": (coco(entry(iscrowd=False)), "iscrowd written as text, true or false"),
    "no id": (
        coco(entry(id=...)),
        "annotations numbered anew, as an id is missing or stands twice",
    ),
    "bbox missing": (coco(entry(bbox=..., segmentation=[SQUARE])), "box taken from the outline"),
    "bbox of zeros": (
        coco(entry(bbox=[0, 0, 0, 0], segmentation=[SQUARE])),
        "box taken from the outline",
    ),
    "negative width": (coco(entry(bbox=[25, 20, -20, -14])), "corners of a box put in order"),
    "picture named": (
        coco(entry(image_id="first"), id="first"),
        "picture numbered anew, as its id is a name",
    ),
    "hash": (
        coco(entry(), file_name="images/0a1b2c3d-a.png"),
        "picture found by its name without signs that a tool put in",
    ),
    "local files": (
        coco(entry(), file_name="/data/local-files/?d=images%5Ca.png"),
        "picture found by its name without signs that a tool put in",
    ),
}


@pytest.mark.parametrize("name", COCO_MENDS)
def test_coco_is_mended_and_said(name, tmp_path):
    content, kind = COCO_MENDS[name]
    found = check(coco_folder(tmp_path, content), [CAT], {kind: 1})
    assert found.images[0].objects[0].area == 280
    assert f"  mended: {kind} (1 x)" in found.summary().splitlines()


def test_coco_polygons_of_two_points_are_refused_for_masks_alone(tmp_path):
    folder = coco_folder(tmp_path, coco(entry(segmentation=[[5, 6, 25, 20]])))
    with pytest.raises(AnnotationError, match=r"annotations\[0\] \(id 1\): polygon .* three or mo"):
        read_annotations(folder, masks=True)
    coco_folder(tmp_path, coco(entry(segmentation=[[], SQUARE])))
    assert check(tmp_path, [CAT], masks=True).images[0].objects[0].segmentation == [SQUARE]


def test_coco_crowds(tmp_path):
    folder = coco_folder(tmp_path, coco(entry(iscrowd="1"), entry(2, iscrowd=True)))
    with pytest.raises(
        AnnotationError, match=r"all 2 objects are crowd regions .* write 0 for isc"
    ):
        load_labels(str(folder), progress=False)
    content = coco(entry(iscrowd=1), entry(2, iscrowd=1), entry(3))
    for number in (2, 3):
        photo(folder / "images" / f"{number}.png", number=number)
        more = {"id": number, "file_name": f"{number}.png", "width": 40, "height": 30}
        content["images"].append(more)
        content["annotations"] += [entry(number * 9, image_id=number)] * 1
    content["annotations"] += [entry(90 + k, iscrowd=1) for k in range(2)]
    coco_folder(folder, content)
    report = load_labels(str(folder), progress=False).report
    assert "note: 4 of 7 objects are crowd regions: not learned" in report


def test_coco_ids_and_names_that_stand_twice(tmp_path):
    kind = "annotations numbered anew, as an id is missing or stands twice"
    check(coco_folder(tmp_path, coco(entry(), entry(), entry())), [CAT] * 3, {kind: 2})
    names = ("cat", "cat", "dog")  # as of a tool that writes its project's name as a class
    found = check(
        coco_folder(tmp_path, coco(entry(category_id=2), entry(2, category_id=3), names=names)),
        [CAT, ("dog", BOX)],
        {"categories of one name, 'cat', taken as one class": 1},
    )
    assert (found.class_names, found.category_ids) == (("cat", "dog"), (2, 3))
    content = coco(entry())
    content["images"] *= 2
    check(coco_folder(tmp_path, content), [CAT], {"picture that stands twice": 1})
    content["images"][1] = content["images"][0] | {"file_name": "b.png"}
    with pytest.raises(AnnotationError, match=r"images\[1\] \(id 1\): id 1 appears twice"):
        read_annotations(coco_folder(tmp_path, content))


LAYOUTS = {
    "beside": ("{}.json", "{}"),
    "annotations": ("annotations/{}.json", "{}"),
    "inside": ("{}/_annotations.coco.json", "{}"),
    "instances": ("annotations/instances_{}.json", "images/{}"),
    "labels": ("{0}/labels.json", "{}/data"),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_coco_parts_are_matched_by_the_names_of_classes(name, tmp_path):
    label, folder = LAYOUTS[name]
    for part, names, files in (
        ("train", ("cat", "dog"), "abcdefghijkl"),
        ("val", ("dog", "cat"), "xy"),
    ):
        content = coco(entry(category_id=1), names=names)
        content["images"] = []
        for number, file in enumerate(files, start=1):
            photo(tmp_path / folder.format(part) / f"{file}.png", number=ord(file))
            content["images"].append({"id": number, "file_name": f"{file}.png"})
        files_of = [entry(k, image_id=k, category_id=1) for k in range(1, len(files) + 1)]
        content["annotations"] = files_of
        write_json(tmp_path / label.format(part), content)
    found = load_labels(str(tmp_path), progress=False)
    assert found.class_names == found.test.class_names == ("cat", "dog")
    assert named(found.test) == [("dog", BOX)] * 2
    assert "note: the parts number their classes differently: matched by name" in found.report
    assert [len(part) for part in (found.train, found.validation, found.test)] == [10, 2, 2]


@pytest.mark.parametrize("lists", [("labels",), ("train", "val")])
def test_coco_of_any_name_is_read_once(lists, tmp_path, whole_reads):
    for name in lists:
        content = coco()
        content["images"] = []
        for k in range(9):
            photo(tmp_path / "images" / f"{name}{k}.png", number=k + 9 * len(name))
            content["images"].append({"id": k, "file_name": f"{name}{k}.png"})
        content["annotations"] = [entry(k, image_id=k) for k in range(9)]
        write_json(tmp_path / f"{name}.json", content)
    load_labels(str(tmp_path), progress=False)
    assert whole_reads == {f"{name}.json": 1 for name in lists}
    find = find_layout(tmp_path)
    sets = [read_layout(find, lists[0] if lists[1:] else None, ReadOptions()) for _ in range(2)]
    assert named(sets[0]) == named(sets[1]) == [CAT] * 9


def test_coco_files_that_are_not_one(tmp_path):
    coco_folder(tmp_path, coco(entry()))
    (tmp_path / "annotations.json").rename(tmp_path / "one.json")
    write_json(tmp_path / "two.json", coco(entry()))
    with pytest.raises(
        AnnotationError, match=r"choose one with its path: .*one\.json or .*two\.js"
    ):
        load_labels(str(tmp_path), progress=False)
    write_json(tmp_path / "annotations" / "person_keypoints_train2017.json", coco(entry()))
    write_json(tmp_path / "annotations" / "instances_train2017.json", coco(entry()))
    (tmp_path / "one.json").unlink()
    (tmp_path / "two.json").unlink()
    assert list_splits(tmp_path) == ("train2017",)


def test_coco_encodings_and_lines(tmp_path):
    text = json.dumps(coco(entry(), names=("猫",)), ensure_ascii=False)
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32"):
        coco_folder(tmp_path, {})
        write(tmp_path / "annotations.json", text, encoding)
        check(tmp_path, [("猫", BOX)])
    content = coco(entry(), entry(2, bbox=[0, 0, 99, 9]))
    text = json.dumps(content, indent=1)
    line = text[: text.index('"id": 2')].count("\n")
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        write(tmp_path / "annotations.json", text, encoding)
        pattern = (
            rf"annotations\.json:{line}: annotations\[1\] \(id 2\): box \(0, 0, 99, 9\) leaves"
        )
        with pytest.raises(AnnotationError, match=pattern):
            read_annotations(tmp_path)


def test_coco_turned_photos_and_rotated_boxes(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    content = coco(entry(), file_name="b.jpg")
    photo(coco_folder(tmp_path, content) / "images" / "b.jpg", exif=exif)
    kind = "camera's rotation (EXIF) left out, as the labels give the unturned size"
    found = check(tmp_path, [CAT], {kind: 1}, notes=1)
    assert "1 photos are taken as they are stored" in found.notes[0]
    coco_folder(tmp_path, coco(entry(), file_name="b.jpg", width=30, height=40))
    check(tmp_path, [CAT])
    with pytest.raises(AnnotationError, match=r"a rotated box \(rotation 35\.0\): draw it upright"):
        objects(coco_folder(tmp_path, coco(entry(attributes={"rotation": 35.0}))))
