"""Stories about recorded stays: what was charted comes out, what was not does not."""

import os
import re
import time
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.errors import BadReplay
from models.patient_files.recorded_stays import (
    FORMATS,
    NOMINAL_OXYGEN,
    RecordedStay,
    consciousness_of,
    open_replay,
    oxygen_of,
)
from vitals.messages import Consciousness
from vitals.signs import VitalSign
from wire.codec import VitalsV1, decode_vitals, encode

START_MS = 1_790_000_000_000
MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS

DATA = Path(os.environ.get("VITALLOOM_DATA", Path(__file__).parents[2] / "../shared/data"))


def recorded(folder: str) -> Path:
    path = DATA / folder
    if not path.is_dir():
        pytest.skip(f"no recorded stays in {folder}; set VITALLOOM_DATA to the folder that holds it")
    return path


def hourly(path: Path, patients: Mapping[str, Sequence[Mapping[str, float]]]) -> Path:
    """A sepsis2019 file: one row an hour and patient; a sign that is not given was not measured."""
    columns = ("HR", "Resp", "O2Sat", "Temp", "SBP", "DBP", "FiO2")
    rows = [
        {"patient_id": name, "hour": hour + 1}
        | {column: row.get(column) for column in columns}
        | {"SepsisLabel": int(row.get("SepsisLabel", 0))}
        for name, hours in patients.items()
        for hour, row in enumerate(hours)
    ]
    numbers = [pa.field(column, pa.float32()) for column in columns]
    schema = [("patient_id", pa.string()), ("hour", pa.int16()), *numbers, ("SepsisLabel", pa.int8())]
    pq.write_table(pa.Table.from_pylist(rows, schema=pa.schema(schema)), path)
    return path


def long_form(path: Path, rows: Sequence[tuple[int, int, str, float]]) -> Path:
    """An icu2012 series file."""
    records, minutes, parameters, values = zip(*rows, strict=True)
    table = pa.table(
        {
            "record_id": pa.array(records, pa.int32()),
            "minute": pa.array(minutes, pa.int16()),
            "parameter": pa.array(parameters).dictionary_encode(),
            "value": pa.array(values, pa.float32()),
        }
    )
    pq.write_table(table, path)
    return path


def only_stay(path: Path) -> RecordedStay:
    (stay,) = open_replay(path).stays()
    return stay


def series(stay: RecordedStay, field: str, cadence_ms: int = 30 * MINUTE_MS) -> list[tuple[float, float]]:
    """(minutes since the stay began, value) of one sign."""
    return [
        ((sample.t_ms - START_MS) / MINUTE_MS, getattr(sample, field))
        for sample in stay.samples(cadence_ms, START_MS)
        if getattr(sample, field) is not None
    ]


def test_between_two_hours_a_sign_goes_in_a_straight_line(tmp_path: Path) -> None:
    #   60        80        70
    #   |---------|---------|
    #   0         1         2 h
    stay = only_stay(hourly(tmp_path / "a.parquet", {"p1": [{"HR": 60}, {"HR": 80}, {"HR": 70}]}))

    assert series(stay, "heart_rate") == [(0, 60), (30, 70), (60, 80), (90, 75), (120, 70)]


def test_a_gap_of_two_hours_is_bridged_and_a_longer_one_is_not(tmp_path: Path) -> None:
    #   60   .    80    .    .   50
    #   0    1    2     3    4   5 h
    hours = [{"HR": 60.0}, {}, {"HR": 80.0}, {}, {}, {"HR": 50.0}]
    stay = only_stay(hourly(tmp_path / "a.parquet", {"p1": hours}))

    assert series(stay, "heart_rate", HOUR_MS) == [(0, 60), (60, 70), (120, 80), (300, 50)]


