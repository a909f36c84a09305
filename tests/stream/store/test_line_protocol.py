"""Line protocol: each event always gives the same line, and missing values have no field."""

import pytest
from msgspec.structs import replace

from stream.records import DeadLetter, PatientLocation
from stream.store.line_protocol import line_of, time_ns, windows_of_line
from tests.stream.nights import BED_1, reading
from tests.stream.receiving_site import NOW
from vitals.messages import (
    Activity,
    AlarmChanged,
    AlarmKind,
    AlarmState,
    Consciousness,
    FreshnessChanged,
    ModelScore,
    ModelScored,
    News2Part,
    News2Scored,
    Observation,
    ObservationRecorded,
    Priority,
    ReadingJudged,
    Tick,
    WindowClosed,
)

ALARM = AlarmChanged(
    stay_id=BED_1,
    alarm_id=b"0123456789abcdef",
    rule_id="news2",
    kind=AlarmKind.PHYSIOLOGICAL,
    priority=Priority.HIGH,
    state=AlarmState.ACTIVE,
    at_ms=NOW,
    onset_ms=NOW - 5,
    revision=2,
    text='NEWS2 7: "SpO2 90" (+3), RR 25 \\ min',
    basis="NEWS2",
)


def test_a_reading_has_fields_for_measured_values_only() -> None:
    line = line_of(ReadingJudged(reading=reading(0, supplemental_oxygen=0.0), late=False, backfilled=True))

    head, fields, at_ns = line.split(" ")
    assert head == f"vitals,binding={BED_1}"
    assert "heart_rate=70.0,respiratory_rate=14.0,spo2=98.0,supplemental_oxygen=0.0," in fields
    assert "temperature" not in fields
    assert fields.endswith("late=false,backfilled=true")
    assert int(at_ns) // 1_000_000 == NOW


def test_what_the_patient_did_is_a_field_only_if_it_is_known() -> None:
    lines = [
        line_of(ReadingJudged(reading=replace(reading(0), activity=int(activity)), late=False, backfilled=False))
        for activity in (Activity.UNKNOWN, Activity.WALK)
    ]

    assert "activity" not in lines[0]
    assert ",activity=3i," in lines[1]
    assert windows_of_line(lines[1]) == windows_of_line(lines[0]) != []


def test_two_readings_of_one_millisecond_are_two_points() -> None:
    one, other = reading(0, counter=1), reading(0, counter=2)

    times = [time_ns(each.at_ms, each.reading_id) for each in (one, other, one)]

    assert times[0] != times[1]
    assert times[0] == times[2]


def test_of_an_unknown_score_only_the_lower_bound_is_written() -> None:
    parts = (News2Part("spo2", 90.0, 3, 500), News2Part("temperature", None, None, None))
    event = News2Scored(
        stay_id=BED_1,
        reading_id=b"r" * 16,
        at_ms=NOW,
        total=None,
        at_least=3,
        risk="low-medium",
        spo2_scale=1,
        parts=parts,
    )

    line = line_of(event)

    assert " at_least=3i," in line
    assert "total" not in line
    assert "temperature" not in line
    assert "spo2=90.0,spo2_points=3i,spo2_age_ms=500i" in line
    assert ",total=3i" in line_of(replace(event, total=3))


def test_text_cannot_break_out_of_its_quotes() -> None:
    line = line_of(
        replace(ALARM, text='a "b" \\ c\nalarm,binding=x text="y" 1', acknowledged_by="n1", acknowledged_ms=5)
    )

    assert "\n" not in line
    assert r'text="a \"b\" \\ c alarm,binding=x text=\"y\" 1"' in line
    assert 'acknowledged_by="n1",acknowledged_ms=5i' in line


def test_each_revision_of_an_alarm_is_a_point_of_its_own() -> None:
    times = {line_of(replace(ALARM, revision=n)).rsplit(" ", 1)[1] for n in range(5)}

    assert len(times) == 5


def test_a_model_that_abstains_has_no_score() -> None:
    score = ModelScore(
        stay_id=BED_1,
        reading_id=b"r" * 16,
        at_ms=NOW,
        received_ms=NOW,
        model="sepsis",
        version="1.1.0",
        score=None,
        threshold=0.05,
        reason="too few values",
    )

    line = line_of(ModelScored(score=score, late=False, backfilled=False))

    assert line.startswith(f'model_score,binding={BED_1},model=sepsis threshold=0.05,version="1.1.0",reason="too few')
    assert ",score=" not in line


def test_windows_and_freshness_have_their_own_time() -> None:
    window = WindowClosed(
        stay_id=BED_1, sign="spo2", start_ms=NOW, width_ms=60_000, count=2, mean=97, minimum=96, maximum=98
    )
    fresh = FreshnessChanged(stay_id=BED_1, sign="spo2", at_ms=NOW, state="STALE", age_ms=60_001)

    assert line_of(window) == f"vitals_1m,binding={BED_1},sign=spo2 count=2i,mean=97.0,min=96.0,max=98.0 {NOW}000000"
    assert line_of(fresh) == f'freshness,binding={BED_1},sign=spo2 state="STALE",age_ms=60001i {NOW}000000'


