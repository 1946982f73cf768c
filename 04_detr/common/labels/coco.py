"""Reader of COCO's instance annotations (Lin et al. 2014): one JSON file for all pictures.

Category numbers may have gaps and categories may be unused: all of them keep a label, sorted by
number, so that two files of one dataset (train, validation) agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from common.findings import Place
from common.labels.coco_entries import EntryLines, check_coco, load_json, value
from common.labels.masks import check_segmentation, mask_area, mask_box
from common.labels.pictures import IMAGE_FOLDERS, Pictures, is_file, leaves_folder, name_parts
from common.labels.records import (
    AnnotationSet,
    Collector,
    ImageRecord,
    ObjectRecord,
    ReadOptions,
)
from common.labels.values import (
    LARGEST_ID,
    AnnotationError,
    check_box,
    check_class_names,
    flag,
    number,
    ordered,
    shown,
    side,
    whole_number,
)

NAMES_TRIED = 5


def read_coco(
    json_path: str | Path,
    options: ReadOptions | None = None,
    *,
    images: str | Path | None = None,
    home: Path | None = None,
    content: Any = None,
) -> AnnotationSet:
    """Read a COCO JSON file with "images", "annotations" and "categories".

    Args:
        json_path: the file.
        options: how to read it; of `class_names`, annotations of other categories are reported.
        images: folder that the `file_name`s start from; by default the folders usually used
            beside the JSON file are tried.
        home: folder in which pictures are looked for that are not there; by default that of the
            JSON file.
        content: of the file, where it was parsed before.

    Raises:
        AnnotationError: the file is no COCO JSON, or it has problems and is to be refused.
    """
    json_path = Path(json_path)
    collector = Collector.start(json_path, options or ReadOptions())
    data = check_coco(load_json(json_path) if content is None else content, json_path)
    used = {_key(one.get("category_id")) for one in data["annotations"] if isinstance(one, dict)}
    names = _Categories(data["categories"], json_path, used, collector)
    names.choose(collector.options.class_names)
    reader = _Reader(json_path, names, collector)
    folder = None if images is None else Path(images)
    reader.read_images(data["images"], folder, home or folder or json_path.parent)
    reader.read_objects(data["annotations"])
    if collector.problems:
        lines = EntryLines(json_path)
        collector.problems = [
            replace(one, place=replace(one.place, line=lines.of(one.place.entry)))
            for one in collector.problems
        ]
    return collector.finish(reader.records(), names.names, names.ids)


def _key(category_id: Any) -> int | None:
    try:
        return whole_number(category_id, "category_id", -LARGEST_ID)
    except AnnotationError:
        return None


def _image_key(image_id: Any) -> int | str | None:
    """Return a picture's number, or the text that is its id; None for what is neither."""
    known = _key(image_id)
    return image_id.strip() or None if known is None and isinstance(image_id, str) else known


def _known_key(image_id: Any, name: str) -> int | str:
    known = _image_key(image_id)
    return whole_number(image_id, name, -LARGEST_ID) if known is None else known