def test_temperature_is_bridged_for_six_hours_and_no_longer(tmp_path: Path) -> None:
    hours: list[dict[str, float]] = [
        {"Temp": 36.0, "HR": 70.0},
        *[{"HR": 70.0}] * 5,
        {"Temp": 39.0},
        *[{}] * 6,
        {"Temp": 37.0},
    ]
    stay = only_stay(hourly(tmp_path / "a.parquet", {"p1": hours}))

    shown = dict(series(stay, "temperature", HOUR_MS))

    assert shown[180] == 37.5
    assert max(at for at in shown if at < 780) == 360
    assert shown[780] == 37.0


def test_a_cuff_pressure_is_given_once_when_it_was_charted(tmp_path: Path) -> None:
    hours = [{"HR": 70, "SBP": 120, "DBP": 70}, {"HR": 70}, {"HR": 70, "SBP": 90, "DBP": 50}]
    stay = only_stay(hourly(tmp_path / "a.parquet", {"p1": hours}))

    assert series(stay, "systolic_bp", MINUTE_MS) == [(0, 120), (120, 90)]
    assert series(stay, "diastolic_bp", MINUTE_MS) == [(0, 70), (120, 50)]


def test_a_pressure_off_the_cadence_still_comes_at_its_minute(tmp_path: Path) -> None:
    rows = [(1, 0, "HR", 70.0), (1, 7, "NISysABP", 118.0), (1, 20, "HR", 90.0)]
    stay = only_stay(long_form(tmp_path / "s.parquet", rows))

    samples = list(stay.samples(5 * MINUTE_MS, START_MS))

    assert [(sample.t_ms - START_MS) // MINUTE_MS for sample in samples] == [0, 5, 7, 10, 15, 20]
    assert [sample.heart_rate for sample in samples] == [70, 75, None, 80, 85, 90]
    assert samples[2].systolic_bp == 118


def test_a_charting_error_is_passed_on_and_what_fits_no_reading_is_counted(tmp_path: Path) -> None:
    rows = [(1, 0, "Temp", 15.0), (1, 0, "NISysABP", 0.0), (1, 0, "HR", 20_000.0), (1, 0, "RespRate", float("inf"))]
    stay = only_stay(long_form(tmp_path / "s.parquet", rows))

    (sample,) = stay.samples(MINUTE_MS, START_MS)

    assert (sample.temperature, sample.systolic_bp) == (15.0, 0.0)
    assert (sample.heart_rate, sample.respiratory_rate) == (None, None)
    assert stay.unusable == 2


@pytest.mark.parametrize(
    ("fraction", "litres"),
    [(0.21, 0.0), (0.2, 0.0), (0.22, NOMINAL_OXYGEN), (1.0, NOMINAL_OXYGEN), (40.0, None), (0.0, None)],
)
def test_more_than_air_is_oxygen_of_a_nominal_flow(fraction: float, litres: float | None) -> None:
    assert oxygen_of(fraction) == litres


def test_oxygen_is_only_given_when_it_was_charted(tmp_path: Path) -> None:
    hours = [{"HR": 70.0}, {"HR": 70.0, "FiO2": 0.4}, {"HR": 70.0, "FiO2": 0.21}, {"HR": 70.0, "FiO2": 400.0}]
    stay = only_stay(hourly(tmp_path / "a.parquet", {"p1": hours}))

    assert series(stay, "supplemental_oxygen", HOUR_MS) == [(60, NOMINAL_OXYGEN), (120, 0)]
    assert stay.unusable == 1


@pytest.mark.parametrize(
    ("coma_scale", "grade"),
    [
        (15, Consciousness.ALERT),
        (14, Consciousness.CONFUSION),
        (13, Consciousness.VOICE),
        (11, Consciousness.VOICE),
        (10, Consciousness.PAIN),
        (6, Consciousness.PAIN),
        (5, Consciousness.UNRESPONSIVE),
        (3, Consciousness.UNRESPONSIVE),
        (2, None),
        (16, None),
    ],
)
def test_only_the_highest_coma_scale_is_alert(coma_scale: float, grade: Consciousness | None) -> None:
    assert consciousness_of(coma_scale) == grade


def test_a_cuff_goes_before_an_arterial_line_at_the_same_minute(tmp_path: Path) -> None:
    rows = [(1, 0, "NISysABP", 110.0), (1, 0, "SysABP", 125.0), (1, 9, "SysABP", 130.0)]
    stay = only_stay(long_form(tmp_path / "s.parquet", rows))

    assert stay.charted[VitalSign.SYSTOLIC_BP] == ((0, 110.0), (9 * MINUTE_MS, 130.0))


def test_patients_and_series_of_one_folder_are_one_replay(tmp_path: Path) -> None:
    long_form(tmp_path / "series.parquet", [(1, 0, "HR", 70.0), (2, 0, "HR", 80.0)])
    pq.write_table(pa.table({"record_id": [1, 2], "Age": [50.0, 60.0]}), tmp_path / "patients.parquet")

    ways = (tmp_path, tmp_path / "patients.parquet", tmp_path / "series.parquet")

    given_either_way = [open_replay(path).stays(2, seed=3) for path in ways]

    assert given_either_way[0] == given_either_way[1] == given_either_way[2]
    assert {stay.stay_id for stay in given_either_way[0]} == {"1", "2"}


def test_a_minute_without_signal_stays_empty(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text(
        "minute,HR,PULSE,RESP,SpO2,NBPSys,NBPDias,NBPMean\n"
        "0,60,61,12,97,120,70,90\n1,62,,12,97,,,\n2,,64,12,,,,\n3,66,,12,,,,\n4,68,,12,95,,,\n"
    )
    stay = only_stay(path)

    assert series(stay, "heart_rate", MINUTE_MS) == [(0, 60), (1, 62), (2, 64), (3, 66), (4, 68)]
    assert series(stay, "spo2", MINUTE_MS) == [(0, 97), (1, 97), (4, 95)]
    assert series(stay, "systolic_bp", MINUTE_MS) == [(0, 120)]


def test_an_hourly_table_may_be_a_spreadsheet_too(tmp_path: Path) -> None:
    path = tmp_path / "h.csv"
    path.write_text("patient_id,hour,HR,Resp,O2Sat,Temp,SBP,DBP,FiO2\np1,1,60,12,97,36.7,,,\np1,2,80,12,97,,,,\n")

    assert series(only_stay(path), "heart_rate") == [(0, 60), (30, 70), (60, 80)]


def test_a_gap_of_a_hundred_years_costs_no_time(tmp_path: Path) -> None:
    path = tmp_path / "h.csv"
    rows = "".join(f"p1,{hour},85,18,97,37,120,70,0.21\n" for hour in (0, 876_000, 876_001))
    path.write_text("patient_id,hour,HR,Resp,O2Sat,Temp,SBP,DBP,FiO2\n" + rows)

    samples = list(only_stay(path).samples(MINUTE_MS, START_MS))

    assert [(sample.t_ms - START_MS) // HOUR_MS for sample in samples] == [0, *[876_000] * 60, 876_001]


def test_ids_are_text(tmp_path: Path) -> None:
    path = tmp_path / "h.csv"
    path.write_text("patient_id,hour,HR,Resp,O2Sat,Temp,SBP,DBP,FiO2\n007,1,60,,,,,,\n7,1,150,,,,,,\n07,1,90,,,,,,\n")

    assert {stay.stay_id: stay.charted[VitalSign.HEART_RATE][0][1] for stay in open_replay(path).stays()} == {
        "007": 60, "7": 150, "07": 90,
    }  # fmt: skip


@pytest.mark.slow
def test_a_column_that_is_empty_for_many_rows_is_read(tmp_path: Path) -> None:
    path = tmp_path / "h.csv"
    empty = "".join(f"a{at // 10},{at % 10},85,18,97,,120,70,,{'x' * 40}\n" for at in range(20_000))
    path.write_text(f"patient_id,hour,HR,Resp,O2Sat,Temp,SBP,DBP,FiO2,note\n{empty}last,1,85,18,97,38.4,120,70,0.21,\n")

    last = open_replay(path).stays()[-1]

    assert last.charted[VitalSign.TEMPERATURE] == ((0, 38.4),)


@pytest.mark.parametrize(
    ("charted", "litres"), [("40", NOMINAL_OXYGEN), ("21", 0.0), ("1", NOMINAL_OXYGEN), ("0.21", 0.0)]
)
def test_oxygen_is_understood_as_a_fraction_and_as_a_percentage(tmp_path: Path, charted: str, litres: float) -> None:
    path = tmp_path / "h.csv"
    path.write_text(f"patient_id,hour,HR,Resp,O2Sat,Temp,SBP,DBP,FiO2\np,1,85,18,97,37,120,70,{charted}\n")

    assert only_stay(path).charted[VitalSign.SUPPLEMENTAL_OXYGEN] == ((0, litres),)


def test_a_column_in_another_unit_is_sent_as_charted_and_named(tmp_path: Path) -> None:
    path = tmp_path / "h.csv"
    rows = "".join(f"p1,{hour},85,18,0.97,37,120,70,0.21\n" for hour in range(4))
    path.write_text("patient_id,hour,HR,Resp,O2Sat,Temp,SBP,DBP,FiO2\n" + rows)
    replay = open_replay(path)

    (stay,) = replay.stays()

    assert [value for _, value in stay.charted[VitalSign.SPO2]] == [0.97] * 4
    assert replay.report.lines()[0].startswith(
        "column O2Sat: all 4 values unusable, sent as charted: looks like fraction; convert it to %, or say --unit"
    )
    (converted,) = replay.stays(units=["O2Sat=fraction"])
    assert [value for _, value in converted.charted[VitalSign.SPO2]] == [97.0] * 4


def test_an_impossible_age_is_named_and_the_patient_is_replayed(tmp_path: Path) -> None:
    path = tmp_path / "h.csv"
    header = "patient_id,hour,HR,Resp,O2Sat,Temp,SBP,DBP,FiO2,Age,Gender\n"
    path.write_text(header + "p1,0,85,18,97,37,120,70,0.21,300,2\np2,0,85,18,97,37,120,70,0.21,61,F\n")
    replay = open_replay(path)

    first, second = sorted(replay.stays(), key=lambda stay: stay.stay_id)

    assert (first.age_years, first.is_male) == (None, None)
    assert (second.age_years, second.is_male) == (61, False)
    assert [line.partition(":")[0] for line in replay.report.lines()] == ["column Age", "column Gender"]
    assert "patient p1, hour 0: '300'" in replay.report.lines()[0]


def test_an_original_file_of_the_challenge_is_one_stay(tmp_path: Path) -> None:
    path = tmp_path / "p000001.psv"
    path.write_text(
        "HR|O2Sat|Temp|SBP|MAP|DBP|Resp|EtCO2|FiO2|Age|Gender|ICULOS\nNaN|NaN|NaN|NaN|NaN|NaN|NaN|NaN|NaN|71|0|1\n"
        "97|95|NaN|98|75|NaN|19|NaN|0.5|71|0|2\n"
    )
    stay = only_stay(path)

    assert (stay.stay_id, stay.age_years, stay.charted[VitalSign.HEART_RATE]) == ("p000001", 71, ((0, 97.0),))


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("b.json", '{"resourceType": "Bundle"}', "JSON, such as a FHIR bundle, which no command reads"),
        ("v.csv", "Time,SpO2(%),Pulse Rate(bpm)\n1,2,3\n", "an export of a pulse oximeter"),
        ("s.csv", "respiratory_rate,spo2\n1,2\n", "`vitalloom score` reads it"),
    ],
)
def test_another_kind_of_file_is_named(tmp_path: Path, name: str, content: str, problem: str) -> None:
    (tmp_path / name).write_text(content)

    with pytest.raises(BadReplay, match=re.escape(problem)):
        open_replay(tmp_path / name)


def test_a_seed_chooses_the_same_stays_again(tmp_path: Path) -> None:
    replay = open_replay(hourly(tmp_path / "a.parquet", {f"p{name}": [{"HR": 70.0}] for name in range(100)}))

    chosen = [stay.stay_id for stay in replay.stays(10, seed=4)]

    assert chosen == [stay.stay_id for stay in replay.stays(10, seed=4)]
    assert chosen != [stay.stay_id for stay in replay.stays(10, seed=5)]
    assert len(set(chosen)) == 10
    assert len(replay.stays()) == len(replay.stays(1_000)) == 100


def test_a_stay_begins_with_its_first_charted_sign_and_knows_its_label(tmp_path: Path) -> None:
    hours = [{}, {}, {"HR": 70.0}, {"HR": 90.0, "SepsisLabel": 1.0}, {"SepsisLabel": 1.0}]
    stay = only_stay(hourly(tmp_path / "a.parquet", {"p1": hours}))

    assert stay.charted == {VitalSign.HEART_RATE: ((0, 70.0), (HOUR_MS, 90.0))}
    assert stay.duration_ms == stay.labelled_ms == HOUR_MS


def test_a_stay_with_nothing_charted_sends_nothing(tmp_path: Path) -> None:
    stay = only_stay(hourly(tmp_path / "a.parquet", {"p1": [{}, {}]}))

    assert list(stay.samples(MINUTE_MS, START_MS)) == []


def test_missing_columns_are_named_with_the_file_and_the_formats(tmp_path: Path) -> None:
    path = tmp_path / "ours.csv"
    path.write_text("patient_id,hour,HR,Resp,O2Sat\np1,1,60,12,97\n")

    with pytest.raises(BadReplay) as caught:
        open_replay(path)

    assert caught.value.missing == ("Temp", "SBP", "DBP", "FiO2")
    assert caught.value.path == path
    for name in (str(path), "columns Temp, SBP, DBP, FiO2 of the nearest format", *(row.name for row in FORMATS)):
        assert name in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("gone.parquet", None, "file not found"),
        ("broken.parquet", b"PAR1 not really", "cannot be read"),
        ("empty.csv", b"", "cannot be read"),
        ("notes.txt", b"minute,HR", r"is neither \.parquet nor \.csv"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, name: str, content: bytes | None, complaint: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)

    with pytest.raises(BadReplay, match=complaint):
        open_replay(tmp_path / name)


def test_words_where_numbers_belong_are_left_out_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text("minute,HR,PULSE,RESP,SpO2,NBPSys,NBPDias\n0,fast,61,12,97,120,70\n")

    replay = open_replay(path)
    (stay,) = replay.stays()

    assert stay.charted[VitalSign.HEART_RATE] == ((0, 61.0),)
    assert replay.report.left_out == 1
    (line,) = replay.report.lines()
    assert line.startswith("column HR: 1 of 1 values not used: no number; give a number from 0 to 500 (/min)")
    assert line.endswith("(row 2: 'fast')")


def test_a_folder_without_stays_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadReplay, match="no file in this folder holds recorded stays"):
        open_replay(tmp_path)


