"""The data of a training run by name: drawn street scenes, Penn-Fudan, or a folder of your own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from augmentation import evaluation_transforms, training_transforms
from common.image_dataset import train_validation_split
from common.labels.read import list_splits
from common.penn_fudan import fetch_penn_fudan
from common.street.parts import NUM_TEST_SCENES, NUM_VALIDATION_SCENES, STREET_FOLDER, draw_part
from dataset import DetectionDataset, PedestrianDataset
from settings import Settings

VALIDATION_SPLITS = ("val", "valid", "validation", "test")


@dataclass(frozen=True)
class TrainingData:
    """Datasets of (image, target) and the names of their labels 1, 2, ...

    `validation` chooses the best checkpoint; the final metrics are measured on `test`, which is
    the same data where there is no third part.
    """

    train: Any
    validation: Any
    test: Any
    class_names: tuple[str, ...]


def load_training_data(
    settings: Settings, street_folder: Path = STREET_FOLDER, progress: bool = True
) -> TrainingData:
    """Return the datasets of `settings.data`, with the settings' augmentation in the first.

    Street scenes that do not lie in `street_folder` yet are drawn there, with a progress bar on
    stderr if `progress`.

    Raises:
        PennFudanError: the download fails.
        AnnotationError: the data at a path cannot be trained on.
    """
    augmented = training_transforms(flip=settings.flip, photometric=settings.photometric)
    plain = evaluation_transforms()
    if settings.data == "street":
        return _street(settings, street_folder, augmented, plain, progress)
    if settings.data == "penn_fudan":
        whole = PedestrianDataset(fetch_penn_fudan())
    else:
        path = Path(settings.data)
        named = _named_splits(path)
        if named is not None:
            return _from_splits(path, named, settings, augmented, plain)
        whole = _read(path, settings)
    train, validation = train_validation_split(whole, 0.3, settings.seed, augmented, plain)
    return TrainingData(train, validation, validation, whole.class_names)


def _street(
    settings: Settings, folder: Path, augmented: Any, plain: Any, progress: bool
) -> TrainingData:
    parts = {
        "train": (settings.num_scenes, augmented),
        "validation": (NUM_VALIDATION_SCENES, plain),
        "test": (NUM_TEST_SCENES, plain),
    }
    datasets = {}
    for name, (count, transforms) in parts.items():
        part = draw_part(folder, name, count, progress)
        if settings.task == "masks":
            datasets[name] = PedestrianDataset(part, transforms)
        else:
            datasets[name] = DetectionDataset.from_path(part, transforms, masks=False)
    return TrainingData(**datasets, class_names=datasets["train"].class_names)


def _read(path: Path, settings: Settings, split: str | None = None) -> Any:
    if (path / "PedMasks").is_dir() and settings.task == "masks":
        return PedestrianDataset(path)
    masks = settings.task == "masks"
    return DetectionDataset.from_path(path, split=split, masks=masks, crowd="drop")


def _named_splits(path: Path) -> tuple[str, str] | None:
    splits = list_splits(path) if path.is_dir() else ()
    validation = next((name for name in VALIDATION_SPLITS if name in splits), None)
    return ("train", validation) if "train" in splits and validation else None


def _from_splits(
    path: Path, names: tuple[str, str], settings: Settings, augmented: Any, plain: Any
) -> TrainingData:
    train, validation = (_read(path, settings, name) for name in names)
    train.transforms, validation.transforms = augmented, plain
    return TrainingData(train, validation, validation, train.class_names)
