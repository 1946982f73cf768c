"""Files that name the pictures of a list, one a line, such as Pascal VOC's train.txt."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from common.findings import Findings, Place, Problem
from common.masks.table_files import TABLE_NAMES, read_text
from common.parts import NAMES
from common.photos import PHOTO_SUFFIXES

SPLIT_NAMES = tuple(name for names in NAMES.values() for name in names)
TWICE_MEND = "picture that a list names twice"


def find_list_files(folders: Sequence[Path], folder: Path) -> dict[str, Path]:
    """Return the text files that name the pictures of each list.

    Args:
        folders: made for such files, the first that has some counts.
        folder: the data's own, where other texts may lie: the usual names count only.
    """
    for place in (*folders, folder):
        files = {
            path.stem: path
            for path in sorted(place.iterdir())
            if path.suffix.lower() == ".txt" and path.name.lower() not in TABLE_NAMES
        }
        if place == folder:
            files = {name: path for name, path in files.items() if name.lower() in SPLIT_NAMES}
        if files:
            return files
    return {}


def read_list(path: Path) -> list[tuple[int, tuple[str, ...]]]:
    """Return the number of each line that is not empty, and the stems that it may mean.

    A line is the name of a picture, with or without its suffix and folders. What may follow after
    a space, such as the name of its mask, is not needed.

    Raises:
        DataError: the file cannot be read.
    """
    lines = [line.strip() for line in read_text(path).splitlines()]
    return [
        (number, (_stem(line), _stem(line.split()[0])))
        for number, line in enumerate(lines, 1)
        if line
    ]


def chosen_pictures(path: Path, pictures: Sequence[Path], findings: Findings) -> set[Path]:
    """Return the pictures that a list names; a name without a picture becomes a problem.

    Raises:
        DataError: the list cannot be read.
    """
    by_stem = {one.stem: one for one in pictures}
    chosen: set[Path] = set()
    for number, stems in read_list(path):
        picture = next((by_stem[stem] for stem in stems if stem in by_stem), None)
        if picture is None:
            message = f"there is no picture {stems[-1]!r} in {pictures[0].parent}"
            findings.problems.append(Problem(Place(str(path), number), message))
        elif picture in chosen:
            findings.mend(TWICE_MEND)
        else:
            chosen.add(picture)
    return chosen


def _stem(text: str) -> str:
    path = PurePosixPath(text.replace("\\", "/"))
    return path.stem if path.suffix.lower() in PHOTO_SUFFIXES else path.name
