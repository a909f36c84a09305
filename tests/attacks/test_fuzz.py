"""A24: a million inputs that nobody has thought of, at every door; and those that a search has kept."""

from pathlib import Path

import pytest

from tests.attacks.fuzzing import CORPUS, Doors, Target, run
from tests.stream.site.registries import NOW

MEGABYTE = 1 << 20


@pytest.fixture(scope="module")
def doors(tmp_path_factory: pytest.TempPathFactory) -> Doors:
    return Doors(tmp_path_factory.mktemp("doors"))


def test_a24_every_door_understands_what_is_right(doors: Doors) -> None:
    for name, target in doors.targets.items():
        assert any(target.take(seed) for seed in target.seeds), name


@pytest.mark.parametrize(
    ("inputs", "each"), [(20_000, 1), pytest.param(1_000_000, 100, marks=pytest.mark.slow, id="a million")]
)
def test_a24_a_million_mutated_inputs_are_refused_by_name_and_change_nothing(
    inputs: int, each: int, doors: Doors
) -> None:
    outcome = run(doors, inputs, seed=24)

    assert outcome.inputs >= inputs
    assert outcome.crashes == []
    assert outcome.state_kept
    assert outcome.grown_bytes < 16 * MEGABYTE
    # Nothing that has to be signed or sealed came through, and beyond the seals mutations get far.
    assert [outcome.understood[name] for name in ("edge", "ack", "document")] == [0, 0, 0]
    assert min(outcome.understood[name] for name in ("sealed payload", "vitals", "heartbeat", "invitation")) > each


def test_a24_a_door_that_says_something_else_is_found_out(tmp_path: Path) -> None:
    doors = Doors(tmp_path)

    def hinge(data: bytes) -> bool:
        return data[0] == data[500]  # as a parser would that trusts a length

    doors.targets = {"edge": Target(hinge, [bytes(10), bytes(1_000)], 1.0)}

    outcome = run(doors, 100, seed=1)

    assert 0 < len(outcome.crashes) < 100
    assert "IndexError" in outcome.crashes[0].trace


def test_a24_a_state_that_changes_is_found_out(tmp_path: Path) -> None:
    doors = Doors(tmp_path)
    genuine = doors.targets["edge"].seeds[1]

    def ajar(_: bytes) -> bool:
        return bool(doors.receiver.receive(genuine, topic_device=None, now_ms=NOW, mono_ms=0))

    doors.targets = {"edge": Target(ajar, [b"x"], 1.0)}

    assert not run(doors, 20, seed=1).state_kept


def test_a24_what_the_search_has_kept_is_answered(doors: Doors) -> None:
    kept = sorted(path for path in CORPUS.iterdir() if path.is_file())
    before = doors.state()

    for path in kept:
        doors.enter(path.read_bytes())

    assert len(kept) >= 100
    assert doors.state() == before
