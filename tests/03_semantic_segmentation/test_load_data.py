"""The data of a training: its three parts, its classes, and pairs that cannot be used."""

import shutil
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from common.findings import DataError
from common.street.scenes import SEMANTIC_CLASSES
from dataset import SegmentationDataset, load_data
from settings import make_settings


def load(path, **changes):
    return load_data(make_settings("street", data=str(path), **changes), progress=False)


def names_of(dataset):
    return [dataset.image_path(k).name for k in range(len(dataset))]


def parts_of(data):
    return data.train, data.validation, data.test


def test_data_without_lists_is_divided_by_the_seed(make_folder):
    folder = make_folder("index", count=17)
    first, same, other = (load(folder, seed=seed) for seed in (0, 0, 1))
    names = [names_of(part) for part in parts_of(first)]
    assert [len(part) for part in names] == [10, 2, 5]
    assert sorted(sum(names, [])) == sorted(f"p{k}.png" for k in range(17))
    assert names == [names_of(part) for part in parts_of(same)]
    assert names != [names_of(part) for part in parts_of(other)]
    assert first.report.splitlines() == [
        f"{folder}: 17 pairs are used, 0 left out",
        "pictures: 10 train, 2 validation, 5 test",
    ]


@pytest.fixture
def divided(make_folder, tmp_path):
    """Make a folder with lists of the given names, of twelve pictures each, and one table."""

    def make(*names):
        made, root = make_folder("color", count=12), tmp_path / "root"
        for name in names:
            shutil.copytree(made, root / name)
            (root / name / "classes.json").unlink()
        shutil.copy(made / "classes.json", root)
        return root

    return make


@pytest.mark.parametrize(
    ("lists", "parts"),
    [
        (("train", "val", "test"), [("train", 12), ("val", 12), ("test", 12)]),
        (("train", "val"), [("train", 10), ("train", 2), ("val", 12)]),
        (("train",), [("train", 8), ("train", 1), ("train", 3)]),
    ],
)
def test_lists_of_the_data(divided, lists, parts):
    data = load(divided(*lists))
    assert data.class_names == ("ground", "thing")
    found = []
    for part in parts_of(data):
        (source,) = {part.image_path(k).parents[1].name for k in range(len(part))}
        found.append((source, len(part)))
    assert found == parts
    for one, other in pairwise(parts_of(data)):
        paths = [{part.image_path(k) for k in range(len(part))} for part in (one, other)]
        assert not paths[0] & paths[1]
    assert data.train.transforms is not data.test.transforms is data.validation.transforms


def test_lists_of_other_names(divided):
    root = divided("monday", "sunday")
    data = load(root, train_split="monday", test_split="sunday")
    assert [len(part) for part in parts_of(data)] == [10, 2, 12]
    with pytest.raises(DataError, match=r"root: there is no list 'friday'.* monday, sunday"):
        load(root, train_split="friday")


def test_parts_with_other_classes_are_refused(divided):
    root = divided("train", "val")
    shutil.copy(root / "classes.json", root / "val")
    text = (root / "classes.json").read_text()
    (root / "val" / "classes.json").write_text(text.replace("thing", "things"))
    with pytest.raises(DataError, match="classes ground, thing, but the test part ground, things"):
        load(root)


def test_street_scenes_in_three_parts(tmp_path, monkeypatch):
    monkeypatch.setattr("dataset.NUM_VALIDATION_SCENES", 1)
    monkeypatch.setattr("dataset.NUM_TEST_SCENES", 2)
    settings = make_settings("street", num_scenes=3)
    data = load_data(settings, tmp_path, progress=False)
    assert [len(part) for part in parts_of(data)] == [3, 1, 2]
    assert data.class_names == SEMANTIC_CLASSES
    assert "train_3: 3 drawn scenes" in data.report


def test_folder_with_pedestrian_masks_alone(scenes, tmp_path):
    for name in ("PNGImages", "PedMasks"):
        shutil.copytree(scenes / name, tmp_path / name)
    assert load(tmp_path).class_names == ("background", "person")
    assert load(scenes).class_names == SEMANTIC_CLASSES  # semantic masks come first


