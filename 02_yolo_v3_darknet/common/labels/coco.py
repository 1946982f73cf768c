"""Reader of COCO's instance annotations (Lin et al. 2014): one JSON file for all pictures.

Category numbers may have gaps and categories may be unused: all of them keep a label, sorted by
number, so that two files of one dataset (train, validation) agree.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from common.labels.masks import check_segmentation, mask_area
from common.labels.records import (
    LARGEST_ID,
    LARGEST_IMAGE_SIDE,
    AnnotationError,
    AnnotationSet,
    Collector,
    ImageRecord,
    ObjectRecord,
    check_box,
    check_class_names,
    number,
    shown,
    whole_number,
)
from common.photos import photo_size

NAMES_TRIED = 5


def read_coco(
    json_path: str | Path,
    *,
    images: str | Path | None = None,
    class_names: Sequence[str] | None = None,
    on_invalid: str = "refuse",
    check_images: bool = True,
) -> AnnotationSet:
    """Read a COCO JSON file with "images", "annotations" and "categories".

    Args:
        json_path: the file.
        images: folder that the `file_name`s start from; by default the folders usually used
            beside the JSON file are tried.
        class_names: keep these categories, in this order; annotations of others are reported.
        on_invalid: "refuse" to raise on any problem, "drop" to leave the annotation out.
        check_images: open every picture's header to compare its size with the file.

    Raises:
        AnnotationError: the file is no COCO JSON, or it has problems and is to be refused.
    """
    json_path = Path(json_path)
    collector = Collector(json_path, on_invalid)
    data = _load(json_path)
    label_of, names, category_ids = _categories(data["categories"], json_path, class_names)
    folder = Path(images) if images is not None else _image_folder(json_path, data["images"])
    records = _read_images(data["images"], folder, collector, check_images)
    objects = _read_objects(data["annotations"], records, label_of, collector)
    whole = [
        ImageRecord(one.path, one.width, one.height, one.image_id, tuple(objects[one.image_id]))
        for one in records.values()
    ]
    return collector.finish(whole, names, category_ids)


def _load(json_path: Path) -> dict[str, list[Any]]:
    try:
        data = json.loads(json_path.read_bytes())
    except OSError as error:
        raise AnnotationError(f"{json_path}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise AnnotationError(f"{json_path}: no valid JSON: {error}") from error
    if not isinstance(data, dict):
        raise AnnotationError(f"{json_path}: no COCO JSON, it holds {shown(data)}")
    for key in ("images", "annotations", "categories"):
        if not isinstance(data.get(key), list):
            raise AnnotationError(f"{json_path}: no COCO JSON, it has no list {key!r}")
    return data


def _value(entry: Any, key: str) -> Any:
    if not isinstance(entry, dict):
        raise AnnotationError(f"{shown(entry)} is no JSON object")
    if key not in entry:
        raise AnnotationError(f"the key {key!r} is missing")
    return entry[key]


def _categories(
    entries: list[Any], json_path: Path, wanted: Sequence[str] | None
) -> tuple[dict[int, int | None], tuple[str, ...], tuple[int, ...]]:
    """Return label by category id (None: not wanted), the class names, and their category ids."""
    name_of: dict[int, Any] = {}
    for index, entry in enumerate(entries):
        try:
            category_id = whole_number(_value(entry, "id"), "id", -LARGEST_ID)
            if category_id in name_of:
                raise AnnotationError(f"id {category_id} appears twice")
            name_of[category_id] = _value(entry, "name")
        except AnnotationError as error:
            raise AnnotationError(f"{json_path}: categories[{index}]: {error}") from error
    ids = sorted(name_of)
    names = check_class_names([name_of[one] for one in ids], json_path)
    if wanted is not None:
        unknown = [name for name in wanted if name not in names]
        if unknown:
            raise AnnotationError(f"{json_path}: no category is named {unknown}; it has {names}")
        names, ids = check_class_names(wanted, "class_names"), [ids[names.index(w)] for w in wanted]
    label_of: dict[int, int | None] = dict.fromkeys(name_of)
    label_of.update({category_id: label for label, category_id in enumerate(ids, start=1)})
    return label_of, names, tuple(ids)


def _image_folder(json_path: Path, entries: list[Any]) -> Path:
    """Guess where the pictures lie: the first usual folder that has one of the first few."""
    here, above = json_path.parent, json_path.parent.parent
    split = json_path.stem.removeprefix("instances_")
    folders = [here, here / "images", here / "PNGImages", here / "JPEGImages"]
    folders += [here / split, here / "images" / split]
    folders += [above / "images" / split, above / split, above / "images", above]
    for folder in folders:
        for entry in entries[:NAMES_TRIED]:
            try:
                if (folder / _file_name(entry)).is_file():
                    return folder
            except (AnnotationError, OSError):  # reported with its index in _read_images
                continue
    return here


def _file_name(entry: Any) -> str:
    name = _value(entry, "file_name")
    if not isinstance(name, str) or not name.isprintable() or not name:
        raise AnnotationError(f"file_name is {shown(name)}, not a file's name")
    for kind in (PurePosixPath(name), PureWindowsPath(name)):
        if kind.is_absolute() or kind.drive or ".." in kind.parts:
            raise AnnotationError(f"file_name {shown(name)} leaves the image folder")
    return name


def _read_images(
    entries: list[Any], folder: Path, collector: Collector, check_images: bool
) -> dict[int, ImageRecord]:
    records: dict[int, ImageRecord] = {}
    for index, entry in enumerate(entries):
        with collector.reporting(_position(collector.source, "images", index, entry), 0):
            image_id = whole_number(_value(entry, "id"), "id", -LARGEST_ID)
            if image_id in records:
                raise AnnotationError(f"id {image_id} appears twice")
            path = folder / _file_name(entry)
            width, height = (
                whole_number(_value(entry, side), side, 1, LARGEST_IMAGE_SIDE)
                for side in ("width", "height")
            )
            if check_images:
                photo_size(path, (width, height))
            records[image_id] = ImageRecord(path, width, height, image_id)
    return records


def _read_objects(
    entries: list[Any],
    images: dict[int, ImageRecord],
    label_of: dict[int, int | None],
    collector: Collector,
) -> dict[int, list[ObjectRecord]]:
    objects: dict[int, list[ObjectRecord]] = {image_id: [] for image_id in images}
    seen: set[int] = set()
    collector.total = len(entries)
    for index, entry in enumerate(entries):
        source = _position(collector.source, "annotations", index, entry)
        with collector.reporting(source):
            annotation_id = whole_number(_value(entry, "id"), "id", -LARGEST_ID)
            if annotation_id in seen:
                raise AnnotationError(f"id {annotation_id} appears twice")
            seen.add(annotation_id)
            image_id = whole_number(_value(entry, "image_id"), "image_id", -LARGEST_ID)
            if image_id not in images:
                raise AnnotationError(f"image_id {image_id} is no usable image of this file")
            one = _read_object(entry, images[image_id], label_of, source)
            objects[image_id].append(one)
    return objects


def _read_object(
    entry: dict[str, Any], image: ImageRecord, label_of: dict[int, int | None], source: str
) -> ObjectRecord:
    category_id = whole_number(_value(entry, "category_id"), "category_id", -LARGEST_ID)
    if category_id not in label_of:
        raise AnnotationError(f"category_id {category_id} is not among the categories")
    label = label_of[category_id]
    if label is None:
        raise AnnotationError(f"category_id {category_id} is not among the wanted class names")
    bbox = _value(entry, "bbox")
    if not isinstance(bbox, list) or len(bbox) != 4:
        raise AnnotationError(f"bbox is {shown(bbox)}, not [x, y, width, height]")
    x, y, width, height = (number(value, "bbox value") for value in bbox)
    box = check_box((x, y, x + width, y + height), image.width, image.height)
    segmentation = check_segmentation(entry.get("segmentation"), image.width, image.height)
    iscrowd = whole_number(entry.get("iscrowd", 0), "iscrowd", 0, 1)
    if "area" in entry:
        area = number(entry["area"], "area")
    elif segmentation is not None:
        area = float(mask_area(segmentation, image.width, image.height))
    else:
        area = width * height
    if area <= 0:
        raise AnnotationError(f"area is {shown(entry['area'])}; it must be above 0")
    return ObjectRecord(label, box, area, source, segmentation, iscrowd)


def _position(json_path: Path, key: str, index: int, entry: Any) -> str:
    known = f" (id {shown(entry['id'])})" if isinstance(entry, dict) and "id" in entry else ""
    return f"{json_path}: {key}[{index}]{known}"
