"""Checks of the exercises 04.3 and 04.4: attention, and the positions that it needs.

The oracle is PyTorch's `scaled_dot_product_attention`; a test compares it with loops.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from common.checking.check import compare_function, exercise
from common.checking.sandbox import Attempt


def attended(query: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Weights (N,) and result (E,) of one query (D,) over keys (N, D) and values (N, E)."""
    one = query[None]
    every_place = torch.eye(len(keys))  # as values, they show the weights
    weights = scaled_dot_product_attention(one, keys, every_place)[0]
    return weights, scaled_dot_product_attention(one, keys, values)[0]


@exercise("04.3", "Attention of one query by hand")
def attention_of_one_query(attempt: Attempt) -> None:
    """Weights and result of one query."""
    generator = np.random.default_rng(43)
    cases = []
    for places, width, out in [(1, 2, 1), (2, 2, 2), (3, 2, 3), (4, 4, 2), (6, 8, 4)] * 6:
        cases.append(
            {
                "query": torch.from_numpy(generator.integers(-4, 5, width) / 2).float(),
                "keys": torch.from_numpy(generator.integers(-4, 5, (places, width)) / 2).float(),
                "values": torch.from_numpy(generator.integers(-9, 10, (places, out))).float(),
            }
        )
    compare_function(attempt, cases, attended, wrong_attention())


def wrong_attention() -> dict[str, Callable]:
    """Reasons and functions of the usual wrong ways to attend."""

    def weighed(weigh: Callable[[Tensor, int], Tensor], times: bool = True) -> Callable:
        def attend(query: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
            weights = weigh(keys @ query, len(query))
            return weights, weights @ values if times else weights[:, None] * values

        return attend

    def scaled(scores: Tensor, width: int) -> Tensor:
        return (scores / width**0.5).softmax(dim=0)

    return {
        "the scores are divided by the root of D before the softmax": weighed(
            lambda scores, width: scores.softmax(dim=0)
        ),
        "the scores are divided by the root of D, not by D": weighed(
            lambda scores, width: (scores / width).softmax(dim=0)
        ),
        "the root is of D, the numbers in a key, not of N, the number of keys": weighed(
            lambda scores, width: (scores / len(scores) ** 0.5).softmax(dim=0)
        ),
        "the root of D divides the scores, before the softmax, not the weights": weighed(
            lambda scores, width: scores.softmax(dim=0) / width**0.5
        ),
        "weights are made by a softmax: above 0, and 1 in sum": weighed(
            lambda scores, width: scores / width**0.5
        ),
        "each score on its own is a sigmoid; the places compete, by a softmax": weighed(
            lambda scores, width: (scores / width**0.5).sigmoid()
        ),
        "attention is soft: all places count, not the best one alone": weighed(
            lambda scores, width: torch.eye(len(scores))[scores.argmax()]
        ),
        "the result is the sum of the weighted values, not a row for each": weighed(scaled, False),
    }


def seen(tokens: Tensor, positions: Tensor) -> Tensor:
    """Self-attention (N, D) of tokens and positions (N, D), as the paper of DETR adds them."""
    placed = tokens + positions
    return scaled_dot_product_attention(placed, placed, tokens)


@exercise("04.4", "Positions left out")
def positions_left_out(attempt: Attempt) -> None:
    """Self-attention with positions in queries and keys, and not in values."""
    generator = np.random.default_rng(44)
    cases = []
    for places, width in [(2, 2), (3, 2), (4, 2), (4, 4), (9, 4)] * 5:
        cases.append(
            {
                name: torch.from_numpy(generator.integers(-4, 5, (places, width)) / 2).float()
                for name in ("tokens", "positions")
            }
        )
    compare_function(attempt, cases, seen, wrong_positions())


def wrong_positions() -> dict[str, Callable]:
    """Reasons and functions of the usual wrong ways to tell attention where a pixel is."""

    def way(
        query: bool = True,
        key: bool = True,
        value: bool = False,
        join: Callable[[Tensor, Tensor], Tensor] = torch.add,
    ) -> Callable[[Tensor, Tensor], Tensor]:
        def attend(tokens: Tensor, positions: Tensor) -> Tensor:
            placed = join(tokens, positions)
            parts = (placed if with_positions else tokens for with_positions in (query, key, value))
            return scaled_dot_product_attention(*parts)

        return attend

    return {
        "the positions are left out: with the pixels permuted, the results are the same ones, "
        "permuted": way(query=False, key=False),
        "the positions say where to look; the values carry what is there, without them": way(
            value=True
        ),
        "the keys have positions, the queries none: a pixel does not know where it is itself": way(
            query=False
        ),
        "the queries have positions, the keys none: all places are the same to them": way(
            key=False
        ),
        "positions in the values alone do not steer where a query looks": way(False, False, True),
        "positions are added, not multiplied": way(join=torch.mul),
        "positions are added to what is there, they do not replace it": way(
            join=lambda tokens, positions: positions
        ),
    }
