"""One patient, watched: what readings, silence, answers and restarts turn into."""

from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.time_zone import clock_of
from tests.vitals.stories import (
    BINDING,
    HOUR,
    MINUTE,
    SECOND,
    START,
    WELL,
    a_monitor,
    a_plan,
    a_reading,
    a_rule,
    a_score,
    a_silence,
    a_tick,
    alarms,
    an_answer,
    apply,
    below,
    feed,
    restarted,
    standing,
    steady,
    time_line,
    wait,
)
from vitals.errors import BadSnapshot
from vitals.messages import (
    AlarmChanged,
    AlarmKind,
    AlarmState,
    Consciousness,
    Event,
    FreshnessChanged,
    Message,
    ModelScore,
    ModelScored,
    News2Scored,
    Priority,
    Reading,
    ReadingJudged,
    SensorFlag,
    WindowClosed,
    WindowOutdated,
)
from vitals.monitor import PatientMonitor
from vitals.plan import EXPECTED
from vitals.rules import DEFAULT_RULES, AlarmLimit
from vitals.signs import INDEX, VitalSign

LOW, MEDIUM, HIGH = Priority
ACTIVE, CLEARED = AlarmState.ACTIVE, AlarmState.CLEARED
NEWS2 = a_rule("news2", AlarmLimit(5, MEDIUM), AlarmLimit(7, HIGH), label="NEWS2", basis="NEWS2")
RULE = {rule.rule_id: rule for rule in DEFAULT_RULES}
ILL = {"heart_rate": 95, "respiratory_rate": 26, "spo2": 91}
"""+1, +3, +3: NEWS2 of 7 with the rest of WELL."""


def scores(events: list[Event]) -> list[News2Scored]:
    return [event for event in events if isinstance(event, News2Scored)]


def judged(events: list[Event]) -> ReadingJudged:
    (one,) = [event for event in events if isinstance(event, ReadingJudged)]
    return one


def freshness(events: list[Event], sign: str = "heart_rate") -> list[tuple[int, str]]:
    """When a sign became what, in ms after the start."""
    return [
        (event.at_ms - START, event.state)
        for event in events
        if isinstance(event, FreshnessChanged) and event.sign == sign
    ]


def states(events: list[AlarmChanged]) -> list[tuple[AlarmState, Priority]]:
    return [(event.state, event.priority) for event in events]


# Scores: complete, or a lower bound


def test_a_patient_who_is_well_is_scored_without_alarms() -> None:
    events = feed(a_monitor(), *steady(0, 2 * HOUR, every_ms=MINUTE))

    assert {(score.total, score.at_least, score.risk) for score in scores(events)} == {(0, 0, "low")}
    assert len(scores(events)) == 121
    assert alarms(events) == []


@pytest.mark.parametrize(
    ("signs", "at_least", "priority"),
    [
        ({"respiratory_rate": 22, "spo2": 93}, 4, None),
        ({"respiratory_rate": 26, "spo2": 93}, 5, MEDIUM),
        ({"respiratory_rate": 26, "spo2": 91}, 6, MEDIUM),
        ({"respiratory_rate": 26, "spo2": 91, "heart_rate": 91}, 7, HIGH),
        ({"consciousness": Consciousness.CONFUSION, "supplemental_oxygen": 2}, 5, MEDIUM),
    ],
)
def test_what_is_present_raises_the_alarm_while_signs_are_missing(
    signs: dict[str, Any], at_least: int, priority: Priority | None
) -> None:
    events = feed(a_monitor(), a_reading(0, **signs))

    (score,) = scores(events)
    assert (score.total, score.at_least) == (None, at_least)
    assert [alarm.priority for alarm in alarms(events, "news2")] == [priority] * (priority is not None)


def test_a_lower_bound_never_looks_like_a_total() -> None:
    # The finger clip was last heard of at 08:00; it is 08:12.
    monitor = a_monitor()
    feed(monitor, a_reading(0, **WELL))

    events = feed(monitor, a_reading(12 * MINUTE, **{**WELL, "spo2": None, "heart_rate": 131, "respiratory_rate": 21}))

    (alarm,) = alarms(events, "news2")
    assert alarm.text == "NEWS2 >= 5 (SpO2 missing 12 min): HR 131 (+3), RR 21 (+2); limit >= 5"


def test_a_value_is_scored_until_it_is_too_old_and_not_a_millisecond_longer() -> None:
    monitor = a_monitor()
    feed(monitor, a_reading(0, **WELL))

    at_the_edge, beyond = scores(
        feed(monitor, a_reading(60_000, counter=1, temperature=37.0), a_reading(60_001, counter=2, temperature=37.0))
    )

    assert (at_the_edge.total, beyond.total) == (0, None)


def test_on_scale_2_and_oxygen_a_high_saturation_scores() -> None:
    reading = a_reading(0, **{**WELL, "spo2": 97, "supplemental_oxygen": 2})

    on_scale_1, on_scale_2 = (scores(feed(a_monitor(spo2_scale=scale), reading)) for scale in (1, 2))

    assert [score.total for score in (*on_scale_1, *on_scale_2)] == [2, 5]


@pytest.mark.parametrize(
    ("signs", "flags", "sign"),
    [
        ({"heart_rate": 180, "respiratory_rate": 14}, SensorFlag.SENSOR_OFF, VitalSign.HEART_RATE),
        ({"temperature": 33.0}, SensorFlag.SENSOR_OFF, VitalSign.TEMPERATURE),
        ({"spo2": 80}, SensorFlag.LOW_PERFUSION, VitalSign.SPO2),
        ({"respiratory_rate": 40}, SensorFlag.MOTION, VitalSign.RESPIRATORY_RATE),
        ({"heart_rate": 501}, SensorFlag.NONE, VitalSign.HEART_RATE),
        ({"spo2": 0.85}, SensorFlag.NONE, VitalSign.SPO2),
        ({"respiratory_rate": float("nan")}, SensorFlag.NONE, VitalSign.RESPIRATORY_RATE),
        ({"systolic_bp": 80, "diastolic_bp": 90}, SensorFlag.NONE, VitalSign.SYSTOLIC_BP),
        ({"supplemental_oxygen": -1}, SensorFlag.NONE, VitalSign.SUPPLEMENTAL_OXYGEN),
    ],
)
def test_a_value_that_is_unusable_is_kept_and_never_scored(
    signs: dict[str, Any], flags: SensorFlag, sign: VitalSign
) -> None:
    monitor = a_monitor()
    feed(monitor, a_reading(0, **WELL))
    bad = a_reading(30_000, flags=flags, **signs)

    events = feed(monitor, bad)

    (score,) = scores(events)
    kept = judged(events).reading
    assert kept.unusable >> INDEX[sign] & 1
    assert repr(getattr(kept, sign)) == repr(signs[sign])
    assert score.total == 0  # of what was measured before
    assert alarms(events) == []


