"""The cuttlefish algorithm: a gradient-free search for the minimum of a function of many variables.

Eesa, Brifcani, Orman: Cuttlefish Algorithm, a Novel Bio-Inspired Optimization Algorithm. International Journal of
Scientific and Engineering Research 4(9), 2013. A new point is the sum of a *reflection* of a known point and a
*visibility*, its distance from the best one. Four groups of points use six formulas: two groups search the whole box,
two the neighbourhood of the best point. Sarmah (2020) uses it for the initial weights of a network; the model cards
compare this with random weights.
"""

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.errors import BadSearch

Points = NDArray[np.float64]
Cost = Callable[[Points], Points]
"""The cost of many points at once, from [N, D] to [N]. A value that is not finite counts as infinite."""

REFLECTED: Final = (-1.0, 2.0)
"""Range of the degree of reflection R in the first group."""
VISIBLE: Final = (-1.5, 1.5)
"""Range of the degree of visibility V in the groups near the best point."""
_GROUPS: Final = 4


class Generation(NamedTuple):
    """The state of the search after one generation."""

    number: int  # 0: the initial points
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
    """Search for the minimum of `cost` within a box, as an endless iterator. The best cost never increases.

    Args:
        cost: function to minimise.
        low: lower corner of the box, [D].
        high: upper corner of the box, [D].
        population: number of points, at least four: one for each group.
        first: initial points, [K, D]; the others are random.

    Raises:
        BadSearch: an empty box, or too few points.
    """
    low, high = np.asarray(low, np.float64), np.asarray(high, np.float64)
    if low.ndim != 1 or low.shape != high.shape or not bool(np.all(low < high)):
        raise BadSearch("the box is empty: every value of low must be below that of high")
    if population < _GROUPS:
        raise BadSearch(f"population {population} is too small; use at least {_GROUPS}, one for each group")
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
        # Shuffle the groups, so that a good point does not stay in a group that only reflects it.
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
    """A new candidate for each point."""
    one, two, three, four = np.array_split(points, _GROUPS)

    def drawn(span: tuple[float, float], group: Points) -> Points:
        return rng.uniform(*span, group.shape)

    return np.concatenate(
        [
            drawn(REFLECTED, one) * one + (best - one),  # cases 1 and 2: chromatophores and iridophores, global search
            best
            + drawn(VISIBLE, two) * (best - two),  # cases 3 and 4: iridophores and chromatophores, near the best point
            best
            + drawn(VISIBLE, three)
            * (best - best.mean()),  # case 5: leucophores and chromatophores, near the best point
            rng.uniform(low, high, four.shape),  # case 6: leucophores reflect any light, random points
        ]
    )


def _costs(cost: Cost, points: Points) -> Points:
    found = np.asarray(cost(points), np.float64)
    return np.where(np.isfinite(found), found, np.inf)
