"""What is found in a folder of pictures and masks without training on it."""

import json
import shutil

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from common.street.scenes import SEMANTIC_CLASSES
from dataset import survey_data

NAMES = ["ground", "thing"]


def write_pair(folder, k, labels, seed=None):
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(k if seed is None else seed)
    photo = noise.integers(0, 256, (*labels.shape, 3), dtype=np.uint8)
    Image.fromarray(photo).save(folder / "images" / f"p{k}.png")
    Image.fromarray(labels).save(folder / "masks" / f"p{k}.png")


def drawn(k, size=(8, 12)):
    labels = np.zeros(size, np.uint8)
    labels[: k % 8, :3] = 1
    labels[-1, -1] = 255
    return labels


@pytest.fixture
def divided(tmp_path):
    """Make lists of six, two and two pictures with one table."""
    for name, numbers in {"train": range(6), "val": (6, 7), "test": (8, 9)}.items():
        for k in numbers:
            write_pair(tmp_path / name, k, drawn(k))
    (tmp_path / "classes.json").write_text(json.dumps(NAMES))
    return tmp_path


def survey(path, **options):
    return survey_data(path, progress=False, **options)


def test_what_is_counted(divided):
    found = survey(divided)
    assert (found.format, found.unit) == ("masks: images/ and masks/", "pixels")
    assert found.parts == {
        "test": {"images": 2, "objects": 3 * (0 + 1), "empty": 1},
        "train": {"images": 6, "objects": 3 * (0 + 1 + 2 + 3 + 4 + 5), "empty": 1},
        "val": {"images": 2, "objects": 3 * (6 + 7), "empty": 0},
    }
    assert found.classes == NAMES
    assert found.counts == {"ground": 10 * 95 - 87, "thing": 87}
    assert found.sizes == {(12, 8): 10}
    assert (found.mended, found.problems, found.notes, found.error) == ({}, [], [], None)
    assert found.exit_code == 0
    assert found.num_pictures == 10
    axes = Figure().subplots()
    found.draw(axes, 2)
    assert axes.get_title() == "p0.png" and axes.images[0].get_array().shape == (8, 12, 3)


def test_problems_are_listed_and_left_out(divided):
    mask, image = divided / "train" / "masks" / "p3.png", divided / "val" / "images" / "p6.png"
    labels = drawn(3)
    labels[4, 5] = 9
    Image.fromarray(labels).save(mask)
    image.write_bytes(image.read_bytes()[:-30])
    found = survey(divided)
    assert found.exit_code == 1 and found.usable
    assert [one.place.file for one in found.problems] == [str(mask), str(image)]
    assert "has the value 9 at pixel x = 5, y = 4" in found.problems[0].message
    assert "the file is cut off or damaged" in found.problems[1].message
    assert found.parts["train"]["images"] == 5 and found.parts["val"]["images"] == 1
    assert found.to_json()["refused"][0]["file"] == str(mask)


@pytest.mark.parametrize("decode", [False, True])
def test_pictures_are_decoded_on_demand(divided, monkeypatch, decode):
    asked = []

    def check(path, decode):
        asked.append(decode)
        return 12, 8

    monkeypatch.setattr("common.masks.checks.check_photo", check)
    assert survey(divided, decode=decode).exit_code == 0
    assert asked == [decode] * 10


def test_likely_mistakes(divided):
    (divided / "classes.json").write_text(json.dumps(["ground", "thing", "Thing", "speck", "dog"]))
    labels = drawn(5)
    labels[7, 0], labels[7, 1:3] = 3, 2
    write_pair(divided / "train", 5, labels)
    for k in range(20, 30):
        write_pair(divided / "train", k, drawn(1, (16, 12)))
    shutil.copy(divided / "train" / "images" / "p2.png", divided / "test" / "images" / "p8.png")
    assert survey(divided).notes == [
        "a class never occurs in the pictures to train on: dog",
        f"{divided}: the pictures have 2 sizes (width x height: 12 x 8, 12 x 16), and a batch "
        "needs one. Cut parts of one size from them: --crop-size HEIGHT WIDTH",
        "below 0.1% of the labelled pixels: Thing (2), speck (1)",
        "classes that differ in capital letters alone: thing, Thing",
        "1 pictures of test stand in train too, such as p8.png",
    ]


