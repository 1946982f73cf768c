"""YOLO's two descriptions of a dataset: a YAML file, and Darknet's .data file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.findings import DataError
from common.labels.layout import Layout, files_in, folders_in, list_name
from common.labels.pictures import is_file, is_picture, pictures_in
from common.labels.records import AnnotationSet, ReadOptions
from common.labels.values import AnnotationError, shown, whole_number
from common.labels.yolo import begins_with_object, read_yolo_data
from common.labels.yolo_folders import (
    YoloData,
    YoloList,
    below,
    find_names,
    find_yolo_folders,
    label_places,
    listed_pictures,
    note_bare_folders,
    pair_in,
    read_name_list,
)
from common.text_files import read_lines, read_yaml

YAML_SUFFIXES = (".yaml", ".yml")
FIRST_LINES = 3
FIRST_PICTURES = 20  # of each list, whose label files are tried
LIST_KEYS = ("train", "val", "valid", "test")


def find_yolo(path: Path) -> Layout | None:
    """Recognise a YOLO dataset: its folder, its YAML file or its .data file; None for others.

    Raises:
        DataError: the YAML or .data file cannot be used.
    """
    data = find_yolo_data(path)
    if data is None:
        return None

    def read(split: str | None, options: ReadOptions) -> AnnotationSet:
        return read_yolo_data(data, options, split)

    return Layout("YOLO", tuple(sorted(name for name in data.lists if name)), read)


def has_yolo(folder: Path) -> bool:
    """Tell whether a folder holds label files of YOLO: its first pictures are tried.

    Raises:
        DataError: see `find_yolo`.
    """
    data = find_yolo_data(folder)
    lists = [] if data is None else data.lists.values()
    labels = [one.label_of(picture) for one in lists for picture in one.pictures[:FIRST_PICTURES]]
    return any(begins_with_object(path) for path in labels if path is not None)


def find_yolo_data(path: Path) -> YoloData | None:
    """Return what is known of a YOLO dataset; None where there is none.

    Raises:
        DataError: the YAML or .data file cannot be used.
    """
    if path.is_file():
        return _from_file(path)
    data_file = _data_file_of(path)
    if data_file is not None:
        return from_data_file(data_file, path)
    lists = find_yolo_folders(path)
    yaml_file = _yaml_of(path)
    if yaml_file is not None:
        described = from_yaml(yaml_file, path, lists)
        if described.lists:
            return described
    listed, notes = _text_lists(path)
    lists = listed or lists
    only = next(iter(lists), None)
    if len(lists) == 1 and only is not None and list_name([only]) is None:
        return find_yolo_data(path / only)  # the folder of an archive
    if not lists:
        return None
    names = find_names([path])
    own = {name: find_names(_name_places(path, one)) for name, one in lists.items()}
    known = {name: one for name, one in own.items() if one is not None}
    first = names or next(iter(known.values()), None)
    notes += [] if listed else note_bare_folders(path)
    return YoloData(path, lists, first, notes=notes, own_names={} if names else known)


def _text_lists(folder: Path) -> tuple[dict[str | None, YoloList], list[str]]:
    """Return the lists train.txt, val.txt ... of a folder, and notes; none where they are others.

    Raises:
        DataError: a picture that they name is not there.
    """
    found: dict[str | None, YoloList] = {}
    for key in LIST_KEYS:
        path = folder / f"{key}.txt"
        lines = read_lines(path) if is_file(path) else []
        if lines and all(is_picture(Path(line)) for _, line in lines[:FIRST_LINES]):
            found[key] = YoloList(listed_pictures(path, folder))
    return _distinct(found, str(folder)) if "train" in found else ({}, [])


def _distinct(
    lists: dict[str | None, YoloList], source: str
) -> tuple[dict[str | None, YoloList], list[str]]:
    """Return the lists without those that are the pictures of another one, and notes."""
    first: dict[frozenset[Path], str | None] = {}
    kept, notes = {}, []
    for key, one in lists.items():
        same = first.setdefault(frozenset(one.pictures), key)
        if same == key:
            kept[key] = one
        else:  # as in the small examples of 8 or 128 photos of COCO
            notes.append(f"{source}: {key} is the same pictures as {same}: they are divided anew")
    return kept, notes


def _data_file_of(folder: Path) -> Path | None:
    """Return Darknet's .data file of a folder, or of a folder inside it, such as data or cfg.

    Raises:
        AnnotationError: there are several.
    """
    for places in ([folder], folders_in(folder)[1:]):
        found = [path for one in places for path in sorted(one.glob("*.data")) if _is_data(path)]
        if len(found) > 1:
            both = " or ".join(str(one) for one in found[:2])
            raise AnnotationError(f"{folder}: choose one .data file with its path: {both}")
        if found:
            return found[0]
    return None


def _is_data(path: Path) -> bool:
    """Tell whether a file names lists, as Darknet's do; a damaged one is said when it is read."""
    try:
        lines = read_lines(path)
    except DataError:
        return True
    return any(line.partition("=")[0].strip() in ("train", "names", "valid") for _, line in lines)


