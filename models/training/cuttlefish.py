"""The cuttlefish algorithm: a search for small numbers among many, without a gradient.

Eesa, Brifcani, Orman: Cuttlefish Algorithm, a Novel Bio-Inspired Optimization Algorithm. International Journal of
Scientific and Engineering Research 4(9), 2013. A new point is a *reflection* of a known one and a *visibility*, which
is how far that is from the best. Four groups of points do so in six ways: two search far away, two near the best.
Sarmah (2020) lets it find the weights from which a network is then trained; whether that earns its cost is for an
ablation to say.
"""

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.errors import BadSearch

Points = NDArray[np.float64]
Cost = Callable[[Points], Points]
"""Of many points at once: [N, D] to [N]. What is not finite is as bad as can be."""

REFLECTED: Final = (-1.0, 2.0)
"""Between which the degree of reflection R is drawn, in the first group."""
VISIBLE: Final = (-1.5, 1.5)
"""Between which the degree of visibility V is drawn, near the best."""
_GROUPS: Final = 4


class Generation(NamedTuple):
    """How far the search is."""

    number: int  # 0: the points it began with
    best: Points  # [D]
    cost: float
    evaluations: int


def search(
    cost: Cost,
    *,
    low: Points,
    high: Points,
    rng: np.random.Generator,
    population: int = 40,
    first: Points | None = None,
) -> Iterator[Generation]:
    """Search within a box for as long as somebody asks for the next generation. The best never gets worse.

    Args:
        cost: what is to be small.
        low, high: corners of the box, [D].
        population: points, at least four: one a group.
        first: points to begin with, [K, D]; the others are drawn.

    Raises:
        BadSearch: a box without inside, or too few points.
    """
    low, high = np.asarray(low, np.float64), np.asarray(high, np.float64)
    if low.ndim != 1 or low.shape != high.shape or not bool(np.all(low < high)):
        raise BadSearch("the box has no inside: every low has to be below its high")
    if population < _GROUPS:
        raise BadSearch(f"population {population}: at least {_GROUPS}, one for each group")
    points = rng.uniform(low, high, (population, len(low)))
    if first is not None:
        points[: len(first)] = np.clip(first, low, high)
    costs = _costs(cost, points)
    leader = int(np.argmin(costs))
    best, least = points[leader].copy(), float(costs[leader])
    evaluations, number = population, 0
    while True:
        yield Generation(number, best.copy(), least, evaluations)
        number += 1
        # Who is in which group is drawn anew: a good point should not stay where it is only reflected.
        order = rng.permutation(population)
        points, costs = points[order], costs[order]
        tried = np.clip(_tried(points, best, low, high, rng), low, high)
        new = _costs(cost, tried)
        evaluations += population
        better = new < costs
        points[better], costs[better] = tried[better], new[better]
        leader = int(np.argmin(costs))
        if costs[leader] < least:
            best, least = points[leader].copy(), float(costs[leader])


def _tried(points: Points, best: Points, low: Points, high: Points, rng: np.random.Generator) -> Points:
    """One new point for each."""
    one, two, three, four = np.array_split(points, _GROUPS)

    def drawn(span: tuple[float, float], group: Points) -> Points:
        return rng.uniform(*span, group.shape)

    return np.concatenate(
        [
            drawn(REFLECTED, one) * one + (best - one),  # cases 1 and 2: colours meet mirrors, far away
            best + drawn(VISIBLE, two) * (best - two),  # cases 3 and 4: mirrors meet colours, around the best
            best + drawn(VISIBLE, three) * (best - best.mean()),  # case 5: white meets colours, along the best
            rng.uniform(low, high, four.shape),  # case 6: white gives back whatever light there is
        ]
    )


def _costs(cost: Cost, points: Points) -> Points:
    found = np.asarray(cost(points), np.float64)
    return np.where(np.isfinite(found), found, np.inf)
