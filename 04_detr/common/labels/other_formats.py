"""Recognise the formats that are not read, to say their name and what helps."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from common.findings import DataError
from common.labels.coco_entries import load_json
from common.labels.layout import folders_in
from common.labels.pictures import MASK_FOLDERS, pictures_in
from common.labels.values import AnnotationError
from common.labels.xml_files import root_tag
from common.labels.yolo_folders import pair_in
from common.text_files import read_text

EXPORT = "export it as COCO, Pascal VOC or YOLO"
SUFFIXES = {
    ".tfrecord": "a TFRecord",
    ".record": "a TFRecord",
    ".parquet": "a table in Parquet",
    ".ndjson": "Labelbox's or another tool's lines of JSON",
    ".jsonl": "lines of JSON",
    ".mat": "a MATLAB file",
    ".manifest": "SageMaker's manifest",
    ".lst": "MXNet's list",
    ".zip": "an archive, which is to be unpacked first",
}
FILES_TRIED = 50


def name_other_format(path: Path) -> str | None:
    """Return what a file, or what lies in a folder, seems to be and what helps; None: no idea."""
    places = folders_in(path) if path.is_dir() else []
    pair = pair_in(path.absolute().parent) if path.is_dir() else None
    if pair is not None and path.absolute() in pair:
        return f"{path}: pictures and labels of YOLO are in two folders: give {pair[0].parent}"
    files = [path] if path.is_file() else [p for one in places for p in sorted(one.glob("*"))]
    for file in [one for one in files if one.is_file()][:FILES_TRIED]:
        known = _of_file(file)
        if known is not None:
            return f"{file}: this is {known}"
    masks = next((one for one in places if one.name in MASK_FOLDERS), None)
    if masks is not None:
        return (
            f"{masks}: these are masks with a class for each pixel: lesson 03, semantic "
            "segmentation, trains on them; here each object needs a box or an outline of its own"
        )
    pictures = sum(len(pictures_in(one)) for one in places)
    texts = [one for place in places if place.name == "labels" for one in place.glob("*.txt")]
    if texts:
        return f"{texts[0].parent}: label files of YOLO, and no folder images with pictures beside"
    if pictures:
        return f"{path}: {pictures} pictures and no labels in a known format"
    return None


def _of_file(file: Path) -> str | None:
    suffix = file.suffix.lower()
    if suffix in SUFFIXES:
        return f"{SUFFIXES[suffix]}: {EXPORT}"
    if suffix == ".json":
        return _of_json(file)
    if suffix == ".csv":
        return _of_csv(file)
    if suffix == ".xml" and root_tag(file) == "annotation":
        return "one file of Pascal VOC: give the folder of all its files"
    if suffix == ".xml" and root_tag(file):
        return f"XML with the root <{root_tag(file)}>, neither Pascal VOC's nor CVAT's: {EXPORT}"
    if suffix == ".txt":
        return _of_text(file)
    return None


def _of_json(file: Path) -> str | None:
    try:
        content = load_json(file)
    except AnnotationError:
        return None
    one = content[0] if isinstance(content, list) and content else content
    if not isinstance(one, dict):
        return None
    return next((f"{name}: {help_}" for name, help_, test in JSON_FORMATS if test(one)), None)


def _values(one: dict[str, Any]) -> list[dict[str, Any]]:
    return [value for value in one.values() if isinstance(value, dict)]


JSON_FORMATS = (
    ("a file of labelme", "give the folder of all its files",
     lambda one: "shapes" in one and "imagePath" in one),
    ("Cityscapes' polygons", EXPORT, lambda one: "objects" in one and "imgHeight" in one),
    ("VoTT's JSON", "in VoTT, Export Settings, Pascal VOC",
     lambda one: "regions" in one and "asset" in one),
    ("Datumaro's JSON", "in CVAT, export as COCO 1.0",
     lambda one: "items" in one and "categories" in one),
    ("Label Studio's short JSON", "in Label Studio, Export, COCO or YOLO",
     lambda one: "label" in one and any(key in one for key in ("image", "img", "photo"))),
    ("a project of VGG's annotator (VIA)", "in VIA, Annotation, Export as COCO",
     lambda one: "_via_img_metadata" in one
     or any("regions" in value and "filename" in value for value in _values(one))),
    ("Label Studio's own JSON", "in Label Studio, Export, COCO or YOLO",
     lambda one: "annotations" in one and "data" in one),
    ("a list of COCO's detections, without pictures and categories", "give the annotation file",
     lambda one: {"image_id", "category_id", "bbox"} <= set(one)),
    ("Apple's Create ML JSON", EXPORT, lambda one: "annotations" in one and "image" in one),
    ("Labelbox's JSON", EXPORT, lambda one: "Label" in one or "data_row" in one),
    ("a file of Supervisely", "export it there as COCO",
     lambda one: "objects" in one and "size" in one),
    ("BDD100K's or Scalabel's JSON", "its tool bdd100k.label.to_coco makes COCO's",
     lambda one: "labels" in one and "name" in one),
    ("COCO's JSON without lists of pictures and categories, such as captions",
     "give instances_*.json",
     lambda one: "images" in one and "annotations" in one),
)  # fmt: skip


def _of_csv(file: Path) -> str | None:
    try:
        lines = read_text(file).splitlines()[:2]
    except DataError:
        return None
    if not lines:
        return None
    signs = ",;\t"
    rows = list(csv.reader(lines, delimiter=max(signs, key=lines[0].count)))
    head = {cell.strip().lower() for cell in rows[0]}
    if {"xmin", "ymin"} <= head and "imageid" in head:
        return f"a table of Open Images: {EXPORT}"
    if {"xmin", "ymin", "xmax", "ymax"} <= head or {"x1", "y1", "x2", "y2"} <= head:
        return f"a table (CSV) of boxes: {EXPORT}, or write a YOLO text file for each picture"
    if "bbox" in head or {"x", "y"} <= head and ({"width", "height"} <= head or {"w", "h"} <= head):
        return f"a table (CSV) of boxes: {EXPORT}, or write a YOLO text file for each picture"
    if {"region_shape_attributes", "#filename"} & head:
        return "the CSV of VGG's annotator (VIA): in VIA, Annotation, Export as COCO"
    if len(rows[0]) in (5, 6) and sum(cell.strip().isdigit() for cell in rows[0]) >= 4:
        return f"a table (CSV) of boxes without a head line: {EXPORT}"
    return None


def _of_text(file: Path) -> str | None:
    try:
        lines = [line for line in read_text(file).splitlines() if line.strip()][:3]
    except DataError:
        return None
    words = [line.split() for line in lines]
    if words and all(len(one) in (15, 16) and one[0][0].isalpha() for one in words):
        return f"a label file of KITTI: {EXPORT}"
    if any(line.startswith(("imagesource:", "gsd:")) for line in lines) or (
        words and all(len(one) in (9, 10) and one[8][0].isalpha() for one in words)
    ):
        return f"a label file of DOTA, with rotated boxes: {EXPORT}"
    if words and all(len(one) > 1 and all(w.count(",") == 4 for w in one[1:]) for one in words):
        return f"a list of pictures with their boxes, x1,y1,x2,y2,class: {EXPORT}"
    if len(words) == 3 and words[1][0].isdigit() and len(words[1]) == 1 and len(words[2]) == 10:
        return f"the list of WIDER FACE: {EXPORT}"
    if lines and all(line.count(",") in (7, 8, 9) for line in lines):
        return f"a text file of VisDrone's or MOT's columns: {EXPORT}"
    return None
