"""3,000 damaged label files of seven kinds: each is read, mended, or refused with its name."""

import copy
import json
import random
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from label_files import (
    BOX,
    SIZE,
    YOLO_BOX,
    coco,
    coco_folder,
    cvat,
    cvat_box,
    cvat_folder,
    entry,
    labelme,
    labelme_folder,
    photo,
    shape,
    voc,
    write,
    write_json,
)

from common.labels.masks import decode_masks
from common.labels.read import list_splits, read_annotations
from common.labels.survey import survey_labels
from common.labels.values import AnnotationError
from dataset import DetectionDataset

FILES = 430  # of each kind
SQUARE = [5, 6, 25, 6, 25, 20, 5, 20]
PIECES = [b"", b"nan", b"-1", b"1e400", b"9" * 5000, b"\x00", b"\xff\xfe", b"<", b"{", b"]", b'"']
PIECES += [b"null", b"[" * 3000, b"<a>" * 3000, b"1e5", b"0.5", b"true", b"\n", b"\xed\xa0\x80"]
PIECES += [
    b'"\\ud800"',
    b"-",
    b"_",
    b"[]",
    b"{}",
    b"1",
    b"\xe2\x80\xa8",
    b".",
    b"40",
    b"../",
    b"&b;",
]
PIECES += [b"&a: *a", b"\r", b";", b",", b"%2e%2e", b"~", b"!!python/name:os", b"=", b"#", b"\t"]
ODD_VALUES = [None, True, -1, 0, 1.5, 10**30, 1e308, float("nan"), float("-inf"), "", "7", "\x00"]
ODD_VALUES += [
    [],
    {},
    [[]],
    [1, 2],
    "../x.png",
    "/",
    "a" * 5000,
    "\ud800",
    {"size": [30, 40]},
    2**62,
]
ODD_VALUES += [[[1e30] * 8], {"size": [30, 40], "counts": [-1, 1201]}, {"counts": "5", "size": 3}]


def mutate(raw: bytes, random_state: random.Random) -> bytes:
    for _ in range(random_state.choice([1, 1, 1, 2, 5])):
        start = random_state.randrange(len(raw) + 1)
        end = min(len(raw), start + random_state.choice([0, 1, 1, 2, 4, 30, 10_000]))
        piece = random_state.choice(
            [*PIECES, raw[start:end] * 2, bytes([random_state.randrange(256)])]
        )
        raw = raw[:start] + piece + raw[end:]
    return raw


def mutate_values(data, random_state: random.Random) -> None:
    """Replace or remove one value somewhere in a tree of lists and dicts."""
    while True:
        key = random_state.choice(list(data) if isinstance(data, dict) else range(len(data)))
        deeper = isinstance(data[key], (dict, list)) and data[key]
        if not deeper or random_state.random() < 0.1:
            break
        data = data[key]
    if random_state.random() < 0.2:
        del data[key]
    else:
        data[key] = copy.deepcopy(random_state.choice(ODD_VALUES))


def use_everything(found) -> None:
    """Check all that training relies on, and draw every mask."""
    assert found.images
    assert found.kept + found.crowd + found.reported == found.total
    for image in found.images:
        boxes = np.array([o.box_xyxy for o in image.objects], np.float32).reshape(-1, 4)
        assert np.isfinite(boxes).all()
        assert (boxes[:, 2:] > boxes[:, :2]).all()
        assert (boxes >= 0).all()
        assert (boxes <= np.array([*SIZE, *SIZE])).all()
        assert all(1 <= o.label <= len(found.class_names) for o in image.objects)
        assert all(o.area > 0 and np.isfinite(o.area) for o in image.objects)
        drawn = [o for o in image.objects if o.segmentation is not None]
        assert decode_masks(drawn, *SIZE).any(axis=(1, 2)).all()
        np.array([image.image_id], np.int64)
        str(image.path).encode()
    found.summary().encode()


def make_items(found) -> None:
    """Make what a detector is trained on."""
    dataset = DetectionDataset(found)
    for index in range(len(dataset)):
        picture, target = dataset[index]
        assert picture.shape == (3, SIZE[1], SIZE[0])
        assert len(target["boxes"]) == len(target["labels"]) == len(target["area"])
        assert len(target.get("masks", target["boxes"])) == len(target["boxes"])


def write_voc(folder: Path) -> list[str]:
    for name, objects in (("a", [("cat", BOX), ("dog", (0, 0, 40, 30))]), ("b", [("dog", BOX)])):
        photo(folder / "JPEGImages" / f"{name}.png")
        text = '<?xml version="1.0" encoding="utf-8"?>\n' + voc(*objects)
        write(folder / "Annotations" / f"{name}.xml", text)
    write(folder / "ImageSets" / "Main" / "train.txt", "a\nb 1\n")
    return ["Annotations/a.xml", "Annotations/b.xml", "ImageSets/Main/train.txt"]


def coco_content() -> dict:
    runs = {"size": [30, 40], "counts": [32, 7, 23, 7, 23, 7, 1101]}
    objects = [entry(11, segmentation=[SQUARE]), entry(12, category_id=2, segmentation=runs)]
    crowd = entry(19, image_id=8, iscrowd=1, bbox=[1, 2, 3, 7], segmentation=runs)
    content = coco(*objects, crowd)
    content["images"].append({"id": 8, "file_name": "b.png", "width": 40, "height": 30})
    return content


