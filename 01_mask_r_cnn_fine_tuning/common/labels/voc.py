"""Reader of Pascal VOC folders (Everingham et al. 2010): one XML file per picture.

The corners are taken as edges, as labelling tools write them today. The original challenge counted
pixels from 1, both corners inside: read this way its boxes are one pixel short at the left and
top. `difficult` objects are kept as ordinary ones; `part`s of objects are not read.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from xml.parsers import expat

from common.labels.records import (
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
)
from common.photos import PHOTO_SUFFIXES, photo_size

XML_FOLDERS = ("Annotations", "annotations", ".")
IMAGE_FOLDERS = ("JPEGImages", "images", ".")
LIST_FOLDERS = ("ImageSets/Main", ".")
CORNERS = ("xmin", "ymin", "xmax", "ymax")


class Element(ET.Element):
    """An XML element that knows the line it starts on."""

    line = 0


def read_voc(
    folder: str | Path,
    *,
    split: str | None = None,
    class_names: Sequence[str] | None = None,
    on_invalid: str = "refuse",
    check_images: bool = True,
) -> AnnotationSet:
    """Read `Annotations/*.xml` (or XML files beside the pictures) of a folder.

    Args:
        folder: the folder with Annotations, JPEGImages and perhaps ImageSets.
        split: read only the pictures that ImageSets/Main/<split>.txt lists.
        class_names: the classes in the order of their labels; other names are reported. By
            default all names of the folder, whatever the split, in alphabetic order.
        on_invalid: "refuse" to raise on any problem, "drop" to leave the annotation out.
        check_images: compare the size in the XML with the picture's own.

    Returns:
        The set; pictures are numbered from 1 in the order of their XML files' names.

    Raises:
        AnnotationError: there is nothing to read, or there are problems and they are refused.
    """
    folder = Path(folder)
    collector = Collector(folder, on_invalid)
    paths = find_xml(folder)
    if not paths:
        raise AnnotationError(f"{folder}: no XML file in it or in its folder Annotations")
    roots = {path: _parsed(path) for path in paths}
    names = check_class_names(_all_names(roots) if class_names is None else class_names, folder)
    if split is not None:
        paths = _split_paths(folder, split, paths, collector)
    images: list[ImageRecord] = []
    for image_id, path in enumerate(paths, start=1):
        images += _read_file(path, roots[path], folder, image_id, names, collector, check_images)
    return collector.finish(images, names, range(1, len(names) + 1))


def find_xml(folder: Path) -> list[Path]:
    """List the XML files of the first usual folder that has any, sorted by name."""
    for name in XML_FOLDERS:
        paths = sorted((folder / name).glob("*.xml"))
        if paths:
            return paths
    return []


def parse_xml(path: Path) -> Element:
    """Parse an XML file into elements that know their lines.

    Document type declarations are refused: they can define entities that grow without bound or
    name other files, and no annotation needs one.

    Raises:
        AnnotationError: unreadable, not well-formed, or with a DOCTYPE; with its line if it has.
    """
    parser = expat.ParserCreate()
    builder = ET.TreeBuilder(element_factory=Element)

    def start(tag: str, attributes: dict[str, str]) -> None:
        builder.start(tag, attributes).line = parser.CurrentLineNumber

    def refuse(*_: object) -> None:
        raise AnnotationError(f"line {parser.CurrentLineNumber}: a DOCTYPE is not allowed")

    parser.StartElementHandler = start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(path.read_bytes(), True)
        return builder.close()
    except OSError as error:
        raise AnnotationError(f"cannot be read: {error.strerror}") from error
    except AnnotationError:
        raise
    except (expat.ExpatError, LookupError, ValueError) as error:
        line = getattr(error, "lineno", parser.CurrentLineNumber)
        raise AnnotationError(f"line {line}: no valid XML: {error}") from error


def _parsed(path: Path) -> Element | AnnotationError:
    try:
        return parse_xml(path)
    except AnnotationError as error:  # reported when its file's turn comes
        return error


def _all_names(roots: dict[Path, Element | AnnotationError]) -> list[str]:
    trees = [root for root in roots.values() if not isinstance(root, AnnotationError)]
    names = {_text(element) for root in trees for element in root.findall("object/name")}
    return sorted(name for name in names if name and name.isprintable())


def _split_paths(
    folder: Path, split: str, paths: Sequence[Path], collector: Collector
) -> list[Path]:
    lists = [folder / name / f"{split}.txt" for name in LIST_FOLDERS]
    listed = next((one for one in lists if one.is_file()), None)
    if listed is None:
        raise AnnotationError(f"{folder}: no list {lists[0]} for the split {split!r}")
    path_of = {path.stem: path for path in paths}
    chosen = []
    for line_number, line in enumerate(listed.read_bytes().splitlines(), start=1):
        stem = line.decode("utf-8", "replace").strip()
        if stem not in path_of and stem:
            stem = stem.split()[0]  # the lists of one class add 1 or -1 to the name
        if stem in path_of:
            chosen.append(path_of.pop(stem))
        elif stem:
            with collector.reporting(f"{listed}:{line_number}", 0):
                raise AnnotationError(f"{shown(stem)} has no XML file, or is listed twice")
    if not chosen:
        raise AnnotationError(f"{listed}: lists no picture that has an XML file")
    return sorted(chosen)


def _read_file(
    path: Path,
    root: Element | AnnotationError,
    folder: Path,
    image_id: int,
    names: tuple[str, ...],
    collector: Collector,
    check_images: bool,
) -> list[ImageRecord]:
    """Return the one record of the file, or none when it is reported."""
    if isinstance(root, AnnotationError):
        with collector.reporting(str(path), 0):
            raise root
        return []
    entries = root.findall("object")
    collector.total += len(entries)
    with collector.reporting(f"{path}:{root.line}", len(entries)):
        image = _read_picture(root, path, folder, image_id, check_images)
        objects = []
        for entry in entries:
            source = f"{path}:{entry.line}"
            with collector.reporting(source):
                objects.append(_read_object(entry, image, names, source))
        return [replace(image, objects=tuple(objects))]
    return []


def _read_picture(
    root: Element, path: Path, folder: Path, image_id: int, check_images: bool
) -> ImageRecord:
    if root.tag != "annotation":
        raise AnnotationError(f"the root is {shown(root.tag)}, not 'annotation'")
    width, height = (int(_number(root, f"size/{side}")) for side in ("width", "height"))
    if min(width, height) < 1 or max(width, height) > LARGEST_IMAGE_SIDE:
        raise AnnotationError(f"size {width} x {height}; 1 to {LARGEST_IMAGE_SIDE} are allowed")
    image_path = _image_path(root, path, folder)
    if check_images:
        photo_size(image_path, (width, height))
    return ImageRecord(image_path, width, height, image_id)


def _image_path(root: Element, path: Path, folder: Path) -> Path:
    """Find the picture by the XML file's own name first: <filename> is often out of date."""
    names = [path.stem + suffix for suffix in PHOTO_SUFFIXES]
    names += [path.stem + suffix.upper() for suffix in PHOTO_SUFFIXES]
    names.append(_text(root.find("filename")).replace("\\", "/").rpartition("/")[2])
    for name in names:
        for place in IMAGE_FOLDERS:
            candidate = folder / place / name
            if name.isprintable() and name not in ("", "..") and _is_file(candidate):
                return candidate
    places = ", ".join(str(folder / place) for place in IMAGE_FOLDERS)
    raise AnnotationError(f"the image {path.stem}.jpg (or .png ...) does not exist in {places}")


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long for the file system
        return False


def _read_object(
    entry: Element, image: ImageRecord, names: tuple[str, ...], source: str
) -> ObjectRecord:
    name = _text(entry.find("name"))
    if name not in names:
        raise AnnotationError(f"class {shown(name)} is unknown; allowed are {', '.join(names)}")
    corners = [_number(entry, f"bndbox/{corner}") for corner in CORNERS]
    box = check_box(corners, image.width, image.height)
    area = (box[2] - box[0]) * (box[3] - box[1])
    return ObjectRecord(names.index(name) + 1, box, area, source)


def _text(element: ET.Element | None) -> str:
    return "" if element is None else (element.text or "").strip()


def _number(element: Element, key: str) -> float:
    found = element.find(key)
    if found is None:
        raise AnnotationError(f"<{key}> is missing")
    return number(_text(found), f"<{key}>")
