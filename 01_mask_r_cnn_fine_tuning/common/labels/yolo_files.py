"""YOLO's two descriptions of a dataset: a YAML file, and Darknet's .data file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.findings import DataError
from common.labels.layout import Layout
from common.labels.pictures import pictures_in
from common.labels.records import AnnotationSet, ReadOptions
from common.labels.values import AnnotationError, shown, whole_number
from common.labels.yolo import read_yolo_data
from common.labels.yolo_folders import (
    YoloData,
    YoloList,
    below,
    find_names,
    find_yolo_folders,
    label_places,
    listed_pictures,
    read_name_list,
)
from common.text_files import read_lines, read_yaml

YAML_SUFFIXES = (".yaml", ".yml")
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


def find_yolo_data(path: Path) -> YoloData | None:
    """Return what is known of a YOLO dataset; None where there is none.

    Raises:
        DataError: the YAML or .data file cannot be used.
    """
    if path.is_file():
        return _from_file(path)
    for data_file in sorted(path.glob("*.data")):
        return from_data_file(data_file, path)
    lists = find_yolo_folders(path)
    yaml_file = _yaml_of(path)
    if yaml_file is not None:
        described = from_yaml(yaml_file, path, lists)
        if described.lists:
            return described
    if not lists:
        return None
    folders = [folder for one in lists.values() for folder in one.label_folders]
    return YoloData(path, lists, find_names([path, *folders, *(one.parent for one in folders)]))


def _from_file(path: Path) -> YoloData | None:
    if path.suffix.lower() == ".data":
        return from_data_file(path, path.parent)
    if path.suffix.lower() not in YAML_SUFFIXES:
        return None
    return from_yaml(path, path.parent, find_yolo_folders(path.parent))


def _yaml_of(folder: Path) -> Path | None:
    """Return the YAML file of a folder, or the one beside the folder that speaks of it."""
    for path in sorted(p for p in folder.glob("*") if p.suffix.lower() in YAML_SUFFIXES):
        if "names" in _yaml_or_nothing(path):
            return path
    above = folder.absolute().parent
    for path in sorted(p for p in above.glob("*") if p.suffix.lower() in YAML_SUFFIXES):
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
        base = [one for one in (below(root, [folder.parent, path.parent], True),) if one] + base
    said: dict[str | None, YoloList] = {}
    for key in LIST_KEYS:
        entries = content.get(key)
        wanted = entries if isinstance(entries, list) else [entries] * (entries is not None)
        found = [_list(str(one), base, path) for one in wanted]
        if None in found:
            missing = wanted[found.index(None)]
            notes.append(f"{path}: {key}: {shown(missing)} is not there")
        good = [one for one in found if one is not None]
        if good:
            said[key] = YoloList(
                tuple(p for one in good for p in one.pictures),
                tuple(f for one in good for f in one.label_folders),
            )
    if len({one.pictures for one in said.values()}) < len(said):
        said = {}  # as in the small examples of 8 or 128 photos of COCO
        notes.append(f"{path}: two of its lists are the same pictures; they are divided anew")
    kept = said or lists
    places = [one.parent for part in kept.values() for one in part.label_folders]
    names = names or find_names([folder, path.parent, *places])
    return YoloData(folder, kept, names, "kpt_shape" in content, notes)


def _list(name: str, base: list[Path], path: Path) -> YoloList | None:
    """Return the pictures that a YAML's train or val means: of a folder, or of a list file."""
    listed = below(name, base)
    if listed is not None:
        return YoloList(listed_pictures(listed, base[0]))
    folder = below(name.replace("../", ""), base, folder=True)
    if folder is None:
        return None
    if (folder / "images").is_dir():
        folder = folder / "images"
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
    for number, line in read_lines(path):
        key, equals, value = line.partition("=")
        if not equals and not line.startswith("#"):
            raise AnnotationError(f"{path}:{number}: {shown(line)} is not `key = value`")
        content[key.strip()] = value.strip()
    names = None
    if "names" in content:
        listed = below(content["names"], [path.parent, folder])
        if listed is None:
            raise AnnotationError(f"{path}: names: {content['names']} is not there")
        names = read_name_list(listed)
    lists: dict[str | None, YoloList] = {}
    notes = []
    for key in LIST_KEYS:
        if key not in content:
            continue
        listed = below(content[key], [path.parent, folder])
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