POINTS = st.dictionaries(
    st.integers(0, 1_000), st.floats(0, 300).map(lambda value: round(value, 3)), min_size=1, max_size=20
)


@settings(max_examples=100, deadline=None)
@given(points=POINTS, cadence_s=st.integers(20, 3_600))
def test_a_line_never_leaves_its_neighbours_or_the_charted_time(points: dict[int, float], cadence_s: int) -> None:
    charted = tuple((minute * MINUTE_MS, points[minute]) for minute in sorted(points))
    begin, end = charted[0][0], charted[-1][0]
    stay = RecordedStay(
        stay_id="x",
        source="icu2012",
        charted={VitalSign.HEART_RATE: charted},
        max_gap_ms=2 * HOUR_MS,
        max_temperature_gap_ms=6 * HOUR_MS,
    )

    for sample in stay.samples(cadence_s * 1_000, 0):
        before = max(point for point in charted if point[0] <= sample.t_ms)
        after = min(point for point in charted if point[0] >= sample.t_ms)
        assert begin <= sample.t_ms <= end
        assert after[0] - before[0] <= 2 * HOUR_MS
        assert sample.heart_rate is not None
        assert min(before[1], after[1]) <= sample.heart_rate <= max(before[1], after[1])


# --- real stays -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("folder", "stays"), [("sepsis2019/setB_dev.parquet", 50), ("icu2012", 50), ("vitals_minute", 1)]
)
def test_recorded_stays_become_readings(folder: str, stays: int) -> None:
    path = recorded(folder.partition("/")[0]).parent / folder
    began = time.process_time()  # on a busy machine the wall clock tells nothing
    chosen = open_replay(path).stays(50, seed=1)
    seconds = time.process_time() - began

    assert len(chosen) == stays
    assert seconds < 3  # half a second of processor time
    for stay in chosen[:10]:
        samples = list(stay.samples(MINUTE_MS, START_MS))
        assert all(isinstance(sample, VitalsV1) and decode_vitals(encode(sample)) == sample for sample in samples)
        assert all(earlier.t_ms < later.t_ms for earlier, later in pairwise(samples))
        assert samples[-1].t_ms - START_MS <= stay.duration_ms
    assert any(stay.charted.get(VitalSign.HEART_RATE) for stay in chosen)