def write_coco(folder: Path) -> list[str]:
    photo(coco_folder(folder, coco_content()) / "images" / "b.png")
    return ["annotations.json"]


def write_yolo(folder: Path) -> list[str]:
    for name, text in (("a", f"0 {YOLO_BOX}\n1 0.5 0.5 1 1\n"), ("b", f"1 {YOLO_BOX}\n")):
        photo(folder / "images" / f"{name}.png")
        write(folder / "labels" / f"{name}.txt", text)
    write(folder / "labels" / "c.txt", "0 0.1 0.1 0.4 0.1 0.4 0.5 0.2 0.5\n")
    photo(folder / "images" / "c.png")
    write(folder / "data.yaml", "train: images\nnc: 2\nnames:\n  0: cat\n  1: dog\n")
    return ["labels/a.txt", "labels/c.txt", "data.yaml"]


def write_darknet(folder: Path) -> list[str]:
    for name in "ab":
        photo(folder / "data" / "obj" / f"{name}.png")
        write(folder / "data" / "obj" / f"{name}.txt", f"0 {YOLO_BOX}\n1 0.5 0.5 1 1\n")
    write(folder / "data" / "obj.names", "cat\ndog\n")
    write(folder / "data" / "train.txt", "data/obj/a.png\ndata/obj/b.png\n")
    write(folder / "obj.data", "classes = 2\ntrain = data/train.txt\nnames = data/obj.names\n")
    return ["obj.data", "data/train.txt", "data/obj.names", "data/obj/a.txt"]


def write_labelme(folder: Path) -> list[str]:
    corners = [[5, 6], [25, 6], [25, 20], [5, 20]]
    shapes = [shape("cat", corners), shape("dog", [[5, 6], [25, 20]], "rectangle")]
    labelme_folder(folder, *shapes, shape("cat", [[15, 15], [20, 15]], "circle"))
    photo(folder / "b.png")
    write_json(folder / "b.json", labelme(*shapes, imagePath="b.png"))
    return ["b.json", "a.json"]


def write_cvat(folder: Path) -> list[str]:
    polygon = '<polygon label="cat" points="5,6;25,6;25,20"></polygon>'
    mask = '<mask label="dog" rle="21, 18, 241" left="5" top="6" width="20" height="14"></mask>'
    cvat_folder(folder, cvat(cvat_box(), polygon, mask))
    return ["annotations.xml"]


Damage = Callable[[bytes, random.Random], bytes]


def by_values(raw: bytes, random_state: random.Random) -> bytes:
    """Change one value of a JSON file."""
    data = json.loads(raw)
    mutate_values(data, random_state)
    return json.dumps(data, indent=random_state.choice([None, 1])).encode()


KINDS: dict[str, tuple[Callable[[Path], list[str]], Damage]] = {
    "voc": (write_voc, mutate),
    "coco by bytes": (write_coco, mutate),
    "coco by values": (write_coco, by_values),
    "yolo": (write_yolo, mutate),
    "darknet": (write_darknet, mutate),
    "labelme": (write_labelme, lambda raw, r: r.choice([mutate, by_values])(raw, r)),
    "cvat": (write_cvat, mutate),
}
# What is wrong in them may show in the files that they speak of.
DESCRIPTIONS = ("data.yaml", "obj.data", "train.txt", "obj.names")


def read_or_refuse(folder: Path, on_invalid: str, changed: Path, items: bool) -> str:
    """Read a folder as a training does; say how it went.

    Returns:
        "read", "mended", "line" (refused, with the file's line) or "refused".
    """
    try:
        split = "train" if "train" in list_splits(folder) else None
        found = read_annotations(folder, split=split, on_invalid=on_invalid)
    except AnnotationError as error:
        text = str(error)
        assert changed.name in text or changed.name in DESCRIPTIONS, text
        assert folder.name in text
        text.encode()
        return "line" if re.search(rf"{changed.name}:\d+|line \d+", text) else "refused"
    use_everything(found)
    if items:
        make_items(found)
    return "mended" if found.mended or found.problems else "read"


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files_are_read_or_refused(kind, tmp_path):
    prepare, damage = KINDS[kind]
    folder = tmp_path / "the_set"
    names = prepare(folder)
    random_state = random.Random(kind)
    outcome: Counter[str] = Counter()
    for turn in range(FILES):
        path = folder / names[turn % len(names)]
        original = path.read_bytes()
        path.write_bytes(damage(original, random_state))
        for on_invalid in ("refuse", "drop"):
            outcome[read_or_refuse(folder, on_invalid, path, turn % 10 == 0)] += 1
        if turn % 5 == 0:
            survey = survey_labels(folder, progress=False)
            json.dumps(survey.to_json(), allow_nan=False).encode()
            survey.to_text().encode()
            bad = 1 if survey.problems else 0
            assert survey.exit_code == (bad if survey.error is None else 2)
            assert all(one["file"] and one["reason"] for one in survey.to_json()["refused"])
            outcome[f"exit code {survey.exit_code}"] += 1
        path.write_bytes(original)
    assert outcome["read"] + outcome["mended"] > 50, outcome
    assert outcome["refused"] + outcome["line"] > 50, outcome
    if kind not in ("labelme", "coco by values"):  # many of their files are one line
        assert outcome["line"] > outcome["refused"], outcome
    assert min(outcome["read"], outcome["mended"]) > 5, outcome
    assert len([one for one in outcome if one.startswith("exit code")]) > 1, outcome
