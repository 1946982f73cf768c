"""Reader of Pascal VOC folders (Everingham et al. 2010): one XML file per picture.

The corners are taken as edges, as labelling tools write them today. The original challenge counted
pixels from 1, both corners inside: read this way its boxes are one pixel short at the left and
top. `difficult` objects are kept as ordinary ones; `part`s of objects are not read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from common.findings import Place
from common.labels.layout import Layout, files_in, folders_in, list_name
from common.labels.pictures import IMAGE_FOLDERS, Pictures, note_unlabelled
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
    ordered,
    shown,
    side,
)
from common.labels.xml_files import Element, number_in, parse_xml, root_tag, text_of
from common.text_files import read_lines

XML_FOLDERS = ("Annotations", "annotations", "annots", "Annotation", "xmls", "xml")
LIST_FOLDER = "ImageSets/Main"
CORNERS = ("xmin", "ymin", "xmax", "ymax")
Root = Element | AnnotationError  # of an XML file, or why it cannot be read


class VocFiles:
    """The XML files of a folder, which are parsed once, when the first of its lists is read.

    Args:
        folder: the folder with Annotations, JPEGImages and perhaps ImageSets.
        paths: the XML files.
    """

    def __init__(self, folder: Path, paths: Sequence[Path]) -> None:
        self.folder, self.paths = folder, paths
        self._roots: dict[Path, Root] = {}

    def roots(self, collector: Collector) -> dict[Path, Root]:
        """Return the content of each file, or why it cannot be read."""
        if not self._roots:
            self._roots = {path: _parsed(path) for path in collector.track(self.paths)}
        return self._roots


def find_voc(folder: Path) -> Layout | None:
    """Recognise a folder of VOC's XML files; None where it is none."""
    found = find_xml(folder)
    if not found:
        return None
    lists = sorted({*_text_lists(_homes(folder, found)), *_folder_lists(folder, found)})
    files = VocFiles(folder, found)

    def read(split: str | None, options: ReadOptions) -> AnnotationSet:
        return read_voc(files, options, split)

    return Layout("Pascal VOC", tuple(lists), read)


def has_voc(folder: Path) -> bool:
    """Tell whether a folder holds XML files of VOC."""
    return any(root_tag(one) == "annotation" for one in find_xml(folder))


def read_voc(files: VocFiles, options: ReadOptions, split: str | None = None) -> AnnotationSet:
    """Read XML files, in Annotations or a folder of another name, or beside the pictures.

    Args:
        files: of the folder; there is one at least.
        options: how to read it; of `class_names`, other names are reported. By default all names
            of the folder, whatever the split, in alphabetic order.
        split: read only the pictures that ImageSets/Main/<split>.txt lists, or those of the
            folder of this name.

    Returns:
        The set; pictures are numbered from 1 in the order of their XML files' names.

    Raises:
        AnnotationError: there is nothing to read, or there are problems and they are refused.
    """
    folder, paths = files.folder, files.paths
    collector = Collector.start(folder, options)
    roots = files.roots(collector)
    given = collector.options.class_names
    names = check_class_names(_all_names(roots, folder) if given is None else given, folder)
    if split is not None:
        paths = _split_paths(folder, split, paths, collector)
    pictures = Pictures(folder)
    images: list[ImageRecord] = []
    for image_id, path in enumerate(collector.track(paths, "checking pictures"), start=1):
        images += _read_file(path, roots[path], pictures, image_id, names, collector)
    used = [one.path for one in images]
    collector.notes += note_unlabelled(used, [one.stem for one in roots], "XML file")
    return collector.finish(images, names, range(1, len(names) + 1), names_found=given is None)


def find_xml(folder: Path) -> list[Path]:
    """List the annotation files of a folder and of the folders in it, sorted by their path."""
    paths = []
    for place in folders_in(folder, levels=3):
        here = files_in(place, ".xml")
        if any(root_tag(one) == "annotation" for one in here) or (
            here and place.name in XML_FOLDERS and root_tag(here[0]) != "annotations"
        ):
            paths += here
    return paths


def _homes(folder: Path, paths: Sequence[Path]) -> list[Path]:
    """Return the folder, and those inside it that have Annotations, such as VOCdevkit/VOC2007."""
    above = {path.parent.parent for path in paths if path.parent.name in XML_FOLDERS}
    return [folder, *sorted(one for one in above if one != folder and folder in one.parents)]


def _text_lists(homes: Sequence[Path]) -> list[str]:
    """Name the lists of ImageSets/Main, or else the text files of the folder that are lists."""
    own = [one.stem for home in homes for one in (home / LIST_FOLDER).glob("*.txt")]
    side = [one.stem for one in homes[0].glob("*.txt")]
    return own or [name for name in side if list_name([name])]


def _folder_lists(folder: Path, paths: Sequence[Path]) -> set[str]:
    """Name the lists that are folders: train/x.xml, train/Annotations/x.xml and the like."""
    names = {list_name(path.relative_to(folder).parts[:-1]) for path in paths}
    return {name for name in names if name is not None}


def _parsed(path: Path) -> Root:
    try:
        return parse_xml(path)
    except AnnotationError as error:  # reported when its file's turn comes
        return error


def _all_names(roots: dict[Path, Root], folder: Path) -> list[str]:
    trees = [root for root in roots.values() if not isinstance(root, AnnotationError)]
    names = {text_of(element) for root in trees for element in root.findall("object/name")}
    kept = sorted(name for name in names if name and name.isprintable())
    broken = next(((p, one) for p, one in roots.items() if isinstance(one, AnnotationError)), None)
    if not kept and broken is not None:
        line = "" if broken[1].line is None else f":{broken[1].line}"
        raise AnnotationError(f"{broken[0]}{line}: {broken[1]}")
    if not kept:
        raise AnnotationError(f"{folder}: no class is named: its {len(roots)} XML files hold no "
                              "<object> with a <name>")  # fmt: skip
    return kept


