"""Reader of labelme's files: one JSON per picture, with a list of shapes.

Rectangles, circles, polygons and masks become objects; shapes of one label and one `group_id` are
parts of one object. Points and lines have no area: they are problems.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from common.findings import Place
from common.labels.coco_entries import head_of, load_json, value
from common.labels.layout import Layout, files_in, folders_in, list_name
from common.labels.masks import check_segmentation, mask_area, mask_box, rows_to_rle
from common.labels.pictures import Pictures, note_unlabelled
from common.labels.records import (
    AnnotationSet,
    Collector,
    ImageRecord,
    ObjectRecord,
    ReadOptions,
)
from common.labels.values import (
    LARGEST_IMAGE_SIDE,
    AnnotationError,
    check_box,
    check_class_names,
    number,
    ordered,
    shown,
    side,
    whole_number,
)
from common.photos import open_photo

CIRCLE_CORNERS = 32
ROTATED = ("rotation", "oriented_rectangle")  # of X-AnyLabeling and of labelme
FIRST_FILES = 3


def find_labelme(folder: Path) -> Layout | None:
    """Recognise a folder of labelme's files; None where it is none."""
    files = find_files(folder)
    if not files:
        return None
    parts = {list_name(path.relative_to(folder).parts[:-1]) for path in files}
    lists = tuple(sorted(name for name in parts if name is not None))

    def read(split: str | None, options: ReadOptions) -> AnnotationSet:
        inside = [p for p in files if split is None or split in p.relative_to(folder).parts[:-1]]
        return read_labelme(folder, inside, options)

    return Layout("labelme", lists, read)


def has_labelme(folder: Path) -> bool:
    """Tell whether a folder holds files of labelme; other JSON, which may be large, is not read."""
    places = folders_in(folder, levels=2)
    firsts = [one for place in places for one in files_in(place, ".json")[:FIRST_FILES]]
    return any('"shapes"' in head_of(one) and is_labelme(one) for one in firsts)


def find_files(folder: Path) -> list[Path]:
    """List labelme's files of a folder and of the folders inside it, sorted."""
    found = []
    for place in folders_in(folder, levels=2):
        files = files_in(place, ".json")
        if any(is_labelme(one) for one in files[:FIRST_FILES]):
            found += files
    return found


def is_labelme(path: Path) -> bool:
    """Tell whether a JSON file is labelme's."""
    try:
        content = load_json(path)
    except AnnotationError:
        return False
    return isinstance(content, dict) and "shapes" in content and "imagePath" in content


def read_labelme(folder: Path, files: Sequence[Path], options: ReadOptions) -> AnnotationSet:
    """Read labelme's files.

    Args:
        folder: the data's folder, in which pictures are looked for.
        files: the JSON files.
        options: how to read them. The classes are the labels that shapes have, in alphabetic order.

    Raises:
        AnnotationError: there is nothing to read, or there are problems and they are refused.
    """
    collector = Collector.start(folder, options)
    contents = {path: _content(path, collector) for path in collector.track(files)}
    found = {
        _label(shape)
        for content in contents.values()
        for shape in content.get("shapes", ())
        if isinstance(shape, dict)
    }
    found = {name for name in found if name.isprintable()}
    given = options.class_names
    if given is None and not found - {""}:
        raise AnnotationError(f"{folder}: its {len(files)} files hold no shape with a label")
    names = check_class_names(sorted(found - {""}) if given is None else given, folder)
    pictures = Pictures(folder)
    images: list[ImageRecord] = []
    for path, content in collector.track(contents.items(), "checking pictures"):
        if content:
            images += _read_file(path, content, pictures, len(images) + 1, names, collector)
    stems = [path.stem for path in files]
    collector.notes += note_unlabelled([one.path for one in images], stems, "file of labelme")
    return collector.finish(images, names, range(1, len(names) + 1), names_found=given is None)


def _label(shape: dict[str, Any]) -> str:
    """Return a shape's class; a number is taken as text, and what is neither is none."""
    label = shape.get("label")
    known = isinstance(label, str | int) and not isinstance(label, bool)
    return str(label).strip() if known else ""


def _content(path: Path, collector: Collector) -> dict[str, Any]:
    with collector.reporting(Place(str(path)), 0):
        content = load_json(path)
        if not isinstance(content, dict) or not isinstance(content.get("shapes"), list):
            raise AnnotationError("no file of labelme: it has no list 'shapes'")
        return content
    return {}


def _read_file(
    path: Path,
    content: dict[str, Any],
    pictures: Pictures,
    image_id: int,
    names: tuple[str, ...],
    collector: Collector,
) -> list[ImageRecord]:
    """Return the one record of a file, or none when it is reported."""
    groups = _groups(content["shapes"])
    collector.total += len(groups)
    with collector.reporting(Place(str(path)), len(groups)):
        named = content.get("imagePath")
        named = named if isinstance(named, str) else ""
        picture = pictures.with_stem(path.stem, [path.parent], named)
        if picture is None:
            name = value(content, "imagePath")
            picture = pictures.find(name, [path.parent], collector.mend)
        size = side(content.get("imageWidth")), side(content.get("imageHeight"))
        width, height = collector.picture_size(picture, *size)
        image = ImageRecord(picture, width, height, image_id)
        objects = []
        for index, shapes in groups:
            place = Place(str(path), None, f"shapes[{index}]")
            with collector.reporting(place):
                objects.append(_read_object(shapes, image, names, place, collector))
        return [replace(image, objects=tuple(objects))]
    return []


