"""Where YOLO's pictures, label files and class list are.

    images/x.jpg, labels/x.txt              with classes.txt or data.yaml; or side by side
    images/train/x.jpg, labels/train/x.txt  or train/images, train/labels; or train/x.jpg, x.txt
A label file lies beside its picture, or where `labels` stands in place of `images`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from common.labels.layout import folders_in, list_name
from common.labels.pictures import is_dir, is_file, is_picture, pictures_in
from common.labels.values import AnnotationError
from common.text_files import read_lines

NAME_FILES = (
    "classes.txt", "*.names", "_darknet.labels", "labels.txt", "names.txt", "class.txt",
    "class_names.txt", "predefined_classes.txt",
)  # fmt: skip
IMAGE_WORDS = ("images", "image", "imgs", "img", "jpegimages")
LABEL_WORDS = ("labels", "label")
# Text files that labelling and training tools leave beside the labels.
NOT_LABELS = (
    "classes", "labels", "names", "class", "class_names", "predefined_classes", "readme", "notes",
    "train", "val", "valid", "test", "license",
)  # fmt: skip


@dataclass(frozen=True)
class YoloList:
    """The pictures of one list, sorted, and the folders whose label files are all theirs."""

    pictures: tuple[Path, ...]
    label_folders: tuple[Path, ...] = ()

    def label_of(self, picture: Path) -> Path | None:
        """Return a picture's label file; None where there is none."""
        for place in label_places(picture):
            for suffix in (".txt", ".TXT", ".Txt"):
                if is_file(place.with_name(f"{picture.stem}{suffix}")):
                    return place.with_name(f"{picture.stem}{suffix}")
        return None

    def label_files(self) -> Iterator[Path]:
        """Go through the text files of the label folders that hold labels."""
        for folder in self.label_folders:
            for path in sorted(folder.rglob("*")):
                hidden = any(one.startswith(".") for one in path.relative_to(folder).parts)
                if path.suffix.lower() == ".txt" and not is_side_file(path) and not hidden:
                    yield path


@dataclass(frozen=True)
class YoloData:
    """A dataset: its lists (under None all of it), the class names by number, and more.

    `own_names` are those of lists that have a class list of their own, where the data has none.
    `keypoints` is True where a YAML says that lines have key points (`kpt_shape`, `task: pose`),
    False where it says that they are outlines (`task: segment`), and None where it says nothing.
    """

    folder: Path
    lists: dict[str | None, YoloList]
    names: dict[int, str] | None
    keypoints: bool | None = None
    notes: list[str] = field(default_factory=list)
    own_names: dict[str | None, dict[int, str]] = field(default_factory=dict)

    def choose(self, split: str | None) -> YoloList:
        """Return one list; for None everything.

        Raises:
            AnnotationError: there is no such list, or it has no picture.
        """
        if split in self.lists:
            chosen = self.lists[split]
        elif split is None:
            chosen = YoloList(
                tuple(sorted({p for one in self.lists.values() for p in one.pictures})),
                tuple(folder for one in self.lists.values() for folder in one.label_folders),
            )
        else:
            known = ", ".join(name for name in self.lists if name) or "none"
            raise AnnotationError(f"{self.folder}: there is no list {split!r}; there are: {known}")
        if not chosen.pictures:
            why = "".join(f"\n  {note}" for note in self.notes)
            raise AnnotationError(
                f"{self.folder}: its list {split or 'of all'} has no picture: are they beside the "
                f"labels, in images/?{why}"
            )
        return chosen


def is_side_file(path: Path) -> bool:
    """Tell whether a text file is one that tools leave beside labels: classes.txt, train.txt ..."""
    return path.stem.lower() in NOT_LABELS or "readme" in path.stem.lower()


def label_places(picture: Path) -> list[Path]:
    """Return where the label file of a picture may lie, as paths with the picture's name."""
    places = [picture]
    parts = picture.parts
    for index in range(len(parts) - 2, -1, -1):
        if parts[index].lower() in IMAGE_WORDS:
            for word in ("label", "Labels", "labels"):
                places.insert(0, Path(*parts[:index], word, *parts[index + 1 :]))
            break
    return places


