"""How folders of pictures and masks may be built: every layout gives the labels that were drawn."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.findings import DataError, Findings
from common.masks.folders import find_layout, find_splits
from common.masks.layout import find_pairs
from dataset import SegmentationDataset, load_data
from settings import make_settings

NAMES = ["background", "thing"]


def labels_of(k):
    """Labels of picture k, no two alike: class 1 in a corner of its own size."""
    labels = np.zeros((8, 12), np.uint8)
    labels[: k % 7 + 1, : k % 5 + 1] = 1
    return labels


def picture_of(k):
    return np.random.default_rng(k).integers(0, 256, (8, 12, 3), dtype=np.uint8)


def write(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def make(root, places, count=6, table=True):
    """Write pairs; `places(k)` names the files of picture k and its mask."""
    for k in range(count):
        picture, mask = places(k)
        write(root / picture, picture_of(k))
        write(root / mask, labels_of(k))
    if table:
        (root / "classes.json").write_text(json.dumps(NAMES))
    return root


def load(path, **changes):
    return load_data(make_settings("street", data=str(path), **changes), progress=False)


def check_labels(data, count):
    """Every picture is there once, with its own labels, in the parts together."""
    found = {}
    for part in (data.train, data.validation, data.test):
        for image, target in part.subset(range(len(part))):
            k = next(
                k for k in range(count) if (image.numpy() == np.moveaxis(picture_of(k), 2, 0)).all()
            )
            assert k not in found
            found[k] = target["labels"].numpy()
    assert sorted(found) == list(range(count))
    assert all((found[k] == labels_of(k)).all() for k in found)


def split_of(k):
    return ("train", "train", "train", "val", "val", "test")[k % 6]


FOLDERS = [
    ("imgs", "masks"),
    ("JPEGImages", "labels"),
    ("image", "label"),
    ("Images", "MASKS"),
    ("img_dir", "ann_dir"),
    ("photos", "annotations"),
    ("frames", "SegmentationClass"),
]


@pytest.mark.parametrize(("images", "masks"), FOLDERS)
def test_names_of_the_two_folders(tmp_path, images, masks):
    make(tmp_path, lambda k: (f"{images}/p{k}.png", f"{masks}/p{k}.png"))
    assert find_splits(tmp_path) == ()
    check_labels(load(tmp_path), 6)


@pytest.mark.parametrize(("images", "masks"), FOLDERS[:4])
@pytest.mark.parametrize("outside", [True, False])
def test_lists_around_the_folders_or_in_them(tmp_path, images, masks, outside):
    def places(k):
        ways = [(split_of(k), name) if outside else (name, split_of(k)) for name in (images, masks)]
        return tuple(f"{'/'.join(way)}/p{k}.png" for way in ways)

    make(tmp_path, places)
    assert find_splits(tmp_path) == ("test", "train", "val")
    data = load(tmp_path)
    assert [len(part) for part in (data.train, data.validation, data.test)] == [3, 2, 1]
    check_labels(data, 6)


@pytest.mark.parametrize("tail", ["annot", "_labels", "_masks", "Annot"])
def test_camvid(tmp_path, tail):
    make(tmp_path, lambda k: (f"{split_of(k)}/p{k}.png", f"{split_of(k)}{tail}/p{k}_L.png"))
    assert find_layout(tmp_path).form == "CamVid"
    data = load(tmp_path)
    assert [len(part) for part in (data.train, data.validation, data.test)] == [3, 2, 1]
    check_labels(data, 6)


@pytest.mark.parametrize("divided", [True, False])
def test_masks_beside_the_pictures(tmp_path, divided):
    lists = {"test": "test", "val": "valid", "train": "train"}
    folder = (lambda k: lists[split_of(k)] + "/") if divided else (lambda k: "")
    make(tmp_path, lambda k: (f"{folder(k)}a.{k}.rf.x.png", f"{folder(k)}a.{k}.rf.x_mask.png"))
    assert find_splits(tmp_path) == (("test", "train", "valid") if divided else ())
    check_labels(load(tmp_path), 6)


def voc(root, lists, count=6):
    make(root, lambda k: (f"JPEGImages/p{k}.png", f"SegmentationClass/p{k}.png"), count)
    folder = root / "ImageSets" / "Segmentation"
    folder.mkdir(parents=True)
    for name, text in lists.items():
        (folder / f"{name}.txt").write_text(text)
    write(root / "JPEGImages" / "unlabelled.png", picture_of(99))
    return root


def test_lists_of_pascal_voc(tmp_path):
    lists = {
        "train": "p0\np1\n\np2\n", "val": "p3\r\np4\r\n", "trainval": "p0\np1\np2\np3\np4\n",
        "test": "JPEGImages/p5.png SegmentationClass/p5.png\n",
    }  # fmt: skip
    data = load(voc(tmp_path, lists))
    assert [len(part) for part in (data.train, data.validation, data.test)] == [3, 2, 1]
    check_labels(data, 6)
    note = f"  note: 1 pictures of {tmp_path / 'JPEGImages'} are in no list and are not used"
    assert note in data.report.splitlines()


def test_a_list_that_names_what_is_not_there(tmp_path):
    voc(tmp_path, {"train": "p0\np1\np1\np9\nunlabelled\n", "val": "p3\n"})
    path = tmp_path / "ImageSets" / "Segmentation" / "train.txt"
    with pytest.raises(DataError) as refused:
        load(tmp_path)
    assert str(refused.value).splitlines() == [
        f"{path}: 2 problems (--on-invalid drop leaves them out):",
        f"  {path}:4: there is no picture 'p9' in {tmp_path / 'JPEGImages'}",
        f"  {tmp_path / 'JPEGImages' / 'unlabelled.png'}: has no mask; it may be called "
        "unlabelled, unlabelled_mask, unlabelled_semantic ... (.png)",
    ]
    data = load(tmp_path, on_invalid="drop")
    assert [len(part) for part in (data.train, data.validation, data.test)] == [1, 1, 1]
    assert "  mended: picture that a list names twice (1 x)" in data.report.splitlines()


def test_an_unpacked_archive_is_one_folder_deeper(tmp_path):
    voc(tmp_path / "VOC2012", {"train": "p0\np1\np2\n", "val": "p3\np4\n", "test": "p5\n"})
    check_labels(load(tmp_path), 6)
    shutil.copytree(tmp_path / "VOC2012", tmp_path / "VOC2007")
    with pytest.raises(DataError, match=r"several data sets \(VOC2007, VOC2012\).*choose one"):
        load(tmp_path)


def objects_of(k):
    """Two objects of a picture that do not touch, and one inside the first."""
    masks = np.zeros((3, 8, 12), np.uint8)
    masks[0, 1:4, 1 : 4 + k] = 255
    masks[1, 5:7, 2:9] = 255
    masks[2, 2, 2] = 255
    return masks


def test_one_mask_file_an_object(tmp_path):
    for k in range(4):
        write(tmp_path / f"id{k}" / "images" / f"id{k}.png", picture_of(k))
        for n, mask in enumerate(objects_of(k)):
            write(tmp_path / f"id{k}" / "masks" / f"object{n}.png", mask)
    data = load(tmp_path)
    assert "  note: 12 masks of one object each were joined to 4" in data.report.splitlines()
    assert data.class_names == ("background", "foreground")
    dataset = SegmentationDataset.from_path(tmp_path)
    for k in range(4):
        assert (dataset[k][1]["labels"].numpy() == (objects_of(k).max(0) > 0)).all()
    write(tmp_path / "id2" / "masks" / "object1.png", np.full((8, 11), 255, np.uint8))
    (tmp_path / "id3" / "masks" / "object0.png").write_bytes(b"no mask")
    with pytest.raises(DataError) as refused:
        load(tmp_path)
    lines = str(refused.value).splitlines()
    assert [line.split(": ")[0] for line in lines[1:]] == [
        f"  {tmp_path / 'id2' / 'masks' / 'object1.png'}",
        f"  {tmp_path / 'id3' / 'masks' / 'object0.png'}",
    ]


PAIRS = [
    ("a.b.jpg", "a.b.png"), ("a.JPG", "a_Mask.PNG"), ("a.jpg", "a-mask.png"),
    ("a.jpg", "a.mask.png"), ("a.jpg", "a_seg.png"), ("a.jpg", "a_labelIds.png"),
    ("a.jpg", "a.jpg.png"), ("a.jpg", "mask_a.png"), ("image_7.jpg", "mask_7.png"),
    ("img7.jpg", "mask7.png"), ("9_sat.jpg", "9_mask.png"), ("a.jpg", "a_mask.gif"),
    ("c_1_leftImg8bit.png", "c_1_gtFine_labelIds.png"),
]  # fmt: skip


@pytest.mark.parametrize(("picture", "mask"), PAIRS)
def test_names_of_masks(tmp_path, picture, mask):
    write(tmp_path / "images" / picture, picture_of(0))
    write(tmp_path / "masks" / mask, labels_of(0) * 255)
    findings = Findings(tmp_path, "refuse")
    pairs = find_pairs(find_layout(tmp_path).first, findings)
    assert pairs == [(tmp_path / "images" / picture, tmp_path / "masks" / mask)]
    assert not findings.problems


def test_two_masks_that_fit_one_picture(tmp_path):
    make(tmp_path, lambda k: (f"images/p{k}.png", f"masks/p{k}_mask.png"))
    shutil.copy(tmp_path / "masks" / "p0_mask.png", tmp_path / "masks" / "p0_gt.png")
    with pytest.raises(DataError, match=r"p0\.png: two masks fit: .*p0_gt\.png and .*p0_mask\.png"):
        load(tmp_path)


def test_folders_that_can_be_read_in_two_ways(tmp_path):
    make(tmp_path, lambda k: (f"images/p{k}.png", f"masks/p{k}.png"))
    shutil.copytree(tmp_path / "masks", tmp_path / "gt")
    with pytest.raises(DataError, match="2 ways: images and masks, or images and gt. Move"):
        load(tmp_path)


def test_files_and_folders_that_are_passed_over(tmp_path):
    make(tmp_path, lambda k: (f"images/p{k}.png", f"masks/p{k}.png"))
    for name in ("a.psd", "b.txt", "c", "d.md", ".hidden", "Thumbs.db", "._p0.png"):
        (tmp_path / "images" / name).write_text("")
    write(tmp_path / "drawings" / "x.png", picture_of(0))
    report = load(tmp_path).report.splitlines()
    folder = tmp_path / "images"
    text = "4 files are no pictures and were passed over: a.psd, b.txt, c, ..."
    assert f"  note: {folder}: {text}" in report
    assert "  note: folders with pictures that are not read: drawings" in report


def test_a_list_without_masks_is_said(tmp_path):
    make(tmp_path, lambda k: (f"images/{split_of(k)}/p{k}.png", f"masks/{split_of(k)}/p{k}.png"))
    shutil.rmtree(tmp_path / "masks" / "test")
    data = load(tmp_path)
    assert [len(part) for part in (data.train, data.validation, data.test)] == [2, 1, 2]
    assert "  note: the list test is not used: it has no masks" in data.report.splitlines()


COCO = '{"images": [], "categories": [], "annotations": []}'
VOC_XML = "<annotation><object><bndbox></bndbox></object></annotation>"
DETECTION = [
    ("annotations/instances.json", COCO, "COCO JSON"),
    ("Annotations/p0.xml", VOC_XML, "Pascal VOC XML"),
    ("labels/p0.txt", "0 0.5 0.5 0.25 0.125\n", "YOLO text files"),
    ("p0.json", '{"version": "5", "shapes": []}', "labelme JSON"),
]


@pytest.mark.parametrize(("name", "text", "kind"), DETECTION)
def test_detection_data_is_called_by_its_name(tmp_path, name, text, kind):
    write(tmp_path / "images" / "p0.png", picture_of(0))
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    message = f"This is detection data, boxes or polygons without masks: {kind} ({path})"
    with pytest.raises(DataError, match=re.escape(message)):
        load(tmp_path)


def test_known_layouts_are_listed(tmp_path):
    write(tmp_path / "train" / "images" / "p0.png", picture_of(0))
    with pytest.raises(
        DataError, match=r"train has no folder masks or SemanticMasks[\s\S]*known are:"
    ):
        load(tmp_path)
    with pytest.raises(DataError, match="has no folder images or PNGImages"):
        load(tmp_path / "train" / "images")


def test_lists_are_read_one_at_a_time_in_python(tmp_path):
    make(tmp_path, lambda k: (f"{split_of(k)}/images/p{k}.png", f"{split_of(k)}/masks/p{k}.png"))
    with pytest.raises(DataError, match="is divided into the lists test, train, val: read one"):
        SegmentationDataset.from_path(tmp_path)
    assert len(SegmentationDataset.from_path(Path(tmp_path, "train"))) == 3


def test_lists_of_unknown_names_have_to_be_chosen(tmp_path):
    days = ("monday", "sunday")
    make(tmp_path, lambda k: tuple(f"{days[k % 2]}/{one}/{k}.png" for one in ("img", "mask")), 12)
    with pytest.raises(DataError, match="which list to train on.* monday, sunday; choose with"):
        load(tmp_path)
    assert len(load(tmp_path, train_split="monday", test_split="sunday").test) == 6
