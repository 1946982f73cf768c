"""Pascal VOC as people bring it: what is read, what is mended, what is refused."""

import pytest
from label_files import BOX, check, coco, coco_folder, entry, named, photo, voc, voc_folder, write

from common.labels.read import list_splits, read_annotations
from common.labels.sources import load_labels
from common.labels.values import AnnotationError

CAT = ("cat", BOX)
FROM_PICTURE = {"size taken from the picture": 1}


@pytest.mark.parametrize("size", ["0 0", "-1 -1", "40 0", None])
def test_voc_size_that_is_missing_is_the_pictures(size, tmp_path):
    check(voc_folder(tmp_path, voc(CAT, size=size)), [CAT], FROM_PICTURE)


ENCODINGS = {
    "gb2312": ("gb2312", "螺栓"),
    "gb2312 that is GBK": ("gbk", "貓"),
    "windows-1251": ("cp1251", "кот"),
    "utf-16": ("utf-16", "猫"),
    "utf-8 that is UTF-16": ("utf-16", "猫"),
    "gb2312 that is UTF-8 with a mark": ("utf-8-sig", "猫"),
    "iso-8859-1": ("latin-1", "Häher"),
}


@pytest.mark.parametrize("said", ENCODINGS)
def test_voc_is_read_in_its_encoding(said, tmp_path):
    encoding, name = ENCODINGS[said]
    text = f'<?xml version="1.0" encoding="{said.split()[0]}"?>\n' + voc((name, BOX))
    check(voc_folder(tmp_path, text, encoding), [(name, BOX)])


def test_voc_wrong_encodings_are_named(tmp_path):
    text = '<?xml version="1.0" encoding="{}"?>\n' + voc(("кот", BOX))
    for said, message in (
        ("shift_jis", r"a\.xml:4: the text is not in shift_jis, which the file declares; save it"),
        ("klingon", r"a\.xml:1: the encoding 'klingon' is not known"),
        ("utf-8", r"a\.xml:4: no valid XML: not well-formed"),
    ):
        with pytest.raises(AnnotationError, match=message):
            read_annotations(voc_folder(tmp_path, text.format(said), "cp1251"))


def test_voc_corners_are_put_in_order_and_rotated_boxes_named(tmp_path):
    mended = {"corners of a box put in order": 1}
    check(voc_folder(tmp_path / "a", voc(("cat", (25, 20, 5, 6)))), [CAT], mended)
    turned = "<object><type>robndbox</type><name>cat</name><robndbox><cx>9</cx></robndbox></object>"
    text = voc(CAT).replace("</annotation>", f"{turned}\n</annotation>")
    folder = voc_folder(tmp_path / "b", text)
    with pytest.raises(AnnotationError, match=r"a\.xml:4: a rotated box \(<robndbox>.*upright"):
        read_annotations(folder)
    found = read_annotations(folder, on_invalid="drop")
    assert (named(found), found.reported) == ([CAT], 1)


VOC_PLACES = {
    "annots": ("images/a.png", "annots/a.xml"),
    "xmls": ("images/a.png", "xmls/a.xml"),
    "side by side": ("a.png", "a.xml"),
    "pets": ("images/a.png", "annotations/xmls/a.xml"),
    "capitals": ("IMAGES/a.PNG", "ANNOTATIONS/a.XML"),
    "another folder": ("some/pictures/a.png", "Annotations/a.xml"),
    "devkit": ("VOCdevkit/VOC2007/JPEGImages/a.png", "VOCdevkit/VOC2007/Annotations/a.xml"),
    "spaces and points": ("JPEGImages/my cat.v1.png", "Annotations/my cat.v1.xml"),
}


@pytest.mark.parametrize("name", VOC_PLACES)
def test_voc_folders(name, tmp_path):
    picture, label = VOC_PLACES[name]
    photo(tmp_path / picture)
    photo(tmp_path / "annotations" / "trimaps" / "a.png")  # a mask of the same name
    write(tmp_path / label, voc(CAT))
    assert check(tmp_path, [CAT]).images[0].path == tmp_path / picture


@pytest.mark.parametrize(
    "kind", ["{0}/{1}.xml", "Annotations/{0}/{1}.xml", "{0}/annotations/{1}.xml"]
)
def test_voc_folders_are_lists(kind, tmp_path):
    pictures = {"A": "JPEGImages/{0}", "{": "{0}", "{0}/a": "{0}/images"}
    place = (
        pictures["A"] if kind.startswith("A") else "{0}" if kind.count("/") == 1 else "{0}/images"
    )
    for split, names in (("train", "ab"), ("valid", "a"), ("test", "c")):
        for number, name in enumerate(names):
            photo(tmp_path / place.format(split) / f"{name}.png", number=number)
            write(tmp_path / kind.format(split, name), voc(CAT))
    assert list_splits(tmp_path) == ("test", "train", "valid")
    found = load_labels(str(tmp_path), progress=False)
    counts = [len(part) for part in (found.train, found.validation, found.test)]
    assert (counts, found.class_names) == ([2, 1, 1], ("cat",))


