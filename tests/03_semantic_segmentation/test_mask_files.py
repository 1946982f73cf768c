"""Mask files as programs write them: black and white, smoothed, JPEG, transparent, turned."""

import json

import numpy as np
import pytest
from PIL import Image

from common.findings import DataError
from dataset import SegmentationDataset, load_data
from settings import make_settings

WIDTH, HEIGHT = 40, 32
TWO = {"classes": [{"name": "no", "value": 0}, {"name": "yes", "value": 255}]}
TWO_COLORS = {
    "classes": [{"name": "no", "color": [0, 0, 0]}, {"name": "yes", "color": [255, 255, 255]}]
}


def drawn(k):
    """A disc and a bar, bool (H, W)."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    disc = (x - 14) ** 2 + (y - 15) ** 2 < (6 + k) ** 2
    return disc | ((x > 28) & (y > 10) & (y < 20 + k))


def gray(k):
    return Image.fromarray(drawn(k).astype(np.uint8) * 255)


def make(root, image_of, suffix=".png", table=None, count=4, **options):
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    for k in range(count):
        photo = np.random.default_rng(k).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        Image.fromarray(photo).save(root / "images" / f"p{k}.png")
        image_of(k).save(root / "masks" / f"p{k}{suffix}", **options)
    if table is not None:
        (root / "classes.json").write_text(json.dumps(table))
    return root


def load(path, **changes):
    return load_data(make_settings("street", data=str(path), **changes), progress=False)


def check_drawn(dataset, expected=drawn):
    for k, (_, target) in enumerate(dataset):
        assert (target["labels"].numpy() == expected(k)).all()


def palette(k, *colors):
    image = Image.fromarray(drawn(k).astype(np.uint8))
    image.putpalette([level for color in colors for level in color])
    return image


BLACK, WHITE = (0, 0, 0), (255, 255, 255)
BLACK_AND_WHITE = {
    "gray": (gray, ".png"),
    "rgb": (lambda k: gray(k).convert("RGB"), ".png"),
    "opaque": (lambda k: gray(k).convert("RGBA"), ".png"),
    "one bit": (lambda k: gray(k).convert("1"), ".png"),
    "palette": (lambda k: palette(k, BLACK, WHITE), ".png"),
    "gif": (gray, ".gif"),
    "gif with two colours": (lambda k: palette(k, BLACK, WHITE), ".gif"),
    "tif": (lambda k: Image.fromarray(drawn(k).astype(np.uint16) * 65535), ".tif"),
    "0 and 1": (lambda k: Image.fromarray(drawn(k).astype(np.uint8)), ".png"),
}


@pytest.mark.parametrize("kind", BLACK_AND_WHITE)
def test_two_values_need_no_table(tmp_path, kind):
    image_of, suffix = BLACK_AND_WHITE[kind]
    make(tmp_path, image_of, suffix)
    dataset = SegmentationDataset.from_path(tmp_path)
    assert dataset.class_names == ("background", "foreground")
    assert "foreground: a class table gives them other names" in dataset.report
    check_drawn(dataset)


@pytest.mark.parametrize("kind", [one for one in BLACK_AND_WHITE if one not in ("0 and 1", "tif")])
@pytest.mark.parametrize("table", [TWO, TWO_COLORS])
def test_two_values_with_a_table(tmp_path, kind, table):
    image_of, suffix = BLACK_AND_WHITE[kind]
    dataset = SegmentationDataset.from_path(make(tmp_path, image_of, suffix, table))
    assert dataset.class_names == ("no", "yes")
    check_drawn(dataset)


@pytest.mark.parametrize("table", [None, TWO, TWO_COLORS])
@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("quality", [50, 75, 95])
def test_black_and_white_jpeg_is_cut_at_the_middle(tmp_path, table, mode, quality):
    make(tmp_path, lambda k: gray(k).convert(mode), ".jpg", table, quality=quality)
    dataset = SegmentationDataset.from_path(tmp_path)
    check_drawn(dataset)
    lines = dataset.report.splitlines()
    assert lines[1] == "  mended: JPEG mask cut at the middle (4 x)"
    assert len(lines) == 2 + (table is None)


@pytest.mark.parametrize("table", [None, TWO])
@pytest.mark.parametrize("levels", [(0, 128, 255), (0, 90, 180)], ids=["third", "gray"])
def test_other_jpegs_are_refused(tmp_path, table, levels):
    def three(k):
        labels = drawn(k).astype(np.uint8)
        labels[24:, :24] = 2
        return Image.fromarray(np.array(levels, np.uint8)[labels])

    make(tmp_path, three, ".jpg", table)
    with pytest.raises(DataError, match=r"p0\.jpg: is a JPEG, which blurs classes; store masks"):
        load(tmp_path)


@pytest.mark.parametrize("table", [None, ["no", "yes"]])
def test_jpegs_of_small_numbers_are_refused(tmp_path, table):
    make(tmp_path, lambda k: Image.fromarray(drawn(k).astype(np.uint8)), ".jpg", table)
    with pytest.raises(DataError, match=r"\.jpg: is a JPEG, which blurs classes; store masks"):
        load(tmp_path)


def smoothed(k):
    """Draw four times as large, then shrink: each pixel is as gray as it is covered."""
    y, x = np.mgrid[: HEIGHT * 4, : WIDTH * 4] / 4
    disc = (x - 14) ** 2 + (y - 15) ** 2 < (6 + k) ** 2
    large = disc | ((x > 28.5) & (y > 10.5) & (y < 20.25 + k))
    return Image.fromarray(large.astype(np.uint8) * 255).reduce(4)


def test_smoothed_edges_are_cut_with_a_table_of_two_values(tmp_path):
    make(tmp_path, smoothed, table=TWO)
    dataset = SegmentationDataset.from_path(tmp_path)
    assert "  mended: smoothed mask cut at the middle (4 x)" in dataset.report.splitlines()
    check_drawn(dataset, lambda k: np.asarray(smoothed(k)) >= 128)
    ignoring = SegmentationDataset.from_path(tmp_path, unknown="ignore")
    between = ~np.isin(np.asarray(smoothed(1)), (0, 255))
    assert ((ignoring[1][1]["labels"].numpy() == 255) == between).all()
    line = "  mended: mask with values that the table does not list, which are ignored (4 x)"
    assert line in ignoring.report.splitlines()


def test_smoothed_edges_without_a_table_are_refused(tmp_path):
    make(tmp_path, smoothed)
    message = r"hold the values \[0, .*255\]; without a class table they must be .*classes\.json"
    with pytest.raises(DataError, match=message):
        load(tmp_path)


def test_a_third_value_is_no_smoothed_edge(tmp_path):
    def third(k):
        pixels = np.array(gray(k))
        pixels[1:3, 33:36] = 100
        return Image.fromarray(pixels)

    make(tmp_path, third, table=TWO)
    message = (
        r"p0\.png: has the value 100 at pixel x = 33, y = 1, which .*classes\.json does not list "
        r"\(6 such pixels\); add it, or choose --unknown-labels ignore$"
    )
    with pytest.raises(DataError, match=r"(?m)" + message):
        load(tmp_path)


@pytest.mark.parametrize("table", [None, TWO])
@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_mask_in_the_transparency_is_refused(tmp_path, table, mode):
    def transparent(k):
        image = Image.new(mode, (WIDTH, HEIGHT), "white")
        image.putalpha(gray(k))
        return image

    make(tmp_path, transparent, table=table)
    message = r"p0\.png: every pixel has the color \(255, 255, 255\); the mask stands in the transp"
    with pytest.raises(DataError, match=message):
        load(tmp_path)


@pytest.mark.parametrize("value", [0, 255])
def test_one_class_everywhere_is_refused(tmp_path, value):
    make(tmp_path, lambda k: Image.new("L", (WIDTH, HEIGHT), value), table=TWO)
    name, other = ("no", "yes") if value == 0 else ("yes", "no")
    message = f"every pixel to train on is '{name}'; the class '{other}' never occurs: nothing can"
    with pytest.raises(DataError, match=message):
        load(tmp_path)


def test_white_that_the_table_leaves_out_is_refused_with_the_reason(tmp_path):
    make(tmp_path, gray, table=["no", "yes"])
    with pytest.raises(
        DataError, match=r"the class 'yes' never occurs.* list it in .*classes\.json"
    ):
        load(tmp_path)


def test_classes_that_never_occur_are_said(tmp_path):
    table = ["a", "b", "c"]
    make(tmp_path, lambda k: Image.fromarray(drawn(k).astype(np.uint8)), table=table)
    note = "  note: a class never occurs in the pictures to train on: c"
    assert note in load(tmp_path).report.splitlines()


def turned(root, orientation, size=(WIDTH, HEIGHT)):
    """Write pictures that the camera turned, beside masks of the stored, unturned size."""
    for k in range(4):
        photo = Image.open(root / "images" / f"p{k}.png").convert("RGB").resize(size)
        exif = Image.Exif()
        exif[0x0112] = orientation
        photo.save(root / "images" / f"p{k}.png", exif=exif)
    return root


def test_masks_of_the_unturned_picture(tmp_path):
    turned(make(tmp_path, gray, table=TWO), 6)
    dataset = SegmentationDataset.from_path(tmp_path)
    assert "  mended: picture read unturned, as its mask is (4 x)" in dataset.report.splitlines()
    check_drawn(dataset)
    photo = np.random.default_rng(2).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    assert (dataset[2][0].numpy() == photo.transpose(2, 0, 1)).all()


def test_masks_of_the_turned_picture(tmp_path):
    make(tmp_path, lambda k: gray(k).transpose(Image.Transpose.ROTATE_270), table=TWO)
    dataset = SegmentationDataset.from_path(turned(tmp_path, 6))
    assert len(dataset.report.splitlines()) == 1
    assert dataset[0][0].shape == (3, WIDTH, HEIGHT)
    check_drawn(dataset, lambda k: np.rot90(drawn(k), -1))


def test_a_turn_that_sizes_cannot_tell_is_said(tmp_path):
    dataset = SegmentationDataset.from_path(turned(make(tmp_path, gray, table=TWO), 3))
    assert "note: 4 pictures are turned as the camera says, and their size" in dataset.report


def test_pictures_of_several_sizes_need_a_crop_before_training(tmp_path):
    make(tmp_path, gray, table=TWO, count=8)
    for folder in ("images", "masks"):
        for k in (0, 1, 2, 3):
            path = tmp_path / folder / f"p{k}.png"
            Image.open(path).crop((0, 0, 30, 32)).save(path)
    with pytest.raises(DataError) as refused:
        load(tmp_path, batch_size=2)
    (line,) = str(refused.value).splitlines()
    assert "2 sizes (width x height: " in line and "40 x 32" in line and "30 x 32" in line
    assert line.endswith("Cut parts of one size from them: --crop-size HEIGHT WIDTH")
    assert len(load(tmp_path, batch_size=1).train) == 5
    cut = load(tmp_path, batch_size=2, crop_size=(32, 40)).train
    assert {tuple(image.shape) for image, _ in cut} == {(3, 32, 40)}


def test_more_than_half_left_out_is_said(tmp_path):
    make(tmp_path, gray, table=TWO, count=9)
    for k in range(5):
        (tmp_path / "masks" / f"p{k}.png").write_text("")
    report = load(tmp_path, on_invalid="drop").report.splitlines()
    assert report[0] == f"{tmp_path}: 4 pairs are used, 5 left out"
    assert "  note: more than half is left out: 5 of 9 pairs" in report