def test_what_the_edge_found_unusable_stays_so() -> None:
    events = feed(a_monitor(), a_reading(0, unusable=1 << INDEX[VitalSign.SPO2], spo2=80))

    assert judged(events).reading.unusable == 1 << INDEX[VitalSign.SPO2]
    assert scores(events)[0].at_least == 0


# The one-line text


def test_an_alarm_says_what_and_why_and_what_was_before_in_one_line() -> None:
    monitor = a_monitor()
    feed(monitor, *steady(0, 2 * HOUR - MINUTE, every_ms=MINUTE, heart_rate=95, respiratory_rate=22))

    (alarm,) = alarms(feed(monitor, a_reading(2 * HOUR, **{**WELL, **ILL})), "news2")

    assert alarm.text == "NEWS2 7: RR 26 (+3), SpO2 91 (+3), HR 95 (+1); 2 h ago 3; limit >= 7"


@pytest.mark.parametrize(
    ("rule_id", "messages", "text"),
    [
        ("red_sign", steady(0, MINUTE, heart_rate=132), "red sign: HR 132 scores 3 of NEWS2; limit >= 3"),
        ("low_spo2", steady(0, 30_000, spo2=86), "low oxygen saturation: SpO2 86 %; limit <= 87"),
        ("low_spo2", steady(0, 30_000, spo2=82), "low oxygen saturation: SpO2 82 %; limit <= 84"),
        ("high_heart_rate", steady(0, 30_000, heart_rate=155), "very high heart rate: HR 155 /min; limit >= 150"),
        ("low_heart_rate", steady(0, 30_000, heart_rate=33), "very low heart rate: HR 33 /min; limit <= 35"),
        (
            "qsofa",
            steady(0, 30 * MINUTE, respiratory_rate=24, systolic_bp=95),
            "qSOFA 2 of 3: RR 24 (+1), SBP 95 (+1); limit >= 2",
        ),
        (
            "sensor_off",
            steady(0, MINUTE, flags=SensorFlag.SENSOR_OFF),
            "sensor off since 08:00 UTC, 1 min; limit >= 1 min",
        ),
        ("battery", [a_reading(0, battery=12)], "battery 12 %; limit <= 15 %"),
        (
            "clock",
            steady(0, MINUTE, flags=SensorFlag.CLOCK_CORRECTED),
            "the clock of the wearable is wrong; times are worked out from its uptime",
        ),
        (
            "sepsis_risk",
            [a_score(0, 0.71)],
            "sepsis risk 71.0% by model 1.2, alarm threshold 50.0%; respiratory rate rising; NEWS2 >= 0",
        ),
        ("model_unavailable", [a_score(0, None, reason="warming up")], "sepsis model: warming up"),
    ],
)
def test_every_rule_explains_itself_with_its_value_and_its_limit(
    rule_id: str, messages: list[Message], text: str
) -> None:
    (alarm,) = alarms(feed(a_monitor(), *messages), rule_id)

    assert alarm.text == text
    assert "\n" not in alarm.text


def test_a_shock_index_of_one_for_five_minutes_is_told() -> None:
    monitor = a_monitor()
    events = feed(monitor, *steady(0, 5 * MINUTE, heart_rate=100, systolic_bp=100))

    (alarm,) = alarms(events, "shock_index")

    assert alarm.at_ms == START + 5 * MINUTE
    assert "shock index 1.0" in alarm.text.lower()


def test_a_pulse_that_is_normal_for_others_is_told_when_it_is_not_this_patient_s() -> None:
    monitor = a_monitor()
    feed(monitor, *steady(0, 2 * HOUR, every_ms=MINUTE, heart_rate=55))

    (alarm,) = alarms(
        feed(monitor, *steady(2 * HOUR + MINUTE, 2 * HOUR + 12 * MINUTE, heart_rate=85)), "unusual_heart_rate"
    )

    assert (alarm.priority, alarm.basis) == (LOW, "baseline")
    assert alarm.text.startswith("heart rate unlike this patient: HR 85, usually 5")


# Durations and the way down, by readings


def test_short_desaturation_stays_pending() -> None:
    #   97   86   86   97        rule: 87 or less for 15 s
    #   |----|----|----|
    #   0    5    15   25 s
    monitor = a_monitor(below(VitalSign.SPO2, AlarmLimit(87, MEDIUM), for_ms=15_000))

    events = feed(monitor, spo2=[(0, 97), (5_000, 86), (15_000, 86), (25_000, 97)])

    assert alarms(events) == []


def test_a_saturation_that_trembles_at_its_limit_is_one_alarm() -> None:
    #   86  86   89      88       89     89        limit 87, margin 2, for 2 min
    #   |---|----|-------|--------|------|
    #   0   15s  1       2        3      5 min
    monitor = a_monitor(RULE["low_spo2"])

    events = alarms(
        feed(
            monitor,
            spo2=[(0, 86), (15_000, 86), (MINUTE, 89), (2 * MINUTE, 88), (3 * MINUTE, 89), (3 * MINUTE + 1_000, 88)],
        )
    )
    assert states(events) == [(ACTIVE, MEDIUM)]

    events = alarms(feed(monitor, spo2=[(4 * MINUTE, 89), (5 * MINUTE, 89), (6 * MINUTE, 89)]))
    assert states(events) == [(CLEARED, MEDIUM)]
    assert events[0].text == "over since 08:04 UTC; was low oxygen saturation: SpO2 86 %; limit <= 87"


def test_a_rising_news2_is_one_alarm_that_rises_and_stays_until_it_is_acknowledged() -> None:
    monitor = a_monitor()
    events = feed(
        monitor,
        *steady(0, 4 * MINUTE, respiratory_rate=26, spo2=93),  # 5
        *steady(5 * MINUTE, 9 * MINUTE, respiratory_rate=26, spo2=91, heart_rate=95),  # 7
        *steady(10 * MINUTE, 21 * MINUTE),  # 0
    )

    told = alarms(events, "news2")
    assert states(told) == [(ACTIVE, MEDIUM), (ACTIVE, HIGH), (CLEARED, HIGH)]
    assert len({alarm.alarm_id for alarm in told}) == 1
    assert told[-1].at_ms == START + 20 * MINUTE
    assert told[-1].latched
    assert told[-1] in monitor.open_alarms()

    feed(monitor, an_answer(told[-1], 22 * MINUTE))
    assert alarms(monitor.open_alarms(), "news2") == []


def test_a_cuff_that_measures_once_an_hour_holds_until_the_next_time() -> None:
    monitor = a_monitor(a_rule("systolic_bp", AlarmLimit(90, HIGH), comparison="<=", for_ms=MINUTE))

    events = feed(monitor, a_reading(0, systolic_bp=85), *time_line(heart_rate=[(30_000, 70), (60_000, 70)]))

    assert states(alarms(events)) == [(ACTIVE, HIGH)]