def _name_places(path: Path, one: YoloList) -> list[Path]:
    """Return where the class list of a list of pictures may be."""
    folders = [*one.label_folders, *(folder.parent for folder in one.label_folders)]
    places = label_places(one.pictures[0]) if one.pictures else []
    return [*folders, *(place.parent for place in places if path in place.parents)]


def _from_file(path: Path) -> YoloData | None:
    if path.suffix.lower() == ".data":
        return from_data_file(path, path.parent)
    if path.suffix.lower() not in YAML_SUFFIXES:
        return None
    return from_yaml(path, path.parent, find_yolo_folders(path.parent))


def _yaml_of(folder: Path) -> Path | None:
    """Return the YAML file of a folder, or the one beside the folder that speaks of it."""
    files = files_in(folder, *YAML_SUFFIXES)
    known = {p: content for p in files if "names" in (content := _yaml_or_nothing(p))}
    usual = [path for path in known if path.stem in ("data", "dataset")]
    if len(known) > 1 and not usual and len({str(one) for one in known.values()}) > 1:
        both = " or ".join(str(one) for one in list(known)[:2])
        raise AnnotationError(f"{folder}: choose one YAML file with its path: {both}")
    if known:
        return (usual or list(known))[0]
    above = folder.absolute().parent
    for path in files_in(above, *YAML_SUFFIXES):
        content = _yaml_or_nothing(path)
        spoken = [content.get("path"), *(content.get(key) for key in LIST_KEYS)]
        words = [word for one in spoken if isinstance(one, str) for word in Path(one).parts]
        if "names" in content and folder.absolute().name in words:
            return path
    return None


def _yaml_or_nothing(path: Path) -> Mapping[str, Any]:
    """Return a YAML file's content; of a damaged one, something that is said when it is read."""
    try:
        return read_yaml(path)
    except DataError:
        return {"names": None} if path.stem in ("data", "dataset") else {}


def from_yaml(path: Path, folder: Path, lists: dict[str | None, YoloList]) -> YoloData:
    """Read a YAML description.

    Args:
        path: the file.
        folder: of the data.
        lists: those that the folders themselves show, for what the YAML does not say.

    Raises:
        DataError: it cannot be used.
    """
    content = read_yaml(path)
    notes: list[str] = []
    names = _names(content.get("names"), path)
    if names is not None and content.get("nc") not in (None, len(names), str(len(names))):
        notes.append(f"{path}: nc is {content['nc']}, but {len(names)} classes are named")
    base = [folder, path.parent]
    root = content.get("path")
    if isinstance(root, str):
        starts = [path.parent, path.parent.parent, folder.parent]
        base = [one for one in (below(root, starts, True),) if one] + base
    said: dict[str | None, YoloList] = {}
    for key in LIST_KEYS:
        entries = content.get(key)
        wanted = entries if isinstance(entries, list) else [entries] * (entries is not None)
        found = [_list(str(one), base, path) for one in wanted]
        if None in found:
            missing = wanted[found.index(None)]
            notes.append(f"{path}: {key}: {shown(missing)} is not there")
        good = [one for one in found if one is not None]
        if not good:
            continue
        pictures = tuple(dict.fromkeys(p for one in good for p in one.pictures))
        said[key] = YoloList(pictures, tuple(f for one in good for f in one.label_folders))
    said, same = _distinct(said, str(path))
    notes += same
    kept = said or lists
    places = [one.parent for part in kept.values() for one in part.label_folders]
    names = names or find_names([folder, path.parent, *places])
    tasks = {"pose": True, "segment": False, "obb": False}
    keypoints = True if content.get("kpt_shape") else tasks.get(str(content.get("task")))
    return YoloData(folder, kept, names, keypoints, notes)


