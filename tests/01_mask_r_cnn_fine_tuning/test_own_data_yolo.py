"""YOLO's and Darknet's text files as people bring them: read, mended, or refused with a remedy."""

import json
import shutil

import pytest
from label_files import BOX, YOLO_BOX, check, named, objects, photo, write, yolo_folder

from common.labels.masks import decode_masks
from common.labels.read import list_splits, read_annotations
from common.labels.sources import load_labels
from common.labels.values import AnnotationError

CAT, DOG = ("cat", BOX), ("dog", BOX)
LINE = f"0 {YOLO_BOX}\n"
MENDS = {
    "float class": (f"0.000e+00 {YOLO_BOX}\n", "class number written with a point"),
    "commas": (LINE.replace(" ", ","), "commas between the numbers of a line"),
    "decimal commas": (LINE.replace(".", ","), "commas in place of decimal points"),
    "pose 2D": (
        f"0 {YOLO_BOX} 0.2 0.3 0.6 0.6 0 0\n",
        "box taken from a line with key points",
    ),
    "pose 3D": (
        f"0 {YOLO_BOX} 0.2 0.3 2 0.6 0.6 1 0 0 0\n",
        "box taken from a line with key points",
    ),
}


@pytest.mark.parametrize("name", MENDS)
def test_lines_that_are_mended(name, tmp_path):
    text, kind = MENDS[name]
    folder = yolo_folder(tmp_path, text)
    found = read_annotations(folder, masks=False)
    assert found.mended == {kind: 1}
    assert [one[1] for one in named(found)] == [pytest.approx(BOX, abs=0.01)]


@pytest.mark.parametrize(
    ("text", "box"),
    [
        ("0 0.1 0.1 0.4 0.1 0.4 0.5 0.2 0.5 0.1 0.3\n", (4, 3, 16, 15)),
        ("0 0.5 0.4 0.6 0.5 0.5 0.6 0.4 0.5\n", (16, 12, 24, 18)),  # a box by its corners, turned
        ("0 0.48 0.48 0.52 0.48 0.52 0.52 0.48 0.52\n", (19.2, 14.4, 20.8, 15.6)),
    ],
)
def test_polygons_and_boxes_by_their_corners_stay_polygons(text, box, tmp_path):
    found = check(yolo_folder(tmp_path, text), [("cat", box)], masks=True)
    drawn = decode_masks(found.images[0].objects, 40, 30)
    assert drawn.sum() == found.images[0].objects[0].area > 0


def test_lines_that_can_be_polygons_or_key_points(tmp_path):
    text = "0 0.5 0.3 0.6 0.6 0.4 0.6\n"
    folder = yolo_folder(tmp_path, text, None)
    write(folder / "data.yaml", "names: [cat]\n")
    message = r"a\.txt:1: the lines of 7 numbers can be polygons, or boxes with .* `task: segment`"
    with pytest.raises(AnnotationError, match=message):
        read_annotations(folder)
    for more, box in (
        ("task: segment", (16, 9, 24, 18)),
        ("task: pose", (8, 0, 32, 18)),
        ("kpt_shape: [1, 2]", (8, 0, 32, 18)),
    ):
        write(folder / "data.yaml", f"names: [cat]\n{more}\n")
        assert objects(folder, masks=False) == [("cat", box)]


YAMLS = {
    "flow list": "names: [cat, dog]\nnc: 2\n",
    "lines": "names:\n  - cat\n  - dog # a comment\n",
    "flow of many lines": "names: [ 'cat',\n         'dog' ]\n",
    "a dict": "names: {0: cat, 1: dog}\n",
    "a dict out of order": "names:\n  1: dog\n  0: cat\n",
    "with a mark": "\ufeffnames: [cat, dog]\n",
}


@pytest.mark.parametrize("name", YAMLS)
def test_names_of_a_yaml(name, tmp_path):
    folder = yolo_folder(tmp_path, f"1 {YOLO_BOX}\n", None)
    write(folder / "data.yaml", YAMLS[name])
    assert check(folder, [DOG]).class_names == ("cat", "dog")


