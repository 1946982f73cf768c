"""The labelled pictures of a training by name: drawn street scenes, Penn-Fudan, or your own.

This is the one reader of the detection lessons. It gives three parts, see `common/parts.py`, each
an `AnnotationSet` whose every label has passed the checks of `common/labels/records.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from common.labels.pedestrians import has_pedestrians, read_pedestrians
from common.labels.read import list_splits, read_annotations
from common.labels.records import AnnotationError, AnnotationSet
from common.parts import Part, PartsError, divide, plan_parts
from common.penn_fudan import fetch_penn_fudan
from common.street.parts import NUM_TEST_SCENES, NUM_VALIDATION_SCENES, STREET_FOLDER, draw_part


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
            folder or .json file that `common.labels.read.read_annotations` understands.
        masks: every object needs a mask; of Penn-Fudan's layout, and so of the street, the masks
            of the pedestrians are read then.
        seed: chooses the parts of data without lists of its own.
        num_scenes: how many street scenes to train on.
        on_invalid: "refuse" labels that cannot be used, or "drop" and report them.
        train_split, validation_split, test_split: the data's own lists to use; by default those
            with usual names.
        street_folder: where the drawn scenes are kept.
        progress: show a progress bar on stderr while drawing.

    Raises:
        AnnotationError: the data cannot be trained on; names file and line.
        PennFudanError: the download fails.
    """
    if data == "street":
        return _street(street_folder, num_scenes, masks, progress)
    path = fetch_penn_fudan() if data == "penn_fudan" else Path(data)
    if not path.exists():
        raise AnnotationError(
            f"data {data!r}: allowed are street, penn_fudan or a path that exists"
        )
    known = list_splits(path) if path.is_dir() else ()
    try:
        plan = plan_parts(known, train_split, validation_split, test_split)
        return _read_parts(path, plan, masks, seed, on_invalid)
    except PartsError as error:
        raise AnnotationError(f"{path}: {error}") from error


def _read_parts(
    path: Path, plan: Mapping[str, Part], masks: bool, seed: int, on_invalid: str
) -> LabelledParts:
    read = {
        source: _read(path, source, masks, on_invalid)
        for source in {part.source: None for part in plan.values()}
    }
    parts = {}
    for name, part in plan.items():
        whole = read[part.source]
        parts[name] = whole.part(divide(len(whole.images), part.shares, seed)[name])
    return _checked(parts, [one.summary() for one in read.values()])


def _read(path: Path, split: str | None, masks: bool, on_invalid: str) -> AnnotationSet:
    if masks and has_pedestrians(path):
        return read_pedestrians(path, on_invalid)
    return read_annotations(path, split=split, on_invalid=on_invalid)


def _street(folder: Path, num_scenes: int, masks: bool, progress: bool) -> LabelledParts:
    counts = {"train": num_scenes, "validation": NUM_VALIDATION_SCENES, "test": NUM_TEST_SCENES}
    parts = {
        name: _read(draw_part(folder, name, count, progress), None, masks, "refuse")
        for name, count in counts.items()
    }
    return _checked(parts, [one.summary() for one in parts.values()])


def _checked(parts: dict[str, AnnotationSet], summaries: list[str]) -> LabelledParts:
    """Refuse parts that cannot be trained on together."""
    train = parts["train"]
    for name, part in parts.items():
        if part.class_names != train.class_names:
            raise AnnotationError(
                f"{train.source} has the classes {', '.join(train.class_names)}, but the {name} "
                f"part {part.source} has {', '.join(part.class_names)}"
            )
    if not train.kept:
        raise AnnotationError(f"{train.source}: the pictures to train on have no object at all")
    sizes = ", ".join(f"{len(part.images)} {name}" for name, part in parts.items())
    return LabelledParts(**parts, report="\n".join([*summaries, f"pictures: {sizes}"]))
