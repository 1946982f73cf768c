"""Class tables in the forms of the usual tools, where they may stand, and contradictions."""

import codecs
import json

import numpy as np
import pytest
from PIL import Image

from common.findings import DataError
from common.masks.class_table import VOC_CLASSES, ClassTable, voc_colors, voc_table
from common.masks.table_files import find_class_table, read_class_table
from dataset import SegmentationDataset, load_data
from settings import make_settings

COLORS = ((0, 0, 0), (48, 112, 32), (176, 112, 32))
NAMES = ("background", "bolt", "nut")

VALUE_TABLES = [
    ("_classes.csv", "Pixel Value, Class\n0, background\n1, bolt\n2, nut\n"),
    ("classes.csv", "Name;Value\nbackground;0\nbolt;1\nnut;2\n"),
    ("Classes.CSV", "id,label\n0,background\n1,bolt\n2,nut\n"),
    ("classes.csv", "index\tcategory\n0\tbackground\n1\tbolt\n2\tnut\n"),
    ("classes.csv", "label,name\n0,background\n1,bolt\n2,nut\n"),
    ("classes.csv", "\ufeffCLASS, class_id\r\nbackground, 0\r\nbolt, 1\r\nnut, 2\r\n"),
    ("class_names.txt", "background\nbolt\nnut\n"),
    ("labels.txt", "__ignore__\nbackground\nbolt\nnut\n"),
    ("names", "background\r\nbolt\r\nnut"),
    ("classes.names", "\ufeffbackground\nbolt\nnut\n"),
    ("classes.json", '\ufeff["background", "bolt", "nut"]'),
]
COLOR_TABLES = [
    ("labelmap.txt", "# label:color_rgb:parts:actions\nbackground:0,0,0::\nbolt:48,112,32::\n\n"
                     "nut:176, 112, 32:head,body:turn\n"),
    ("class_dict.csv", "name,r,g,b\nbackground,0,0,0\nbolt,48,112,32\nnut,176,112,32\n"),
    ("class_dict.csv", "name, R, G, B\nbackground, 0, 0, 0\nbolt, 48, 112, 32\nnut, 176, 112, 32"),
    ("classes.csv", "red;green;blue;class\n0;0;0;background\n48;112;32;bolt\n176;112;32;nut\n"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "text"), VALUE_TABLES)
def test_tables_of_values(tmp_path, name, text):
    (tmp_path / name).write_text(text, newline="")
    table = find_class_table([tmp_path])
    assert (table.names, table.values, table.colors) == (NAMES, (0, 1, 2), None)
    assert table.source == str(tmp_path / name)