# Judged by level


def test_a_condition_that_is_already_true_raises_its_alarm_when_the_limit_is_changed() -> None:
    monitor = a_monitor(a_rule("news2", AlarmLimit(7, HIGH)))
    assert alarms(feed(monitor, *steady(0, MINUTE, respiratory_rate=26, spo2=93))) == []

    later = restarted(monitor, a_plan(NEWS2))

    assert states(alarms(feed(later, *steady(90_000, 90_000, respiratory_rate=26, spo2=93)))) == [(ACTIVE, MEDIUM)]


def test_a_condition_that_is_true_at_the_very_first_reading_raises_its_alarm() -> None:
    assert states(alarms(feed(a_monitor(NEWS2), a_reading(0, **{**WELL, **ILL})))) == [(ACTIVE, HIGH)]


# A score that falls because a part of it went missing is no recovery


def test_a_score_that_falls_because_a_sign_went_missing_is_no_recovery() -> None:
    #   HR 131 (+3), RR 21 (+2)     then RR 21 alone
    monitor = a_monitor(NEWS2)
    feed(monitor, *steady(0, 5 * MINUTE, heart_rate=131, respiratory_rate=21))

    events = alarms(
        feed(monitor, *steady(6 * MINUTE, 60 * MINUTE, every_ms=MINUTE, heart_rate=None, respiratory_rate=21))
    )

    assert [event.state for event in events] == [ACTIVE]
    assert events[0].text.startswith("was NEWS2 5: HR 131 (+3), RR 21 (+2); limit >= 5; no data since 08:0")
    assert len(standing(monitor)) == 1


def test_a_sign_that_went_missing_early_is_still_owed_a_better_value() -> None:
    #   HR 131 (+3), RR 25 (+3), SpO2 92 (+2)     HR falls off: 5     the others recover: 0, HR unknown
    monitor = a_monitor(NEWS2)
    bad = {"heart_rate": 131, "respiratory_rate": 25, "spo2": 92}
    feed(monitor, *steady(0, 5 * MINUTE, **bad))
    feed(monitor, *steady(6 * MINUTE, 10 * MINUTE, **{**bad, "heart_rate": None}))

    events = alarms(feed(monitor, *steady(11 * MINUTE, 40 * MINUTE, heart_rate=None)))
    assert CLEARED not in {event.state for event in events}

    events = alarms(feed(monitor, *steady(41 * MINUTE, 51 * MINUTE)))
    assert events[-1].state is CLEARED


def test_a_stale_alarm_says_what_it_was_and_since_when_there_are_no_data() -> None:
    monitor = a_monitor()
    (alarm,) = alarms(feed(monitor, a_reading(2 * MINUTE, **{**WELL, **ILL})), "news2")

    (stale,) = alarms(wait(monitor, 4 * MINUTE), "news2")

    assert (stale.alarm_id, stale.state, stale.at_ms) == (alarm.alarm_id, ACTIVE, START + 3 * MINUTE + 1)
    assert stale.text == "was NEWS2 7: RR 26 (+3), SpO2 91 (+3), HR 95 (+1); limit >= 7; no data since 08:02 UTC"


def test_no_alarm_ends_by_silence_however_long() -> None:
    monitor = a_monitor()
    feed(monitor, *steady(0, 2 * MINUTE, **ILL))
    before = {alarm.alarm_id for alarm in standing(monitor)}

    events = wait(monitor, 48 * HOUR)

    assert CLEARED not in {event.state for event in alarms(events)}
    assert before <= {alarm.alarm_id for alarm in standing(monitor)}


# Freshness and no data


@pytest.mark.parametrize(
    ("signs", "news2", "stale_min", "lost_min", "lost"),
    [
        ({}, 0, 30, 60, MEDIUM),
        ({"heart_rate": 95}, 1, 10, 30, MEDIUM),
        ({"heart_rate": 111, "respiratory_rate": 21}, 4, 10, 30, MEDIUM),
        ({"heart_rate": 131}, 3, 10, 30, HIGH),  # one sign in the red
        ({"heart_rate": 111, "respiratory_rate": 21, "spo2": 95}, 5, 3, 10, HIGH),
        ({"heart_rate": 111, "respiratory_rate": 21, "spo2": 93}, 6, 3, 10, HIGH),
        ({"heart_rate": 131, "respiratory_rate": 21, "spo2": 93}, 7, 1, 3, HIGH),
    ],
)
def test_silence_is_told_the_sooner_the_sicker_and_is_red_only_for_who_was_ill(
    signs: dict[str, Any], news2: int, stale_min: int, lost_min: int, lost: Priority
) -> None:
    monitor = a_monitor()
    (score,) = scores(feed(monitor, a_reading(0, **{**WELL, **signs})))
    assert score.total == news2

    events = wait(monitor, 2 * HOUR)

    stale_ms, lost_ms = stale_min * MINUTE + 1, lost_min * MINUTE + 1
    assert freshness(events) == [(10_001, "LATE"), (stale_ms, "STALE"), (lost_ms, "LOST")]
    told = [(alarm.at_ms - START, alarm.priority) for alarm in alarms(events, "no_data")]
    assert told == [(stale_ms, MEDIUM), (lost_ms, HIGH)][: 2 if lost is HIGH else 1]
    (alarm,) = standing(monitor, "no_data")
    assert (alarm.kind, alarm.key, alarm.onset_ms) == (AlarmKind.TECHNICAL, "", START)


def test_a_score_that_falls_because_a_sign_went_missing_does_not_make_its_silence_matter_later() -> None:
    # NEWS2 1, all of it the pulse's. Without it the rest adds up to 0, for which half an hour would do.
    monitor = a_monitor(RULE["no_data"])
    events = feed(monitor, a_reading(0, **{**WELL, "heart_rate": 95}))
    for after_ms in range(MINUTE, 15 * MINUTE, MINUTE):
        events += feed(monitor, a_reading(after_ms, **{**WELL, "heart_rate": None}))
        events += wait(monitor, after_ms)

    (alarm,) = alarms(events)

    assert (alarm.key, alarm.at_ms) == ("heart_rate", START + 10 * MINUTE + 1)


def test_a_sign_alone_in_the_red_makes_only_its_own_loss_red() -> None:
    #   HR 131 (+3) stops; RR and SpO2 go on. Then the same with RR, which was normal.
    for silent, priority in (("heart_rate", HIGH), ("respiratory_rate", MEDIUM)):
        monitor = a_monitor(RULE["no_data"])
        feed(monitor, a_reading(0, **{**WELL, "heart_rate": 131}))
        for after_ms in range(MINUTE, 40 * MINUTE, MINUTE):
            feed(monitor, a_reading(after_ms, **{**WELL, "heart_rate": 131, silent: None}))
            wait(monitor, after_ms)

        (alarm,) = standing(monitor, "no_data")

        assert (alarm.key, alarm.priority) == (silent, priority)


