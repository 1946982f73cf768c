"""What `check_data.py` says about a folder of pictures and masks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from common.findings import DataError
from common.masks import IGNORE_INDEX
from common.masks.checks import check_sizes, likely_mistakes
from common.masks.layout import describe_format
from common.masks.overlays import show_labels
from common.masks.reading import Folder, Reader, check_names, check_training
from common.parts import PartsError, read_parts
from common.survey import Survey, same_pictures

ALL = "all"  # the name of data without lists
JOINT_LIST, ITS_PARTS = "trainval", ("train", "val")  # of Pascal VOC


def survey_folder(
    survey: Survey, folder: Folder, asked: Mapping[str, str | None], **options: Any
) -> None:
    """Fill in a survey of a folder whose layout and classes are known.

    Args:
        survey: gets what is found; its `error` stays None where something can be trained on.
        folder: the folder.
        asked: the lists that were asked for, by part.
        options: see `common.masks.reading.read_list`.
    """
    layout = folder.layout
    first = folder.tables[layout.leading]
    survey.format = describe_format(layout, first)
    survey.classes = list(first.names)
    survey.notes += folder.notes
    names = list(layout.lists)
    if JOINT_LIST not in asked.values() and {JOINT_LIST, *ITS_PARTS} <= set(names):
        names.remove(JOINT_LIST)
    read: dict[str, Reader] = {}
    for name in names:
        try:
            read[name] = folder.read(name, "drop", **options)
        except DataError as error:
            listed = folder.findings[name].problems  # they stand in the survey anyway
            none_left = f"{folder.findings[name].source}: no pair of picture and mask is left"
            survey.error = survey.error or (none_left if listed else str(error))
        _add_findings(survey, folder, name)
    _add_counts(survey, read)
    if survey.error is None:
        try:
            _check(survey, folder, read, asked)
        except (DataError, PartsError) as error:
            survey.error = str(error)


def _add_findings(survey: Survey, folder: Folder, name: str) -> None:
    findings = folder.findings[name]
    survey.problems += findings.problems
    survey.mended.update(findings.mended)
    survey.notes += [note for note in findings.notes if note not in survey.notes]


def _add_counts(survey: Survey, read: Mapping[str, Reader]) -> None:
    total = np.zeros(256, np.int64)
    pictures = []
    for name, dataset in read.items():
        seen = dataset.all_seen()
        objects = [int(one.counts[1:IGNORE_INDEX].sum()) for one in seen]
        survey.parts[name or ALL] = {
            "images": len(seen), "objects": sum(objects), "empty": objects.count(0),
        }  # fmt: skip
        total += sum((one.counts for one in seen), np.zeros(256, np.int64))
        survey.sizes.update(one.size for one in seen)
        pictures += [(dataset, index) for index in range(len(dataset))]
    survey.counts = {name: int(total[k]) for k, name in enumerate(survey.classes)}
    survey.num_pictures = len(pictures)

    def draw(axes: Axes, k: int) -> None:
        dataset, index = pictures[k]
        image, target = dataset.subset([index])[0]
        labels = target["labels"].numpy()
        title = dataset.image_path(index).name
        show_labels(axes, labels, image.numpy().transpose(1, 2, 0), title)

    survey.draw = draw


def _check(
    survey: Survey, folder: Folder, read: Mapping[str, Reader], asked: Mapping[str, str | None]
) -> None:
    """Do what a training does with the lists, and add notes.

    Raises:
        DataError: nothing can be trained on. PartsError: there are no three parts.
    """
    parts, _ = read_parts(
        folder.layout.names,
        lambda name: read[folder.choose(name)],
        lambda whole, indices: whole.subset(indices),
        0,
        asked,
    )
    check_names(folder.path, parts)
    survey.notes += check_training(folder.path, parts["train"])
    everything = [one for dataset in read.values() for one in dataset.all_seen()]
    sizes = check_sizes(folder.path, everything)
    survey.notes += [sizes] if sizes else []
    survey.notes += likely_mistakes(survey.classes, everything)
    survey.notes += same_pictures({name: dataset.files() for name, dataset in read.items()})