def _groups(shapes: Sequence[Any]) -> list[tuple[int, list[Any]]]:
    """Return the shapes of each object, with the number of the first of them."""
    groups: dict[Any, tuple[int, list[Any]]] = {}
    for index, shape in enumerate(shapes):
        group = shape.get("group_id") if isinstance(shape, dict) else None
        known = isinstance(group, int | str) and group != "" and _label(shape)
        key = (_label(shape), group) if known else index
        groups.setdefault(key, (index, []))[1].append(shape)
    return list(groups.values())


def _read_object(
    shapes: Sequence[Any],
    image: ImageRecord,
    names: tuple[str, ...],
    place: Place,
    collector: Collector,
) -> ObjectRecord:
    label = value(shapes[0], "label")
    name = _label(shapes[0])
    if name not in names:
        raise AnnotationError(f"class {shown(label)} is unknown; allowed are {', '.join(names)}")
    if len(shapes) > 1:
        collector.mend("shapes of one group_id taken as one object")
    kinds = {str(shape.get("shape_type", "polygon")) for shape in shapes}
    if kinds == {"mask"} and len(shapes) == 1:
        return _read_mask(shapes[0], image, names.index(name) + 1, place)
    outlines = [_outline(shape, collector) for shape in shapes]
    xs = [x for outline in outlines for x in outline[0::2]]
    ys = [y for outline in outlines for y in outline[1::2]]
    box = check_box((min(xs), min(ys), max(xs), max(ys)), image.width, image.height)
    area = (box[2] - box[0]) * (box[3] - box[1])
    label_number = names.index(name) + 1
    if kinds == {"rectangle"}:
        return ObjectRecord(label_number, box, area, place)
    try:
        mask = check_segmentation(outlines, image.width, image.height)
    except AnnotationError:
        if collector.options.masks:
            raise
        return ObjectRecord(label_number, box, area, place)
    box = check_box(mask_box(mask, image.width, image.height), image.width, image.height)
    area = float(mask_area(mask, image.width, image.height))
    return ObjectRecord(label_number, box, area, place, mask)


def _read_mask(shape: dict[str, Any], image: ImageRecord, label: int, place: Place) -> ObjectRecord:
    """Return the object of a PNG inside the file, which fills the rectangle of two points."""
    corners = shape.get("points")
    if not isinstance(corners, list) or len(corners) != 2:
        raise AnnotationError(f"points are {shown(corners)}, not the two corners of a mask")
    (left, top), _ = (_point(one) for one in corners)
    left, top = (whole_number(round(one), "corner", 0, LARGEST_IMAGE_SIDE) for one in (left, top))
    try:
        raw = base64.b64decode(value(shape, "mask"), validate=True)
        with open_photo(io.BytesIO(raw)) as picture:
            plane = np.array(picture.convert("L")) > 0  # (H, W)
    except (TypeError, ValueError) as error:
        raise AnnotationError("its mask is no picture in base64") from error
    height, width = plane.shape
    if left + width > image.width or top + height > image.height:
        raise AnnotationError(f"the mask leaves the {image.width} x {image.height} image")
    whole = plane.ravel().tolist()
    rle = rows_to_rle(whole, [1] * len(whole), (left, top, width, height),
                      (image.width, image.height))  # fmt: skip
    mask = check_segmentation(rle, image.width, image.height)
    box = check_box(mask_box(mask, image.width, image.height), image.width, image.height)
    return ObjectRecord(label, box, float(mask_area(mask, image.width, image.height)), place, mask)


def _point(point: Any) -> tuple[float, float]:
    if not isinstance(point, list) or len(point) != 2:
        raise AnnotationError(f"a point is {shown(point)}, not [x, y]")
    return number(point[0], "x"), number(point[1], "y")


def _outline(shape: Any, collector: Collector) -> list[float]:
    """Return a shape's corners, x1, y1, x2, y2, ... in pixels."""
    kind = value(shape, "shape_type") if "shape_type" in shape else "polygon"
    points = value(shape, "points")
    if not isinstance(points, list):
        raise AnnotationError(f"points are {shown(points)}, not [x, y] each")
    corners = [_point(one) for one in points]
    if kind in ROTATED:
        raise AnnotationError(f"a rotated box ({kind}): draw it upright")
    if kind == "rectangle" and len(corners) == 2:
        x1, y1, x2, y2 = ordered((*corners[0], *corners[1]), lambda _: None)  # drawn either way
        return [x1, y1, x2, y1, x2, y2, x1, y2]
    if kind == "circle" and len(corners) == 2:
        (x, y), (rim_x, rim_y) = corners
        radius = math.hypot(rim_x - x, rim_y - y)
        turns = [2 * math.pi * k / CIRCLE_CORNERS for k in range(CIRCLE_CORNERS)]
        return [c for t in turns for c in (x + radius * math.cos(t), y + radius * math.sin(t))]
    if kind in ("polygon", "rectangle") and len(corners) >= 3:
        return [one for corner in corners for one in corner]
    raise AnnotationError(
        f"the shape {shown(kind)} of {len(corners)} points has no area: draw a polygon or a box"
    )