def test_no_data_is_on_by_default_for_each_sign_and_for_the_whole_patient() -> None:
    #   HR stops at 08:00        everything stops at 08:20      all is back at 09:30
    monitor = a_monitor()
    for after_ms in range(0, 20 * MINUTE + 1, MINUTE):
        feed(monitor, a_reading(after_ms, **{**WELL, "respiratory_rate": 21, "heart_rate": None if after_ms else 70}))
        wait(monitor, after_ms)
    (of_sign,) = standing(monitor, "no_data")
    assert (of_sign.key, of_sign.text) == (
        "heart_rate",
        "no data for heart rate since 08:00 UTC, 10 min; NEWS2 was 2",
    )

    wait(monitor, 80 * MINUTE)
    (_, of_patient) = standing(monitor, "no_data")
    assert (of_patient.key, of_patient.text) == ("", "no data for any sign since 08:20 UTC, 10 min; NEWS2 was 2")

    events = alarms(feed(monitor, a_reading(90 * MINUTE, **WELL)), "no_data")
    assert {(event.alarm_id, event.state) for event in events} == {
        (of_sign.alarm_id, CLEARED),
        (of_patient.alarm_id, CLEARED),
    }
    assert not any(event.latched for event in events)


def test_who_comes_back_with_one_sign_only_is_still_missed_with_the_others() -> None:
    monitor = a_monitor()
    feed(monitor, a_reading(0, **WELL))
    wait(monitor, 40 * MINUTE)

    feed(monitor, a_reading(41 * MINUTE, heart_rate=70))

    assert [alarm.key for alarm in standing(monitor, "no_data")] == ["respiratory_rate", "spo2"]


def test_a_sign_that_is_not_expected_may_fall_silent() -> None:
    monitor = a_monitor(expected=(VitalSign.HEART_RATE,))
    for after_ms in range(0, 2 * HOUR, MINUTE):
        feed(monitor, a_reading(after_ms, heart_rate=70, spo2=None if after_ms else 98))
        wait(monitor, after_ms)

    assert standing(monitor, "no_data") == []


def test_a_plan_says_how_soon_silence_matters() -> None:
    monitor = a_monitor(stale_after_ms=90_000, lost_after_ms=120_000)
    feed(monitor, a_reading(0, **WELL))

    events = wait(monitor, HOUR)

    assert freshness(events) == [(10_001, "LATE"), (90_001, "STALE"), (120_001, "LOST")]


@pytest.mark.parametrize("late_ms", [10_001, 30 * MINUTE + 1, 60 * MINUTE + 1])
def test_a_sign_that_is_heard_again_is_fresh(late_ms: int) -> None:
    monitor = a_monitor()
    feed(monitor, a_reading(0, **WELL))
    wait(monitor, late_ms)

    events = feed(monitor, a_reading(late_ms + 999, **WELL))

    assert freshness(events) == [(late_ms + 999, "FRESH")]
    assert standing(monitor) == []
    assert monitor.timer_at() is not None


@pytest.mark.parametrize(
    ("message", "keys"),
    [
        (a_silence("news2", 20 * MINUTE, until_ms=HOUR), [""]),
        # The respiratory rate was never measured at all, which is due at 08:10 as well.
        (a_reading(20 * MINUTE, spo2=98), ["heart_rate", "respiratory_rate"]),
    ],
)
def test_a_timer_that_is_overdue_is_not_forgotten_for_a_message_that_comes_first(
    message: Message, keys: list[str]
) -> None:
    # Stopped from 08:00 to 08:20; the heart rate was to be called stale at 08:10, and is to be lost at 08:30.
    monitor = a_monitor()
    feed(monitor, a_reading(0, heart_rate=95))

    feed(monitor, message)
    wait(monitor, 20 * MINUTE)

    assert [alarm.key for alarm in standing(monitor, "no_data")] == keys


def test_who_was_only_ever_heard_of_by_backfill_is_not_called_fresh() -> None:
    monitor = a_monitor()
    feed(monitor, a_reading(0, held_up_ms=6 * MINUTE, says_age=True, **WELL))

    events = wait(monitor, 2 * HOUR)

    assert freshness(events) == [(10_001, "LATE"), (10 * MINUTE + 1, "STALE"), (30 * MINUTE + 1, "LOST")]
    assert [alarm.key for alarm in standing(monitor, "no_data")] == [""]


# Sensor off, battery, clock


@pytest.mark.parametrize(("off_ms", "told"), [(59_999, []), (60_000, [(ACTIVE, LOW)]), (61_000, [(ACTIVE, LOW)])])
def test_a_sensor_that_is_off_is_told_after_a_minute(off_ms: int, told: list[tuple[AlarmState, Priority]]) -> None:
    monitor = a_monitor(RULE["sensor_off"])

    events = feed(
        monitor,
        a_reading(0, counter=0, flags=SensorFlag.SENSOR_OFF),
        a_reading(off_ms, counter=1, flags=SensorFlag.SENSOR_OFF),
    )

    assert states(alarms(events)) == told


def test_a_sensor_that_stays_off_becomes_more_urgent_and_is_forgiven_when_worn_again() -> None:
    monitor = a_monitor(RULE["sensor_off"])

    events = feed(
        monitor,
        *steady(0, 10 * MINUTE, flags=SensorFlag.SENSOR_OFF),
        *steady(11 * MINUTE, 11 * MINUTE),
    )

    told = alarms(events)
    assert states(told) == [(ACTIVE, LOW), (ACTIVE, MEDIUM), (CLEARED, MEDIUM)]
    assert {(alarm.kind, alarm.onset_ms) for alarm in told} == {(AlarmKind.TECHNICAL, START)}


def test_an_alarm_stays_when_the_sensor_falls_off() -> None:
    monitor = a_monitor()
    feed(monitor, *steady(0, 2 * MINUTE, **ILL))

    events = feed(monitor, *steady(3 * MINUTE, HOUR, flags=SensorFlag.SENSOR_OFF, **ILL))

    assert CLEARED not in {event.state for event in alarms(events)}
    assert {"news2", "sensor_off"} <= {alarm.rule_id for alarm in standing(monitor)}


@pytest.mark.parametrize(
    ("percent", "told"),
    [
        ([16], []),
        ([15], [(ACTIVE, LOW)]),
        ([15, 5], [(ACTIVE, LOW), (ACTIVE, MEDIUM)]),
        ([15, 19], [(ACTIVE, LOW)]),
        ([15, 20], [(ACTIVE, LOW), (CLEARED, LOW)]),
    ],
)
def test_a_battery_is_told_before_it_is_empty(percent: list[int], told: list[tuple[AlarmState, Priority]]) -> None:
    readings = [a_reading(minute * MINUTE, battery=level) for minute, level in enumerate(percent)]

    assert states(alarms(feed(a_monitor(RULE["battery"]), *readings))) == told


