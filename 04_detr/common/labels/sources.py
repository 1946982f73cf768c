"""The labelled pictures of a training by name: drawn street scenes, Penn-Fudan, or your own.

This is the one reader of the detection lessons. It gives three parts, see `common/parts.py`, each
an `AnnotationSet` whose every label has passed the checks of `common/labels/values.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from common.findings import Problem, refusal, report_lines
from common.labels.layout import Layout
from common.labels.pedestrians import find_pedestrians
from common.labels.read import find_layout, note_others, read_layout
from common.labels.records import AnnotationSet, ReadOptions
from common.labels.values import AnnotationError
from common.parts import PartsError, read_parts
from common.penn_fudan import fetch_penn_fudan
from common.street.parts import NUM_TEST_SCENES, NUM_VALIDATION_SCENES, STREET_FOLDER, draw_part

TINY = 2.0  # pixels: boxes that all lie in this corner are fractions of the picture


@dataclass(frozen=True)
class LabelledParts:
    """The labels to learn from, to choose by, and to report on; `report` says what was read."""

    train: AnnotationSet
    validation: AnnotationSet
    test: AnnotationSet
    report: str

    @property
    def class_names(self) -> tuple[str, ...]:
        """Name the labels 1, 2, ..."""
        return self.train.class_names


def load_labels(
    data: str,
    *,
    masks: bool = False,
    seed: int = 0,
    num_scenes: int = 400,
    on_invalid: str = "refuse",
    train_split: str | None = None,
    validation_split: str | None = None,
    test_split: str | None = None,
    street_folder: Path = STREET_FOLDER,
    progress: bool = True,
) -> LabelledParts:
    """Read the labels of a training.

    Args:
        data: `street` (drawn the first time), `penn_fudan` (downloaded the first time), or a
            folder or file that `common.labels.read.find_layout` understands.
        masks: every object needs a mask; of Penn-Fudan's layout, and so of the street, the masks
            of the pedestrians are read then.
        seed: chooses the parts of data without lists of its own.
        num_scenes: how many street scenes to train on.
        on_invalid: "refuse" labels that cannot be used, or "drop" and report them.
        train_split, validation_split, test_split: the data's own lists to use; by default those
            with usual names.
        street_folder: where the drawn scenes are kept.
        progress: show a progress bar on stderr.

    Raises:
        AnnotationError: the data cannot be trained on; names file and line.
        PennFudanError: the download fails.
    """
    options = ReadOptions(on_invalid, masks, progress=progress)
    if data == "street":
        return _street(street_folder, num_scenes, options)
    path = fetch_penn_fudan() if data == "penn_fudan" else Path(data)
    if not path.exists():
        raise AnnotationError(
            f"data {data!r}: allowed are street, penn_fudan or a path that exists"
        )
    layout = layout_for(path, masks)
    asked = {"train": train_split, "validation": validation_split, "test": test_split}
    try:
        parts, read = read_parts(
            layout.lists, lambda name: read_list(layout, name, options),
            AnnotationSet.part, seed, asked,
        )  # fmt: skip
    except PartsError as error:
        raise AnnotationError(f"{path}: {error}") from error
    return _checked(parts, read, layout.notes)


def layout_for(path: Path, masks: bool) -> Layout:
    """Return the format of a path; with `masks`, Penn-Fudan's comes first.

    Raises:
        AnnotationError: see `common.labels.read.find_layout`.
    """
    found = find_pedestrians(path) if masks else None
    return find_layout(path) if found is None else note_others(found, path)


def read_list(layout: Layout, name: str | None, options: ReadOptions) -> AnnotationSet:
    """Read one list of data, and make sure that its objects have masks, if masks count.

    Raises:
        AnnotationError: see `common.labels.read.read_annotations`; or an object has no mask, or
            there is hardly anything but crowd regions.
    """
    read = read_layout(layout, name, options)
    if read.crowd and not read.kept:
        raise AnnotationError(
            f"{read.source}: all {read.crowd} objects are crowd regions (iscrowd 1), which are not "
            "learned. Where each is one object, write 0 for iscrowd; CVAT does so for polygons"
        )
    check_scale(read)
    if read.crowd > read.kept:
        note = f"{read.crowd} of {read.crowd + read.kept} objects are crowd regions: not learned"
        read = replace(read, notes=(*read.notes, note))
    return with_masks(read, options.on_invalid) if options.masks else read


def with_masks(read: AnnotationSet, on_invalid: str) -> AnnotationSet:
    """Return the set without objects that have no mask.

    Raises:
        AnnotationError: there are such objects and they are refused, or no other is left.
    """
    message = "the object has no outline: --task boxes does without"
    bare = [
        Problem(one.source, message)
        for image in read.images
        for one in image.objects
        if one.segmentation is None
    ]
    if bare and (on_invalid == "refuse" or len(bare) == read.kept + read.crowd):
        raise AnnotationError(refusal(read.source, bare, f"in {read.total} annotations"))
    images = [
        replace(image, objects=tuple(o for o in image.objects if o.segmentation is not None))
        for image in read.images
    ]
    return replace(read, images=tuple(images), problems=(*read.problems, *bare))


def check_scale(read: AnnotationSet) -> None:
    """Refuse boxes that are fractions of the picture, written where pixels are meant.

    Raises:
        AnnotationError: all boxes lie in the first two pixels.
    """
    boxes = [one.box_xyxy for image in read.images for one in image.objects]
    sides = [side for image in read.images for side in (image.width, image.height)]
    if boxes and min(sides) > 10 * TINY and all(max(box) <= TINY for box in boxes):
        raise AnnotationError(
            f"{read.source}: all {len(boxes)} boxes lie in the first {TINY:.0f} pixels: they seem "
            "to be fractions of the picture; multiply them by its width and height"
        )


def _street(folder: Path, num_scenes: int, options: ReadOptions) -> LabelledParts:
    counts = {"train": num_scenes, "validation": NUM_VALIDATION_SCENES, "test": NUM_TEST_SCENES}
    parts = {}
    for name, count in counts.items():
        scenes = draw_part(folder, name, count, options.progress)
        parts[name] = read_layout(layout_for(scenes, options.masks), None, options)
    return _checked(parts, list(parts.values()))


def _checked(
    parts: dict[str, AnnotationSet], read: Sequence[AnnotationSet], about: Sequence[str] = ()
) -> LabelledParts:
    """Give all parts the same classes, and refuse parts that cannot be trained on together.

    Args:
        parts: by their names.
        read: what the parts are taken from.
        about: notes on all of the data.
    """
    parts, notes = same_classes(parts)
    train = parts["train"]
    if not train.kept:
        raise AnnotationError(f"{train.source}: the pictures to train on have no object at all")
    sizes = ", ".join(f"{len(part.images)} {name}" for name, part in parts.items())
    lines = [*(one.summary() for one in read), *report_lines(Counter(), [*about, *notes])]
    return LabelledParts(**parts, report="\n".join([*lines, f"pictures: {sizes}"]))


def same_classes(
    parts: Mapping[str, AnnotationSet],
) -> tuple[dict[str, AnnotationSet], list[str]]:
    """Number the classes of all parts as the first part does, by their names.

    Returns:
        The parts, and lines that say what was changed.

    Raises:
        AnnotationError: objects of another part have a class that the first part's list lacks.
    """
    first, *others = parts.values()
    names, ids, notes = list(first.class_names), list(first.category_ids), []
    for name, part in parts.items():
        new = [one for one in part.class_names if one not in names]
        used = [one for one in new if one in count_objects(part)]
        if used and not part.names_found:
            raise AnnotationError(
                f"{first.source} has the classes {', '.join(first.class_names)}, but the {name} "
                f"part {part.source} has {', '.join(part.class_names)}: write one list for all"
            )
        if used:
            notes.append(f"{', '.join(used)}: in the {name} part alone, so nothing learns it")
        elif new:
            notes.append(f"{', '.join(new)}: a class of the {name} part alone, without objects")
        ids += range(max(ids) + 1, max(ids) + 1 + len(used))
        names += used
    moved = [part for part in others if part.class_names != first.class_names]
    if any([n for n in part.class_names if n in names] != _in_order(part, names) for part in moved):
        notes.append("the parts number their classes differently: matched by name")
    return {name: part.relabelled(names, ids) for name, part in parts.items()}, notes


def _in_order(part: AnnotationSet, names: Sequence[str]) -> list[str]:
    return [name for name in names if name in part.class_names]


def count_objects(read: AnnotationSet) -> dict[str, int]:
    """Count the ordinary objects of each class that has any."""
    counts: dict[str, int] = {}
    for one in (one for image in read.images for one in image.objects if not one.iscrowd):
        name = read.class_names[one.label - 1]
        counts[name] = counts.get(name, 0) + 1
    return counts