def test_odd_names_of_a_yaml(tmp_path):
    folder = yolo_folder(tmp_path, f"2 {YOLO_BOX}\n", None)
    for names, label, known in (
        ("names: ['bolt, hexagonal', \"it's\", nut]", "nut", ("bolt, hexagonal", "it's", "nut")),
        ("names: [7, 8.5, nut]", "nut", ("7", "8.5", "nut")),
        ("names: {2: cat, 40: dog}", "cat", ("cat", "dog")),
    ):
        write(folder / "data.yaml", names)
        assert check(folder, [(label, BOX)]).class_names == known
    write(folder / "data.yaml", "nc: 4\nnames: [a, b, c]")
    assert "nc is 4, but 3 classes are named" in check(folder, [("c", BOX)], notes=1).notes[0]
    for names, message in (
        ("names: [no, yes, maybe]", "data.yaml: YAML reads a name as False: put it in quotes"),
        ("names: cat", "data.yaml: names is 'cat', not a list of class names"),
        ("names: [a, a, b]", "class name 'a' appears twice"),
        ("names:\n\t- cat", r"data.yaml:2: no valid YAML: .*cannot start any token"),
        ("names: {0: a, x: b}", "data.yaml: names is 'x', not a whole number"),
    ):
        write(folder / "data.yaml", names)
        with pytest.raises(AnnotationError, match=message):
            read_annotations(folder)


def write_parts(home, parts="train val"):
    """Write three pictures into each of the parts' folders, images/<part> and labels/<part>."""
    for number, part in enumerate(parts.split()):
        for k in range(3):
            photo(home / "images" / part / f"{part}{k}.png", number=9 * number + k)
            write(home / "labels" / part / f"{part}{k}.txt", LINE)
    return home


PARTS = "train: images/train\nval: images/val"
ABSOLUTE = "train: {0}/set/images/train\nval: {0}/set/images/val"
FAR = "train: /home/me/set/images/train\nval: C:\\me\\set\\images\\val"
YAML_PLACES = {
    "inside, relative": ("set/data.yaml", PARTS, "set"),
    "inside, `path: .`": ("set/data.yaml", f"path: .\n{PARTS}", "set"),
    "above": ("data.yaml", f"path: set\n{PARTS}", "set"),
    "above, as PATH": ("my.yml", f"path: ./set\n{PARTS}", "my.yml"),
    "elsewhere": ("cfg/my.yaml", f"path: ../set\n{PARTS}", "cfg/my.yaml"),
    "absolute": ("cfg/my.yaml", f"path: {{0}}/set\n{PARTS}", "cfg/my.yaml"),
    "absolute lists": ("cfg/a.yaml", ABSOLUTE, "cfg/a.yaml"),
    "another machine": ("set/data.yaml", FAR, "set"),
    "roboflow": ("set/data.yaml", PARTS.replace("images", "../images"), "set"),
    "text lists": ("set/data.yaml", "train: train.txt\nval: ./val.txt", "set"),
}


@pytest.mark.parametrize("name", YAML_PLACES)
def test_a_yaml_leads_to_its_lists(name, tmp_path):
    place, text, path = YAML_PLACES[name]
    write_parts(tmp_path / "set")
    write_parts(tmp_path / "another")
    write(tmp_path / place, text.format(tmp_path) + "\nnames: [cat]\n")
    if "text" in name:
        train = ["./images/train/train0.png", "/home/me/set/images/train/train1.png"]
        write(tmp_path / "set" / "train.txt", "\n".join([*train, "images\\train\\train2.png"]))
        write(tmp_path / "set" / "val.txt", f"{tmp_path}/set/images/val/val0.png\r\n")
    assert list_splits(tmp_path / path) == ("train", "val")
    found = read_annotations(tmp_path / path, split="train")
    assert [one.path.name for one in found.images] == ["train0.png", "train1.png", "train2.png"]
    assert {one.path.parents[2] for one in found.images} == {tmp_path / "set"}
    assert (named(found), found.notes) == ([CAT] * 3, ())


def test_lists_of_folders_and_lists_that_are_the_same(tmp_path):
    write_parts(tmp_path, "a b c")
    yaml = "train: [images/a, images/b]\nval: images/c\ntest: images/c\nnames: [cat]\n"
    write(tmp_path / "data.yaml", yaml)
    found = read_annotations(tmp_path, split="train")
    assert [one.path.name for one in found.images] == [
        f"{p}{k}.png" for p in "ab" for k in range(3)
    ]
    assert [note.partition(": ")[2] for note in found.notes] == [
        "test is the same pictures as val: they are divided anew"
    ]
    write(tmp_path / "data.yaml", "train: images\nval: images\nnames: [cat]\n")
    parts = load_labels(str(tmp_path), progress=False)
    assert [len(part) for part in (parts.train, parts.validation, parts.test)] == [6, 1, 2]
    assert "val is the same pictures as train" in parts.report