# Late and backfilled


@pytest.mark.parametrize(("held_up_ms", "backfilled"), [(0, False), (300_000, False), (300_001, True)])
def test_what_was_held_up_longer_than_five_minutes_is_for_the_record(held_up_ms: int, backfilled: bool) -> None:
    events = feed(a_monitor(NEWS2), a_reading(0, held_up_ms=held_up_ms, **{**WELL, **ILL}))

    (alarm,) = alarms(events)
    assert judged(events).backfilled is backfilled
    assert (alarm.retrospective, alarm.state) == ((True, CLEARED) if backfilled else (False, ACTIVE))
    assert alarm.priority is HIGH


def test_a_late_reading_goes_to_the_record_and_changes_no_score_and_no_alarm() -> None:
    monitor = a_monitor()
    feed(monitor, a_reading(MINUTE, **WELL))

    events = feed(monitor, a_reading(30_000, held_up_ms=30_000, **{**WELL, **ILL}))

    assert (judged(events).late, judged(events).backfilled) == (True, False)
    assert scores(events) == []
    assert alarms(events) == []


def test_two_readings_of_one_moment_are_both_current() -> None:
    monitor = a_monitor(NEWS2)

    first, second = scores(feed(monitor, a_reading(0, counter=0, **WELL), a_reading(0, counter=1, **ILL)))

    assert (first.at_least, second.at_least) == (0, 7)
    assert len(standing(monitor)) == 1


def test_a_sign_that_was_only_held_up_is_not_missed_any_more_and_counts_from_the_next_reading_on() -> None:
    #   all well      no data (10 min)    only RR         what HR and SpO2 were 30 s before
    monitor = a_monitor()
    feed(monitor, a_reading(0, **{**WELL, "heart_rate": 95}))
    wait(monitor, 15 * MINUTE)
    feed(monitor, a_reading(15 * MINUTE, respiratory_rate=21))
    assert [alarm.key for alarm in standing(monitor, "no_data")] == ["heart_rate", "spo2"]

    late = feed(monitor, a_reading(15 * MINUTE - 30_000, held_up_ms=30_000, heart_rate=131, spo2=93))
    (score,) = scores(feed(monitor, a_reading(15 * MINUTE + 5_000, respiratory_rate=21)))

    assert standing(monitor, "no_data") == []
    assert [event.state for event in alarms(late)] == [CLEARED, CLEARED]
    assert score.at_least == 7


def test_backfilled_readings_never_sound_and_are_told_once_per_episode() -> None:
    monitor = a_monitor()
    feed(monitor, a_reading(HOUR, **WELL))

    events = feed(
        monitor,
        *(a_reading(minute * MINUTE, held_up_ms=HOUR, says_age=True, **{**WELL, **ILL}) for minute in range(20)),
    )

    assert {event.retrospective for event in alarms(events)} == {True}
    assert [(event.rule_id, event.key) for event in alarms(events)] == [
        ("news2", ""),
        ("red_sign", "respiratory_rate"),
        ("red_sign", "spo2"),
    ]
    assert monitor.open_alarms() == []


