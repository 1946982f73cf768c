"""Reader of labelme's files: one JSON per picture, with a list of shapes.

Rectangles, circles and polygons become objects; shapes of one label and one `group_id` are parts of
one object. Points and lines have no area: they are problems.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from common.findings import Place
from common.labels.coco_entries import load_json, value
from common.labels.layout import Layout, folders_in, list_name
from common.labels.masks import check_segmentation, mask_area, mask_box
from common.labels.pictures import Pictures
from common.labels.records import (
    AnnotationSet,
    Collector,
    ImageRecord,
    ObjectRecord,
    ReadOptions,
)
from common.labels.values import (
    AnnotationError,
    check_box,
    check_class_names,
    number,
    ordered,
    shown,
    side,
)

CIRCLE_CORNERS = 32
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


def find_files(folder: Path) -> list[Path]:
    """List labelme's files of a folder and of the folders inside it, sorted."""
    found = []
    for place in folders_in(folder, levels=2):
        files = sorted(one for one in place.glob("*") if one.suffix.lower() == ".json")
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
        shape["label"].strip()
        for content in contents.values()
        for shape in content.get("shapes", ())
        if isinstance(shape, dict) and isinstance(shape.get("label"), str)
    }
    given = options.class_names
    names = check_class_names(sorted(found - {""}) if given is None else given, folder)
    pictures = Pictures(folder)
    images: list[ImageRecord] = []
    for path, content in collector.track(contents.items(), "checking pictures"):
        if content:
            images += _read_file(path, content, pictures, len(images) + 1, names, collector)
    return collector.finish(images, names, range(1, len(names) + 1), names_found=given is None)


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
        picture = pictures.with_stem(path.stem, [path.parent])
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
        known = isinstance(group, int | str) and isinstance(shape.get("label"), str)
        key = (shape["label"], group) if known else index
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
    name = label.strip() if isinstance(label, str) else label
    if name not in names:
        raise AnnotationError(f"class {shown(name)} is unknown; allowed are {', '.join(names)}")
    if len(shapes) > 1:
        collector.mend("shapes of one group_id taken as one object")
    kinds = {shape.get("shape_type", "polygon") for shape in shapes}
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


def _outline(shape: Any, collector: Collector) -> list[float]:
    """Return a shape's corners, x1, y1, x2, y2, ... in pixels."""
    kind = value(shape, "shape_type") if "shape_type" in shape else "polygon"
    points = value(shape, "points")
    if not isinstance(points, list) or any(
        not isinstance(one, list) or len(one) != 2 for one in points
    ):
        raise AnnotationError(f"points are {shown(points)}, not [x, y] each")
    corners = [(number(x, "x"), number(y, "y")) for x, y in points]
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
    raise AnnotationError(f"a {kind} of {len(corners)} points has no area: draw a polygon or a box")