def _list(name: str, base: list[Path], path: Path) -> YoloList | None:
    """Return the pictures that a YAML's train or val means: of a folder, or of a list file."""
    listed = below(name, base)
    if listed is not None:
        return YoloList(listed_pictures(listed, base[0]))
    folder = below(name.replace("../", ""), base, folder=True)
    if folder is None:
        return None
    pair = pair_in(folder)
    folder = pair[0] if pair else folder / "images" if (folder / "images").is_dir() else folder
    pictures = tuple(pictures_in(folder, deep=True))
    labels = [one.parent for one in label_places(folder / "x") if one.parent != folder]
    return YoloList(pictures, tuple(one for one in labels if one.is_dir())) if pictures else None


def _names(names: Any, path: Path) -> dict[int, str] | None:
    """Return the class names by number, from a list or from numbers with names.

    Raises:
        AnnotationError: they are neither.
    """
    if names is None:
        return None
    if isinstance(names, list):
        return {index: _name(name, path) for index, name in enumerate(names)}
    if isinstance(names, dict):
        pairs = [(whole_number(key, f"{path}: names", 0), name) for key, name in names.items()]
        return {key: _name(name, path) for key, name in sorted(pairs)}
    raise AnnotationError(f"{path}: names is {shown(names)}, not a list of class names")


def _name(name: Any, path: Path) -> str:
    """Return a class name; YAML reads a bare 7 as a number and a bare no as false."""
    if isinstance(name, bool):
        raise AnnotationError(f"{path}: YAML reads a name as {name}: put it in quotes")
    if not isinstance(name, str | int | float):
        raise AnnotationError(f"{path}: the class name {shown(name)} is no text")
    return str(name)


def from_data_file(path: Path, folder: Path) -> YoloData:
    """Read Darknet's .data file: lines such as `train = data/train.txt`.

    Raises:
        DataError: it cannot be used.
    """
    content = {}
    places = [path.parent, folder, path.parent.parent]  # Darknet runs in the folder above data
    for number, line in read_lines(path):
        key, equals, value = line.partition("=")
        if not equals and not line.startswith("#"):
            raise AnnotationError(f"{path}:{number}: {shown(line)} is not `key = value`")
        content[key.strip()] = value.strip()
    names = None
    if "names" in content:
        listed = below(content["names"], places)
        if listed is None:
            raise AnnotationError(f"{path}: names: {content['names']} is not there")
        names = read_name_list(listed)
    lists: dict[str | None, YoloList] = {}
    notes = []
    for key in LIST_KEYS:
        if key not in content:
            continue
        listed = below(content[key], places)
        if listed is not None:
            lists[key] = YoloList(listed_pictures(listed, folder))
        else:
            notes.append(f"{path}: {key}: {content[key]} is not there")
    if not lists:
        raise AnnotationError(f"{path}: it names no list of pictures that is there: train = ...")
    known = names or find_names([folder])
    count = content.get("classes", "")
    if known and count.isdecimal() and int(count) != len(known):
        notes.append(f"{path}: classes is {count}, but {len(known)} are named")
    return YoloData(folder, lists, known, notes=notes)
