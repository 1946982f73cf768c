"""Say what is missing in a folder that no layout fits, and what it may be instead."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from common.masks.pairs import pictures_in
from common.photos import PHOTO_SUFFIXES

LAYOUTS = """known are:
  images/x.jpg with masks/x.png, also x_mask.png or mask_x.png; JPEGImages, imgs, image ... and
    labels, mask, SegmentationClass ... are known names as well
  the same two folders inside train/, val/ and test/, or train/, val/ and test/ inside the two
  train/x.png with trainannot/x.png or train_labels/x.png, as CamVid has it
  JPEGImages, SegmentationClass and ImageSets/Segmentation/train.txt, as Pascal VOC has it
  x.jpg and x_mask.png in one folder, or in train/, valid/ and test/, as Roboflow has it
  x/images/x.png with x/masks/*.png, one file an object"""
HEAD_BYTES = 65_536  # of a JSON file that is looked into
FILES_SEEN = 20  # of each kind
NAMES_SHOWN = 4
YOLO_LINE = re.compile(r"\d+(\.\d*)?(\s+-?[\d.]+(e-?\d+)?){4,}\s*")


def no_layout(folder: Path, image_names: Sequence[str], mask_names: Sequence[str]) -> str:
    """Say what a folder lacks to be a folder of pictures and masks.

    Args:
        folder: it exists.
        image_names, mask_names: what the two folders may be called.
    """
    places = [folder, *sorted(p for p in folder.iterdir() if p.is_dir() and p.name[0] != ".")]
    names = {name.lower() for name in (*image_names, *mask_names)}
    place = next((one for one in places if _has(one, image_names) or _has(one, mask_names)), folder)
    empty = [p for p in _named(place, names) if not pictures_in(p)]
    if _has(place, image_names) and _has(place, mask_names) and empty:
        text = f"{empty[0]} holds no picture ({', '.join(sorted(PHOTO_SUFFIXES))})"
    else:
        lacking = mask_names if _has(place, image_names) else image_names
        shown = [*lacking[:NAMES_SHOWN], *(["..."] if len(lacking) > NAMES_SHOWN else [])]
        text = f"{place} has no folder {' or '.join(shown)}"
    kind = detection_data(folder)
    if kind is not None:
        return f"{text}. This is detection data, boxes or polygons without masks: {kind}"
    return f"{text}; {LAYOUTS}"


def detection_data(folder: Path) -> str | None:
    """Name the format of boxes or polygons that a folder holds, and a file of it, or None."""
    for path in _files(folder, ".json"):
        head = _head(path)
        if '"annotations"' in head and '"images"' in head or '"categories"' in head:
            return f"COCO JSON ({path})"
        if '"shapes"' in head:
            return f"labelme JSON ({path})"
    for path in _files(folder, ".xml"):
        if "<annotation" in (head := _head(path)) and "<bndbox" in head:
            return f"Pascal VOC XML ({path})"
    for path in _files(folder, ".txt"):
        lines = [line for line in _head(path).splitlines() if line.strip()]
        if lines and all(YOLO_LINE.fullmatch(line.strip()) for line in lines[:FILES_SEEN]):
            return f"YOLO text files ({path})"
    return None


def _has(folder: Path, names: Sequence[str]) -> bool:
    return bool(_named(folder, {name.lower() for name in names}))


def _named(folder: Path, names: set[str]) -> list[Path]:
    return sorted(one for one in folder.iterdir() if one.is_dir() and one.name.lower() in names)


def _files(folder: Path, suffix: str) -> Iterator[Path]:
    """Yield the first files with a suffix in a folder and in those two levels below."""
    for pattern in ("*", "*/*", "*/*/*"):
        found = sorted(one for one in folder.glob(pattern) if one.suffix.lower() == suffix)
        yield from (one for one in found[:FILES_SEEN] if one.is_file())


def _head(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(HEAD_BYTES).decode("utf-8", errors="replace")