def _split_paths(
    folder: Path, split: str, paths: Sequence[Path], collector: Collector
) -> list[Path]:
    homes = _homes(folder, paths)
    lists = [home / LIST_FOLDER / f"{split}.txt" for home in homes]
    found = [one for one in lists if one.is_file()]
    beside = folder / f"{split}.txt"
    if not found and beside.is_file():
        found = [beside]
    if not found:
        inside = [path for path in paths if split in path.relative_to(folder).parts[:-1]]
        if not inside:
            raise AnnotationError(f"{folder}: no list {lists[0]} for the split {split!r}")
        return inside
    chosen: list[Path] = []
    for listed in found:
        home = next(one for one in reversed(homes) if one in listed.parents)
        chosen += _listed_paths(listed, [one for one in paths if home in one.parents], collector)
    return sorted(chosen)


def _listed_paths(listed: Path, paths: Sequence[Path], collector: Collector) -> list[Path]:
    """Return the XML files that a list names."""
    path_of = {path.stem: path for path in paths}
    chosen = []
    for line_number, line in read_lines(listed):
        stem = _listed_stem(line, path_of)
        if stem in path_of:
            chosen.append(path_of.pop(stem))
        else:
            with collector.reporting(Place(str(listed), line_number), 0):
                raise AnnotationError(f"{shown(stem)} has no XML file, or is listed twice")
    if not chosen:
        raise AnnotationError(f"{listed}: lists no picture that has an XML file")
    return chosen


def _listed_stem(line: str, known: dict[str, Path]) -> str:
    """Return the name without its ending that a list's line means.

    The lists of one class add 1 or -1 to the name; other tools write paths of the two files.
    """
    first = line.split()[0].replace("\\", "/").rpartition("/")[2]
    whole = line.replace("\\", "/").rpartition("/")[2]  # a name may have spaces
    for name in (line, whole, whole.rpartition(".")[0], first, first.rpartition(".")[0]):
        if name in known:
            return name
    return first


def _read_file(
    path: Path,
    root: Root,
    pictures: Pictures,
    image_id: int,
    names: tuple[str, ...],
    collector: Collector,
) -> list[ImageRecord]:
    """Return the one record of the file, or none when it is reported."""
    if isinstance(root, AnnotationError):
        with collector.reporting(Place(str(path)), 0):
            raise root
        return []
    entries = root.findall("object")
    collector.total += len(entries)
    with collector.reporting(Place(str(path), root.line), len(entries)):
        image = _read_picture(root, path, pictures, image_id, collector)
        objects = []
        for entry in entries:
            place = Place(str(path), entry.line)
            with collector.reporting(place):
                objects.append(_read_object(entry, image, names, place, collector))
        return [replace(image, objects=tuple(objects))]
    return []


def _read_picture(
    root: Element, path: Path, pictures: Pictures, image_id: int, collector: Collector
) -> ImageRecord:
    if root.tag != "annotation":
        raise AnnotationError(f"the root is {shown(root.tag)}, not 'annotation'")
    size = [side(text_of(root.find(f"size/{name}"))) for name in ("width", "height")]
    image_path = _image_path(root, path, pictures, collector)
    width, height = collector.picture_size(image_path, *size)
    return ImageRecord(image_path, width, height, image_id)


def _image_path(root: Element, path: Path, pictures: Pictures, collector: Collector) -> Path:
    """Find the picture by the XML file's own name first: <filename> is often out of date."""
    folder, here = pictures.folder, path.parent
    inside = here.relative_to(folder).parts[1:]  # Annotations/train belongs to JPEGImages/train
    places = [folder.joinpath(name, *inside) for name in IMAGE_FOLDERS]
    places += [here, *(here.parent / name for name in IMAGE_FOLDERS), here.parent, folder]
    places += [folder / name for name in IMAGE_FOLDERS]
    names = [name for key in ("filename", "path") if (name := text_of(root.find(key)))]
    found = pictures.with_stem(path.stem, places, names[0] if names else "")
    if found is not None:
        return found
    for name in names:
        try:
            found = pictures.find(name, places, lambda _: None)
        except AnnotationError as error:
            if "may be" in str(error):
                raise
        else:
            collector.mend("picture found by <filename> or <path>, as its XML has another name")
            return found
    looked = ", ".join(str(place) for place in places[:2])
    raise AnnotationError(f"the image {path.stem}.jpg (or .png ...) does not exist in {looked}")


def _read_object(
    entry: Element, image: ImageRecord, names: tuple[str, ...], place: Place, collector: Collector
) -> ObjectRecord:
    name = text_of(entry.find("name"))
    if name not in names:
        raise AnnotationError(f"class {shown(name)} is unknown; allowed are {', '.join(names)}")
    if entry.find("robndbox") is not None:
        raise AnnotationError(
            "a rotated box (<robndbox>, of roLabelImg): draw it upright, as a <bndbox>"
        )
    if entry.find("bndbox") is None:
        raise AnnotationError("the object has no box: <bndbox> is missing")
    corners = [number_in(entry, f"bndbox/{corner}") for corner in CORNERS]
    box = check_box(ordered(corners, collector.mend), image.width, image.height)
    area = (box[2] - box[0]) * (box[3] - box[1])
    return ObjectRecord(names.index(name) + 1, box, area, place)