def test_a_location_has_a_ward_and_devices_and_an_end_only_if_the_stay_ended() -> None:
    placed = PatientLocation(
        stay_id=BED_1, patient="p-17", bed="North/2", edge_id="e1", at_ms=NOW, valid_from_ms=NOW - 5
    )

    line = line_of(placed)

    assert line == (
        f'binding,binding={BED_1},ward=North bed="North/2",patient="p-17",edge="e1",edges="-",devices="-",'
        f"valid_from_ms={NOW - 5}i {NOW}000000"
    )
    of_two = line_of(replace(placed, edges=("e1", "e2"), devices=("patch", "oximeter")))
    assert ',edge="e1",edges="e2",devices="patch, oximeter",' in of_two
    assert f",valid_to_ms={NOW}i " in line_of(replace(placed, valid_to_ms=NOW))
    assert ",ward=none bed=" in line_of(replace(placed, bed="12"))
    assert r",ward=West\ wing/2 bed=" in line_of(replace(placed, bed="West wing/2/7"))


def test_readings_of_a_second_device_stay_in_the_series_of_the_stay() -> None:
    first = ReadingJudged(reading=reading(0), late=False, backfilled=False)
    second = replace(first, reading=replace(reading(0), binding_id="0d" * 16, activity=3))

    assert line_of(first).split(" ")[0] == line_of(second).split(" ")[0]
    assert "device" not in line_of(first)
    assert f',device="{"0d" * 16}",activity=3i ' in line_of(second)
    assert windows_of_line(line_of(second)) == windows_of_line(line_of(first)) != []


def test_an_observation_is_a_point_of_its_own_without_names_or_notes_in_tags() -> None:
    observed = Observation(
        stay_id=BED_1,
        observation_id=b"o" * 16,
        by="anna",
        at_ms=NOW,
        entered_ms=NOW + 1,
        heard_ms=NOW + 2,
        consciousness=Consciousness.VOICE,
        supplemental_oxygen=0.0,
        glucose=5.5,
        note='said "tired", = a',
    )

    line = line_of(ObservationRecorded(observation=observed, late=False))

    assert line.startswith(f"observation,binding={BED_1} supplemental_oxygen=0.0,consciousness=2.0,glucose=5.5,")
    assert r',by="anna",note="said \"tired\", = a",entered_ms=' in line
    assert "spo2" not in line
    refused = line_of(ObservationRecorded(observation=observed, late=True, refused="the stay has ended"))
    assert ',refused="the stay has ended",' in refused
    assert refused.rpartition(" ")[2] == line.rpartition(" ")[2]


def test_a_score_names_the_sources_that_are_not_the_first_device() -> None:
    score = News2Scored(
        stay_id=BED_1,
        reading_id=b"r" * 16,
        at_ms=NOW,
        total=None,
        at_least=0,
        risk="low",
        spo2_scale=1,
        parts=(News2Part("spo2", 97.0, 0, 0), News2Part("temperature", 37.0, 0, 0)),
    )
    oximeter, person = News2Part("spo2", 97.0, 0, 0, "0d" * 16), News2Part("temperature", 37.0, 0, 0, "by:anna")

    assert ',sources="-" ' in line_of(score)
    named = line_of(replace(score, parts=(oximeter, person)))
    assert ',sources="spo2 device 0d0d0d0d, temperature a person" ' in named
    assert "anna" not in named


def test_a_dead_letter_is_counted_without_its_content() -> None:
    letter = DeadLetter(
        stage="store",
        reason="refused",
        problem="heart_rate 250",
        at_ms=NOW,
        source="a/1/2",
        payload=b"secret",
        version="0.1.0",
    )

    line = line_of(letter)

    assert line.startswith('dead_letter,stage=store,reason=refused source="a/1/2",count=1i ')
    assert "250" not in line
    assert "secret" not in line
    assert line != line_of(replace(letter, source="a/1/3"))  # two in one millisecond are two points


def test_an_empty_text_is_not_a_field() -> None:
    alarm = line_of(replace(ALARM, key="", basis=""))

    assert '=""' not in alarm
    assert ",key=" not in alarm
    assert ',kind="physiological",text=' in alarm


def test_a_type_that_is_not_an_event_has_no_line() -> None:
    with pytest.raises(TypeError, match="no measurement for Tick"):
        line_of(Tick(now_ms=1))


def test_an_alarm_has_its_recommended_response_and_no_empty_field() -> None:
    assert "response" not in line_of(ALARM)
    assert ',response="tell the team",onset_ms=' in line_of(replace(ALARM, response="tell the team"))
