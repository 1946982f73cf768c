"""Reader of CVAT's "for images" export: one annotations.xml with all pictures.

Boxes, polygons, ellipses and masks become objects. Lines and points have no area, and rotated boxes
are not upright: they are problems.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from common.findings import Place
from common.labels.layout import Layout, files_in, folders_in, list_name
from common.labels.masks import check_segmentation, mask_area, mask_box, rows_to_rle
from common.labels.pictures import IMAGE_FOLDERS, Pictures, home_of
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
    whole_number,
)
from common.labels.xml_files import Element, parse_xml, root_tag, text_of

ELLIPSE_CORNERS = 32
SHAPES = ("box", "polygon", "mask", "polyline", "points", "cuboid", "ellipse", "skeleton")
EDGES = ("xtl", "ytl", "xbr", "ybr")


def find_cvat(folder: Path) -> Layout | None:
    """Recognise a folder with CVAT's XML file, or the file itself; None for others."""
    found = _files(folder)
    if not found:
        return None
    if len(found) > 1:
        both = " or ".join(str(one) for one in found[:2])
        raise AnnotationError(
            f"{folder} has several files of CVAT, choose one with its path: {both}"
        )
    path = found[0]
    home = folder if folder.is_dir() else home_of(path)
    try:
        root = parse_xml(path)
    except AnnotationError as error:
        where = "" if error.line is None else f":{error.line}"
        raise AnnotationError(f"{path}{where}: {error}") from error
    if root.find("track") is not None and root.find("image") is None:
        raise AnnotationError(f"{path}: CVAT for video: export it as CVAT for images")
    lists = {_list_of(image) for image in root.findall("image")} - {None}

    def read(split: str | None, options: ReadOptions) -> AnnotationSet:
        return read_cvat(path, home, root, options, split)

    return Layout("CVAT for images", tuple(sorted(map(str, lists))), read)


def has_cvat(folder: Path) -> bool:
    """Tell whether a folder holds a file of CVAT."""
    return bool(_files(folder))


def _files(folder: Path) -> list[Path]:
    """Return CVAT's files: of a folder and the folders in it, or the file itself."""
    places = folders_in(folder) if folder.is_dir() else []
    files = [p for one in places for p in files_in(one, ".xml")]
    return [p for p in [folder, *files] if p.is_file() and root_tag(p) == "annotations"]


def _list_of(image: Element) -> str | None:
    """Return the list that a picture belongs to: CVAT's subset, or its folder's name."""
    name = image.get("name", "").replace("\\", "/")
    return image.get("subset") or list_name(name.split("/")[:-1])


def read_cvat(
    path: Path, folder: Path, root: Element, options: ReadOptions, split: str | None = None
) -> AnnotationSet:
    """Read the pictures of CVAT's file.

    Args:
        path: the XML file, for messages.
        folder: in which the pictures are looked for.
        root: its content.
        options: how to read it. By default the classes are the labels of the project, in its order,
            or those that objects have, in alphabetic order.
        split: read only the pictures of this list.

    Raises:
        AnnotationError: there is nothing to read, or there are problems and they are refused.
    """
    collector = Collector.start(path, options)
    entries = [one for one in root.findall("image") if split in (None, _list_of(one))]
    labels = root.findall("meta//labels/label")
    listed = [text_of(one.find("name")) for one in labels if not text_of(one.find("parent"))]
    found = {shape.get("label", "").strip() for one in entries for shape in _shapes(one)} - {""}
    known = list(dict.fromkeys(listed)) or sorted(found)
    if not entries:
        raise AnnotationError(f"{path}: it has no <image>")
    names = check_class_names(known if options.class_names is None else options.class_names, path)
    pictures = Pictures(folder)
    images: list[ImageRecord] = []
    for entry in collector.track(entries):
        images += _read_image(entry, path, pictures, len(images) + 1, names, collector)
    guessed = not listed and options.class_names is None
    return collector.finish(images, names, range(1, len(names) + 1), names_found=guessed)


def _shapes(image: Element) -> list[Element]:
    return [one for one in image if one.tag in SHAPES]