def find_yolo_folders(folder: Path) -> dict[str | None, YoloList]:
    """Return the lists of a folder in one of the usual layouts; empty where there is none."""
    pair = pair_in(folder)
    if pair is not None:
        return _inside(*pair)
    found: dict[str | None, YoloList] = {}
    for part in folders_in(folder)[1:]:
        pair = pair_in(part)
        if pair is not None:
            found |= {part.name: _whole(*pair)}
        elif list_name([part.name]) and _side_by_side(part):
            found[part.name] = _whole(part, part)
    if not found and _side_by_side(folder):
        found = {None: _whole(folder, folder)}
    return found


def pair_in(folder: Path) -> tuple[Path, Path] | None:
    """Return the folders images and labels of a folder, however they are written; None: none."""
    inside = folders_in(folder)[1:]
    images = [one for word in IMAGE_WORDS for one in inside if one.name.lower() == word]
    labels = [one for word in LABEL_WORDS for one in inside if one.name.lower() == word]
    return (images[0], labels[0]) if images and labels else None


def note_bare_folders(folder: Path) -> list[str]:
    """Say which folders of pictures have no folder of labels, and so are left out."""
    pair = pair_in(folder)
    if pair is None:
        return []
    images, labels = pair
    pairs = [(one, labels / one.name) for one in folders_in(images)[1:]]
    if not any(one.is_dir() for _, one in pairs):
        return []
    return [f"{one}: left out, as there is no {two}" for one, two in pairs if not two.is_dir()]


def _inside(images: Path, labels: Path) -> dict[str | None, YoloList]:
    """Return images/ with labels/, and as lists the folders that both of them have."""
    names = [one.name for one in folders_in(images)[1:] if (labels / one.name).is_dir()]
    lists: dict[str | None, YoloList] = {None: _whole(images, labels)}
    return lists | {name: _whole(images / name, labels / name) for name in names}


def _whole(images: Path, labels: Path) -> YoloList:
    return YoloList(tuple(pictures_in(images, deep=images.name != labels.name)), (labels,))


def _side_by_side(folder: Path) -> bool:
    stems = {path.stem for path in pictures_in(folder)}
    texts = [path for path in folder.glob("*") if path.suffix.lower() == ".txt"]
    return any(path.stem in stems for path in texts if not is_side_file(path))


def find_names(places: Sequence[Path]) -> dict[int, str] | None:
    """Read the first class list of some folders: one name a line; None where there is none.

    Raises:
        DataError: it cannot be read.
    """
    for place in dict.fromkeys(places):
        for pattern in NAME_FILES:
            for path in sorted(place.glob(pattern)):
                names = read_name_list(path)
                if names:
                    return names
    return None


def read_name_list(path: Path) -> dict[int, str]:
    """Return the class names of a text file, one a line, by their number from 0.

    Raises:
        DataError: it cannot be read, or has an empty line between names, which moves the numbers.
    """
    lines = read_lines(path)
    for index, (number, _) in enumerate(lines):
        if number != index + 1:
            raise AnnotationError(
                f"{path}:{index + 1}: an empty line between class names: delete it, or write the "
                "missing name"
            )
    return dict(enumerate(line for _, line in lines))


def listed_pictures(path: Path, base: Path) -> tuple[Path, ...]:
    """Return the pictures that a list file names, one a line, in its order and each once.

    Paths start from the list's own folder or the data's; of a path of another machine, the end
    that is below the data's folder counts.

    Raises:
        DataError: the list cannot be read, or a picture is not there; with its line.
    """
    found = {}
    for number, line in read_lines(path):
        picture = below(line, (path.parent, base))
        if picture is None or not is_picture(picture):
            raise AnnotationError(f"{path}:{number}: {base} has no picture {line}")
        found[picture] = None
    return tuple(found)


def below(name: str, places: Sequence[Path], folder: bool = False) -> Path | None:
    """Return the file, or folder, that a path means: as written, or its longest end that exists.

    Args:
        name: a path as some machine wrote it.
        places: folders that it, or its end, may start from.
        folder: look for a folder.
    """
    plain = name.replace("\\", "/")
    parts = [part for part in plain.split("/") if part not in ("", ".")]
    ends = [parts[start:] for start in range(len(parts)) if ".." not in parts[start:]]
    tried = [Path(os.path.normpath(place / plain)) for place in places]  # also an absolute path
    tried += [place.joinpath(*end) for end in ends for place in places]
    return next((one for one in tried if (is_dir(one) if folder else is_file(one))), None)
