"""How a folder of pictures and masks may be built.

    my_data/images/0001.jpg     pictures of any format
    my_data/masks/0001.png      one mask each, of the same name, or 0001_mask.png and the like
    my_data/classes.json        what the masks hold, see `class_table`

or the same inside `train/` and `val/`, where one class table above serves both. Other names of the
two folders that are in common use are known as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from common.photos import PHOTO_SUFFIXES
from masks.class_table import ClassTable, DataError, find_class_table

IMAGE_FOLDERS = ("images", "PNGImages", "JPEGImages", "img")
MASK_FOLDERS = ("masks", "SemanticMasks", "SegmentationClass", "labels", "annotations")
MASK_ENDINGS = ("", "_mask", "_semantic", "_label", "_labels", "_L", "_gt")
VALIDATION_SPLITS = ("val", "valid", "validation", "test")


def find_splits(folder: Path) -> tuple[Path, Path] | None:
    """Return the folders of the training and validation part, None where they are not divided."""
    held_out = next((folder / n for n in VALIDATION_SPLITS if (folder / n).is_dir()), None)
    return (folder / "train", held_out) if (folder / "train").is_dir() and held_out else None


def find_table(folder: Path) -> ClassTable | None:
    """Read the class table in the folder or the one above; None where there is none.

    Raises:
        DataError: the table cannot be understood.
    """
    return find_class_table(folder) or find_class_table(folder.absolute().parent)


def find_pairs(folder: Path, mask_folders: Sequence[str] = MASK_FOLDERS) -> list[tuple[Path, Path]]:
    """Pair pictures and masks by the stem of their names, sorted by name.

    Raises:
        DataError: a folder is missing or empty, a picture has no mask or a mask no picture, or
            two files share a stem.
    """
    images = _by_stem(_existing(folder, IMAGE_FOLDERS))
    masks = _by_stem(_existing(folder, mask_folders))
    pairs, used = [], set()
    for stem, image in images.items():
        ending = next((one for one in MASK_ENDINGS if stem + one in masks), None)
        if ending is None:
            known = ", ".join(f"{stem}{one}" for one in MASK_ENDINGS[:3])
            raise DataError(f"{image} has no mask; it may be called {known} ... (.png)")
        pairs.append((image, masks[stem + ending]))
        used.add(stem + ending)
    alone = [path for stem, path in masks.items() if stem not in used]
    if alone:
        raise DataError(f"the mask {alone[0]} has no picture")
    return pairs


def _existing(folder: Path, names: Sequence[str]) -> Path:
    if not folder.is_dir():
        raise DataError(f"the folder {folder} does not exist")
    found = next((folder / name for name in names if (folder / name).is_dir()), None)
    if found is None:
        raise DataError(f"{folder} has no folder {' or '.join(names)}")
    return found


def _by_stem(folder: Path) -> dict[str, Path]:
    files = [p for p in sorted(folder.iterdir()) if p.suffix.lower() in PHOTO_SUFFIXES]
    if not files:
        raise DataError(f"{folder} holds no picture ({', '.join(sorted(PHOTO_SUFFIXES))})")
    stems: dict[str, Path] = {}
    for path in files:
        if path.stem in stems:
            raise DataError(f"{path} and {stems[path.stem]} share one name; rename one")
        stems[path.stem] = path
    return stems
