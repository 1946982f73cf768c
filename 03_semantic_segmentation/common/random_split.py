"""Set some items of a dataset aside at random, the same ones for the same seed."""

from __future__ import annotations

import torch


def split_indices(
    count: int, held_out_fraction: float, seed: int = 0
) -> tuple[list[int], list[int]]:
    """Divide the numbers 0 .. count - 1 into two lists; each gets one at least.

    Args:
        count: how many items there are, two at least.
        held_out_fraction: share of the second list, between 0 and 1.
        seed: of the shuffle.

    Returns:
        The numbers to train on and those that are set aside, both ascending.

    Raises:
        ValueError: the fraction is not between 0 and 1, or there are fewer than two items.
    """
    if not 0 < held_out_fraction < 1 or count < 2:
        raise ValueError(
            f"cannot set aside {held_out_fraction} of {count} items; a fraction between "
            "0 and 1 of at least 2 is allowed"
        )
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed)).tolist()
    held_out = min(max(round(held_out_fraction * count), 1), count - 1)
    return sorted(order[held_out:]), sorted(order[:held_out])