def test_recorded_stays_are_chosen_by_the_seed() -> None:
    replay = open_replay(recorded("sepsis2019"))

    assert [stay.stay_id for stay in replay.stays(5, 1)] == [stay.stay_id for stay in replay.stays(5, 1)]
    assert [stay.stay_id for stay in replay.stays(5, 1)] != [stay.stay_id for stay in replay.stays(5, 2)]


def test_a_file_of_one_patient_that_holds_two_is_refused(tmp_path: Path) -> None:
    minutes, original = tmp_path / "minutes.csv", tmp_path / "p1.csv"
    minutes.write_text(
        "Patient_ID,minute,HR,PULSE,RESP,SpO2,NBPSys,NBPDias\na,0,60,60,12,97,120,70\nb,0,150,150,12,97,120,70\n"
    )
    original.write_text("HR,O2Sat,Temp,SBP,DBP,Resp,FiO2,ICULOS\n60,97,37,120,70,12,,1\n150,97,37,120,70,12,,1\n")

    with pytest.raises(BadReplay, match="column patient_id has more than one patient"):
        open_replay(minutes).stays()
    with pytest.raises(BadReplay, match="column ICULOS has an hour twice"):
        open_replay(original).stays()


def test_names_of_charted_values_are_compared_like_names_of_columns_and_what_is_not_used_is_counted(
    tmp_path: Path,
) -> None:
    replay = open_replay(
        long_form(tmp_path / "s.parquet", [(1, 0, "hr", 150.0), (1, 0, " TEMP ", 38.0), (1, 0, "Na", 140)])
    )

    (stay,) = replay.stays()

    assert {sign.value: points for sign, points in stay.charted.items()} == {
        "heart_rate": ((0, 150.0),),
        "temperature": ((0, 38.0),),
    }
    assert replay.report.as_dict()["other"] == 1
    assert "1 row of other quantities, which are not used" in replay.report.lines()


def test_a_value_that_a_later_row_contradicts_is_told(tmp_path: Path) -> None:
    replay = open_replay(
        long_form(tmp_path / "s.parquet", [(1, 0, "HR", 60.0), (1, 0, "HR", 150.0), (1, 5, "HR", 60.0)])
    )

    (stay,) = replay.stays()

    assert series(stay, "heart_rate", 5 * MINUTE_MS)[0][1] == 150.0
    assert any("a later row" in line and "patient 1: 1" in line for line in replay.report.lines())


def test_a_coma_scale_is_used_and_not_told_as_left_out(tmp_path: Path) -> None:
    scales = [(1, minute, "GCS", float(scale)) for minute, scale in enumerate(range(2, 17))]
    replay = open_replay(long_form(tmp_path / "s.parquet", [(1, 0, "HR", 80.0), *scales]))

    (stay,) = replay.stays()

    assert len(stay.charted[VitalSign.CONSCIOUSNESS]) == 13
    assert replay.report.lines()[0].startswith("column GCS: 2 of 15 values left out")
