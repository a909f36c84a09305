"""A stored ward that is replayed under the orders of then has the alarms that were stored, bit for bit."""

import contextlib
from pathlib import Path

import pytest

from stream.what_if.run import Question, StayPlans, StayResult, run
from stream.what_if.sqlite_source import SqliteSource
from tests.stream.what_if.wards import a_stored_ward
from vitals.plan import MonitoringPlan

DEFAULT = MonitoringPlan(cadence_ms={"heart_rate": 10_000, "respiratory_rate": 10_000, "spo2": 10_000})


def replayed(source: SqliteSource, new: MonitoringPlan = DEFAULT, question: Question | None = None) -> list[StayResult]:
    with contextlib.closing(source.open()) as record:
        stays = record.stays()
    tasks = [(stay, StayPlans(then=DEFAULT, new=new)) for stay in stays]
    return list(run(source, tasks, question or Question(), processes=1))


@pytest.mark.parametrize("seed", range(4))
def test_the_orders_of_then_give_the_alarms_that_were_stored(tmp_path: Path, seed: int) -> None:
    names = a_stored_ward(tmp_path / "store.sqlite", seed=seed, plan=DEFAULT)

    results = replayed(SqliteSource(tmp_path / "store.sqlite"))

    assert {one.stay_id for one in results} == set(names)
    for one in results:
        assert one.fidelity is not None
        assert one.fidelity.other == {}
        assert one.fidelity.same == one.fidelity.stored > 50
        assert not one.comparison.gained
        assert not one.comparison.lost
        assert not one.comparison.high
