"""The cuttlefish search: convergence, bounds and reproducibility."""

from itertools import islice

import numpy as np
import pytest

from models.errors import BadSearch
from models.training.cuttlefish import Cost, Generation, Points, search

DIMENSIONS, POPULATION, GENERATIONS = 8, 40, 150
LOW, HIGH = np.full(DIMENSIONS, -5.0), np.full(DIMENSIONS, 5.0)
GOAL = np.array([1.5, -2.0, 0.5, 3.0, -1.0, 0.25, -3.5, 2.0])


def bowl(points: Points) -> Points:
    """A paraboloid with its minimum at GOAL, which is not the centre of the box."""
    found: Points = np.square(points - GOAL).sum(axis=1)
    return found


def valley(points: Points) -> Points:
    """Rosenbrock's function: a curved valley with the minimum at ones."""
    ahead, behind = points[:, 1:], points[:, :-1]
    found: Points = (100 * np.square(ahead - np.square(behind)) + np.square(1 - behind)).sum(axis=1)
    return found


def ran(cost: Cost, *, seed: int = 1, generations: int = GENERATIONS, first: Points | None = None) -> list[Generation]:
    rng = np.random.default_rng(seed)
    steps = search(cost, low=LOW, high=HIGH, rng=rng, population=POPULATION, first=first)
    return list(islice(steps, generations + 1))


@pytest.mark.parametrize("cost", [bowl, valley])
def test_the_search_beats_random_points_with_as_many_evaluations(cost: Cost) -> None:
    for seed in range(5):
        end = ran(cost, seed=seed)[-1]
        chance = cost(np.random.default_rng(seed).uniform(LOW, HIGH, (end.evaluations, DIMENSIONS))).min()

        assert end.evaluations == POPULATION * (GENERATIONS + 1)
        assert end.cost < 0.2 * chance


def test_the_best_cost_never_increases_and_belongs_to_the_best_point() -> None:
    steps = ran(valley)

    costs = [step.cost for step in steps]
    assert costs == sorted(costs, reverse=True)
    assert all(valley(step.best[np.newaxis])[0] == step.cost for step in steps)
    assert [step.number for step in steps] == list(range(GENERATIONS + 1))


def test_the_same_seed_gives_the_same_search() -> None:
    one, same, other = ran(bowl, seed=1), ran(bowl, seed=1), ran(bowl, seed=2)

    assert [step.cost for step in one] == [step.cost for step in same]
    assert np.array_equal(one[-1].best, same[-1].best)
    assert not np.array_equal(one[-1].best, other[-1].best)


def test_no_point_outside_the_box_is_evaluated() -> None:
    def watched(points: Points) -> Points:
        assert bool(np.all((points >= LOW) & (points <= HIGH)))
        return bowl(points)

    ran(watched, generations=40, first=np.full((3, DIMENSIONS), 100.0))


def test_a_good_initial_point_is_kept() -> None:
    assert ran(bowl, generations=0, first=GOAL[np.newaxis])[0].cost == 0
    assert ran(bowl, generations=20, first=GOAL[np.newaxis])[-1].cost == 0


@pytest.mark.parametrize("nothing", [np.nan, np.inf, -np.inf])
def test_a_cost_that_is_not_finite_is_never_the_best(nothing: float) -> None:
    def broken(points: Points) -> Points:
        found = bowl(points)
        found[points[:, 0] > 0] = nothing
        return found

    end = ran(broken, generations=30)[-1]

    assert np.isfinite(end.cost)
    assert end.best[0] <= 0


@pytest.mark.parametrize(
    ("low", "high", "population", "says"),
    [
        (LOW, LOW, 40, "the box is empty"),
        (LOW, HIGH[:-1], 40, "the box is empty"),
        (LOW, HIGH, 3, "population 3 is too small; use at least 4"),
    ],
)
def test_invalid_arguments_are_refused(low: Points, high: Points, population: int, says: str) -> None:
    with pytest.raises(BadSearch, match=says):
        next(search(bowl, low=low, high=high, rng=np.random.default_rng(1), population=population))