@pytest.mark.parametrize(("name", "text"), COLOR_TABLES)
def test_tables_of_colors(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    table = find_class_table([tmp_path])
    assert (table.names, table.values, table.colors) == (NAMES, None, COLORS)


def test_table_in_utf_16(tmp_path):
    content = codecs.BOM_UTF16_LE + "hinten\nMutter für M8\n".encode("utf-16-le")
    (tmp_path / "classes.txt").write_bytes(content)
    assert read_class_table(tmp_path / "classes.txt").names == ("hinten", "Mutter für M8")
    (tmp_path / "classes.txt").write_bytes("für".encode("latin-1"))
    with pytest.raises(DataError, match=r"classes\.txt cannot be read: .*; save it as UTF-8"):
        read_class_table(tmp_path / "classes.txt")


def test_label_map_without_colors_has_those_of_voc(tmp_path):
    (tmp_path / "labelmap.txt").write_text("background:::\nbolt:::\n")
    table = read_class_table(tmp_path / "labelmap.txt")
    assert (table.values, table.colors) == ((0, 1), ((0, 0, 0), (128, 0, 0)))
    (tmp_path / "labelmap.txt").write_text("# a comment\nbackground:0,0,0::\nbolt\n")
    with pytest.raises(DataError, match=r"labelmap\.txt:3: 'bolt'; label:red,green,blue:"):
        read_class_table(tmp_path / "labelmap.txt")


def test_tables_that_stand_twice(tmp_path):
    (tmp_path / "classes.txt").write_text("background\nbolt\nnut\n")
    (tmp_path / "labelmap.txt").write_text(COLOR_TABLES[0][1])
    table = find_class_table([tmp_path])
    assert (table.names, table.values, table.colors) == (NAMES, (0, 1, 2), COLORS)
    (tmp_path / "_classes.csv").write_text("Pixel Value, Class\n0, background\n2, bolt\n1, nut\n")
    message = r"classes\.txt and .*_classes\.csv say different things of the classes; remove one"
    with pytest.raises(DataError, match=message):
        find_class_table([tmp_path])
    (tmp_path / "_classes.csv").write_text("Pixel Value, Class\n0, background\n1, bolt\n")
    with pytest.raises(DataError, match=message):
        find_class_table([tmp_path])


def test_colors_of_voc_are_made_of_bits():
    colors = voc_colors(256)
    assert colors[:4] == [(0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0)]
    assert (colors[8], colors[20], colors[255]) == ((64, 0, 0), (0, 64, 128), (224, 224, 192))
    assert len(set(colors)) == 256
    assert (VOC_CLASSES[0], VOC_CLASSES[15], len(VOC_CLASSES)) == ("background", "person", 21)


def test_order_of_a_table():
    table = ClassTable(("a", "b"), (5, 7), ((1, 2, 3), (4, 5, 6)), (255,))
    other = table.ordered(["b", "a"])
    assert (other.names, other.values) == (("b", "a"), (7, 5))
    assert (other.colors, other.ignore_values) == (((4, 5, 6), (1, 2, 3)), (255,))


def drawn(k):
    labels = np.zeros((6, 9), np.uint8)
    labels[: k % 5 + 1, :3] = 1
    labels[: k % 3 + 1, 5:] = 2
    return labels


def write_pair(folder, k, image, images="images", masks="masks"):
    for name in (images, masks):
        (folder / name).mkdir(parents=True, exist_ok=True)
    photo = np.random.default_rng(k).integers(0, 256, (6, 9, 3), dtype=np.uint8)
    Image.fromarray(photo).save(folder / images / f"p{k}.png")
    image.save(folder / masks / f"p{k}.png")


def palette_image(labels, colors):
    image = Image.fromarray(labels)
    image.putpalette([level for color in colors for level in color])
    return image


def load(path):
    return load_data(make_settings("street", data=str(path)), progress=False)


@pytest.mark.parametrize("kind", ["rgb", "palette"])
def test_cvat_masks_are_matched_by_color(tmp_path, kind):
    """The palette has the colours at other numbers than the lines of the label map."""
    (tmp_path / "labelmap.txt").write_text(COLOR_TABLES[0][1])
    for k in range(4):
        image = Image.fromarray(np.array(COLORS, np.uint8)[drawn(k)])
        if kind == "palette":
            image = palette_image(2 - drawn(k), COLORS[::-1])
        write_pair(tmp_path, k, image, "JPEGImages", "SegmentationClass")
    dataset = SegmentationDataset.from_path(tmp_path)
    assert dataset.class_names == NAMES
    assert all((dataset[k][1]["labels"].numpy() == drawn(k)).all() for k in range(4))


@pytest.mark.parametrize("kind", ["palette", "rgb"])
def test_voc_masks_need_no_table(tmp_path, kind):
    colors = voc_colors(256)
    numbers = np.array([0, 9, 15] + [0] * 252 + [255], np.uint8)
    for k in range(4):
        labels = numbers[drawn(k)]
        labels[5, 8] = 255
        image = palette_image(labels, colors)
        image = image if kind == "palette" else image.convert("RGB")
        write_pair(tmp_path, k, image, "JPEGImages", "SegmentationClass")
    data = load(tmp_path)
    assert data.class_names == VOC_CLASSES
    assert "  note: the classes and colours are Pascal VOC's" in data.report.splitlines()
    assert "18 classes never occur in the pictures to train on: aeroplane, bicycle" in data.report
    dataset = SegmentationDataset.from_path(tmp_path, table=voc_table())
    for k in range(4):
        expected = numbers[drawn(k)]
        expected[5, 8] = 255
        assert (dataset[k][1]["labels"].numpy() == expected).all()


def test_other_colors_in_the_folders_of_voc_need_a_table(tmp_path):
    for k in range(3):
        image = palette_image(drawn(k), [(0, 0, 0), (1, 2, 3), (4, 5, 6)])
        write_pair(tmp_path, k, image, "JPEGImages", "SegmentationClass")
    with pytest.raises(DataError, match=r"p0\.png is a palette mask and there is no class table"):
        load(tmp_path)


def test_lists_with_the_classes_in_another_order(tmp_path):
    orders = {"train": (0, 1, 2), "valid": (0, 2, 1), "test": (0, 1, 2)}
    for name, order in orders.items():
        for k in range(3):
            image = Image.fromarray(np.array(order, np.uint8)[drawn(k)])
            write_pair(tmp_path / name, k, image)
        rows = "".join(f"{order[k]}, {NAMES[k]}\n" for k in np.argsort(order))
        (tmp_path / name / "_classes.csv").write_text("Pixel Value, Class\n" + rows)
    data = load(tmp_path)
    note = "  note: the list valid has the classes in another order: matched by name"
    assert note in data.report.splitlines()
    for part in (data.train, data.validation, data.test):
        assert part.class_names == NAMES
        for k, (_, target) in enumerate(part.subset(range(len(part)))):
            number = int(part.image_path(k).stem[1:])
            assert (target["labels"].numpy() == drawn(number)).all()


def test_lists_without_table_are_numbered_together(tmp_path):
    for name, most in (("train", 2), ("val", 1), ("test", 2)):
        for k in range(2):
            write_pair(tmp_path / name, k, Image.fromarray(np.minimum(drawn(k), most)))
    data = load(tmp_path)
    assert (
        data.validation.class_names == data.train.class_names == ("class 0", "class 1", "class 2")
    )


def test_table_above_the_lists_and_beside_the_masks(tmp_path):
    for name in ("train", "val"):
        for k in range(4):
            write_pair(tmp_path / "masks", k, Image.fromarray(drawn(k)), f"../images/{name}", name)
    (tmp_path / "masks" / "classes.json").write_text(json.dumps(NAMES))
    assert load(tmp_path).class_names == NAMES
    (tmp_path / "masks" / "classes.json").rename(tmp_path / "classes.json")
    assert load(tmp_path).class_names == NAMES
