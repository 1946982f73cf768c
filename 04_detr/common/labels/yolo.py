"""Reader of YOLO's text files: a file per picture, one line `class cx cy w h` per object.

Classes count from 0, in the order of the class list; here they become labels from 1. The centre
and the size are fractions of the picture. A line with more numbers is a polygon, `class x1 y1 x2
y2 x3 y3 ...`, or a box with key points after it, `class cx cy w h x1 y1 (v1) ...`, whose box is
taken. A picture without a text file, or with an empty one, has no objects.

Where the pictures and the class list are is found in `common/labels/yolo_files.py`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from common.findings import DataError, Place
from common.labels.masks import check_segmentation, mask_area
from common.labels.other_formats import name_other_format
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
    shown,
    whole_number,
)
from common.labels.yolo_folders import YoloData, YoloList
from common.labels.yolo_points import have_keypoints
from common.photos import check_photo
from common.text_files import read_lines

Line = tuple[int, str]
Text = tuple[Path | None, list[Line] | DataError]  # a label file, and its full lines


def read_yolo_data(data: YoloData, options: ReadOptions, split: str | None) -> AnnotationSet:
    """Read the pictures of a YOLO dataset with their text files.

    Args:
        data: what `common.labels.yolo_files` has found.
        options: how to read it; `class_names` stand for those of classes.txt, data.yaml ...
        split: one of the data's own lists; None reads everything.

    Returns:
        The set; pictures are numbered from 1 in the order of their paths.

    Raises:
        AnnotationError: there is nothing to read, or there are problems and they are refused.
    """
    collector = Collector.start(data.folder, options)
    collector.notes += data.notes
    chosen = data.choose(split)
    names = data.own_names.get(split, data.names)
    if options.class_names is not None:
        names = dict(enumerate(options.class_names))
    if names is None:
        raise AnnotationError(_no_names(data, chosen))
    class_names = check_class_names(list(names.values()), data.folder)
    numbers = list(names)
    texts = _read_texts(chosen, collector)
    keypoints = data.keypoints
    if keypoints is None:
        keypoints = have_keypoints(
            (path, lines) for path, lines in texts.values() if isinstance(lines, list)
        )
    meaning = _Meaning(numbers, keypoints)
    owners = Counter(path for path, _ in texts.values() if path is not None)
    images: list[ImageRecord] = []
    done: set[Path] = set()
    for image_id, picture in enumerate(collector.track(chosen.pictures), start=1):
        path, lines = texts[picture]
        if path is not None and owners[path] > 1:
            _report_shared(path, lines, collector, done)
            continue
        images += _read_picture(picture, image_id, path, lines, meaning, collector)
    _report_left(chosen, texts, collector)
    bare = sum(path is None for path, _ in texts.values())
    if bare:
        collector.notes.append(f"{bare} of {len(texts)} pictures have no label file: no objects")
    return collector.finish(images, class_names, numbers)


def begins_with_object(path: Path) -> bool:
    """Tell whether a text file's first full line is a class and four numbers or more."""
    lines = _lines(path)
    if isinstance(lines, DataError) or not lines:
        return False
    words = lines[0][1].replace(",", " ").split()
    try:
        return len([number(word, "value") for word in words]) >= 5
    except AnnotationError:
        return False


def _no_names(data: YoloData, chosen: YoloList) -> str:
    """Say that there is no class list, or that the text files are of another format."""
    first = next((one for p in chosen.pictures if (one := chosen.label_of(p))), None)
    other = None if first is None else name_other_format(first)
    return other or (
        f"{data.folder}: no class list; add classes.txt with one class name a line, "
        "in the order of the numbers in the label files"
    )


def _read_texts(chosen: YoloList, collector: Collector) -> dict[Path, Text]:
    """Return each picture's label file with its full lines, or why they cannot be read."""
    texts: dict[Path, Text] = {}
    for picture in chosen.pictures:
        path = chosen.label_of(picture)
        texts[picture] = path, [] if path is None else _lines(path)
        if path is not None and path.suffix != ".txt":
            collector.mend("label file that ends in " + path.suffix)
    return texts


def _lines(path: Path) -> list[Line] | DataError:
    try:
        return read_lines(path)
    except DataError as error:  # reported when its picture's turn comes
        return error


def _report_shared(
    path: Path, lines: list[Line] | DataError, collector: Collector, done: set[Path]
) -> None:
    """Report, once, a label file that can be of two pictures."""
    if path in done:
        return
    done.add(path)
    count = 0 if isinstance(lines, DataError) else len(lines)
    collector.total += count
    with collector.reporting(Place(str(path)), count):
        raise AnnotationError("two pictures have this name, with two endings: rename one")