class _Categories:
    """The categories: `names` and `ids` in the order of the labels, `label_of` by number.

    A category that has the name of another one is the same class, and one that no annotation uses
    beside it is none: some tools write the project's name, or each class twice.
    """

    def __init__(
        self, entries: list[Any], json_path: Path, used: set[int | None], collector: Collector
    ) -> None:
        self.path = json_path
        name_of: dict[int, Any] = {}
        for index, entry in enumerate(entries):
            try:
                category_id = whole_number(value(entry, "id"), "id", -LARGEST_ID)
                name = value(entry, "name")
                if isinstance(name, int) and not isinstance(name, bool):
                    name = str(name)
                if category_id in name_of and name_of[category_id] != name:
                    raise AnnotationError(f"id {category_id} appears twice")
                if category_id in name_of:
                    collector.mend("category that stands twice")
                name_of[category_id] = name
            except AnnotationError as error:
                raise AnnotationError(f"{json_path}: categories[{index}]: {error}") from error
        self.same: dict[int, int] = {}
        first: dict[Any, int] = {}
        # A class's number is the first that annotations use.
        for category_id in sorted(name_of, key=lambda one: (one not in used, one)):
            name = name_of[category_id]
            stripped = name.strip() if isinstance(name, str) else category_id
            if stripped in first:
                collector.mend(f"categories of one name, {shown(stripped)}, taken as one class")
            self.same[category_id] = first.setdefault(stripped, category_id)
        self.ids = tuple(sorted(first.values()))
        self.names = check_class_names([name_of[one] for one in self.ids], json_path)
        self.label_of: dict[int, int | None] = {}

    def choose(self, wanted: Sequence[str] | None) -> None:
        """Keep the categories of these names alone, in their order; all for None."""
        if wanted is not None:
            unknown = [name for name in wanted if name not in self.names]
            if unknown:
                raise AnnotationError(
                    f"{self.path}: no category is named {unknown}; it has {self.names}"
                )
            self.ids = tuple(self.ids[self.names.index(name)] for name in wanted)
            self.names = check_class_names(wanted, "class_names")
        labels = {category_id: label for label, category_id in enumerate(self.ids, start=1)}
        self.label_of = {key: labels.get(same) for key, same in self.same.items()}

    def label(self, category_id: Any) -> int:
        """Return the label of an annotation's category."""
        known = whole_number(category_id, "category_id", -LARGEST_ID)
        if known not in self.label_of:
            raise AnnotationError(f"category_id {known} is not among the categories")
        label = self.label_of[known]
        if label is None:
            raise AnnotationError(f"category_id {known} is not among the wanted class names")
        return label