def _read_image(
    entry: Element,
    path: Path,
    pictures: Pictures,
    image_id: int,
    names: tuple[str, ...],
    collector: Collector,
) -> list[ImageRecord]:
    """Return the one record of a picture, or none when it is reported."""
    shapes = _shapes(entry)
    collector.total += len(shapes)
    with collector.reporting(Place(str(path), entry.line), len(shapes)):
        places = [path.parent, *(path.parent / name for name in IMAGE_FOLDERS), pictures.folder]
        picture = pictures.find(entry.get("name", ""), places, collector.mend)
        size = side(entry.get("width")), side(entry.get("height"))
        width, height = collector.picture_size(picture, *size)
        image = ImageRecord(picture, width, height, image_id)
        objects = []
        for shape in shapes:
            place = Place(str(path), shape.line)
            with collector.reporting(place):
                objects.append(_read_object(shape, image, names, place, collector))
        return [replace(image, objects=tuple(objects))]
    return []


def _read_object(
    shape: Element, image: ImageRecord, names: Sequence[str], place: Place, collector: Collector
) -> ObjectRecord:
    name = shape.get("label", "").strip()
    if name not in names:
        raise AnnotationError(f"class {shown(name)} is unknown; allowed are {', '.join(names)}")
    label = list(names).index(name) + 1
    if shape.tag == "box":
        if number(shape.get("rotation", 0), "rotation"):
            raise AnnotationError("a rotated box: draw it upright")
        edges = [_number(shape, edge) for edge in EDGES]
        box = check_box(ordered(edges, collector.mend), image.width, image.height)
        return ObjectRecord(label, box, (box[2] - box[0]) * (box[3] - box[1]), place)
    if shape.tag not in OUTLINES:
        raise AnnotationError(
            f"the shape <{shape.tag}> has no area: draw a box, a polygon or a mask"
        )
    outline = OUTLINES[shape.tag](shape, image)
    mask = check_segmentation(outline, image.width, image.height)
    if mask is None:
        raise AnnotationError(f"the {shape.tag} is empty")
    box = check_box(mask_box(mask, image.width, image.height), image.width, image.height)
    return ObjectRecord(label, box, float(mask_area(mask, image.width, image.height)), place, mask)


def _number(shape: Element, key: str) -> float:
    if key not in shape.attrib:
        raise AnnotationError(f"the {shape.tag} has no {key}")
    return number(shape.get(key), key)


def _polygon(shape: Element, _: ImageRecord) -> list[list[float]]:
    """Return the corners of "x,y;x,y;..."."""
    corners = [one.split(",") for one in shape.get("points", "").split(";") if one.strip()]
    if any(len(one) != 2 for one in corners):
        raise AnnotationError(f"points are {shown(shape.get('points'))}, not x,y;x,y;...")
    return [[number(value, "points") for one in corners for value in one]]


def _ellipse(shape: Element, _: ImageRecord) -> list[list[float]]:
    """Return corners of an ellipse; CVAT turns it clockwise by degrees."""
    cx, cy, rx, ry = (_number(shape, key) for key in ("cx", "cy", "rx", "ry"))
    turn = math.radians(number(shape.get("rotation", 0), "rotation"))
    corners = []
    for angle in (2 * math.pi * k / ELLIPSE_CORNERS for k in range(ELLIPSE_CORNERS)):
        x, y = rx * math.cos(angle), ry * math.sin(angle)
        corners += [cx + x * math.cos(turn) - y * math.sin(turn),
                    cy + x * math.sin(turn) + y * math.cos(turn)]  # fmt: skip
    return [corners]


def _mask(shape: Element, image: ImageRecord) -> dict[str, Any]:
    """Return CVAT's run lengths, row by row inside a rectangle, as COCO's, column by column."""
    left, top, width, height = (
        whole_number(shape.get(key), key, 0, 65535) for key in ("left", "top", "width", "height")
    )
    if left + width > image.width or top + height > image.height or not width * height:
        raise AnnotationError(f"the mask leaves the {image.width} x {image.height} image")
    words = shape.get("rle", "").split(",")
    runs = [whole_number(word, "rle", 0, width * height) for word in words]
    if sum(runs) != width * height:
        raise AnnotationError(f"the runs of the mask add up to {sum(runs)}, not {width * height}")
    values = [index % 2 for index in range(len(runs))]
    return rows_to_rle(values, runs, (left, top, width, height), (image.width, image.height))


OUTLINES = {"polygon": _polygon, "ellipse": _ellipse, "mask": _mask}