def test_only_train(tmp_path):
    write(write_parts(tmp_path, "train") / "classes.txt", "cat\n")
    parts = load_labels(str(tmp_path), progress=False)
    assert [len(part) for part in (parts.train, parts.validation, parts.test)] == [1, 1, 1]
    photo(tmp_path / "images" / "val" / "x.png")
    assert (
        "images/val: left out, as there is no" in load_labels(str(tmp_path), progress=False).report
    )


def test_what_a_yaml_names_and_is_not_there(tmp_path):
    write(tmp_path / "x.yaml", "train: nowhere\nval: images/none\nnames: [cat]\n")
    message = (
        r"has no picture(.|\n)*x.yaml: train: 'nowhere' is not there(.|\n)*'images/none' is no"
    )
    with pytest.raises(AnnotationError, match=message):
        load_labels(str(tmp_path / "x.yaml"), progress=False)
    write(yolo_folder(tmp_path, LINE, None) / "train.txt", "images/a.png\nimages/q.png\n")
    write(tmp_path / "x.yaml", "train: train.txt\nnames: [cat]\n")
    with pytest.raises(AnnotationError, match=r"train\.txt:2: .* has no picture images/q\.png"):
        load_labels(str(tmp_path), progress=False)
    write(tmp_path / "x.yaml", "names: [cat]\n")
    write(tmp_path / "y.yaml", "names: [dog]\n")
    with pytest.raises(
        AnnotationError, match=r"choose one YAML file with its path: .*x\.yaml or .*y"
    ):
        load_labels(str(tmp_path), progress=False)


FOLDERS = {
    "capitals": ("Images/a.JPG", "Labels/a.TXT", {"label file that ends in .TXT": 1}),
    "imgs": ("imgs/a.jpeg", "labels/a.txt", {}),
    "jfif": ("images/a.jfif", "labels/a.txt", {}),
    "side by side": ("a.png", "a.txt", {}),
    "label": ("images/a.png", "label/a.txt", {}),
}


@pytest.mark.parametrize("name", FOLDERS)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_endings_folders_and_encodings(name, encoding, tmp_path):
    picture, label, mended = FOLDERS[name]
    photo(tmp_path / picture, format="JPEG")
    write(tmp_path / label, LINE.replace("\n", "\r\n"), encoding)
    write(tmp_path / "classes.txt", "cat\ndog\n", encoding)
    check(tmp_path, [CAT], mended)


@pytest.mark.parametrize(
    "places",
    ["data/obj", "data/obj data/obj.data", "obj_train_data obj.data", "cfg/obj.data", "absolute"],
)
def test_darknet(places, tmp_path):
    """AlexeyAB's tutorial, CVAT's export, and lists of another machine."""
    inside = "obj_train_data" if "obj_train_data" in places else "data/obj"
    data = next((word for word in places.split() if word.endswith(".data")), "data/obj.data")
    start = (
        str(tmp_path) if places == "absolute" else "/home/me/darknet" if "cfg" in places else "."
    )
    for name in "abc":
        photo(tmp_path / inside / f"{name}.png", number=ord(name))
        write(tmp_path / inside / f"{name}.txt", LINE)
    write(tmp_path / "data" / "obj.names", "cat\ndog\n")
    write(tmp_path / "data" / "train.txt", f"{start}/{inside}/a.png\n{start}/{inside}/b.png\n")
    write(tmp_path / "data" / "test.txt", f"{start}/{inside}/c.png\n")
    lines = "classes = 2\ntrain = data/train.txt\nvalid=data/test.txt\n# a comment\n"
    write(tmp_path / data, f"{lines}names = data/obj.names\nbackup = backup/\n")
    for path in (tmp_path, tmp_path / data):
        assert list_splits(path) == ("train", "valid")
        found = read_annotations(path, split="train")
        assert (named(found), found.class_names) == ([CAT] * 2, ("cat", "dog"))
        assert (found.notes, found.mended) == ((), {})
    write(tmp_path / data, lines + "names = nothing.names\n")
    with pytest.raises(AnnotationError, match=r"\.data: names: nothing\.names is not there"):
        list_splits(tmp_path)


