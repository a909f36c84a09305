"""The cuttlefish search: it finds what is small, stays in its box, and is the same for the same seed."""

from itertools import islice

import numpy as np
import pytest

from models.errors import BadSearch
from models.training.cuttlefish import Cost, Generation, Points, search

DIMENSIONS, POPULATION, GENERATIONS = 8, 40, 150
LOW, HIGH = np.full(DIMENSIONS, -5.0), np.full(DIMENSIONS, 5.0)
GOAL = np.array([1.5, -2.0, 0.5, 3.0, -1.0, 0.25, -3.5, 2.0])


def bowl(points: Points) -> Points:
    """Smallest at GOAL, which is not the middle of the box."""
    found: Points = np.square(points - GOAL).sum(axis=1)
    return found


def valley(points: Points) -> Points:
    """Rosenbrock's: easy to find, hard to follow; smallest at ones."""
    ahead, behind = points[:, 1:], points[:, :-1]
    found: Points = (100 * np.square(ahead - np.square(behind)) + np.square(1 - behind)).sum(axis=1)
    return found


def ran(cost: Cost, *, seed: int = 1, generations: int = GENERATIONS, first: Points | None = None) -> list[Generation]:
    rng = np.random.default_rng(seed)
    steps = search(cost, low=LOW, high=HIGH, rng=rng, population=POPULATION, first=first)
    return list(islice(steps, generations + 1))


@pytest.mark.parametrize("cost", [bowl, valley])
def test_it_finds_more_than_chance_with_as_many_looks(cost: Cost) -> None:
    for seed in range(5):
        end = ran(cost, seed=seed)[-1]
        chance = cost(np.random.default_rng(seed).uniform(LOW, HIGH, (end.evaluations, DIMENSIONS))).min()

        assert end.evaluations == POPULATION * (GENERATIONS + 1)
        assert end.cost < 0.2 * chance


def test_the_best_never_gets_worse_and_costs_what_it_says() -> None:
    steps = ran(valley)

    costs = [step.cost for step in steps]
    assert costs == sorted(costs, reverse=True)
    assert all(valley(step.best[np.newaxis])[0] == step.cost for step in steps)
    assert [step.number for step in steps] == list(range(GENERATIONS + 1))


def test_the_same_seed_is_the_same_search_and_another_is_another() -> None:
    one, same, other = ran(bowl, seed=1), ran(bowl, seed=1), ran(bowl, seed=2)

    assert [step.cost for step in one] == [step.cost for step in same]
    assert np.array_equal(one[-1].best, same[-1].best)
    assert not np.array_equal(one[-1].best, other[-1].best)


def test_nothing_outside_the_box_is_ever_looked_at() -> None:
    def watched(points: Points) -> Points:
        assert bool(np.all((points >= LOW) & (points <= HIGH)))
        return bowl(points)

    ran(watched, generations=40, first=np.full((3, DIMENSIONS), 100.0))


def test_what_it_begins_with_is_not_lost() -> None:
    assert ran(bowl, generations=0, first=GOAL[np.newaxis])[0].cost == 0
    assert ran(bowl, generations=20, first=GOAL[np.newaxis])[-1].cost == 0


@pytest.mark.parametrize("nothing", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_never_the_best(nothing: float) -> None:
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
        (LOW, LOW, 40, "the box has no inside"),
        (LOW, HIGH[:-1], 40, "the box has no inside"),
        (LOW, HIGH, 3, "population 3: at least 4"),
    ],
)
def test_a_search_that_cannot_begin_says_why(low: Points, high: Points, population: int, says: str) -> None:
    with pytest.raises(BadSearch, match=says):
        next(search(bowl, low=low, high=high, rng=np.random.default_rng(1), population=population))
