"""Where COCO's JSON files lie in a folder, and which list each of them is.

annotations.json, _annotations.coco.json, result.json or any other name
annotations/instances_train.json, annotations/instances_val.json
train.json, val.json, or annotations/train.json ...
train/_annotations.coco.json, valid/_annotations.coco.json
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.labels.coco import read_coco
from common.labels.coco_entries import KEYS, OtherJsonError, head_of, load_json
from common.labels.layout import Layout, files_in, folders_in, list_name
from common.labels.other_formats import name_other_format
from common.labels.pictures import home_of
from common.labels.records import AnnotationSet, ReadOptions
from common.labels.values import AnnotationError

USUAL = ("annotations.json", "_annotations.coco.json")


@dataclass
class _CocoFile:
    """A file, and its content where it took that to recognise it."""

    path: Path
    content: Any = None

    def take_content(self) -> Any:
        """Return the content and let go of it, as it may fill the memory; None: not parsed."""
        content, self.content = self.content, None
        return content


def find_coco(path: Path) -> Layout | None:
    """Recognise a COCO file, or a folder with such files; None for others.

    Raises:
        AnnotationError: it is unclear which of several files is meant.
    """
    if path.is_file():
        return _layout({None: _CocoFile(path)}, path) if path.suffix.lower() == ".json" else None
    files = _files_in(path)
    if not files:
        return None
    twice = next((found for found in files.values() if len(found) > 1), None)
    if twice is not None:
        both = " or ".join(str(one.path) for one in twice[:2])
        raise AnnotationError(f"{path} has several COCO files, choose one with its path: {both}")
    named = {name: found[0] for name, found in files.items()}
    only = next(iter(named))
    if len(named) == 1 and (only is None or list_name([only]) is None):
        return _layout({None: named[only]}, path)
    return _layout(named, path)


def has_coco(folder: Path) -> bool:
    """Tell whether a folder holds a COCO file."""
    return bool(_files_in(folder))


def _files_in(folder: Path) -> dict[str | None, list[_CocoFile]]:
    """Return a folder's COCO files by the lists that they are; one of a usual name is all of it."""
    whole = next((folder / name for name in USUAL if (folder / name).is_file()), None)
    if whole is not None:
        return {None: [_CocoFile(whole)]}
    files: dict[str | None, list[_CocoFile]] = {}
    for place in _places(folder):
        found = files_in(place, ".json")
        instances = [one for one in found if one.name.startswith("instances_")]
        for path in instances or found:  # beside them lie key points and captions
            file = _recognised(path)
            if file is not None:
                files.setdefault(_list_of(path, folder), []).append(file)
    return files


def _layout(files: Mapping[str | None, _CocoFile], folder: Path) -> Layout:
    lists = tuple(sorted(name for name in files if name is not None))

    def read(split: str | None, options: ReadOptions) -> AnnotationSet:
        if split is None and None not in files:
            paths = " or ".join(str(one.path) for one in list(files.values())[:3])
            raise AnnotationError(
                f"{folder} has several COCO files, choose one with its path: {paths}; or their "
                f"parts, such as --train-split {lists[0]} --test-split {lists[-1]}"
            )
        if split is not None and split not in files:
            raise AnnotationError(
                f"{folder}: nothing to read for split {split!r}; its splits are: "
                f"{', '.join(lists) or 'none'}"
            )
        home = folder if folder.is_dir() else home_of(folder)
        file = files[split]
        try:
            return read_coco(file.path, options, home=home, content=file.take_content())
        except OtherJsonError as error:
            other = name_other_format(file.path)
            if other is None:
                raise
            raise AnnotationError(other) from error

    return Layout("COCO", lists, read)


def _places(folder: Path) -> list[Path]:
    """Return the folders in which files are looked for: not those of labelme's many files."""
    return [one for one in folders_in(folder) if sum(1 for _ in one.glob("*.json")) < 20]


def _list_of(file: Path, folder: Path) -> str:
    """Return the name of the list that a file is: of its folder, or in its own name."""
    inside = file.relative_to(folder).parts[:-1]
    if file.name in USUAL and inside:
        return inside[0]
    stem = file.stem.removeprefix("instances_")
    words = [stem, *re.split(r"[_\-. ]", stem)]
    return list_name(words) or list_name(inside) or stem


def _recognised(path: Path) -> _CocoFile | None:
    """Return a JSON file that is COCO's, by its name or the keys of its top level; else None."""
    if path.name in USUAL or path.name.startswith("instances_"):
        return _CocoFile(path)
    head = head_of(path)
    if not head.lstrip().startswith("{"):
        return None
    try:
        content = load_json(path)
    except AnnotationError:  # a damaged file is said when nothing better is found
        return _CocoFile(path) if any(f'"{key}"' in head for key in KEYS) else None
    known = isinstance(content, dict) and all(isinstance(content.get(key), list) for key in KEYS)
    return _CocoFile(path, content) if known else None
