"""Check pictures and label maps before training: sizes, classes, and what may be a mistake."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.findings import DataError, Findings, Place, Problem
from common.masks import IGNORE_INDEX
from common.masks.class_table import ClassTable
from common.masks.label_maps import Masks
from common.photos import (
    EXIF_ORIENTATION,
    LYING,
    PhotoError,
    check_photo,
    open_photo,
    photo_note,
    photo_size,
)

UNTURNED_MEND = "picture read unturned, as its mask is"
STRETCHED_MEND = "16-bit picture whose levels were stretched"
FEW = 0.001  # share of the labelled pixels below which a class is rare
SHOWN = 5
UPRIGHT_TURNS = (2, 3, 4)  # the orientations that keep width and height


@dataclass(frozen=True)
class Seen:
    """What was seen of a pair: `size` (width, height), pixels of each label (256,), and more.

    Attributes:
        undecided: the camera turned the picture, and sizes cannot tell whether the mask is turned.
        digest: of the label map; equal ones are the same map.
    """

    size: tuple[int, int]
    counts: np.ndarray
    undecided: bool
    digest: bytes


def examine(
    image: Path, mask: Masks, labels: np.ndarray, decode: bool, mended: Counter[str]
) -> Seen:
    """Check a picture against its label map, uint8 (H, W).

    Args:
        image, mask: their files.
        labels: what the mask says.
        decode: decode the picture; else its header and its end are looked at.
        mended: counts a picture that is read unturned, as its mask has the unturned size.

    Raises:
        DataError: the sizes differ. PhotoError: the picture cannot be read.
    """
    size = labels.shape[1], labels.shape[0]
    upright = check_photo(image, decode=decode)
    if size != upright:
        try:
            photo_size(image, size)
        except PhotoError:
            first = mask if isinstance(mask, Path) else mask[0]
            raise DataError(
                f"{first}: is {size[0]} x {size[1]} pixels, but {image} is "
                f"{upright[0]} x {upright[1]}"
            ) from None
        mended[UNTURNED_MEND] += 1
    if photo_note(image) is not None:
        mended[STRETCHED_MEND] += 1
    counts = np.bincount(labels.ravel(), minlength=256)
    digest = hashlib.blake2b(labels.tobytes(), digest_size=16).digest()
    return Seen(size, counts, size == upright and _undecided(image), digest)


def as_problem(error: Exception, image: Path, mask: Masks) -> Problem:
    """Return the error of a pair as a problem of the file that it names first."""
    text = str(error)
    files = [image, *([mask] if isinstance(mask, Path) else mask)]
    file = next((one for one in files if text.startswith(f"{one}: ")), image)
    return Problem(Place(str(file)), text.removeprefix(f"{file}: "))


def note_pairs(findings: Findings, seen: Iterable[Seen]) -> None:
    """Add notes about all pairs of a list: those left out, and pictures that may lie wrongly."""
    seen = list(seen)
    left = len(findings.problems)
    if left > len(seen):
        findings.notes.append(f"more than half is left out: {left} of {left + len(seen)} pairs")
    undecided = sum(one.undecided for one in seen)
    if undecided:
        findings.notes.append(
            f"{undecided} pictures are turned as the camera says, and their size does not tell "
            "whether the masks are: look at them"
        )


def check_classes(source: object, table: ClassTable, counts: np.ndarray) -> list[str]:
    """Check the pixels of each label, (256,), in the pictures to train on.

    Returns:
        A note on classes that never occur, if there are some.

    Raises:
        DataError: fewer than two classes occur, so nothing can be learned.
    """
    names, ignored = table.names, int(counts[IGNORE_INDEX])
    found = [name for name, count in zip(names, counts, strict=False) if count]
    missing = [name for name in names if name not in found]
    if len(found) < 2:
        what = f"is {found[0]!r}" if found else "is ignored"
        lacking = f"; the class {missing[0]!r} never occurs" if missing else ""
        hint = (
            f". {ignored:,} pixels are ignored: if their value stands for a class, list it in "
            f"{table.source}"
        ) * bool(ignored)
        raise DataError(
            f"{source}: every pixel to train on {what}{lacking}: nothing can be learned{hint}"
        )
    if not missing:
        return []
    more = ", ..." if len(missing) > SHOWN else ""
    verb = "a class never occurs" if len(missing) == 1 else f"{len(missing)} classes never occur"
    return [f"{verb} in the pictures to train on: {', '.join(missing[:SHOWN])}{more}"]


def check_sizes(source: object, seen: Iterable[Seen]) -> str | None:
    """Say in one line that pictures of several sizes do not fit into a batch; None for one size."""
    sizes = Counter(one.size for one in seen)
    if len(sizes) < 2:
        return None
    shown = ", ".join(f"{width} x {height}" for (width, height), _ in sizes.most_common(SHOWN))
    more = ", ..." if len(sizes) > SHOWN else ""
    return (
        f"{source}: the pictures have {len(sizes)} sizes (width x height: {shown}{more}"
        "), and a batch needs one. Cut parts of one size from them: --crop-size HEIGHT WIDTH"
    )


def likely_mistakes(names: Sequence[str], seen: Sequence[Seen]) -> list[str]:
    """Return notes on what may be a mistake: rare or alike classes, and masks that are all one."""
    notes, counts = [], sum(one.counts for one in seen)
    total = max(1, int(counts[: len(names)].sum()))
    rare = {
        name: int(count)
        for name, count in zip(names, counts, strict=False)
        if 0 < count < FEW * total
    }
    if rare:
        shown = ", ".join(f"{name} ({count:,})" for name, count in list(rare.items())[:SHOWN])
        notes.append(f"below {FEW:.1%} of the labelled pixels: {shown}")
    alike = defaultdict(list)
    for name in names:
        alike[name.casefold().strip()].append(name)
    for some in (some for some in alike.values() if len(some) > 1):
        notes.append(f"classes that differ in capital letters alone: {', '.join(some)}")
    if len(seen) > 1 and len({(one.size, one.digest) for one in seen}) == 1:
        notes.append("all masks are the same")
    return notes


def _undecided(image: Path) -> bool:
    """Tell whether a picture is turned or mirrored, and has the same size either way."""
    with open_photo(image) as opened:
        try:
            orientation = opened.getexif().get(EXIF_ORIENTATION, 1)
        except Exception:  # a damaged EXIF block says nothing about the photo itself
            return False
        return orientation in UPRIGHT_TURNS or (
            orientation in LYING and opened.width == opened.height
        )
