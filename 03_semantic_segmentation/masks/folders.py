"""How a folder of pictures and masks may be built.

    my_data/images/0001.jpg     pictures of any format
    my_data/masks/0001.png      one mask each, of the same name, or 0001_mask.png and the like
    my_data/classes.json        what the masks hold, see `class_table`

or the same inside `train/`, `val/`, `test/` or lists of other names, where one class table above
serves all. Other names of the two folders that are in common use are known as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from common.photos import PHOTO_SUFFIXES
from masks.class_table import ClassTable, DataError, find_class_table

IMAGE_FOLDERS = ("images", "PNGImages", "JPEGImages", "img")
MASK_FOLDERS = ("masks", "SemanticMasks", "SegmentationClass", "labels", "annotations")
MASK_ENDINGS = ("", "_mask", "_semantic", "_label", "_labels", "_L", "_gt")


def find_splits(folder: Path) -> tuple[str, ...]:
    """Name the lists that a folder is divided into: folders inside it that have pictures."""
    inside = sorted(folder.iterdir()) if folder.is_dir() else []
    return tuple(one.name for one in inside if any((one / name).is_dir() for name in IMAGE_FOLDERS))


def find_table(folder: Path) -> ClassTable | None:
    """Read the class table in the folder or the one above; None where there is none.

    Raises:
        DataError: the table cannot be understood.
    """
    return find_class_table(folder) or find_class_table(folder.absolute().parent)


def find_pairs(
    folder: Path, mask_folders: Sequence[str] = MASK_FOLDERS
) -> tuple[list[tuple[Path, Path]], list[str]]:
    """Pair pictures and masks by the stem of their names.

    Returns:
        The pairs, sorted by name, and a line for each picture or mask that is alone.

    Raises:
        DataError: a folder is missing or empty, or two files share a stem.
    """
    images = _by_stem(_existing(folder, IMAGE_FOLDERS))
    masks = _by_stem(_existing(folder, mask_folders))
    pairs, alone = [], []
    for stem, image in images.items():
        ending = next((one for one in MASK_ENDINGS if stem + one in masks), None)
        if ending is None:
            known = ", ".join(f"{stem}{one}" for one in MASK_ENDINGS[:3])
            alone.append(f"{image} has no mask; it may be called {known} ... (.png)")
        else:
            pairs.append((image, masks.pop(stem + ending)))
    return pairs, [*alone, *(f"the mask {path} has no picture" for path in masks.values())]


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
