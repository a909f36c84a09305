"""Files as people write them, through every command that reads patients' files: see `tests.file_mutations`."""

import pytest

from tests.file_mutations import DOORS, SEEDS, Door, Mutation, failures, with_damage, with_odd_type


@pytest.mark.slow
@pytest.mark.parametrize(
    ("door", "mutation"),
    [
        pytest.param(door, mutation, id=f"{door.name}: {mutation.name}")
        for door in DOORS
        for mutation in door.mutations
    ],
)  # fmt: skip
def test_a_file_is_understood_or_its_mistake_is_named(door: Door, mutation: Mutation) -> None:
    wrong = {seed: found for seed in range(SEEDS) if (found := failures(door, mutation, seed))}

    assert wrong == {}


@pytest.mark.slow
@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.name)
def test_no_content_ends_in_a_traceback(door: Door) -> None:
    traces = {
        (what.__name__, seed): trace
        for what in (with_odd_type, with_damage)
        for seed in range(20)
        if (trace := what(door, seed))
    }

    assert traces == {}
