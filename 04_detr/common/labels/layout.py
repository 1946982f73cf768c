"""What is known about a folder of labelled pictures before its labels are read."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from common.labels.records import AnnotationSet, ReadOptions
from common.parts import NAMES

LIST_NAMES = tuple(name for names in NAMES.values() for name in names)
PASSED_OVER = ("__MACOSX", "__pycache__")


@dataclass(frozen=True)
class Layout:
    """The format of a folder, and how to read it.

    Attributes:
        format: its name, such as "Pascal VOC".
        lists: the names of the lists (train, val, ...) that the data is divided into, sorted.
        read: reads one of the lists; None stands for everything.
        notes: about the folder as a whole.
    """

    format: str
    lists: tuple[str, ...]
    read: Callable[[str | None, ReadOptions], AnnotationSet]
    notes: tuple[str, ...] = ()


def folders_in(folder: Path, levels: int = 1) -> list[Path]:
    """Return the folder and the folders inside it, down to a number of levels, sorted."""
    found, last = [folder], [folder]
    for _ in range(levels):
        last = [parent / name for parent in last for name in _folder_names(parent)]
        found += last
    return found


def files_in(folder: Path, *suffixes: str) -> list[Path]:
    """Return a folder's files with one of the endings, in small letters, sorted; no hidden ones."""
    found = (one for one in folder.glob("*") if one.suffix.lower() in suffixes)
    return sorted(one for one in found if not one.name.startswith("."))


def _folder_names(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        names = [one.name for one in entries if one.is_dir()]
    return sorted(one for one in names if not one.startswith(".") and one not in PASSED_OVER)


def list_name(words: Iterable[str]) -> str | None:
    """Return the first of some words that is a usual name of a list, as it is written."""
    return next((word for word in words if word.lower() in LIST_NAMES), None)