def cut_off(path):
    path.write_bytes(path.read_bytes()[:60])


def spoiled(folder):
    """Spoil six of the pairs, each in its own way; return words of the six lines about them."""
    images, masks = folder / "images", folder / "masks"
    Image.fromarray(np.zeros((8, 5), np.uint8)).save(masks / "p0.png")
    cut_off(images / "p1.png")
    cut_off(masks / "p2.png")
    pixels = np.array(Image.open(masks / "p3.png"))
    pixels[5, 3] = 77
    Image.fromarray(pixels).save(masks / "p3.png")
    (masks / "p4.png").unlink()
    (images / "p5.png").unlink()
    return [
        f"{images / 'p4.png'}: has no mask",
        f"{masks / 'p5.png'}: this mask has no picture",
        f"{masks / 'p0.png'}: is 5 x 8 pixels, but",
        f"{images / 'p1.png'}: the file is cut off or damaged",
        f"{masks / 'p2.png'}: is",
        f"{masks / 'p3.png'}: has the value 77 at pixel x = 3, y = 5",
    ]


@pytest.mark.parametrize("table", [True, False])
def test_unusable_pairs_are_refused_or_left_out(make_folder, table):
    folder = make_folder("index", count=12)
    words = spoiled(folder)
    if not table:  # then the masks' own values have to be enough
        (folder / "classes.json").unlink()
        Image.open(folder / "masks" / "p6.png").save(folder / "masks" / "p3.png")
        words.pop()
    with pytest.raises(DataError) as refused:
        load(folder)
    head, *lines = str(refused.value).splitlines()
    assert head == (f"{folder}: {len(words)} problems (--on-invalid drop leaves them out):")
    data = load(folder, on_invalid="drop")
    first, *left_out, sizes = data.report.splitlines()
    assert first == f"{folder}: {12 - len(words)} pairs are used, {len(words)} left out"
    assert left_out == lines
    assert all(word in line for word, line in zip(words, lines, strict=True))
    assert sizes.startswith("pictures: ")
    used = sorted(sum(map(names_of, parts_of(data)), []))
    assert used == sorted(f"p{k}.png" for k in range(6 if table else 3, 12) if k not in (4, 5))
    for part in parts_of(data):
        assert all(image.shape == (3, 8, 12) for image, _ in part)


def test_long_lists_of_problems_are_cut_short(make_folder):
    folder = make_folder("index", count=13)
    for path in (folder / "masks").iterdir():
        cut_off(path)
    with pytest.raises(DataError, match=r"13 problems[\s\S]*\n  \.\.\. and 3 more"):
        load(folder)
    with pytest.raises(DataError, match="13 problems"):  # nothing is left
        load(folder, on_invalid="drop")
    with pytest.raises(ValueError, match="on_invalid is 'skip'; allowed are refuse, drop"):
        SegmentationDataset.from_path(folder, on_invalid="skip")


def test_unknown_values_can_be_ignored(make_folder):
    folder = make_folder("index")
    path = folder / "masks" / "p0.png"
    Image.fromarray(np.full((8, 12), 9, np.uint8)).save(path)
    with pytest.raises(DataError, match=r"value 9 .* --unknown-labels ignore"):
        load(folder)
    assert sum(map(len, parts_of(load(folder, unknown_labels="ignore")))) == 4


def test_too_few_pictures(make_folder):
    with pytest.raises(DataError, match=r"index: 2 picture\(s\) cannot be divided into train"):
        load(make_folder("index", count=2))


def test_settings_reach_the_augmentation(make_folder):
    settings = make_settings("street", data=str(make_folder("index")), crop_size=(5, 7))
    image, target = load_data(settings, progress=False).train[0]
    assert (image.shape, target["labels"].shape) == ((3, 5, 7), (5, 7))
    whole = load_data(replace(settings, crop_size=None), progress=False)
    assert whole.train[0][0].shape == (3, 8, 12)
