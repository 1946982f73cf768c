"""Folders of pictures and masks of every kind, their errors, and what augmentation does to them."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import tv_tensors

from common.findings import DataError
from common.masks import IGNORE_INDEX
from common.masks.class_table import ClassTable, numbered_classes
from common.masks.label_maps import read_label_map
from common.masks.table_files import read_class_table
from common.street.scenes import SEMANTIC_CLASSES, draw_scene
from dataset import SegmentationDataset, count_pixels

KINDS = ("index", "sixteen", "palette", "palette_colors", "color")


def expected_labels(width=12, height=8):
    labels = np.zeros((height, width), np.uint8)
    labels[:, width // 2 :] = 1
    labels[0, 0] = IGNORE_INDEX
    return torch.from_numpy(labels)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_mask_gives_the_same_labels(make_folder, kind):
    dataset = SegmentationDataset.from_path(make_folder(kind))
    assert dataset.class_names == ("ground", "thing")
    assert len(dataset) == 4
    for k, (image, target) in enumerate(dataset):
        assert isinstance(image, tv_tensors.Image)
        assert (image.dtype, tuple(image.shape)) == (torch.uint8, (3, 8, 12))
        assert isinstance(target["labels"], tv_tensors.Mask)
        assert target["labels"].dtype == torch.uint8
        assert torch.equal(target["labels"].as_subclass(torch.Tensor), expected_labels())
        assert target["image_id"] == k
        assert dataset.image_path(k).name == f"p{k}.png"


def test_street_scenes_are_read_as_they_were_drawn(scenes):
    dataset = SegmentationDataset.from_path(scenes)
    assert dataset.class_names == SEMANTIC_CLASSES
    for seed in (0, 5):
        scene, (image, target) = draw_scene(seed, 96, 72), dataset[seed]
        assert np.array_equal(image.numpy(), scene.image.transpose(2, 0, 1))
        assert np.array_equal(target["labels"].numpy(), scene.semantic)


def test_penn_fudan_layout_is_person_and_background(scenes):
    dataset = SegmentationDataset.from_path(scenes, mask_folders=("PedMasks",))
    assert dataset.class_names == ("background", "person")
    for seed in range(8):
        scene = draw_scene(seed, 96, 72)
        people = np.isin(scene.instances, np.flatnonzero(scene.labels == 1) + 1)
        assert np.array_equal(dataset[seed][1]["labels"].numpy(), people)


def test_index_masks_without_table_are_numbered(make_folder):
    folder = make_folder("index")
    (folder / "classes.json").unlink()
    dataset = SegmentationDataset.from_path(folder)
    assert dataset.class_names == ("class 0", "class 1")
    assert torch.equal(dataset[0][1]["labels"].as_subclass(torch.Tensor), expected_labels())


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("classes.txt", "ground\nthing\n"),
        ("classes.csv", "name,value\nground,0\nthing,1\nignore,255\n"),
        ("classes.csv", "name, r, g, b, value\nground,1,2,3,0\nthing,4,5,6,1\nignore,,,,255\n"),
        ("classes.json", '{"classes": [{"name": "ground", "value": 0}, {"name": "thing", '
         '"value": 1}], "ignore": [255]}'),
    ],
)  # fmt: skip
def test_tables_of_classes(make_folder, name, text):
    folder = make_folder("index")
    (folder / "classes.json").unlink()
    (folder / name).write_text(text)
    dataset = SegmentationDataset.from_path(folder)
    assert dataset.class_names == ("ground", "thing")
    assert torch.equal(dataset[3][1]["labels"].as_subclass(torch.Tensor), expected_labels())


def test_mask_endings_and_photo_kinds(make_folder):
    folder = make_folder("index")
    Image.open(folder / "images" / "p0.png").save(folder / "images" / "p0.jpg", quality=95)
    (folder / "images" / "p0.png").unlink()
    (folder / "masks" / "p0.png").rename(folder / "masks" / "p0_mask.png")
    assert SegmentationDataset.from_path(folder)[0][0].shape == (3, 8, 12)


def unknown_value(folder):
    path = folder / "masks" / "p0.png"
    pixels = np.array(Image.open(path))
    pixels[5, 3] = 77
    Image.fromarray(pixels).save(path)


def empty_images(folder):
    shutil.rmtree(folder / "images")
    (folder / "images").mkdir()


def damaged_mask(folder):
    path = folder / "masks" / "p0.png"
    path.write_bytes(path.read_bytes()[:60])


def mask_instead(name, pixels):
    def spoil(folder):
        (folder / "masks" / "p0.png").unlink()
        Image.fromarray(pixels).save(folder / "masks" / name)

    return spoil


SPOIL = {
    "size": mask_instead("p0.png", np.zeros((8, 5), np.uint8)),
    "missing mask": lambda folder: (folder / "masks" / "p0.png").unlink(),
    "missing image": lambda folder: (folder / "images" / "p0.png").unlink(),
    "unknown value": unknown_value,
    "empty": empty_images,
    "no masks": lambda folder: shutil.rmtree(folder / "masks"),
    "damaged mask": damaged_mask,
    "no picture": lambda folder: (folder / "images" / "p0.png").write_text("<html>"),
    "same stem": lambda folder: shutil.copy(folder / "images/p0.png", folder / "images/p0.bmp"),
    "jpeg mask": mask_instead("p0.jpg", np.zeros((8, 12), np.uint8)),
    "float mask": mask_instead("p0.tif", np.zeros((8, 12), np.float32)),
    "color mask": mask_instead("p0.png", np.full((8, 12, 3), (1, 2, 3), np.uint8)),
}


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("size", r"masks.p0\.png: is 5 x 8 pixels, but .*images.p0\.png is 12 x 8"),
        ("missing mask", r"images.p0\.png: has no mask; it may be called p0, p0_mask"),
        ("missing image", r"masks.p0\.png: this mask has no picture"),
        (
            "unknown value",
            r"masks.p0\.png: has the value 77 at pixel x = 3, y = 5, .*classes.*does",
        ),
        ("empty", r"images holds no picture \(\.avif, \.bmp"),
        ("no masks", r"index has no folder masks or SemanticMasks"),
        ("damaged mask", r"masks.p0\.png: is (damaged|no readable mask)"),
        ("no picture", r"images.p0\.png: this is not a photo"),
        ("same stem", r"p0\.png and .*p0\.bmp share one name; rename one"),
        ("jpeg mask", r"p0\.jpg: is a JPEG, which blurs classes"),
        ("float mask", r"p0\.tif: holds float values; masks have 1, 8 or 16 bits"),
        ("color mask", r"p0\.png: is a colour mask, but .*classes\.json gives no colors"),
    ],
)
def test_bad_folders(make_folder, what, message):
    folder = make_folder("index")
    SPOIL[what](folder)
    with pytest.raises(DataError, match=message):
        SegmentationDataset.from_path(folder)


def test_no_folder(tmp_path):
    with pytest.raises(DataError, match="the folder .*nowhere does not exist"):
        SegmentationDataset.from_path(tmp_path / "nowhere")


def test_unknown_color_names_the_pixel(make_folder):
    folder = make_folder("color")
    path = folder / "masks" / "p1.png"
    pixels = np.array(Image.open(path))
    pixels[2, 7] = 9, 8, 7
    Image.fromarray(pixels).save(path)
    message = r"p1\.png: has the color \(9, 8, 7\) at pixel x = 7, y = 2"
    with pytest.raises(DataError, match=message):
        SegmentationDataset.from_path(folder)
    forgiving = SegmentationDataset.from_path(folder, unknown="ignore")
    labels = forgiving[1][1]["labels"]
    assert labels[2, 7] == IGNORE_INDEX
    assert (labels == IGNORE_INDEX).sum() == 2
    with pytest.raises(ValueError, match="unknown is 'skip'; allowed are error, ignore"):
        read_label_map(path, forgiving.table, "skip")


@pytest.mark.parametrize("kind", ["palette", "color"])
def test_palette_or_color_masks_need_a_table(make_folder, kind):
    folder = make_folder(kind)
    (folder / "classes.json").unlink()
    with pytest.raises(DataError, match=rf"p0\.png is a {kind} mask and there is no class table"):
        SegmentationDataset.from_path(folder)


def test_black_and_white_masks_are_foreground_and_background(make_folder):
    """255 alone beside 0 is no ignored value; with a table its classes have other names."""
    folder = make_folder("index")
    (folder / "classes.json").unlink()
    for path in (folder / "masks").iterdir():
        Image.fromarray((np.array(Image.open(path)) == 1).astype(np.uint8) * 255).save(path)
    dataset = SegmentationDataset.from_path(folder)
    assert dataset.class_names == ("background", "foreground")
    assert dataset.report.splitlines()[1:] == [
        "  note: 0 is background, 255 is foreground: a class table gives them other names"
    ]
    expected = (expected_labels() == 1).to(torch.uint8)
    assert torch.equal(dataset[0][1]["labels"].as_subclass(torch.Tensor), expected)
    content = {"classes": [{"name": "no", "value": 0}, {"name": "yes", "value": 255}]}
    (folder / "classes.json").write_text(json.dumps(content))
    dataset = SegmentationDataset.from_path(folder)
    assert dataset.class_names == ("no", "yes")
    assert torch.equal(dataset[0][1]["labels"].as_subclass(torch.Tensor), expected)
    assert len(dataset.report.splitlines()) == 1


def test_gray_rgb_masks_are_index_masks(make_folder):
    folder = make_folder("index")
    for path in (folder / "masks").iterdir():
        Image.open(path).convert("RGB").save(path)
    labels = SegmentationDataset.from_path(folder)[0][1]["labels"]
    assert torch.equal(labels.as_subclass(torch.Tensor), expected_labels())


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.json", "{", "is no JSON"),
        ("a.json", "[]", "has 0 classes; 1 to 255 are allowed"),
        ("a.json", '{"names": []}', "neither a list of names nor"),
        ("a.json", '{"classes": [{"value": 1}]}', "the class .* has no name"),
        ("a.json", '{"classes": [{"name": "a"}]}', "neither values nor colors"),
        ("a.json", '{"classes": [{"name": "a", "value": 1}, {"name": "b"}]}', "'b' has no value"),
        ("a.json", '{"classes": [{"name": "a", "value": -1}]}', "the value -1; whole numbers"),
        ("a.json", '{"classes": [{"name": "a", "value": true}]}', "the value True"),
        ("a.json", '{"classes": [{"name": "a", "color": [1, 2]}]}', r"the color \[1, 2\]"),
        ("a.json", '{"classes": [{"name": "a", "color": [1, 2, 256]}]}', "the color .*256"),
        ("a.json", '{"classes": [], "ignore": 3}', '"ignore" is 3'),
        ("a.json", '["x", "x"]', "the name 'x' is given twice"),
        ("a.csv", "name,value\na,1\nb,1\n", "the value 1 is given twice"),
        ("a.csv", "name,value\na,red\n", "the row .* is wrong"),
        ("a.csv", "value\n1\n", "has no name; columns: name,value,r,g,b"),
        ("a.csv", "name,r,g,b\na,1,2,3\nb,1,2,3\n", r"the color \(1, 2, 3\) is given twice"),
        ("a.xml", "", "is no class table; allowed are classes.json"),
    ],
)
def test_bad_tables(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=message):
        read_class_table(tmp_path / name)


def test_missing_table(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        read_class_table(tmp_path / "classes.json")


def test_table_of_255_classes_keeps_the_ignored_apart():
    table = numbered_classes([f"c{k}" for k in range(255)])
    assert table.values[-1] == 254
    with pytest.raises(DataError, match="has 256 classes"):
        ClassTable(tuple(map(str, range(256))))


def test_pixels_are_counted_without_the_ignored(make_folder):
    whole = SegmentationDataset.from_path(make_folder("index"))
    assert count_pixels(whole).tolist() == [4 * (8 * 6 - 1), 4 * 8 * 6]


def test_no_pair():
    with pytest.raises(DataError, match="there is no picture"):
        SegmentationDataset([], numbered_classes(["a"]))