def test_the_end_of_a_backlog_is_one_silence_and_not_one_for_each_reading() -> None:
    monitor = a_monitor()
    events = feed(monitor, *steady(0, 2 * MINUTE, every_ms=5 * SECOND, **ILL))
    cut_ms, now_ms = 2 * MINUTE, 40 * MINUTE
    events += wait(monitor, now_ms - 1)
    while cut_ms < now_ms:  # drained twice as fast as it was measured
        for at_ms in (cut_ms + 5 * SECOND, cut_ms + 10 * SECOND):
            values = {**WELL, **ILL, "heart_rate": 95 + at_ms // 5_000 % 3}
            events += feed(monitor, a_reading(at_ms, held_up_ms=now_ms - at_ms, says_age=True, **values))
        cut_ms, now_ms = cut_ms + 10 * SECOND, now_ms + 5 * SECOND
        events += wait(monitor, now_ms - 1)

    silences = [one for one in alarms(events, "no_data") if one.state is AlarmState.ACTIVE and not one.key]
    assert len({one.alarm_id for one in silences}) == 1
    assert standing(monitor, "no_data") == []


def test_backfilled_readings_that_are_newer_than_all_else_do_not_sound_either() -> None:
    monitor = a_monitor()
    feed(monitor, a_reading(0, **WELL))

    ill = {**WELL, **ILL}
    events = feed(monitor, *(a_reading(k * MINUTE, held_up_ms=HOUR, says_age=True, **ill) for k in range(1, 10)))

    assert scores(events)[-1].at_least == 7  # for the trend
    assert {event.retrospective for event in alarms(events)} == {True}
    assert standing(monitor) == []


@pytest.mark.parametrize("measured_min", [1, 11, 23, 29])
@pytest.mark.parametrize("signs", [{"heart_rate": 95}, {"heart_rate": 95, "respiratory_rate": 14, "spo2": 98}])
def test_backfilled_readings_never_clear_no_data(measured_min: int, signs: dict[str, float]) -> None:
    #   all        no data            backfilled: measured then, here 6 min later        LOST
    #   |----------|------------------|--------------------------------------------------|----
    #   08:00      08:10                                                                 08:30
    monitor = a_monitor()
    feed(monitor, a_reading(0, **{**WELL, "heart_rate": 95}))
    wait(monitor, max(10, measured_min + 6) * MINUTE + 1)
    (alarm,) = standing(monitor, "no_data")

    events = feed(monitor, a_reading(measured_min * MINUTE, held_up_ms=6 * MINUTE, **signs)) + wait(monitor, 2 * HOUR)

    assert alarm.alarm_id in {one.alarm_id for one in standing(monitor, "no_data")}
    assert CLEARED not in {event.state for event in alarms(events) if not event.retrospective}
    assert "FRESH" not in {state for _, state in freshness(events)}


def test_wider_limits_do_not_end_a_silence() -> None:
    # HR stops under NEWS2 7, which makes it stale after a minute. The others recover, and ten minutes would do now.
    monitor = a_monitor(RULE["no_data"])
    feed(monitor, a_reading(0, **{**WELL, "heart_rate": 110, "respiratory_rate": 25, "spo2": 91}))
    events: list[Event] = []
    for after_ms in range(30 * SECOND, 9 * MINUTE, 30 * SECOND):
        signs = {} if after_ms > 2 * MINUTE else {"respiratory_rate": 25, "spo2": 91}
        events += feed(monitor, a_reading(after_ms, **{**WELL, **signs, "heart_rate": None}))
        events += wait(monitor, after_ms)

    assert states(alarms(events)) == [(ACTIVE, MEDIUM)]
    assert freshness(events) == [(10_001, "LATE"), (60_001, "STALE")]


# Windows


def test_a_minute_is_summed_up_when_nothing_may_join_it_any_more() -> None:
    #   70 80 90 | 60            | 60          a minute closes 30 s after its end
    #   0  20 40 | 60 s          | 90 s
    monitor = a_monitor()

    before = feed(monitor, heart_rate=[(0, 70), (20_000, 80), (40_000, 90), (60_000, 60), (89_000, 60)])
    (closed,) = [event for event in feed(monitor, a_reading(90_000)) if isinstance(event, WindowClosed)]

    assert not [event for event in before if isinstance(event, WindowClosed)]
    assert (closed.sign, closed.start_ms, closed.width_ms) == ("heart_rate", START, MINUTE)
    assert (closed.count, closed.mean, closed.minimum, closed.maximum) == (3, 80.0, 70.0, 90.0)


def test_a_window_holds_usable_values_of_measured_signs_only() -> None:
    monitor = a_monitor()
    feed(
        monitor,
        a_reading(0, **WELL),
        a_reading(30_000, heart_rate=301, spo2=80, flags=SensorFlag.LOW_PERFUSION),
    )

    closed = {
        event.sign: (event.count, event.maximum)
        for event in feed(monitor, a_reading(90_000))
        if isinstance(event, WindowClosed)
    }

    assert closed == {
        "heart_rate": (1, 70.0),
        "respiratory_rate": (1, 14.0),
        "spo2": (1, 98.0),
        "systolic_bp": (1, 120.0),
        "temperature": (1, 37.0),
    }


def test_a_reading_that_misses_its_window_says_which_one_to_compute_again() -> None:
    monitor = a_monitor()
    feed(monitor, a_reading(0, heart_rate=70), a_reading(5 * MINUTE, heart_rate=70))

    events = feed(monitor, a_reading(10_000, held_up_ms=5 * MINUTE, heart_rate=90))

    assert [event for event in events if isinstance(event, WindowOutdated)] == [
        WindowOutdated(stay_id=BINDING, sign="heart_rate", start_ms=START, width_ms=MINUTE)
    ]


def test_a_late_reading_joins_its_window_while_that_is_open() -> None:
    monitor = a_monitor()
    feed(monitor, a_reading(0, heart_rate=70), a_reading(80_000, heart_rate=70))
    feed(monitor, a_reading(40_000, held_up_ms=40_000, heart_rate=90))

    (closed,) = [event for event in feed(monitor, a_reading(90_000)) if isinstance(event, WindowClosed)]

    assert (closed.count, closed.mean) == (2, 80.0)


# Answers and silences


def test_an_answer_reaches_the_alarm_and_survives_a_restart() -> None:
    monitor = a_monitor(NEWS2)
    (alarm,) = alarms(feed(monitor, a_reading(0, **{**WELL, **ILL})))

    (answered,) = alarms(feed(monitor, an_answer(alarm, 1_000)))

    assert (answered.acknowledged_by, answered.state) == ("anna", ACTIVE)
    assert restarted(monitor).open_alarms() == [answered]
    assert feed(monitor, an_answer(alarm, 2_000, by="ben")) == []


def test_silence_is_not_broken_by_the_same_condition_but_by_a_higher_severity_and_survives_a_snapshot() -> None:
    monitor = a_monitor(NEWS2)
    feed(monitor, *steady(0, MINUTE, respiratory_rate=26, spo2=93))  # 5
    (silenced,) = alarms(feed(monitor, a_silence("news2", MINUTE, until_ms=HOUR)))

    later = restarted(monitor)
    same = alarms(feed(later, *steady(2 * MINUTE, 5 * MINUTE, respiratory_rate=26, spo2=93)))
    assert same == []
    assert later.open_alarms() == [silenced]

    (higher,) = alarms(feed(later, *steady(6 * MINUTE, 7 * MINUTE, **ILL)))
    assert (silenced.silenced_until_ms, higher.silenced_until_ms) == (START + HOUR, None)


def test_a_silence_asks_for_the_timer_that_ends_it() -> None:
    monitor = a_monitor(NEWS2)
    feed(monitor, *steady(0, 0, respiratory_rate=26, spo2=93), a_silence("news2", 1_000, until_ms=5_000))
    assert monitor.timer_at() == START + 5_000

    (sounds,) = alarms(wait(restarted(monitor), 5_000))

    assert (sounds.at_ms, sounds.silenced_until_ms) == (START + 5_000, None)


# The model may add, never take away


def test_a_model_may_raise_an_alarm_of_its_own() -> None:
    monitor = a_monitor()

    events = feed(monitor, *steady(0, MINUTE), a_score(61_000, 0.49), a_score(62_000, 0.5))

    (alarm,) = alarms(events)
    assert (alarm.rule_id, alarm.priority, alarm.basis) == ("sepsis_risk", MEDIUM, "model")


@pytest.mark.parametrize("probability", [0.0, None, float("nan")])
def test_a_model_that_sees_nothing_does_not_touch_the_alarm_of_the_rule(probability: float | None) -> None:
    monitor = a_monitor(NEWS2, RULE["sepsis_risk"])
    feed(monitor, a_reading(0, **{**WELL, **ILL}))
    before = monitor.open_alarms()

    assert alarms(feed(monitor, *(a_score(minute * MINUTE, probability) for minute in range(60)))) == []
    assert monitor.open_alarms() == before


def test_the_model_s_passport_says_from_where_on_it_speaks() -> None:
    careful, bold = a_monitor(RULE["sepsis_risk"]), a_monitor(RULE["sepsis_risk"])

    (alarm,) = alarms(feed(bold, a_reading(0, **WELL), a_score(0, 0.061, threshold=0.0286)))

    assert alarms(feed(careful, a_score(0, 0.061, threshold=0.5))) == []
    assert alarm.text == ("sepsis risk 6.1% by model 1.2, alarm threshold 2.9%; respiratory rate rising; NEWS2 0")


def test_a_score_that_trembles_at_the_threshold_is_one_alarm() -> None:
    monitor = a_monitor(RULE["sepsis_risk"])
    trembling = [a_score(minute * MINUTE, 0.5 + (-1) ** minute * 0.05) for minute in range(0, 60, 5)]
    calm = [a_score(minute * MINUTE, 0.39) for minute in range(60, 80, 5)]

    told = alarms(feed(monitor, *trembling, *calm))

    assert [event.state for event in told] == [ACTIVE, CLEARED]


def test_a_model_that_falls_silent_during_its_alarm_has_not_seen_the_end_of_it() -> None:
    monitor = a_monitor(RULE["sepsis_risk"])
    feed(monitor, a_score(0, 0.9))

    (unknown,) = alarms(feed(monitor, a_score(5 * MINUTE, None), a_score(10 * MINUTE, None)))
    (again,) = alarms(feed(monitor, a_score(15 * MINUTE, 0.8)))

    assert (unknown.state, again.state) == (ACTIVE, ACTIVE)
    assert "no data since 08:00 UTC" in unknown.text
    assert "no data" not in again.text


@pytest.mark.parametrize("what", ["late", "held up"])
def test_a_score_that_comes_too_late_is_kept_and_does_not_sound(what: str) -> None:
    monitor = a_monitor(RULE["sepsis_risk"])
    feed(monitor, a_score(10 * MINUTE, 0.1))
    score = a_score(9 * MINUTE, 0.9) if what == "late" else a_score(11 * MINUTE, 0.9, held_up_ms=6 * MINUTE)

    assert feed(monitor, score) == [ModelScored(score=score, late=what == "late", backfilled=what == "held up")]


def test_a_score_that_comes_twice_changes_nothing() -> None:
    monitor = a_monitor()
    feed(monitor, a_score(0, 0.9))
    before = monitor.snapshot()

    assert feed(monitor, a_score(0, 0.9)) == []
    assert monitor.snapshot() == before


def test_a_state_from_before_there_were_models_is_read() -> None:
    monitor = a_monitor()
    feed(monitor, *steady(0, HOUR), a_score(HOUR, 0.9))
    first_parts = 13  # later versions append theirs
    before = msgspec.msgpack.encode(msgspec.msgpack.decode(monitor.snapshot())[:first_parts])

    again = PatientMonitor.restore(BINDING, before, monitor.plan)

    assert again.open_alarms() == monitor.open_alarms()
    assert again.view(START + HOUR).models == ()


def test_a_state_from_before_bindings_were_known_is_read_and_watches_what_never_came() -> None:
    monitor = a_monitor()
    feed(monitor, *steady(0, HOUR, spo2=None))
    before = msgspec.msgpack.encode(msgspec.msgpack.decode(monitor.snapshot())[:-1])

    again = PatientMonitor.restore(BINDING, before, monitor.plan)
    feed(again, *steady(HOUR + MINUTE, HOUR + 40 * MINUTE, spo2=None))
    wait(again, HOUR + 40 * MINUTE)

    assert [alarm.key for alarm in standing(again, "no_data")] == ["spo2"]


def test_a_screen_shows_a_score_with_its_age_and_an_old_one_not_at_all() -> None:
    monitor = a_monitor()
    feed(monitor, a_score(0, 0.3))

    (now,) = monitor.view(START + 10 * MINUTE).models
    (later,) = monitor.view(START + 20 * MINUTE).models

    assert (now.score, now.age_ms, now.threshold) == (0.3, 10 * MINUTE, 0.5)
    assert (later.score, later.age_ms) == (None, 20 * MINUTE)


def test_a_model_that_cannot_judge_is_told_as_technical_until_it_can() -> None:
    monitor = a_monitor()

    events = feed(monitor, a_score(0, None, reason="warming up 20 %"), a_score(1_000, None), a_score(2_000, 0.1))

    assert [(event.state, event.kind, event.key) for event in alarms(events)] == [
        (ACTIVE, AlarmKind.TECHNICAL, "sepsis"),
        (CLEARED, AlarmKind.TECHNICAL, "sepsis"),
    ]


def test_a_model_that_cannot_judge_for_an_hour_is_more_than_a_note() -> None:
    monitor = a_monitor()

    told = alarms(feed(monitor, *(a_score(minute * MINUTE, None) for minute in range(0, 65, 5))))

    assert [(event.priority, event.at_ms - START) for event in told] == [(LOW, 0), (MEDIUM, HOUR)]


# The state is one small value


def test_a_patient_who_is_well_fits_into_two_kilobytes() -> None:
    monitor = a_monitor()
    sizes = []
    for counter, after_ms in enumerate(range(0, 4 * HOUR, 5 * SECOND)):
        wobble = counter % 3
        signs = {**WELL, "heart_rate": 70 + wobble, "respiratory_rate": 14 + wobble, "spo2": 96 + wobble}
        wait(monitor, after_ms)
        feed(monitor, a_reading(after_ms, counter=counter, battery=80, **signs))
        if counter % 60 == 0:
            sizes.append(len(monitor.snapshot()))

    assert monitor.open_alarms() == []
    assert max(sizes) <= 2_048


@pytest.mark.parametrize(
    "snapshot",
    [
        b"",
        b"\x00",
        b"not a state",
        a_monitor().snapshot()[:-1],
        msgspec.msgpack.encode([]),
        msgspec.msgpack.encode([1]),
        msgspec.msgpack.encode({}),
        msgspec.msgpack.encode([99, *msgspec.msgpack.decode(a_monitor().snapshot())[1:]]),
    ],
)
def test_a_state_that_cannot_be_read_is_refused_by_name(snapshot: bytes) -> None:
    with pytest.raises(BadSnapshot, match=BINDING):
        PatientMonitor.restore(BINDING, snapshot, a_plan())


def test_without_a_snapshot_the_monitor_is_new() -> None:
    assert PatientMonitor.restore(BINDING, None, a_plan()).snapshot() == a_monitor().snapshot()


# What a screen may show


def test_a_view_shows_every_value_with_its_age_and_nothing_stale_as_current() -> None:
    monitor = a_monitor()
    feed(monitor, a_reading(0, **{**WELL, "heart_rate": 95}))

    view = monitor.view(START + 12 * MINUTE)

    assert view.seen_ms == START
    assert view.news2.total is None
    assert {sign.age_ms for sign in view.signs} == {12 * MINUTE}
    shown = {sign.sign: sign.freshness.name for sign in view.signs}
    assert (shown[VitalSign.HEART_RATE], shown[VitalSign.SYSTOLIC_BP]) == ("STALE", "FRESH")


# What holds for every story


class Step(NamedTuple):
    """Something happens, so long after what happened before."""

    gap_ms: int
    what: str
    heart_rate: float | None
    respiratory_rate: float | None
    spo2: float | None
    flags: SensorFlag
    pick: int


STEPS = st.lists(
    st.builds(
        Step,
        st.sampled_from([0, 5 * SECOND, 30 * SECOND, MINUTE, 3 * MINUTE, 11 * MINUTE, 40 * MINUTE]),
        st.sampled_from(
            ["reading"] * 6
            + ["late", "duplicate", "backfilled", "time passes", "time passes", "answer", "silence", "score"]
        ),
        st.sampled_from([None, 34, 70, 95, 135, 160, 400]),
        st.sampled_from([None, 14, 14, 22, 26]),
        st.sampled_from([None, 98, 98, 93, 88, 86, 80]),
        st.sampled_from([SensorFlag.NONE] * 5 + [SensorFlag.SENSOR_OFF, SensorFlag.MOTION, SensorFlag.CLOCK_CORRECTED]),
        st.integers(0, 9),
    ),
    max_size=30,
)
MODEL_RULES = frozenset({"sepsis_risk", "heart_risk", "model_unavailable"})
story = settings(deadline=None, max_examples=150, derandomize=True)


class Told(NamedTuple):
    """One step and what it was answered with."""

    step: Step
    message: Message | None
    events: list[Event]


def a_message(step: Step, now_ms: int, counter: int, sent: list[Reading], monitor: PatientMonitor) -> Message | None:
    held_up_ms = {"late": 20 * SECOND, "backfilled": 6 * MINUTE}.get(step.what, 0)
    if step.what in ("reading", "late", "backfilled"):
        signs = {"heart_rate": step.heart_rate, "respiratory_rate": step.respiratory_rate, "spo2": step.spo2}
        if step.pick < 3:
            signs |= {"systolic_bp": 95, "consciousness": Consciousness.ALERT, "temperature": 36.5, "battery": 14}
        return a_reading(now_ms - held_up_ms, held_up_ms=held_up_ms, counter=counter, flags=step.flags, **signs)
    if step.what == "duplicate" and sent:
        return sent[step.pick % len(sent)]
    open_now = [alarm for alarm in monitor.open_alarms() if alarm.rule_id not in MODEL_RULES]
    if step.what == "answer" and open_now:
        return an_answer(open_now[step.pick % len(open_now)], now_ms)
    if step.what == "silence":
        rule_id = ("news2", "red_sign", "no_data", "low_spo2")[step.pick % 4]
        return a_silence(rule_id, now_ms, until_ms=now_ms + step.pick * MINUTE)
    if step.what == "score":
        return a_score(now_ms, (None, 0.2, 0.9)[step.pick % 3])
    return None


def tell(steps: list[Step], *, restart: bool = False, models: bool = True) -> tuple[PatientMonitor, list[Told]]:
    monitor = a_monitor()
    told: list[Told] = []
    sent: list[Reading] = []
    now_ms = HOUR
    for counter, step in enumerate(steps):
        now_ms += step.gap_ms
        message = a_message(step, now_ms, counter, sent, monitor)
        if isinstance(message, Reading):
            sent.append(message)
        if step.what == "time passes":
            told.append(Told(step, None, wait(monitor, now_ms)))
        elif message is not None and (models or not isinstance(message, ModelScore)):
            told.append(Told(step, message, apply(monitor, message)))
        if restart:
            monitor = restarted(monitor)
    return monitor, told


@pytest.mark.slow
@story
@given(STEPS)
def test_a_restart_after_any_message_changes_nothing(steps: list[Step]) -> None:
    through, told = tell(steps)
    restarted_often, told_again = tell(steps, restart=True)

    assert told_again == told
    assert restarted_often.snapshot() == through.snapshot()
    assert restarted_often.timer_at() == through.timer_at()


@story
@given(STEPS)
def test_a_message_that_comes_twice_changes_nothing_and_repeats_what_stands(steps: list[Step]) -> None:
    monitor, told = tell(steps)
    before = monitor.snapshot()

    for one in told:
        if isinstance(one.message, Reading):
            assert apply(monitor, one.message) == monitor.open_alarms()

    assert monitor.snapshot() == before


@story
@given(STEPS)
def test_a_condition_has_one_open_alarm_and_each_change_of_it_a_number(steps: list[Step]) -> None:
    monitor, told = tell(steps)

    last: dict[bytes, AlarmChanged] = {}
    for one in told:
        for event in alarms(one.events):
            known = last.get(event.alarm_id)
            if one.step.what == "duplicate":
                assert event == known
                continue
            assert event.revision == (0 if known is None else known.revision + 1)
            assert known is None or known.state is ACTIVE or event.state is CLEARED
            last[event.alarm_id] = event
        active = [(event.rule_id, event.key) for event in last.values() if event.state is ACTIVE]
        assert len(set(active)) == len(active)
    assert all(last[one.alarm_id] == one for one in monitor.open_alarms())


@pytest.mark.slow
@story
@given(STEPS)
def test_no_alarm_is_cleared_by_silence_or_by_what_is_missing_or_too_old(steps: list[Step]) -> None:
    _, told = tell(steps)

    over: set[bytes] = set()
    for _, message, events in told:
        ended = [
            event
            for event in alarms(events)
            if event.state is CLEARED and not event.retrospective and event.alarm_id not in over
        ]
        over |= {event.alarm_id for event in ended}
        if not ended or isinstance(message, ModelScore):
            assert all(event.rule_id in MODEL_RULES for event in ended)
            continue
        cause = judged(events)
        assert not cause.backfilled
        reading = cause.reading
        usable = {s for s in EXPECTED if getattr(reading, s) is not None and not reading.unusable >> INDEX[s] & 1}
        for event in ended:
            if event.rule_id == "no_data":
                assert usable if event.key == "" else event.key in usable
            else:
                assert not cause.late


@story
@given(STEPS)
def test_the_timer_that_is_asked_for_is_never_too_late(steps: list[Step]) -> None:
    monitor, _ = tell(steps)
    end_ms = HOUR + sum(step.gap_ms for step in steps)

    for after_ms in (end_ms, end_ms + MINUTE, end_ms + 25 * MINUTE, end_ms + 3 * HOUR):
        wait(monitor, after_ms)
        assert apply(monitor, a_tick(after_ms)) == []


@pytest.mark.slow
@story
@given(STEPS)
def test_a_model_never_suppresses_and_never_delays_the_alarm_of_a_rule(steps: list[Step]) -> None:
    _, with_models = tell(steps)
    _, without = tell(steps, models=False)

    def of_rules(told: list[Told]) -> list[Event]:
        return [
            event
            for one in told
            for event in one.events
            if not isinstance(event, ModelScored)
            and not (isinstance(event, AlarmChanged) and event.rule_id in MODEL_RULES)
        ]

    assert of_rules(with_models) == of_rules(without)


# Times in texts


def test_every_time_in_a_text_is_in_the_zone_of_the_site_and_names_it() -> None:
    monitor = PatientMonitor(BINDING, a_plan(), clock_of("Europe/Berlin"))
    feed(monitor, *steady(0, 2 * MINUTE, **ILL), *steady(3 * MINUTE, 20 * MINUTE))
    feed(monitor, *steady(21 * MINUTE, 23 * MINUTE, flags=SensorFlag.SENSOR_OFF))
    events = wait(monitor, 2 * HOUR)
    again = PatientMonitor.restore(BINDING, monitor.snapshot(), a_plan(), clock_of("Europe/Berlin"))

    texts = [one.text for one in [*alarms(events), *monitor.open_alarms()]]

    assert sum(" CET" in text for text in texts) >= 3
    assert not [text for text in texts if "UTC" in text]
    assert [one.text for one in again.open_alarms()] == [one.text for one in monitor.open_alarms()]
