"""The photos and boxes of a training run: drawn street scenes, Penn-Fudan, or a folder of your own.

Every label passes the checks of `common/labels/records.py` before training starts. What comes out
is two `PhotoSet`s: photos as they are stored, with boxes in their own pixels. Scaling them into the
network's square is the work of `batches/augmentation.py` (training) and `boxes.Letterbox`
(detecting).
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from boxes import Letterbox
from common.labels.read import list_splits, read_annotations
from common.labels.records import AnnotationError, AnnotationSet, ImageRecord, ObjectRecord
from common.mask_boxes import masks_to_boxes_xyxy
from common.mask_files import read_instance_ids
from common.penn_fudan import fetch_penn_fudan
from common.photos import photo_size, read_photo
from common.random_split import split_indices
from common.street.parts import NUM_TEST_SCENES, STREET_FOLDER, draw_part
from darknet.size import InputSize, height_width

TRAIN_SPLITS = ("train", "train2017", "train2014")
TEST_SPLITS = ("test", "val", "valid", "validation", "val2017", "val2014")
HELD_OUT = 0.3  # share of the photos that is kept for the test where no list says which
PHOTO_MEMORY = 2**30  # bytes of decoded photos that are kept; 364 photos of 640 x 480 need a third


class PhotoSet:
    """Photos with their boxes; decoded photos are kept in memory as far as they fit.

    Args:
        records: the photos and their objects.
        class_names: class index c, counted from 0, is `class_names[c]`.
        category_ids: the number that the annotation file uses for each class.
        memory: bytes of decoded photos to keep; the others are read anew each time.
    """

    def __init__(
        self,
        records: Sequence[ImageRecord],
        class_names: Sequence[str],
        category_ids: Sequence[int] | None = None,
        memory: int = PHOTO_MEMORY,
    ) -> None:
        self.records, self.class_names = tuple(records), tuple(class_names)
        self.category_ids = tuple(category_ids or range(1, len(self.class_names) + 1))
        self._memory, self._lock = memory, threading.Lock()
        self._photos: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return len(self.records)

    def photo(self, index: int) -> np.ndarray:
        """Return a photo: uint8 (H, W, 3), RGB. It may be shared: do not write to it.

        Raises:
            PhotoError: the file is missing, damaged, or of another size than its annotation.
        """
        kept = self._photos.get(index)
        if kept is not None:
            return kept
        record = self.records[index]
        photo = read_photo(record.path, (record.width, record.height))
        photo.flags.writeable = False
        with self._lock:
            if photo.nbytes <= self._memory and index not in self._photos:
                self._memory -= photo.nbytes
                self._photos[index] = photo
        return photo

    def boxes_xyxy(self, index: int) -> np.ndarray:
        """Return the boxes of the ordinary objects: float32 (N, 4), pixels of the photo."""
        boxes = [one.box_xyxy for one in self._objects(index)]
        return np.array(boxes, np.float32).reshape(-1, 4)

    def classes(self, index: int) -> np.ndarray:
        """Return the class index of each of `boxes_xyxy`, counted from 0: int64 (N,)."""
        return np.array([one.label - 1 for one in self._objects(index)], np.int64)

    def path(self, index: int) -> Path:
        """Return the file of a photo."""
        return self.records[index].path

    def sizes_wh(self, input_size: InputSize) -> np.ndarray:
        """Return (M, 2) float32: width and height of every box in pixels of the input."""
        height, width = height_width(input_size)
        sizes = [np.zeros((0, 2), np.float32)]
        for index, record in enumerate(self.records):
            letterbox = Letterbox(record.width, record.height, width, height)
            boxes = letterbox.to_network(torch.from_numpy(self.boxes_xyxy(index)))
            sizes.append((boxes[:, 2:] - boxes[:, :2]).numpy())
        return np.concatenate(sizes)

    def _objects(self, index: int) -> list[ObjectRecord]:
        """The objects to learn: a crowd region has no box of one object."""
        return [one for one in self.records[index].objects if not one.iscrowd]


@dataclass(frozen=True)
class DetectionData:
    """What to train on and what to measure on; `report` tells in words what was read."""

    train: PhotoSet
    test: PhotoSet
    report: str = ""

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.train.class_names


def load_detection_data(
    name: str,
    *,
    seed: int = 0,
    num_scenes: int = 400,
    on_invalid: str = "refuse",
    train_split: str | None = None,
    test_split: str | None = None,
    street_folder: Path = STREET_FOLDER,
    progress: bool = True,
) -> DetectionData:
    """Read the data of a training run.

    Args:
        name: `street` (drawn the first time), `penn_fudan` (downloaded the first time), or a
            folder or .json file that `common.labels.read.read_annotations` understands.
        seed: chooses the test photos where the data has no lists of its own.
        num_scenes: how many street scenes to train on.
        on_invalid: "refuse" labels that cannot be used, or "drop" and report them.
        train_split, test_split: the data's own lists to use; by default `train` (or `trainval`,
            where there is a `test` beside it) and `test` (or `val`).
        street_folder: where the drawn scenes are kept.
        progress: show a progress bar on stderr while drawing.

    Raises:
        AnnotationError: the data cannot be trained on; names file and line.
        PennFudanError: the download fails.
    """
    if name == "street":
        return _street(street_folder, num_scenes, progress)
    if name == "penn_fudan":
        return _divided(read_penn_fudan(fetch_penn_fudan()), seed)
    path = Path(name)
    if not path.exists():
        raise AnnotationError(_no_data(name))
    if _has_masks_only(path):
        return _divided(read_penn_fudan(path), seed)
    splits = choose_splits(path, train_split, test_split)
    if splits is None:
        return _divided(read_annotations(path, on_invalid=on_invalid), seed)
    return _from_splits(path, splits, on_invalid)


def load_test_photos(
    name: str,
    *,
    split: str | None = None,
    held_out: bool = False,
    seed: int = 0,
    on_invalid: str = "refuse",
    street_folder: Path = STREET_FOLDER,
    progress: bool = True,
) -> PhotoSet:
    """Read the photos to measure a model on.

    Args:
        name: as for `load_detection_data`.
        split: the data's own list; by default its test list, or everything where it has no lists.
        held_out: only what `load_detection_data` sets aside with this seed, for data that has no
            lists.
        seed, on_invalid, street_folder, progress: as for `load_detection_data`.

    Raises:
        AnnotationError: the data cannot be measured on; names file and line.
        PennFudanError: the download fails.
    """
    if name == "street":
        return photo_set(_drawn(street_folder, "test", NUM_TEST_SCENES, progress))
    if name == "penn_fudan" or held_out:
        return load_detection_data(name, seed=seed, on_invalid=on_invalid).test
    path = Path(name)
    if not path.exists():
        raise AnnotationError(_no_data(name))
    if _has_masks_only(path):
        return photo_set(read_penn_fudan(path))
    if split is None:
        splits = choose_splits(path)
        split = splits[1] if splits else None
    return photo_set(read_annotations(path, split=split, on_invalid=on_invalid))


def choose_splits(
    path: Path, train_split: str | None = None, test_split: str | None = None
) -> tuple[str, str] | None:
    """Return the names of the lists to train and to test on; None where the data has none.

    Raises:
        AnnotationError: a list was asked for that is not there, or only one of the two is.
    """
    known = list_splits(path) if path.is_dir() else ()
    asked = [name for name in (train_split, test_split) if name is not None]
    unknown = next((name for name in asked if name not in known), None)
    if unknown is not None:
        raise AnnotationError(f"{path} has no split {unknown!r}; it has: {_listed(known)}")
    test = test_split or next((name for name in TEST_SPLITS if name in known), None)
    both = ("trainval",) if test == "test" else ()
    train = train_split or next((name for name in (*both, *TRAIN_SPLITS) if name in known), None)
    if train and test:
        return train, test
    if known and (train or test):
        missing = "test" if train else "train"
        raise AnnotationError(
            f"{path}: which split to {missing} on? Its splits are: {_listed(known)}; choose with "
            "--train-split and --test-split"
        )
    return None


def read_penn_fudan(folder: Path) -> AnnotationSet:
    """Read Penn-Fudan's layout: the box around each pedestrian's mask in PedMasks.

    Raises:
        PhotoError: a photo or mask is missing, or they differ in size.
    """
    images, total = [], 0
    for image_id, mask_path in enumerate(sorted((folder / "PedMasks").glob("*_mask.png"))):
        photo = folder / "PNGImages" / f"{mask_path.stem.removesuffix('_mask')}.png"
        ids = read_instance_ids(mask_path)  # (H, W)
        height, width = ids.shape
        photo_size(photo, (width, height))
        numbers, counts = np.unique(ids[ids > 0], return_counts=True)
        boxes = masks_to_boxes_xyxy((ids == numbers[:, None, None]).astype(np.uint8))
        objects = [
            ObjectRecord(1, tuple(box), float(count), f"{mask_path}: instance {number}")
            for box, count, number in zip(boxes.tolist(), counts, numbers, strict=True)
        ]
        images.append(ImageRecord(photo, width, height, image_id, tuple(objects)))
        total += len(objects)
    if not images:
        raise AnnotationError(f"{folder}: no *_mask.png in its folder PedMasks")
    return AnnotationSet(folder, ("pedestrian",), (1,), tuple(images), total)


def _street(folder: Path, num_scenes: int, progress: bool) -> DetectionData:
    if num_scenes < 1:
        raise ValueError(f"num_scenes is {num_scenes}, but has to be 1 or more")
    train = _drawn(folder, "train", num_scenes, progress)
    return _pair(train, _drawn(folder, "test", NUM_TEST_SCENES, progress))


def _drawn(folder: Path, part: str, count: int, progress: bool) -> AnnotationSet:
    return read_annotations(draw_part(folder, part, count, progress))


def _has_masks_only(path: Path) -> bool:
    return (path / "PedMasks").is_dir() and not (path / "annotations.json").is_file()


def _no_data(name: str) -> str:
    return f"data {name!r}: allowed are street, penn_fudan or a path that exists"


def _from_splits(path: Path, splits: tuple[str, str], on_invalid: str) -> DetectionData:
    train, test = (read_annotations(path, split=name, on_invalid=on_invalid) for name in splits)
    if train.class_names != test.class_names:
        raise AnnotationError(
            f"{path}: the classes of {splits[0]} ({_listed(train.class_names)}) are not those of "
            f"{splits[1]} ({_listed(test.class_names)})"
        )
    return _pair(train, test)


def _divided(whole: AnnotationSet, seed: int) -> DetectionData:
    """Set photos aside for the test, the same for the same seed; both parts get one at least."""
    count = len(whole.images)
    if count < 2:
        raise AnnotationError(f"{whole.source}: {count} image cannot be divided; 2 are the least")
    parts = split_indices(count, HELD_OUT, seed)
    train, test = (photo_set(whole, [whole.images[i] for i in part]) for part in parts)
    return DetectionData(_not_empty(train, whole), test, whole.summary())


def _pair(train: AnnotationSet, test: AnnotationSet) -> DetectionData:
    report = f"{train.summary()}\n{test.summary()}"
    return DetectionData(_not_empty(photo_set(train), train), photo_set(test), report)


def photo_set(whole: AnnotationSet, records: Sequence[ImageRecord] | None = None) -> PhotoSet:
    """Return all photos of an annotation set, or some of them, as a `PhotoSet`."""
    return PhotoSet(
        whole.images if records is None else records, whole.class_names, whole.category_ids
    )


def _not_empty(train: PhotoSet, source: AnnotationSet) -> PhotoSet:
    if not any(len(train.boxes_xyxy(index)) for index in range(len(train))):
        raise AnnotationError(f"{source.source}: the photos to train on have no object at all")
    return train


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"