def test_masks_that_are_all_the_same(tmp_path):
    for k in range(4):
        write_pair(tmp_path, k, drawn(2))
    found = survey(tmp_path)
    assert (list(found.parts), found.classes) == (["all"], ["class 0", "class 1"])
    assert "all masks are the same" in found.notes


def test_what_cannot_be_trained_on(divided):
    assert "does not exist" in survey(divided / "nowhere").error
    found = survey(divided / "train" / "images")
    assert (found.exit_code, found.format) == (2, "")
    assert "has no folder images" in found.error
    found = survey(divided, train_split="monday")
    assert found.exit_code == 2 and "there is no list 'monday'" in found.error
    assert found.parts["train"]["images"] == 6
    for path in (divided / "val" / "masks").iterdir():
        path.unlink()
    found = survey(divided)
    note = "folders with pictures that are not read: val"
    assert (found.exit_code, found.notes[0]) == (0, note)
    for name in ("train", "test"):
        for path in (divided / name / "masks").iterdir():
            Image.fromarray(np.zeros((8, 12), np.uint8)).save(path)
    found = survey(divided)
    assert "every pixel to train on is 'ground'; the class 'thing' never occurs" in found.error
    assert found.counts == {"ground": 8 * 96, "thing": 0}


def test_no_pair_is_left(divided):
    for path in (divided / "test" / "masks").iterdir():
        path.write_text("")
    found = survey(divided)
    assert found.error == f"{divided / 'test'}: no pair of picture and mask is left"
    assert len(found.problems) == 2 and found.parts["train"]["images"] == 6


def test_format_of_the_drawn_scenes(scenes, tmp_path):
    found = survey(scenes)
    assert found.classes == list(SEMANTIC_CLASSES)
    assert "folders with pictures that are not read: PedMasks" in found.notes
    for name in ("PNGImages", "PedMasks"):
        shutil.copytree(scenes / name, tmp_path / name)
    found = survey(tmp_path)
    assert (found.format, found.classes) == ("masks: Penn-Fudan", ["background", "person"])


@pytest.mark.parametrize(
    ("table", "masks", "expected"),
    [
        (("labelmap.txt", "ground:0,0,0::\nthing:9,9,9::\n"), "SegmentationClass", "CVAT"),
        (("classes.txt", "ground\nthing\n"), "SegmentationClass", "Pascal VOC segmentation"),
        (("classes.txt", "ground\nthing\n"), "label", "images/ and label/"),
        (("_classes.csv", "Pixel Value, Class\n0, ground\n1, thing\n"), ".", "Roboflow"),
        (("classes.txt", "ground\nthing\n"), ".", "beside the pictures"),
    ],
)
def test_names_of_formats(tmp_path, table, masks, expected):
    for k in range(4):
        write_pair(tmp_path, k, drawn(k) * (drawn(k) < 255) * (9 if expected == "CVAT" else 1))
        path = tmp_path / "masks" / f"p{k}.png"
        if masks == ".":
            path.rename(tmp_path / f"p{k}_mask.png")
            (tmp_path / "images" / f"p{k}.png").rename(tmp_path / f"p{k}.png")
    if masks == ".":
        (tmp_path / "images").rmdir()
        (tmp_path / "masks").rmdir()
    else:
        (tmp_path / "masks").rename(tmp_path / masks)
    (tmp_path / table[0]).write_text(table[1])
    found = survey(tmp_path)
    assert (found.format, found.classes) == (f"masks: {expected}", NAMES)
    assert found.counts["thing"] == 3 * (0 + 1 + 2 + 3)
