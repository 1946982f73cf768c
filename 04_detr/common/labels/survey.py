"""Look at labelled pictures before a training: what `check_data.py` says about boxes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from common.drawing import draw_detections
from common.findings import DataError, note_half_lost
from common.labels.masks import decode_masks
from common.labels.read import find_layout
from common.labels.records import AnnotationSet, ImageRecord, ReadOptions
from common.labels.sources import count_objects, read_list, same_classes
from common.parts import PartsError, plan_parts
from common.photos import PhotoError, read_photo
from common.survey import Survey, same_pictures

WHOLE = "all"  # the name of data without lists
SMALL_SIDE = 4.0  # pixels: hardly a thing
FEW_OBJECTS = 10


def survey_labels(
    path: str | Path,
    *,
    decode: bool = False,
    progress: bool = True,
    train_split: str | None = None,
    validation_split: str | None = None,
    test_split: str | None = None,
) -> Survey:
    """Read all labels, and say what is there and what is likely to be a mistake.

    Args:
        path: a folder or file that `common.labels.read.find_layout` understands.
        decode: read every picture whole, not only its header and end.
        progress: show a progress bar on stderr.
        train_split, validation_split, test_split: the data's own lists to look at; by default
            those with usual names.
    """
    survey = Survey(str(path))
    options = ReadOptions("drop", masks=False, decode=decode, progress=progress)
    try:
        layout = find_layout(path)
        survey.format = layout.format
        survey.notes += layout.notes
        plan = plan_parts(layout.lists, train_split, validation_split, test_split)
        names = dict.fromkeys(part.source for part in plan.values())
        parts = {name or WHOLE: read_list(layout, name, options) for name in names}
        _count(survey, parts)
        survey.notes += _likely_mistakes(parts, survey)
        if not sum(survey.counts.values()):
            survey.error = f"{path}: there is no object to learn"
    except (DataError, PartsError) as error:
        survey.error = str(error)
        survey.problems += getattr(error, "problems", ())
    return survey


def _count(survey: Survey, parts: Mapping[str, AnnotationSet]) -> None:
    moved, notes = same_classes(parts)
    survey.notes += [note for part in parts.values() for note in part.notes] + notes
    counts: Counter[str] = Counter()
    for name, part in moved.items():
        empty = sum(all(one.iscrowd for one in image.objects) for image in part.images)
        survey.parts[name] = {"images": len(part), "objects": part.kept, "empty": empty}
        counts.update(count_objects(part))
        survey.sizes.update((image.width, image.height) for image in part.images)
        survey.mended.update(part.mended)
        survey.problems += part.problems
    survey.classes = list(next(iter(moved.values())).class_names)
    survey.counts = {name: counts[name] for name in survey.classes}
    images = [(image, survey.classes) for part in moved.values() for image in part.images]
    survey.num_pictures = len(images)
    survey.draw = lambda axes, index: draw_record(axes, *images[index])


def draw_record(axes: Axes, image: ImageRecord, class_names: Iterable[str]) -> None:
    """Draw a picture with its boxes, outlines and class names."""
    try:
        photo = read_photo(image.path, (image.width, image.height))
    except PhotoError as error:
        axes.set_axis_off()
        axes.set_title(str(error), fontsize=8, wrap=True)
        return
    boxes = np.array([one.box_xyxy for one in image.objects], np.float32).reshape(-1, 4)
    labels = np.array([one.label for one in image.objects], np.int64)
    masks = None
    if image.objects and all(one.segmentation is not None for one in image.objects):
        masks = decode_masks(image.objects, image.width, image.height).astype(bool)
    names = ("background", *class_names)
    draw_detections(axes, photo, boxes, labels, None, masks, class_names=names)
    axes.set_title(image.path.name, fontsize=8)


def _likely_mistakes(parts: Mapping[str, AnnotationSet], survey: Survey) -> list[str]:
    """Say what can be meant, but mostly is not."""
    images = [image for part in parts.values() for image in part.images]
    objects = [one for image in images for one in image.objects]
    notes = [f"{name} never occurs" for name, n in survey.counts.items() if n == 0]
    few = [f"{name} ({n})" for name, n in survey.counts.items() if 0 < n < FEW_OBJECTS]
    if few:
        notes.append(f"hardly any object to learn from: {', '.join(few)}")
    alike: dict[str, list[str]] = {}
    for name in survey.classes:
        alike.setdefault(name.lower().replace(" ", "").replace("_", ""), []).append(name)
    notes += [f"one class or two: {', '.join(names)}?" for names in alike.values() if names[1:]]
    notes += _box_notes(images)
    outlined = sum(one.segmentation is not None for one in objects)
    if outlined:
        notes.append(f"{outlined} of {len(objects)} objects have an outline; masks need all")
    lost = sum(part.reported for part in parts.values())
    notes += note_half_lost(lost, sum(part.total for part in parts.values()), "objects")
    files = {name: [image.path for image in part.images] for name, part in parts.items()}
    return notes + same_pictures(files)


def _box_notes(images: Sequence[ImageRecord]) -> list[str]:
    pairs = [(one, image) for image in images for one in image.objects if not one.iscrowd]
    small = sum(
        min(o.box_xyxy[2] - o.box_xyxy[0], o.box_xyxy[3] - o.box_xyxy[1]) < SMALL_SIDE
        for o, _ in pairs
    )
    notes = []
    if small:
        notes.append(f"{small} of {len(pairs)} boxes are thinner than {SMALL_SIDE:.0f} pixels")
    corner = sum(
        o.box_xyxy[2] <= image.width / 3 and o.box_xyxy[3] <= image.height / 3 for o, image in pairs
    )
    if len(pairs) >= FEW_OBJECTS and corner > 0.9 * len(pairs):
        notes.append(
            f"{corner} of {len(pairs)} boxes lie in the first third of their picture: boxes of "
            "another scale?"
        )
    twice = 0
    for image in images:
        seen = Counter((o.label, o.box_xyxy) for o in image.objects)
        twice += sum(count - 1 for count in seen.values())
    if twice:
        notes.append(f"{twice} objects stand twice: same picture, class and box")
    return notes
