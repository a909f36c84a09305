"""From an opened frame to a judged reading: event time, quality, alarms, and how dear the reading is."""

from typing import Any

import pytest

from edge.outbox import Keep
from edge.pipeline import JudgedReading, Pipeline
from edge.scoring import Scoring
from models.artifacts import RELEASED, LoadedModels, load_all
from simulators.made_up import demo_site
from tests.edge.benches import HOUR, ILL, MINUTE, NOW, SECOND, WELL
from vitals.messages import AlarmState, SensorFlag
from vitals.plan import MonitoringPlan
from vitals.signs import INDEX, VitalSign
from wire.codec import VitalsV1
from wire.envelope import FrameClass
from wire.identity import NOTHING
from wire.receiver import Opened

BINDING = demo_site(wearables=1, edges=1, now_ms=NOW).bindings[0]


def a_pipeline(states: dict[str, bytes] | None = None) -> Pipeline:
    return Pipeline(
        lambda _: MonitoringPlan(), (states or {}).items(), Scoring(LoadedModels({}, {}), lambda _: NOTHING)
    )


def take(pipeline: Pipeline, after_ms: int, *, held_up_ms: int = 100, **changed: Any) -> JudgedReading:
    opened = Opened(
        b"s" * 16, BINDING.wearable_id, BINDING.binding_id, FrameClass.VITALS, after_ms // 1_000, b"", False, False
    )
    when = {"t_ms": NOW + after_ms, "t_quality": 2, "uptime_ms": HOUR + after_ms}
    vitals = VitalsV1(**{**when, **WELL, **changed})
    return pipeline.judge(opened, vitals, BINDING, received_ms=NOW + after_ms + held_up_ms)


def test_a_reading_goes_on_with_its_origin_and_as_it_was_said() -> None:
    message = take(a_pipeline(), 5_000, heart_rate=71.5).message

    assert (message.origin.wearable_id, message.origin.counter) == (BINDING.wearable_id, 5)
    assert (message.vitals.heart_rate, message.at_ms, message.received_ms) == (71.5, NOW + 5_000, NOW + 5_100)
    assert (message.sensor_flags, message.unusable) == (0, 0)


def test_what_is_not_to_be_scored_is_marked_and_kept() -> None:
    message = take(a_pipeline(), 0, spo2=130.0).message  # nobody has that

    assert message.vitals.spo2 == 130.0
    assert message.unusable == 1 << INDEX[VitalSign.SPO2]


def test_a_wrong_clock_is_put_right_and_said() -> None:
    message = take(a_pipeline(), 0, t_ms=5, t_quality=0).message

    assert message.at_ms == NOW + 100
    assert message.sensor_flags & SensorFlag.CLOCK_CORRECTED


def test_quiet_readings_are_kept_by_the_minute_and_the_five_minutes() -> None:
    pipeline = a_pipeline()

    kept = [take(pipeline, after_ms).keep for after_ms in range(0, 6 * MINUTE, 30 * SECOND)]

    five, minute, ordinary = Keep.PER_FIVE_MINUTES, Keep.PER_MINUTE, Keep.ORDINARY
    assert kept == [five, ordinary, *[minute, ordinary] * 4, five, ordinary]


def test_an_ill_patient_s_readings_are_the_dearest() -> None:
    pipeline = a_pipeline()
    take(pipeline, 0)

    extreme = take(pipeline, 5_000, respiratory_rate=25.0)  # one red sign, and no alarm yet
    episode = take(pipeline, 10_000, **ILL)

    assert extreme.keep is Keep.EXTREME
    assert episode.keep is Keep.EPISODE
    assert [(alarm.rule_id, alarm.state) for alarm in episode.alarms] == [("news2", AlarmState.ACTIVE)]


def test_a_restart_goes_on_with_the_same_alarms_and_the_same_care() -> None:
    pipeline = a_pipeline()
    (alarm,) = take(pipeline, 0, **ILL).alarms

    again = a_pipeline(dict(pipeline.drain_states()))

    assert [one.alarm_id for one in again.open_alarms()] == [alarm.alarm_id]
    assert take(again, 5_000, **ILL).keep is Keep.EPISODE


def test_silence_is_noticed_without_a_reading() -> None:
    pipeline = a_pipeline()
    take(pipeline, 0)

    assert pipeline.on_timer(NOW + MINUTE) == []
    raised = pipeline.on_timer(NOW + 2 * HOUR)

    assert {alarm.rule_id for alarm in raised} == {"no_data"}


def test_only_touched_patients_are_written() -> None:
    pipeline = a_pipeline()
    take(pipeline, 0)

    assert set(pipeline.drain_states()) == {BINDING.binding_id.hex()}
    assert pipeline.drain_states() == {}


@pytest.mark.parametrize("after_ms", [0, 5_000])
def test_a_reading_that_cannot_be_judged_goes_on_and_is_dear(after_ms: int) -> None:
    opened = Opened(b"s" * 16, BINDING.wearable_id, BINDING.binding_id, 1, 0, b"", False, False)
    vitals = VitalsV1(t_ms=NOW + after_ms, t_quality=2, uptime_ms=HOUR, heart_rate=70.0)

    judged = a_pipeline().unjudged(opened, vitals, BINDING, received_ms=NOW + after_ms)

    assert (judged.message.at_ms, judged.keep, judged.alarms) == (NOW + after_ms, Keep.EPISODE, [])


# Models


def test_what_models_say_goes_on_with_the_reading_and_into_alarms() -> None:
    scoring = Scoring(load_all(RELEASED), lambda _: NOTHING)
    pipeline = Pipeline(lambda _: MonitoringPlan(), (), scoring)

    worse = [
        take(pipeline, minute * MINUTE, heart_rate=125.0, respiratory_rate=32.0, temperature=39.4, systolic_bp=88.0)
        for minute in range(0, 180, 5)
    ]

    (first,) = worse[0].message.scores
    assert (first.model, first.version) == ("sepsis", scoring.versions["sepsis"])
    assert first.score is not None
    raised = [alarm for one in worse for alarm in one.alarms if alarm.rule_id == "sepsis_risk"]
    assert raised[0].state is AlarmState.ACTIVE
    assert "T 39.4 (+" in raised[0].text


def test_without_models_a_reading_costs_no_byte_more_than_an_empty_list() -> None:
    assert take(a_pipeline(), 0).message.scores == ()


def test_a_reading_that_is_older_than_what_is_known_is_not_shown_to_models() -> None:
    pipeline = Pipeline(lambda _: MonitoringPlan(), (), Scoring(load_all(RELEASED), lambda _: NOTHING))
    take(pipeline, 60 * MINUTE)

    assert take(pipeline, 50 * MINUTE, held_up_ms=10 * MINUTE + 200).message.scores == ()
