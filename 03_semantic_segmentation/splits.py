"""The data of a training run by name: drawn street scenes, Penn-Fudan, or a folder of your own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torchvision.transforms import v2

from augmentation import evaluation_transforms, training_transforms
from common.image_dataset import train_validation_split
from common.penn_fudan import PennFudanError, fetch_penn_fudan
from common.street.parts import NUM_TEST_SCENES, NUM_VALIDATION_SCENES, STREET_FOLDER, draw_part
from common.street.scenes import SEMANTIC_CLASSES
from dataset import PedestrianDataset, SegmentationDataset
from masks.class_table import DataError, numbered_classes
from masks.folders import MASK_FOLDERS, find_splits
from settings import Settings


@dataclass(frozen=True)
class TrainingData:
    """Datasets of (image, target) and the names of their labels 0, 1, ...

    `validation` chooses the best checkpoint; the final metrics are measured on `test`, which is
    the same data where there is no third part.
    """

    train: SegmentationDataset
    validation: SegmentationDataset
    test: SegmentationDataset
    class_names: tuple[str, ...]


def load_training_data(
    settings: Settings, street_folder: Path = STREET_FOLDER, progress: bool = True
) -> TrainingData:
    """Return the datasets of `settings.data`, with the settings' augmentation in the first.

    Street scenes that do not lie in `street_folder` yet are drawn there, with a progress bar on
    stderr if `progress`. The masks of a folder of your own are all read once, to find bad ones.

    Raises:
        PennFudanError: the download fails.
        DataError: the data at a path cannot be trained on.
    """
    augmented = training_transforms(
        flip=settings.flip,
        photometric=settings.photometric,
        scale=settings.scale,
        crop_size=settings.crop_size,
        label_spacing=settings.label_spacing,
    )
    plain = evaluation_transforms()
    if settings.data == "street":
        return _street(settings, street_folder, augmented, plain, progress)
    if settings.data == "penn_fudan":
        whole: SegmentationDataset = _penn_fudan()
    else:
        path = Path(settings.data)
        splits = find_splits(path)
        if splits is not None:
            return _from_splits(*splits, settings, augmented, plain, progress)
        whole = _read(path, settings, progress)
    train, validation = train_validation_split(whole, 0.3, settings.seed, augmented, plain)
    return TrainingData(train, validation, validation, whole.class_names)


def count_pixels(dataset: SegmentationDataset) -> Tensor:
    """Count the pixels of each class, int64 (K,); ignored ones are left out."""
    num_classes = len(dataset.class_names)
    counts = torch.zeros(256, dtype=torch.int64)
    plain = dataset.subset(range(len(dataset)))
    for index in range(len(plain)):
        labels = plain[index][1]["labels"].as_subclass(Tensor)
        counts += torch.bincount(labels.flatten(), minlength=256)
    return counts[:num_classes]


def _street(
    settings: Settings, folder: Path, augmented: v2.Compose, plain: v2.Compose, progress: bool
) -> TrainingData:
    parts = {
        "train": (settings.num_scenes, augmented),
        "validation": (NUM_VALIDATION_SCENES, plain),
        "test": (NUM_TEST_SCENES, plain),
    }
    table = numbered_classes(SEMANTIC_CLASSES)
    datasets = {}
    for name, (count, transforms) in parts.items():
        part = draw_part(folder, name, count, progress)
        datasets[name] = SegmentationDataset.from_path(part, transforms, table=table)
    return TrainingData(**datasets, class_names=SEMANTIC_CLASSES)


def _penn_fudan() -> PedestrianDataset:
    try:
        return PedestrianDataset(fetch_penn_fudan())
    except PennFudanError as error:
        raise PennFudanError(f"{error}. Without a network use --preset laptop") from error


def _read(path: Path, settings: Settings, progress: bool) -> SegmentationDataset:
    pedestrians = (path / "PedMasks").is_dir()
    if pedestrians and not any((path / name).is_dir() for name in MASK_FOLDERS):
        dataset: SegmentationDataset = PedestrianDataset(path)
    else:
        dataset = SegmentationDataset.from_path(path, unknown=settings.unknown_labels)
    dataset.check(progress)
    return dataset


def _from_splits(
    train_folder: Path,
    validation_folder: Path,
    settings: Settings,
    augmented: v2.Compose,
    plain: v2.Compose,
    progress: bool,
) -> TrainingData:
    train, validation = (
        _read(folder, settings, progress) for folder in (train_folder, validation_folder)
    )
    if train.class_names != validation.class_names:
        raise DataError(
            f"{train_folder} has the classes {', '.join(train.class_names)}, but "
            f"{validation_folder} {', '.join(validation.class_names)}: write one class table for "
            f"both, {train_folder.parent / 'classes.json'}"
        )
    train.transforms, validation.transforms = augmented, plain
    return TrainingData(train, validation, validation, train.class_names)