class _Reader:
    """Read the pictures, then the objects of a file."""

    def __init__(self, json_path: Path, names: _Categories, collector: Collector) -> None:
        self.path, self.names, self.collector = json_path, names, collector
        self.images: dict[int | str, ImageRecord] = {}
        self.objects: dict[int | str, list[ObjectRecord]] = {}

    def records(self) -> list[ImageRecord]:
        """Return the pictures with their objects."""
        return [
            replace(image, objects=tuple(self.objects[key])) for key, image in self.images.items()
        ]

    def read_images(self, entries: list[Any], folder: Path | None, home: Path) -> None:
        """Read the list "images"."""
        place = folder or _image_folder(self.path, entries)
        pictures = Pictures(home)
        fits: dict[Any, dict[str, Any]] = {}
        for one in entries:
            if isinstance(one, dict):
                fits.setdefault(_image_key(one.get("id")), one)
        free = max([key for key in fits if isinstance(key, int)], default=0)
        for index, entry in enumerate(self.collector.track(entries)):
            with self.collector.reporting(_place(self.path, "images", index, entry), 0):
                image_id = _known_key(value(entry, "id"), "id")
                name = value(entry, "file_name")
                if image_id in self.images:
                    if name == value(fits[image_id], "file_name"):
                        self.collector.mend("picture that stands twice")
                        continue
                    raise AnnotationError(f"id {image_id} appears twice")
                number_ = image_id
                if isinstance(image_id, str):
                    number_ = free = free + 1
                    self.collector.mend("picture numbered anew, as its id is a name")
                elif isinstance(entry["id"], str):
                    self.collector.mend("numbers written as text")
                name_parts(name)
                path = pictures.find(name, [place], self.collector.mend)
                size = side(entry.get("width")), side(entry.get("height"))
                width, height = self.collector.picture_size(path, *size)
                self.images[image_id] = ImageRecord(path, width, height, number_)
                self.objects[image_id] = []

    def read_objects(self, entries: list[Any]) -> None:
        """Read the list "annotations"."""
        self.collector.total = len(entries)
        seen: set[Any] = set()
        for index, entry in enumerate(entries):
            place = _place(self.path, "annotations", index, entry)
            with self.collector.reporting(place):
                image_id = _known_key(value(entry, "image_id"), "image_id")
                if image_id not in self.images:
                    known = shown(image_id)
                    raise AnnotationError(f"image_id {known} is no usable image of this file")
                one = self._object(entry, self.images[image_id], place)
                self.objects[image_id].append(one)
                self._count_mends(entry, seen)

    def _count_mends(self, entry: dict[str, Any], seen: set[Any]) -> None:
        number_ = _image_key(entry.get("id"))
        if number_ is None or number_ in seen:
            self.collector.mend("annotations numbered anew, as an id is missing or stands twice")
        else:
            seen.add(number_)
        written = [entry.get("category_id"), *(entry.get("bbox") or ())]
        if not isinstance(_image_key(entry.get("image_id")), str):
            written += [entry.get("image_id"), entry.get("id")]
        if any(isinstance(one, str) for one in written):
            self.collector.mend("numbers written as text")

    def _object(self, entry: dict[str, Any], image: ImageRecord, place: Place) -> ObjectRecord:
        label = self.names.label(value(entry, "category_id"))
        iscrowd = flag(entry.get("iscrowd"), "iscrowd")
        if isinstance(entry.get("iscrowd"), str | bool):
            self.collector.mend("iscrowd written as text, true or false")
        segmentation = self._segmentation(entry, image)
        box = self._box(entry, segmentation, image)
        area = entry.get("area")
        real = 0.0 if area is None or area == "" else number(area, "area")
        if real <= 0:
            real = (box[2] - box[0]) * (box[3] - box[1])
            if segmentation is not None:
                real = float(mask_area(segmentation, image.width, image.height))
            self.collector.mend("area computed, as none above 0 is given")
        return ObjectRecord(label, box, real, place, segmentation, iscrowd)

    def _segmentation(self, entry: dict[str, Any], image: ImageRecord) -> Any:
        outline = entry.get("segmentation")
        if isinstance(outline, list):
            outline = [one for one in outline if one != []]
        if isinstance(outline, list) and outline and not isinstance(outline[0], list | dict):
            outline = [outline]
            self.collector.mend("flat list of corners taken as one polygon")
        try:
            return check_segmentation(outline, image.width, image.height)
        except AnnotationError:
            if self.collector.options.masks:
                raise
            self.collector.mend("outline that cannot be drawn left out, its box kept")
            return None

    def _box(
        self, entry: dict[str, Any], segmentation: Any, image: ImageRecord
    ) -> tuple[float, float, float, float]:
        bbox = entry.get("bbox")
        if bbox in (None, [], [0, 0, 0, 0]) and segmentation is not None:
            self.collector.mend("box taken from the outline")
            return check_box(mask_box(segmentation, image.width, image.height),
                             image.width, image.height)  # fmt: skip
        bbox = value(entry, "bbox")
        if not isinstance(bbox, list) or len(bbox) != 4:
            raise AnnotationError(f"bbox is {shown(bbox)}, not [x, y, width, height]")
        x, y, width, height = (number(one, "bbox value") for one in bbox)
        more = entry.get("attributes")
        turn = more.get("rotation") if isinstance(more, dict) else None
        if turn not in (None, "") and segmentation is None and number(turn, "rotation"):
            raise AnnotationError(f"a rotated box (rotation {shown(turn)}): draw it upright")
        edges = ordered((x, y, x + width, y + height), self.collector.mend)
        return check_box(edges, image.width, image.height)


def _image_folder(json_path: Path, entries: list[Any]) -> Path:
    """Guess where the pictures lie: the first usual folder that has one of the first few."""
    here, above = json_path.parent, json_path.parent.parent
    split = json_path.stem.removeprefix("instances_")
    folders = [here, *(here / name for name in IMAGE_FOLDERS)]
    folders += [here / split, here / "images" / split]
    folders += [above / "images" / split, above / split, above / "images", above]
    for folder in folders:
        for entry in entries[:NAMES_TRIED]:
            try:
                name = value(entry, "file_name")
                parts = name_parts(name)
            except AnnotationError:  # reported with its index when its turn comes
                continue
            if not leaves_folder(name) and is_file(folder.joinpath(*parts)):
                return folder
    return here


def _place(json_path: Path, key: str, index: int, entry: Any) -> Place:
    known = f" (id {shown(entry['id'])})" if isinstance(entry, dict) and "id" in entry else ""
    return Place(str(json_path), None, f"{key}[{index}]{known}")
