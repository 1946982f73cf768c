"""Pair pictures and masks by their names: x.jpg with x.png, x_mask.png, mask_x.png and the like."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

from common.findings import DataError, Place, Problem
from common.photos import PHOTO_SUFFIXES

# What stands behind a picture's name, after a sign, in the name of its mask; or before it.
MASK_WORDS = (
    *("mask", "semantic", "label", "labels", "masks", "L", "gt", "seg", "segmentation"),
    *("labelIds", "annotation", "annot", "groundtruth", "ground_truth", "matte"),
)
PICTURE_WORDS = ("image", "img", "picture", "photo", "rgb", "sat", "leftImg8bit", "original")
SIGN = r"[_.\- ]"
MASK_ENDING = re.compile(rf"{SIGN}(?:gtFine_)?({'|'.join(MASK_WORDS)})$", re.IGNORECASE)
MASK_BEGINNING = re.compile(rf"^({'|'.join(MASK_WORDS)})(?:{SIGN}|(?=\d))", re.IGNORECASE)
PICTURE_ENDING = re.compile(rf"{SIGN}({'|'.join(PICTURE_WORDS)})$", re.IGNORECASE)
PICTURE_BEGINNING = re.compile(rf"^({'|'.join(PICTURE_WORDS)})(?:{SIGN}|(?=\d))", re.IGNORECASE)
Pair = tuple[Path, Path]
Keys = Callable[[Path], list[str]]


def pictures_in(folder: Path) -> list[Path]:
    """Return the pictures that lie in a folder itself, sorted; hidden files are none."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in PHOTO_SUFFIXES and not path.name.startswith(".")
    )


def match_names(
    pictures: Sequence[Path], masks: Sequence[Path]
) -> tuple[list[Pair], list[Problem]]:
    """Pair files by the stem of their names, the plainest way first.

    Returns:
        The pairs, in the order of the pictures, and a problem for each picture or mask that is
        alone, or that several fit.

    Raises:
        DataError: two pictures, or two masks, share a stem.
    """
    _check_stems(pictures)
    _check_stems(masks)
    free, found = dict.fromkeys(masks), {}
    problems: dict[Path, Problem] = {}
    for keys_of_picture, keys_of_mask in WAYS:
        index = defaultdict(list)
        for mask in free:
            for key in keys_of_mask(mask):
                index[key].append(mask)
        for picture in (one for one in pictures if one not in found and one not in problems):
            fits = {mask for key in keys_of_picture(picture) for mask in index[key] if mask in free}
            if len(fits) > 1:
                names = " and ".join(str(one) for one in sorted(fits))
                problems[picture] = _problem(picture, f"two masks fit: {names}; remove one")
            elif fits:
                found[picture] = fits.pop()
                del free[found[picture]]
    problems |= {one: _problem(one, _missing(one)) for one in pictures if one not in found
                 and one not in problems}  # fmt: skip
    alone = [_problem(mask, "this mask has no picture") for mask in free]
    pairs = [(picture, found[picture]) for picture in pictures if picture in found]
    return pairs, [*problems.values(), *alone]


def split_beside(files: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Divide the files of one folder into pictures and masks, such as x.jpg and x_mask.png."""
    named = [path for path in files if _without_ending(path) or _without_beginning(path)]
    keys = {key for path in files if path not in set(named) for key in [path.stem, *_bare(path)]}
    masks = [
        path
        for path in named
        if path.stem.lower().endswith("mask") or keys.intersection(_bare_mask(path)[1:])
    ]
    return [path for path in files if path not in set(masks)], masks


def _stem(path: Path) -> list[str]:
    return [path.stem]


def _stem_or_name(path: Path) -> list[str]:
    return [path.stem, path.name]  # x.jpg may have the mask x.jpg.png


def _without_ending(path: Path) -> list[str]:
    short = MASK_ENDING.sub("", path.stem)
    return [short] if short not in ("", path.stem) else []


def _stem_or_without_ending(path: Path) -> list[str]:
    return [path.stem, *_without_ending(path)]


def _without_beginning(path: Path) -> list[str]:
    short = MASK_BEGINNING.sub("", path.stem)
    return [short] if short not in ("", path.stem) else []


def _bare(path: Path) -> list[str]:
    """Return a picture's name without a word that only says that it is one."""
    short = [rule.sub("", path.stem) for rule in (PICTURE_ENDING, PICTURE_BEGINNING)]
    return [one for one in short if one not in ("", path.stem)]


def _bare_mask(path: Path) -> list[str]:
    return [path.stem, *_without_ending(path), *_without_beginning(path)]


WAYS: tuple[tuple[Keys, Keys], ...] = (
    (_stem, _stem),
    (_stem_or_name, _stem_or_without_ending),
    (_stem, _without_beginning),
    (_bare, _bare_mask),
)


def _check_stems(paths: Sequence[Path]) -> None:
    stems: dict[str, Path] = {}
    for path in paths:
        if path.stem in stems:
            raise DataError(f"{path} and {stems[path.stem]} share one name; rename one")
        stems[path.stem] = path


def _missing(picture: Path) -> str:
    known = ", ".join([picture.stem, *(f"{picture.stem}_{word}" for word in MASK_WORDS[:2])])
    return f"has no mask; it may be called {known} ... (.png)"


def _problem(path: Path, message: str) -> Problem:
    return Problem(Place(str(path)), message)