def _report_left(chosen: YoloList, texts: dict[Path, Text], collector: Collector) -> None:
    """Report label files that belong to no picture."""
    used = {path for path, _ in texts.values()}
    for path in chosen.label_files():
        if path not in used:
            lines = _lines(path)
            count = 0 if isinstance(lines, DataError) else len(lines)
            collector.total += count
            with collector.reporting(Place(str(path)), count):
                raise AnnotationError("there is no image of this name")


def _read_picture(
    picture: Path,
    image_id: int,
    label_path: Path | None,
    lines: Sequence[Line] | DataError,
    meaning: _Meaning,
    collector: Collector,
) -> list[ImageRecord]:
    """Return the one record of the picture, or none when it is reported."""
    if isinstance(lines, DataError):
        with collector.reporting(Place(str(label_path)), 0):
            raise lines
        return []
    collector.total += len(lines)
    with collector.reporting(Place(str(picture)), len(lines)):
        width, height = check_photo(picture, decode=collector.options.decode)
        objects = []
        for line_number, line in lines:
            place = Place(str(label_path), line_number)
            with collector.reporting(place):
                objects.append(meaning.read(line, width, height, place, collector))
        return [ImageRecord(picture, width, height, image_id, tuple(objects))]
    return []


@dataclass(frozen=True)
class _Meaning:
    """What the numbers of a line mean: the class numbers, and whether key points follow a box."""

    numbers: Sequence[int]
    keypoints: bool

    def read(
        self, line: str, width: int, height: int, place: Place, collector: Collector
    ) -> ObjectRecord:
        """Return the object of a line."""
        words = _words(line, collector)
        polygon = len(words) >= 7 and len(words) % 2 == 1 and not self.keypoints
        if len(words) != 5 and not polygon and not (self.keypoints and len(words) > 5):
            why = "; a confidence is of detections, not of labels" if len(words) == 6 else ""
            raise AnnotationError(
                f"{len(words)} values in {shown(line)}; allowed is: class cx cy w h{why}"
            )
        label = self.numbers.index(self._class(words[0], collector)) + 1
        values = [number(word, "value") for word in words[1:]]
        if any(abs(one) > 2 for one in (values if polygon else values[:4])):
            raise AnnotationError(f"{shown(line)} is not in fractions of the image, 0 to 1")
        if polygon:
            return _read_polygon(values, label, width, height, place, collector)
        if len(words) > 5:
            collector.mend("box taken from a line with key points")
        cx, cy, w, h = values[:4]
        edges = ((cx - w / 2) * width, (cy - h / 2) * height)
        edges += ((cx + w / 2) * width, (cy + h / 2) * height)
        box = check_box(edges, width, height)
        return ObjectRecord(label, box, (box[2] - box[0]) * (box[3] - box[1]), place)

    def _class(self, word: str, collector: Collector) -> int:
        highest = max(self.numbers)
        try:
            known = whole_number(word, "class", 0, highest)
        except AnnotationError as error:
            raise AnnotationError(f"class {shown(word)}; allowed is 0 to {highest}") from error
        if known not in self.numbers:
            raise AnnotationError(f"class {shown(word)} has no name in the class list")
        if not re.fullmatch(r"\d+", word, re.ASCII):
            collector.mend("class number written with a point")
        return known


def _words(line: str, collector: Collector) -> list[str]:
    parts = line.split()
    if "." not in line and len(parts) > 4 and all(one.count(",") == 1 for one in parts[1:]):
        collector.mend("commas in place of decimal points")
        return [one.replace(",", ".") for one in parts]
    if "," in line or ";" in line:
        collector.mend("commas between the numbers of a line")
    return re.split(r"[,;\s]+", line.strip(" ,;\t"))


def _read_polygon(
    values: Sequence[float],
    label: int,
    width: int,
    height: int,
    place: Place,
    collector: Collector,
) -> ObjectRecord:
    xs, ys = [x * width for x in values[0::2]], [y * height for y in values[1::2]]
    box = check_box((min(xs), min(ys), max(xs), max(ys)), width, height)
    corners = [value for corner in zip(xs, ys, strict=True) for value in corner]
    try:
        polygon = check_segmentation([corners], width, height)
    except AnnotationError:
        if collector.options.masks:
            raise
        collector.mend("outline that cannot be drawn left out, its box kept")
        return ObjectRecord(label, box, (box[2] - box[0]) * (box[3] - box[1]), place)
    return ObjectRecord(label, box, float(mask_area(polygon, width, height)), place, polygon)
