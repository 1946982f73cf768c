"""Read the labels of your own pictures, whatever tool wrote them.

COCO's JSON, Pascal VOC's XML, YOLO's text files, and Penn-Fudan's masks.

`read_annotations(path)` recognises the format and returns one plain `AnnotationSet`. The readers
are in `common/labels/coco.py`, `common/labels/voc.py` and `common/labels/yolo.py`, the records in
`common/labels/records.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from common.labels.coco import read_coco
from common.labels.pedestrians import has_pedestrians, read_pedestrians
from common.labels.records import AnnotationError, AnnotationSet, ImageRecord, ObjectRecord, Problem
from common.labels.voc import LIST_FOLDERS, find_xml, read_voc
from common.labels.yolo import read_yolo
from common.photos import PHOTO_SUFFIXES

__all__ = [
    "AnnotationError",
    "AnnotationSet",
    "ImageRecord",
    "ObjectRecord",
    "Problem",
    "list_splits",
    "read_annotations",
    "read_coco",
    "read_voc",
    "read_yolo",
]

COCO_FILES = ("annotations.json", "_annotations.coco.json")


def read_annotations(
    path: str | Path,
    *,
    split: str | None = None,
    class_names: Sequence[str] | None = None,
    on_invalid: str = "refuse",
) -> AnnotationSet:
    """Read a COCO JSON file, or a folder in the layout of COCO, Pascal VOC or YOLO.

    Args:
        path: a .json file, or a folder with annotations.json, annotations/instances_<split>.json,
            Annotations/*.xml, or images/ and labels/ (or label files beside the pictures).
        split: one of `list_splits(path)`, for a folder that is divided into parts.
        class_names: the classes in the order of their labels, where the file's are not wanted.
        on_invalid: "refuse" to raise on any problem, "drop" to leave the annotation out and
            list it in the result's `problems`.

    Raises:
        AnnotationError: no known format, or annotations that a detector cannot be trained on;
            the first ten are listed with file and line.
    """
    path = Path(path)
    if not path.exists():
        raise AnnotationError(f"{path} does not exist")
    if path.is_file():
        if path.suffix.lower() != ".json":
            raise AnnotationError(f"{path} is no folder and no .json file")
        return read_coco(path, class_names=class_names, on_invalid=on_invalid)
    json_path = _coco_file(path, split)
    if json_path is not None:
        return read_coco(json_path, class_names=class_names, on_invalid=on_invalid)
    if find_xml(path):
        return read_voc(path, split=split, class_names=class_names, on_invalid=on_invalid)
    if split is not None and find_xml(path / split):
        return read_voc(path / split, class_names=class_names, on_invalid=on_invalid)
    if has_pedestrians(path):
        return read_pedestrians(path, on_invalid)
    if _looks_like_yolo(path):
        return read_yolo(path, split=split, class_names=class_names, on_invalid=on_invalid)
    raise AnnotationError(_unknown_format(path, split))


def list_splits(path: str | Path) -> tuple[str, ...]:
    """List the parts (train, val, ...) that a folder says it is divided into, sorted."""
    path = Path(path)
    splits = {one.stem.removeprefix("instances_") for one in _instance_files(path)}
    splits |= {one.parent.name for name in COCO_FILES for one in path.glob(f"*/{name}")}
    splits |= {one.stem for one in (path / LIST_FOLDERS[0]).glob("*.txt")}
    splits |= {one.name for one in (path / "labels").glob("*") if one.is_dir()}
    splits |= {one.parent.name for one in path.glob("*/labels") if one.is_dir()}
    return tuple(sorted(splits))


def _instance_files(folder: Path) -> list[Path]:
    return sorted((folder / "annotations").glob("instances_*.json"))


def _coco_file(folder: Path, split: str | None) -> Path | None:
    if split is not None:
        candidates = [folder / "annotations" / f"instances_{split}.json"]
        candidates += [folder / split / name for name in COCO_FILES]
        return next((one for one in candidates if one.is_file()), None)
    candidates = [folder / name for name in COCO_FILES] + _instance_files(folder)
    found = [one for one in candidates if one.is_file()]
    if len(found) > 1 and found[0].parent != folder:
        raise AnnotationError(f"{folder}: choose one split of {', '.join(list_splits(folder))}")
    return found[0] if found else None


def _looks_like_yolo(folder: Path) -> bool:
    if (folder / "labels").is_dir() or any(one.is_dir() for one in folder.glob("*/labels")):
        return True
    pictures = {p.stem for p in folder.glob("*") if p.suffix.lower() in PHOTO_SUFFIXES}
    return any(path.stem in pictures for path in folder.glob("*.txt"))


def _unknown_format(folder: Path, split: str | None) -> str:
    splits = list_splits(folder)
    if split is not None or splits:
        known = ", ".join(splits) or "none"
        return f"{folder}: nothing to read for split {split!r}; its splits are: {known}"
    return (
        f"{folder} is no dataset in a known format: a COCO annotations.json, Pascal VOC's "
        "Annotations/*.xml, or YOLO's images/ and labels/ with a classes.txt"
    )
