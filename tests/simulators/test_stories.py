"""What happens to a ward, in order of time."""

from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from simulators.errors import UnknownScenario
from simulators.stories import START_MS, Recorded, Simulated
from wire.codec import encode

MINUTE, HOUR = 60_000, 3_600_000


def first_moments(seed: int, moments: int = 60) -> list[tuple[int, int, bytes]]:
    story = Simulated("mixed", patients=5, seed=seed, cadence_ms=5_000)
    return [
        (moment.at_ms, index, encode(sample))
        for moment in islice(story.moments(), moments)
        for index, sample in moment.samples
    ]


def stays(path: Path, hours: int, patients: int) -> Path:
    rows = [(f"p{n}", hour) for n in range(patients) for hour in range(hours)]
    columns = {
        "patient_id": [name for name, _ in rows],
        "hour": [hour for _, hour in rows],
        **{
            column: [value] * len(rows)
            for column, value in (
                ("HR", 80.0),
                ("Resp", 16.0),
                ("O2Sat", 97.0),
                ("Temp", 37.0),
                ("SBP", 120.0),
                ("DBP", 70.0),
                ("FiO2", 0.21),
            )
        },
    }
    pq.write_table(pa.table(columns), path)
    return path


def test_the_same_seed_tells_the_same_bytes() -> None:
    assert first_moments(1) == first_moments(1)
    assert first_moments(1) != first_moments(2)


def test_a_simulated_ward_goes_on_at_its_cadence() -> None:
    story = Simulated("stable", patients=2, seed=1, cadence_ms=10_000)

    assert [moment.at_ms for moment in islice(story.moments(), 3)] == [START_MS, START_MS + 10_000, START_MS + 20_000]
    assert story.ends_ms is None


def test_an_unknown_scenario_names_those_that_are_known() -> None:
    with pytest.raises(UnknownScenario, match="sepsis-onset"):
        Simulated("plague", patients=1, seed=1, cadence_ms=5_000)


def test_recorded_stays_are_spread_over_the_cadence_and_end(tmp_path: Path) -> None:
    story = Recorded(stays(tmp_path / "s.parquet", hours=3, patients=4), patients=4, seed=1, cadence_ms=MINUTE)

    moments = list(story.moments())

    assert [moment.at_ms - START_MS for moment in moments[:5]] == [0, 15_000, 30_000, 45_000, MINUTE]
    assert [index for moment in moments[:5] for index, _ in moment.samples] == [0, 1, 2, 3, 0]
    assert [moment.at_ms for moment in moments] == sorted(moment.at_ms for moment in moments)
    assert story.ends_ms == moments[-1].at_ms + 1 == START_MS + 2 * HOUR + 45_000 + 1


def test_a_file_with_fewer_stays_makes_a_smaller_ward(tmp_path: Path) -> None:
    story = Recorded(stays(tmp_path / "s.parquet", hours=2, patients=3), patients=50, seed=1, cadence_ms=MINUTE)

    assert story.patients == 3
