"""Checks of the exercises 04.1 and 04.2: objects and queries, one to one.

The oracle is SciPy's `linear_sum_assignment`; a test compares it with all permutations.
"""

from collections.abc import Callable

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from common.checking.check import compare_function, exercise
from common.checking.sandbox import Attempt

CLEAR = 1e-3  # by how much the best assignment has to be better than any other


def assigned(costs: Tensor) -> Tensor:
    """The query of each object, int64 (N,), so that the sum of costs (Q, N) is the smallest."""
    rows, columns = linear_sum_assignment(costs.numpy())
    return torch.from_numpy(rows[columns.argsort()])


def is_clear(costs: Tensor) -> bool:
    """Tell whether one assignment is better than all others: forbid its pairs, one at a time."""
    best = assigned(costs)
    objects = torch.arange(len(best))
    least = costs[best, objects].sum()
    for row, column in zip(best.tolist(), objects.tolist(), strict=True):
        other = costs.clone()
        other[row, column] += 1000
        chosen = assigned(other)
        if other[chosen, objects].sum() < least + CLEAR:
            return False
    return True


@exercise("04.1", "Hungarian by hand")
def hungarian_by_hand(attempt: Attempt) -> None:
    """The query of each object in tables with one best assignment."""
    generator = np.random.default_rng(41)
    cases = []
    for count, things in [(2, 1), (2, 2), (3, 2), (3, 3), (4, 3), (5, 3), (6, 4)] * 8:
        costs = torch.from_numpy(generator.integers(0, 20, (count, things))).float()
        while not (is_clear(costs) and is_clear(-costs)):  # the dearest is a wrong way
            costs = torch.from_numpy(generator.integers(0, 20, (count, things))).float()
        cases.append({"costs": costs})
    compare_function(attempt, cases, assigned, wrong_assignments(), tolerance=0)


def cheapest_first(costs: Tensor) -> Tensor:
    """The cheapest pair of all, then the cheapest of what is left, and so on."""
    left, chosen = costs.clone(), torch.zeros(costs.shape[1], dtype=torch.long)
    for _ in range(costs.shape[1]):
        row, column = divmod(int(left.argmin()), costs.shape[1])
        chosen[column] = row
        left[row], left[:, column] = torch.inf, torch.inf
    return chosen


def in_turn(costs: Tensor) -> Tensor:
    """Object after object takes the cheapest query that is still free."""
    left, chosen = costs.clone(), []
    for column in range(costs.shape[1]):
        chosen.append(int(left[:, column].argmin()))
        left[chosen[-1]] = torch.inf
    return torch.tensor(chosen)


def object_of_each_query(costs: Tensor) -> Tensor:
    """The object of each of the first N queries that have one, in the order of the queries."""
    return assigned(costs).argsort()


def wrong_assignments() -> dict[str, Callable]:
    """Reasons and functions of the usual wrong ways to assign."""
    return {
        "two objects may not have one query: their cheapest queries are not the answer": (
            lambda costs: costs.argmin(dim=0)
        ),
        "the cheapest pair first is greedy: it can make the last pair so dear that the sum is "
        "larger": cheapest_first,
        "object after object is greedy: what the first takes, a later one may need more": in_turn,
        "that is the dearest assignment: a cost shall be small": lambda costs: assigned(-costs),
        "asked is the query of each object, not the object of each query": object_of_each_query,
    }


def trained(queries: Tensor, objects: Tensor, steps: int) -> Tensor:
    """Places (Q,) of queries on a line after so many steps with one-to-one matching."""
    return moved(queries, objects, steps, one_to_one)


def moved(
    queries: Tensor,
    objects: Tensor,
    steps: int,
    match: Callable[[Tensor], tuple[Tensor, Tensor]],
    share: float = 0.5,
) -> Tensor:
    """Move the matched queries by a share of the way to the mean of their objects, step by step.

    Args:
        queries, objects: float (Q,) and (N,), places on a line.
        steps: how often.
        match: takes squared distances (Q, N) and returns pairs: queries (P,) and objects (P,).
        share: of the way.
    """
    places = queries.clone()
    for _ in range(steps):
        rows, columns = match((places[:, None] - objects) ** 2)
        pairs = torch.zeros(len(queries), len(objects))
        pairs[rows, columns] = 1
        asked = pairs.sum(dim=1)
        wanted = pairs @ objects / asked.clamp(min=1)
        places = torch.where(asked > 0, places + share * (wanted - places), places)
    return places


def one_to_one(costs: Tensor) -> tuple[Tensor, Tensor]:
    """The pairs of the best assignment."""
    return assigned(costs), torch.arange(costs.shape[1])


def of_each_object(costs: Tensor) -> tuple[Tensor, Tensor]:
    """Each object with its nearest query."""
    return costs.argmin(dim=0), torch.arange(costs.shape[1])


def of_each_query(costs: Tensor) -> tuple[Tensor, Tensor]:
    """Each query with its nearest object."""
    return torch.arange(costs.shape[0]), costs.argmin(dim=1)


def greedily(costs: Tensor) -> tuple[Tensor, Tensor]:
    """Pairs of which the nearest is chosen first."""
    return cheapest_first(costs), torch.arange(costs.shape[1])


@exercise("04.2", "Why matching by argmax collapses")
def argmax_collapses(attempt: Attempt) -> None:
    """Queries on a line, moved to their objects; some cases differ from greedy ways as well."""
    generator = np.random.default_rng(42)
    cases = []
    for count, things, steps in [(1, 1, 1), (2, 2, 1), (2, 2, 8), (3, 2, 2), (4, 3, 6)] * 8:
        queries, objects = on_a_line(generator, count, things)
        while not is_clear((queries[:, None] - objects) ** 2):
            queries, objects = on_a_line(generator, count, things)
        cases.append({"queries": queries, "objects": objects, "steps": steps})
    compare_function(attempt, cases, trained, wrong_trainings(), tolerance=1e-4)


def on_a_line(generator: np.random.Generator, count: int, things: int) -> tuple[Tensor, Tensor]:
    """Places of queries (Q,) and of objects (N,), which mostly lie together."""
    places = generator.permutation(np.arange(1, 40))
    queries, objects = places[:count], places[count : count + things]
    if generator.random() < 0.7:
        objects = objects[0] + 2 * np.arange(things)
    return torch.from_numpy(queries).float(), torch.from_numpy(objects).float() + 0.25


def wrong_trainings() -> dict[str, Callable]:
    """Reasons and functions of the usual wrong ways to match in the loop."""

    def way(
        match: Callable[[Tensor], tuple[Tensor, Tensor]], share: float = 0.5
    ) -> Callable[[Tensor, Tensor, int], Tensor]:
        return lambda queries, objects, steps: moved(queries, objects, steps, match, share)

    return {
        "each object asks for its nearest query: two objects pull at one, and it ends between "
        "them, where nothing is": way(of_each_object),
        "each query goes to its nearest object: several end at one object, which are duplicates, "
        "and another object may have none": way(of_each_query),
        "the nearest pair first is greedy: the sum of the squared distances is not the "
        "smallest": way(greedily),
        "a query moves half of the way in a step, not all of it": way(one_to_one, 1.0),
    }
