"""Which pictures a model learns from, which its settings are chosen on, and which it is judged on.

Three parts, in all lessons. *Training* pictures are learned from. On *validation* pictures curves
are drawn and the best weights are chosen. *Test* pictures are looked at once, at the end: their
figures are the ones to report. Where validation and test are one, the figure is too good, because
something was chosen to make it so.

- Data with three lists of its own (train, val, test) keeps them.
- Data with two: the other list (val or test) is the test, and two pictures of twelve are taken from
  the training list for the validation.
- Data with none, or with a training list alone: of seventeen pictures ten are for training, two for
  validation and five for the test, chosen by the seed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Sized
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T", bound=Sized)

NAMES = {
    "train": ("train", "training", "train2017", "train2014", "trainval"),
    "validation": ("val", "valid", "validation", "val2017", "val2014"),
    "test": ("test", "testing", "test2017"),
}
SHARES = {"train": 10, "validation": 2, "test": 5}


class PartsError(ValueError):
    """The data cannot be divided into the three parts; the text says why."""


@dataclass(frozen=True)
class Part:
    """One part: which of the data's own lists it comes from, and which pictures of that list.

    Attributes:
        source: name of the list; None stands for all pictures.
        shares: the parts that this list is divided into, with their weights.
    """

    source: str | None
    shares: Mapping[str, int]


def plan_parts(
    known: Sequence[str],
    train: str | None = None,
    validation: str | None = None,
    test: str | None = None,
) -> dict[str, Part]:
    """Say where each of the three parts comes from.

    Args:
        known: the names of the data's own lists.
        train, validation, test: lists that were asked for.

    Raises:
        PartsError: a list that is not there was asked for, or it is unclear what to train on.
    """
    asked = {"train": train, "validation": validation, "test": test}
    listed = ", ".join(known) or "none"
    small = {one.lower(): one for one in reversed(known)}  # CVAT's are Train, Validation and Test
    chosen: dict[str, str | None] = {}
    for part, name in asked.items():
        if name is not None and name not in known:
            raise PartsError(f"there is no list {name!r}; the data's lists are: {listed}")
        chosen[part] = name or next((small[one] for one in NAMES[part] if one in small), None)
    if chosen["train"] is None and any(chosen.values()):
        raise PartsError(
            f"which list to train on? The data's lists are: {listed}; choose with --train-split, "
            "--validation-split and --test-split"
        )
    if chosen["test"] is None:  # what others call validation is the test here
        chosen["test"], chosen["validation"] = chosen["validation"], None
    own = {part for part, name in chosen.items() if name is not None}
    divided = {
        part: weight for part, weight in SHARES.items() if part == "train" or part not in own
    }
    return {
        part: Part(chosen["train"], divided) if part in divided else Part(name, {part: 1})
        for part, name in chosen.items()
    }


def read_parts(
    known: Sequence[str],
    read: Callable[[str | None], T],
    take: Callable[[T, list[int]], T],
    seed: int,
    asked: Mapping[str, str | None],
) -> tuple[dict[str, T], list[T]]:
    """Read each of the data's own lists once, and take the three parts from them.

    Args:
        known: the names of the lists.
        read: reads one of them; None stands for all pictures. What it returns has a length.
        take: returns the pictures of these numbers.
        seed: of the division.
        asked: the lists that were asked for, by part: "train", "validation", "test".

    Returns:
        The parts by name, and what was read.

    Raises:
        PartsError: see `plan_parts` and `divide`.
    """
    plan = plan_parts(known, **asked)
    whole = {source: read(source) for source in {part.source: None for part in plan.values()}}
    parts = {
        name: take(whole[part.source], divide(len(whole[part.source]), part.shares, seed)[name])
        for name, part in plan.items()
    }
    return parts, list(whole.values())


def divide(count: int, shares: Mapping[str, int], seed: int) -> dict[str, list[int]]:
    """Divide the numbers 0 .. count - 1 at random, the same way for the same seed.

    Args:
        count: how many pictures there are.
        shares: weight of each part; the first gets what rounding leaves over.
        seed: of the shuffle.

    Returns:
        The numbers of each part, ascending; every part gets one at least.

    Raises:
        PartsError: fewer pictures than parts.
    """
    if count < len(shares):
        raise PartsError(
            f"{count} picture(s) cannot be divided into {', '.join(shares)}: {len(shares)} are the "
            "least"
        )
    import torch  # here, as to look at data needs none of it

    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed)).tolist()
    first, *others = shares
    total, parts = sum(shares.values()), {}
    for part in others:
        size = max(1, count * shares[part] // total)
        parts[part], order = sorted(order[:size]), order[size:]
    return {first: sorted(order), **parts}
