"""Reader of YOLO folders: a text file per picture, one line `class cx cy w h` per object.

Classes count from 0, in the order of the class list; here they become labels from 1. The centre
and the size are fractions of the picture. A line with more numbers, `class x1 y1 x2 y2 x3 y3 ...`,
is a polygon. A picture without a text file, or with an empty one, has no objects.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from common.labels.masks import check_segmentation, mask_area
from common.labels.records import (
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

CLASS_FILES = ("classes.txt", "*.names", "data.yaml", "*.yaml", "*.yml")
# Text files that labelling and training tools leave beside the labels.
NOT_LABELS = ("classes.txt", "train.txt", "val.txt", "valid.txt", "test.txt", "readme.txt")
CLASS_NUMBER = re.compile(r"\d{1,9}", re.ASCII)


def read_yolo(
    folder: str | Path,
    *,
    split: str | None = None,
    class_names: Sequence[str] | None = None,
    on_invalid: str = "refuse",
) -> AnnotationSet:
    """Read pictures with YOLO text files: `images/` with `labels/`, or both side by side.

    Args:
        folder: the dataset's folder, which also holds the class list.
        split: read `images/<split>` with `labels/<split>`, or `<split>/images` with
            `<split>/labels`.
        class_names: the classes in order; by default from classes.txt, *.names or data.yaml.
        on_invalid: "refuse" to raise on any problem, "drop" to leave the annotation out.

    Returns:
        The set; pictures are numbered from 1 in the order of their paths.

    Raises:
        AnnotationError: there is nothing to read, or there are problems and they are refused.
    """
    folder = Path(folder)
    collector = Collector(folder, on_invalid)
    image_folder, label_folder = find_folders(folder, split)
    if class_names is None:
        class_names = find_class_names(folder, label_folder)
    names = check_class_names(class_names, folder)
    pictures = [p for p in sorted(image_folder.rglob("*")) if p.suffix.lower() in PHOTO_SUFFIXES]
    left = {p for p in label_folder.rglob("*.txt") if p.name.lower() not in NOT_LABELS}
    images: list[ImageRecord] = []
    for image_id, picture in enumerate(pictures, start=1):
        label_path = label_folder / picture.relative_to(image_folder).with_suffix(".txt")
        lines = _lines(label_path, collector) if label_path in left else []
        left.discard(label_path)
        images += _read_picture(picture, image_id, label_path, lines, names, collector)
    for path in sorted(left):
        lines = _lines(path, collector)
        collector.total += len(lines)
        with collector.reporting(str(path), len(lines)):
            raise AnnotationError(f"there is no image of this name in {image_folder}")
    return collector.finish(images, names, range(len(names)))


def find_folders(folder: Path, split: str | None) -> tuple[Path, Path]:
    """Return the folders of the pictures and of the label files.

    Raises:
        AnnotationError: none of the usual layouts is there.
    """
    if split is None:
        layouts = [(folder / "images", folder / "labels"), (folder, folder)]
    else:
        layouts = [(folder / "images" / split, folder / "labels" / split)]
        layouts += [(folder / split / "images", folder / split / "labels")]
        layouts += [(folder / split, folder / split)]
    for images, labels in layouts:
        if images.is_dir() and labels.is_dir():
            return images, labels
    tried = " or ".join(f"{images} with {labels}" for images, labels in layouts)
    raise AnnotationError(f"{folder}: no YOLO folder, looked for {tried}")


def find_class_names(folder: Path, label_folder: Path) -> list[str]:
    """Read the class list: one name a line, or the `names:` of a YAML file.

    Raises:
        AnnotationError: there is none, or it cannot be read.
    """
    for place in dict.fromkeys((folder, label_folder)):
        for pattern in CLASS_FILES:
            for path in sorted(place.glob(pattern)):
                names = _names_in(path)
                if names:
                    return names
    raise AnnotationError(
        f"{folder}: no class list; add classes.txt with one class name a line, "
        "in the order of the numbers in the label files, or pass class_names"
    )


def _names_in(path: Path) -> list[str]:
    try:
        lines = [line.rstrip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise AnnotationError(f"{path}: the class list cannot be read: {error}") from error
    if path.suffix not in (".yaml", ".yml"):
        return [line.strip() for line in lines if line.strip()]
    start = next((i for i, line in enumerate(lines) if line.startswith("names:")), None)
    if start is None:
        return []
    inline = lines[start].removeprefix("names:").strip()
    return _flow_list(inline) if inline else _block_list(lines[start + 1 :])


def _flow_list(text: str) -> list[str]:
    """Split `['a', 'b']` or `{0: a, 1: b}`; names with a comma need a classes.txt."""
    items = text.partition("#")[0].strip().strip("[]{}").split(",")
    return [re.sub(r"^\s*\d+\s*:\s*", "", item).strip().strip("'\"") for item in items]


def _block_list(lines: Sequence[str]) -> list[str]:
    names = []
    for line in lines:
        match = re.fullmatch(r"\s*(?:-|\d+:)\s+(.*)", line)
        if match is None:
            break
        names.append(match[1].strip().strip("'\""))
    return names


def _lines(path: Path, collector: Collector) -> list[tuple[int, str]]:
    """Return the number and the text of every line that is not empty."""
    try:
        raw = path.read_bytes().removeprefix(b"\xef\xbb\xbf").splitlines()
    except OSError as error:
        with collector.reporting(str(path), 0):
            raise AnnotationError(f"cannot be read: {error.strerror}") from error
        return []
    text = [line.decode("utf-8", "replace") for line in raw]
    return [(index, line) for index, line in enumerate(text, start=1) if line.strip()]


def _read_picture(
    picture: Path,
    image_id: int,
    label_path: Path,
    lines: Sequence[tuple[int, str]],
    names: tuple[str, ...],
    collector: Collector,
) -> list[ImageRecord]:
    """Return the one record of the picture, or none when it is reported."""
    collector.total += len(lines)
    with collector.reporting(str(picture), len(lines)):
        width, height = photo_size(picture)
        objects = []
        for line_number, line in lines:
            source = f"{label_path}:{line_number}"
            with collector.reporting(source):
                objects.append(_read_line(line, width, height, names, source))
        return [ImageRecord(picture, width, height, image_id, tuple(objects))]
    return []


def _read_line(
    line: str, width: int, height: int, names: tuple[str, ...], source: str
) -> ObjectRecord:
    words = line.split()
    if len(words) != 5 and (len(words) < 7 or len(words) % 2 == 0):
        raise AnnotationError(f"{len(words)} values in {shown(line)}; allowed is: class cx cy w h")
    if not CLASS_NUMBER.fullmatch(words[0]) or int(words[0]) >= len(names):
        raise AnnotationError(f"class {shown(words[0])}; allowed is 0 to {len(names) - 1}")
    values = [number(word, "value") for word in words[1:]]
    if any(abs(value) > 2 for value in values):
        raise AnnotationError(f"{shown(line)} is not in fractions of the image, 0 to 1")
    label = int(words[0]) + 1
    if len(words) == 5:
        cx, cy, w, h = values
        edges = ((cx - w / 2) * width, (cy - h / 2) * height)
        edges += ((cx + w / 2) * width, (cy + h / 2) * height)
        box = check_box(edges, width, height)
        return ObjectRecord(label, box, (box[2] - box[0]) * (box[3] - box[1]), source)
    xs, ys = [x * width for x in values[0::2]], [y * height for y in values[1::2]]
    box = check_box((min(xs), min(ys), max(xs), max(ys)), width, height)
    corners = [value for corner in zip(xs, ys, strict=True) for value in corner]
    polygon = check_segmentation([corners], width, height)
    return ObjectRecord(label, box, float(mask_area(polygon, width, height)), source, polygon)