@pytest.mark.parametrize("home", [".", "VOCdevkit/VOC2007"])
def test_voc_lists_of_many_writings(home, tmp_path):
    lines = {
        "train": "a\n", "val": "b.png 1\r\n", "test": "./JPEGImages\\c c.png",
        "other": "JPEGImages/d.png Annotations/d.xml\n",
    }  # fmt: skip
    for name in ("a", "b", "c c", "d"):
        photo(tmp_path / home / "JPEGImages" / f"{name}.png")
        write(tmp_path / home / "Annotations" / f"{name}.xml", voc(CAT))
    for name, line in lines.items():
        write(tmp_path / home / "ImageSets" / "Main" / f"{name}.txt", line)
    assert list_splits(tmp_path) == ("other", "test", "train", "val")
    for name, stem in zip(lines, ("a", "b", "c c", "d"), strict=True):
        found = read_annotations(tmp_path, split=name)
        assert [one.path.stem for one in found.images] == [stem]
    write(tmp_path / home / "ImageSets" / "Main" / "train.txt", "a\nq\n")
    with pytest.raises(AnnotationError, match=r"train\.txt:2: 'q' has no XML file, or is listed"):
        read_annotations(tmp_path, split="train")


def test_voc_with_lists_reads_every_file_once(tmp_path, whole_reads):
    names = [f"{k:03d}" for k in range(12)]
    for number, name in enumerate(names):
        photo(tmp_path / "JPEGImages" / f"{name}.png", number=number)
        write(tmp_path / "Annotations" / f"{name}.xml", voc(CAT))
    for k, split in enumerate(("train", "val", "test")):
        write(tmp_path / "ImageSets" / "Main" / f"{split}.txt", "\n".join(names[k::3]))
    found = load_labels(str(tmp_path), progress=False)
    assert [len(part) for part in (found.train, found.validation, found.test)] == [4, 4, 4]
    assert whole_reads == {f"{name}.xml": 1 for name in names}


def test_voc_pictures_are_found_by_their_names(tmp_path):
    mended = {"picture found by <filename> or <path>, as its XML has another name": 1}
    for head in (
        "<filename>real.png</filename>",
        "<filename>0001</filename><path>C:\\Users\\me\\real.png</path>",
    ):
        folder = tmp_path / str(len(head))
        photo(folder / "pictures" / "real.png")
        write(folder / "Annotations" / "x.xml", voc(CAT, head=head))
        check(folder, [CAT], mended)
    folder = voc_folder(tmp_path / "two", voc(CAT))
    photo(folder / "JPEGImages" / "a.jpg")
    with pytest.raises(
        AnnotationError, match=r"xml:1: the picture a may be .*jpg and .*rename one"
    ):
        read_annotations(folder)
    voc_folder(folder, voc(CAT, head="<filename>a.png</filename>"))
    assert check(folder, [CAT]).images[0].path.suffix == ".png"
    photo(folder / "JPEGImages" / "b.png")
    found = check(folder, [CAT], notes=1)
    assert found.notes == ("1 pictures have no XML file: they are not used",)


def test_fractions_where_pixels_are_meant_are_refused(tmp_path):
    message = r"all 1 boxes lie in the first 2 pixels: .* multiply them by its width and height"
    folders = [voc_folder(tmp_path / "voc", voc(("cat", (0.1, 0.2, 0.5, 0.6))))]
    folders += [coco_folder(tmp_path / "coco", coco(entry(bbox=[0.1, 0.2, 0.4, 0.4])))]
    for folder in folders:
        with pytest.raises(AnnotationError, match=message):
            load_labels(str(folder), progress=False)


def test_pictures_that_are_cut_off_are_found_before_a_training(tmp_path):
    folder = voc_folder(tmp_path, voc(CAT))
    photo(folder / "JPEGImages" / "b.jpg", (400, 300))
    write(folder / "Annotations" / "b.xml", voc(CAT, size="400 300"))
    file = folder / "JPEGImages" / "b.jpg"
    file.write_bytes(file.read_bytes()[:-200])
    with pytest.raises(AnnotationError, match=r"b\.xml:1: .*b\.jpg: the file is cut off or dam"):
        read_annotations(folder)
    found = read_annotations(folder, on_invalid="drop")
    assert (named(found), found.reported, len(found)) == ([CAT], 1, 1)


def test_a_class_of_the_validation_alone_is_said(tmp_path):
    for part, names in (("train", "cat"), ("val", "cow"), ("test", "cat")):
        photo(tmp_path / part / "a.png", number=len(part) * 9 + len(names))
        write(tmp_path / part / "a.xml", voc((names, BOX)))
    found = load_labels(str(tmp_path), progress=False)
    assert found.class_names == ("cat", "cow")
    assert [one.label for one in found.validation.images[0].objects] == [2]
