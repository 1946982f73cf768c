"""Small label files of all formats, as people bring them; every picture is 40 x 30 pixels."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from PIL import Image

from common.labels.read import read_annotations
from common.labels.records import AnnotationSet

SIZE = (40, 30)
BOX = (5.0, 6.0, 25.0, 20.0)  # left, top, right, bottom
YOLO_BOX = "0.375 0.433333 0.5 0.466667"  # the same in fractions: centre, width, height


def photo(path: Path, size: tuple[int, int] = SIZE, number: int = 0, **options: Any) -> Path:
    """Save a picture; `number` makes it another one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (90, 120, number % 256)).save(path, **options)
    return path


def write(path: Path, text: str | bytes, encoding: str = "utf-8") -> Path:
    """Write a text in some encoding, or bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode(encoding))
    return path


def write_json(path: Path, content: Any, **options: Any) -> Path:
    """Write JSON."""
    return write(path, json.dumps(content, **options))


def voc(*objects: tuple[str, tuple], size: str | None = "40 30", head: str = "") -> str:
    """Return a VOC file: one line for each element of the top level."""
    lines = ["<annotation>", *([head] if head else [])]
    if size is not None:
        width, height = size.split()
        lines.append(f"<size><width>{width}</width><height>{height}</height></size>")
    for name, box in objects:
        edges = zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
        corners = "".join(f"<{edge}>{value}</{edge}>" for edge, value in edges)
        lines.append(f"<object><name>{name}</name><bndbox>{corners}</bndbox></object>")
    return "\n".join([*lines, "</annotation>"]) + "\n"


def voc_folder(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    """Write one picture, and its XML file in Annotations."""
    photo(folder / "JPEGImages" / "a.png")
    write(folder / "Annotations" / "a.xml", text, encoding)
    return folder


def entry(number: int = 1, **changes: Any) -> dict[str, Any]:
    """Return an entry of COCO's annotations; a change to None stands for null, to ... removes."""
    x1, y1, x2, y2 = BOX
    one = {"id": number, "image_id": 1, "category_id": 1, "iscrowd": 0}
    one |= {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": 280.0, **changes}
    return {key: value for key, value in one.items() if value is not ...}


def coco(*annotations: dict[str, Any], names: tuple[str, ...] = ("cat", "dog"), **changes: Any):
    """Return a COCO file of one picture, a.png; changes are of its entry of the images."""
    image = {"id": 1, "file_name": "a.png", "width": 40, "height": 30, **changes}
    return {
        "images": [{key: value for key, value in image.items() if value is not ...}],
        "annotations": list(annotations),
        "categories": [{"id": k, "name": name} for k, name in enumerate(names, start=1)],
    }


def coco_folder(folder: Path, content: dict[str, Any], **options: Any) -> Path:
    """Write one picture, images/a.png, and annotations.json beside the folder."""
    photo(folder / "images" / "a.png")
    write_json(folder / "annotations.json", content, **options)
    return folder


def yolo_folder(folder: Path, text: str, names: str | None = "cat\ndog\n") -> Path:
    """Write one picture with its label file, and classes.txt."""
    photo(folder / "images" / "a.png")
    write(folder / "labels" / "a.txt", text)
    if names is not None:
        write(folder / "classes.txt", names)
    return folder


def shape(label: str, points: list, kind: str = "polygon", **more: Any) -> dict[str, Any]:
    """Return a shape of labelme."""
    return {"label": label, "points": points, "shape_type": kind, "group_id": None, **more}


def labelme(*shapes: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Return a file of labelme for a.png."""
    content = {"version": "5.0.1", "flags": {}, "shapes": list(shapes), "imagePath": "a.png"}
    return content | {"imageData": None, "imageHeight": 30, "imageWidth": 40} | changes


def labelme_folder(folder: Path, *shapes: dict[str, Any], **changes: Any) -> Path:
    """Write a picture with its file of labelme."""
    photo(folder / "a.png")
    write_json(folder / "a.json", labelme(*shapes, **changes))
    return folder


def cvat(*shapes: str, labels: tuple[str, ...] = ("cat", "dog"), image: str = "") -> str:
    """Return CVAT's XML: line 4 has the picture, the lines after it its shapes."""
    known = "".join(f"<label><name>{name}</name></label>" for name in labels)
    opening = image or '<image id="0" name="a.png" width="40" height="30">'
    head = ['<?xml version="1.0" encoding="utf-8"?>', "<annotations><version>1.1</version>"]
    head.append(f"<meta><job><labels>{known}</labels></job></meta>")
    return "\n".join([*head, opening, *shapes, "</image>", "</annotations>"]) + "\n"


def cvat_box(label: str = "cat", more: str = "") -> str:
    """Return a box of CVAT."""
    return f'<box label="{label}" xtl="5" ytl="6" xbr="25" ybr="20" {more}></box>'


def cvat_folder(folder: Path, text: str) -> Path:
    """Write one picture, images/a.png, and annotations.xml beside the folder."""
    photo(folder / "images" / "a.png")
    write(folder / "annotations.xml", text)
    return folder


def objects(path: Path, **options: Any) -> list[tuple[str, tuple[float, ...]]]:
    """Read a path, and return the class and the box, rounded, of each object in order."""
    return named(read_annotations(path, **options))


def named(found: AnnotationSet) -> list[tuple[str, tuple[float, ...]]]:
    """Return the class and the box, rounded, of each object in order."""
    return [
        (found.class_names[one.label - 1], tuple(round(edge, 2) for edge in one.box_xyxy))
        for image in found.images
        for one in image.objects
    ]


def check(
    path: Path,
    expected: list,
    mended: dict[str, int] | None = None,
    notes: int = 0,
    masks: bool = False,
) -> AnnotationSet:
    """Compare what is read with the expected objects, mends and number of notes."""
    found = read_annotations(path, masks=masks)
    assert named(found) == expected
    assert found.mended == Counter(mended or {})
    assert len(found.notes) == notes, found.notes
    return found