def test_darknet_of_roboflow(tmp_path):
    for part, number in (("train", 0), ("valid", 7)):
        photo(tmp_path / part / "a.png", number=number)
        write(tmp_path / part / "a.txt", LINE)
        write(tmp_path / part / "_darknet.labels", "cat\ndog\n")
    assert list_splits(tmp_path) == ("train", "valid")
    found = read_annotations(tmp_path, split="valid")
    assert (named(found), found.class_names) == ([CAT], ("cat", "dog"))


REFUSED = {
    "4:": ("\n\n\n0 0.5 0.5 0.1 0.1 0.93\n", "6 values in .* a confidence is of detections"),
    "1:": ("0 15 13 20 14\n", "is not in fractions of the image, 0 to 1"),
    "2:": (f"{LINE}cat {YOLO_BOX}\n", "class 'cat'; allowed is 0 to 1"),
}


@pytest.mark.parametrize("line", REFUSED)
def test_lines_that_are_refused(line, tmp_path):
    text, message = REFUSED[line]
    with pytest.raises(AnnotationError, match=rf"a\.txt:{line} .*{message}"):
        read_annotations(yolo_folder(tmp_path, text))


def test_class_lists_and_label_files_that_are_missing(tmp_path):
    folder = yolo_folder(tmp_path, LINE, None)
    with pytest.raises(
        AnnotationError, match=r"no class list; add classes\.txt with one class nam"
    ):
        read_annotations(folder)
    for name in ("obj.names", "labels/classes.txt", "names.txt", "predefined_classes.txt"):
        write(folder / name, "cat\n")
        check(folder, [CAT])
        (folder / name).unlink()
    write(folder / "classes.txt", "cat\n\ndog\n")
    with pytest.raises(AnnotationError, match=r"classes\.txt:2: an empty line between class names"):
        read_annotations(folder)
    write(folder / "classes.txt", "Äpfel\n", "latin-1")
    with pytest.raises(AnnotationError, match=r"classes\.txt:1: the text is no UTF-8; save the f"):
        read_annotations(folder)
    write(folder / "classes.txt", "cat\n")
    write(folder / "notes.json", json.dumps({"categories": [{"id": 0, "name": "cat"}], "info": {}}))
    photo(folder / "images" / "b.png")
    assert check(folder, [CAT], notes=1).notes == (
        "1 of 2 pictures have no label file: no objects",
    )
    photo(folder / "images" / "a.jpg")
    with pytest.raises(
        AnnotationError, match=r"a\.txt: two pictures have this name, with two endin"
    ):
        read_annotations(folder)
    shutil.rmtree(folder / "images")
    with pytest.raises(AnnotationError, match="label files of YOLO, and no folder images"):
        read_annotations(folder)


def test_text_lists_without_a_yaml(tmp_path):
    for name in "abc":
        photo(tmp_path / "images" / f"{name}.png", number=ord(name))
        write(tmp_path / "labels" / f"{name}.txt", LINE)
    write(tmp_path / "classes.txt", "cat\n")
    write(tmp_path / "train.txt", "./images/a.png\n/home/me/images/b.png\n")
    write(tmp_path / "val.txt", "images/c.png\n")
    assert list_splits(tmp_path) == ("train", "val")
    found = read_annotations(tmp_path, split="train")
    assert [one.path.stem for one in found.images] == ["a", "b"]
    write(tmp_path / "val.txt", "images/q.png\n")
    with pytest.raises(AnnotationError, match=r"val\.txt:1: .* has no picture images/q\.png"):
        read_annotations(tmp_path)


def test_what_systems_leave_in_folders_and_archives_with_a_folder_inside(tmp_path):
    folder = write_parts(tmp_path / "archive" / "set")
    write(folder / "data.yaml", f"{PARTS}\nnames: [cat]\n")
    for name in ("images/train/._train0.png", "labels/train/._train0.txt", "images/Thumbs.db"):
        write(folder / name, b"\0\5\x16")
    photo(folder / "images" / "train" / ".ipynb_checkpoints" / "train0.png")
    for path in (folder, tmp_path / "archive"):
        assert list_splits(path) == ("train", "val")
        assert objects(path, split="train") == [CAT] * 3
    (folder / "data.yaml").unlink()
    for name in ("images", "labels"):
        with pytest.raises(AnnotationError, match=f"in two folders: give {folder}"):
            read_annotations(folder / name)
