"""What a patient does: what is told counts while it is fresh, of two the calmer counts, nothing explains for ever."""

from itertools import product

import msgspec
import pytest
from msgspec.structs import replace

from tests.vitals.stories import HOUR, MINUTE, SECOND, START, a_reading
from vitals.activity import EXPLAINS, FRESH_MS, ActivityPlan, Limits, PatientActivity
from vitals.errors import BadPlan
from vitals.messages import Activity, Reading, SensorFlag

REST, LIGHT, WALK, EXERCISE, UNKNOWN = (
    Activity.REST,
    Activity.LIGHT,
    Activity.WALK,
    Activity.EXERCISE,
    Activity.UNKNOWN,
)
ADULT = ActivityPlan(holds_up_to=EXERCISE, age_years=40)  # at most 180 /min: 136.8 on a walk, 171 in exercise


def told(activity: PatientActivity, *minutes: tuple[float, Activity]) -> None:
    for minute, what in minutes:
        tell(activity, a_reading(round(minute * MINUTE), activity=what))


def tell(activity: PatientActivity, reading: Reading) -> None:
    activity.note(reading)
    activity.advance(reading.at_ms)


def every_minute(what: Activity, first: int, last: int) -> list[tuple[float, Activity]]:
    return [(minute, what) for minute in range(first, last + 1)]


def limits(activity: PatientActivity, minute: float) -> Limits | None:
    return activity.limits(START + round(minute * MINUTE))


def test_rest_and_light_activity_explain_nothing() -> None:
    assert set(EXPLAINS) == {WALK, EXERCISE}


@pytest.mark.parametrize(
    ("age_years", "walk", "exercise"),
    [(20, 147.4, 184.3), (40, 136.8, 171.0), (80, 115.5, 144.4), (None, 110.2, 137.8)],
)
def test_the_limits_follow_the_age_and_without_one_they_are_the_lowest(
    age_years: float | None, walk: float, exercise: float
) -> None:
    plan = ActivityPlan(age_years=age_years)

    assert plan.limits(WALK) == (walk, 30)
    assert plan.limits(EXERCISE) == (exercise, 40)


def test_a_walk_explains_while_it_lasts_and_less_and_less_after_it() -> None:
    #   rest  walk, 10 min      rest
    #   0     1             11  12   13.5     16
    activity = PatientActivity(ADULT)
    told(activity, (0, REST), *every_minute(WALK, 1, 11))

    assert limits(activity, 11) == (136.8, 30)
    told(activity, (12, REST), (13.5, REST), (15.9, REST))

    half_way = limits(activity, 13.5)
    assert half_way is not None
    assert half_way.heart_rate == pytest.approx((136.8 + 90) / 2)
    assert half_way.respiratory_rate == 25
    assert limits(activity, 16) is None


def test_recovery_is_no_longer_than_the_walk() -> None:
    activity = PatientActivity(ADULT)
    told(activity, (0, WALK), (1, WALK), (1.5, REST), (2, REST))

    assert limits(activity, 1.5) is not None
    assert limits(activity, 2) is None


def test_who_walks_after_a_run_recovers_to_the_limits_of_a_walk() -> None:
    activity = PatientActivity(ADULT)
    told(activity, *every_minute(EXERCISE, 0, 20), *every_minute(WALK, 21, 30))

    heart_rates = [found.heart_rate for minute in (20, 24, 26, 30) if (found := limits(activity, minute)) is not None]

    assert heart_rates == pytest.approx([171, 138.6, 136.8, 136.8])


def test_what_is_not_told_for_a_minute_and_a_half_is_not_known() -> None:
    activity = PatientActivity(ADULT)
    told(activity, *every_minute(WALK, 0, 5))
    last_ms = START + 5 * MINUTE

    assert activity.limits(last_ms + FRESH_MS) is not None
    assert activity.limits(last_ms + FRESH_MS + 1) is None
    assert activity.at(last_ms + FRESH_MS + 1) is UNKNOWN
    assert activity.ends_ms(last_ms) == last_ms + FRESH_MS + 1


def test_an_activity_that_goes_on_for_longer_than_the_plan_believes_is_a_device_that_is_stuck() -> None:
    activity = PatientActivity(ADULT)
    told(activity, *every_minute(WALK, 0, 45))
    assert limits(activity, 45) is not None

    told(activity, (46, WALK), (46.5, REST))

    assert limits(activity, 46) is None
    assert limits(activity, 46.5) is None  # and there is no recovery from what was not believed
    told(activity, (47, WALK))
    assert limits(activity, 47) is not None


def test_a_gap_does_not_make_a_stuck_device_believed() -> None:
    activity = PatientActivity(ADULT)
    told(activity, *every_minute(EXERCISE, 0, 50), *every_minute(EXERCISE, 120, 125))

    assert limits(activity, 125) is None


@pytest.mark.parametrize(("one", "other"), list(product((REST, LIGHT, WALK, EXERCISE), repeat=2)))
def test_of_two_devices_the_calmer_counts(one: Activity, other: Activity) -> None:
    activity = PatientActivity(ADULT)
    tell(activity, a_reading(0, activity=one))
    tell(activity, replace(a_reading(SECOND, activity=other), binding_id="c2" * 16))

    assert activity.at(START + SECOND) is min(one, other)


def test_a_device_that_knows_no_activity_tells_nothing() -> None:
    activity = PatientActivity(ADULT)
    tell(activity, a_reading(0, activity=WALK))
    tell(activity, replace(a_reading(SECOND, activity=UNKNOWN), binding_id="c2" * 16))
    tell(activity, a_reading(2 * SECOND, activity=UNKNOWN))

    assert activity.at(START + 2 * SECOND) is WALK


def test_what_a_device_tells_while_it_is_off_the_body_is_not_heard() -> None:
    activity = PatientActivity(ADULT)
    tell(activity, a_reading(0, activity=EXERCISE, flags=int(SensorFlag.SENSOR_OFF)))

    assert not activity.is_known


def test_a_number_that_this_version_does_not_know_is_not_heard() -> None:
    activity = PatientActivity(ADULT)
    tell(activity, a_reading(0, activity=7))

    assert not activity.is_known


def test_a_reading_that_was_held_up_tells_what_was_and_not_what_is() -> None:
    activity = PatientActivity(ADULT)
    told(activity, (1, REST))
    activity.note(a_reading(30 * SECOND, activity=EXERCISE))

    assert activity.at(START + MINUTE) is REST


def test_exercise_of_a_patient_who_may_walk_counts_as_a_walk() -> None:
    activity = PatientActivity(replace(ADULT, holds_up_to=WALK))
    told(activity, *every_minute(EXERCISE, 0, 10))

    assert limits(activity, 10) == (136.8, 30)


def test_without_an_order_nothing_is_explained() -> None:
    activity = PatientActivity(ActivityPlan())
    told(activity, *every_minute(EXERCISE, 0, 10))

    assert limits(activity, 10) is None


def test_the_state_comes_back_and_moves_with_the_clock() -> None:
    activity, other = PatientActivity(ADULT), PatientActivity(ADULT)
    told(activity, *every_minute(EXERCISE, 0, 10), (11, LIGHT))

    other.load_state(msgspec.msgpack.decode(msgspec.msgpack.encode(activity.to_state())))
    other.shift(HOUR)

    assert other.limits(START + 12 * MINUTE + HOUR) == limits(activity, 12)
    assert PatientActivity(ADULT).to_state() == []


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"holds_up_to": REST}, "holds_up_to"),
        ({"holds_up_to": LIGHT}, "holds_up_to"),
        ({"age_years": 15.0}, "age_years"),
        ({"age_years": float("nan")}, "age_years"),
        ({"most_held_ms": 0}, "most_held_ms"),
        ({"most_held_ms": 3 * HOUR, "within_ms": 12 * HOUR}, "most_held_ms"),
        ({"most_held_ms": 31 * MINUTE}, "within_ms"),
        ({"most_believed_ms": 5 * HOUR}, "most_believed_ms"),
    ],
)
def test_a_plan_that_would_hold_without_bound_is_refused(changes: dict[str, object], named: str) -> None:
    with pytest.raises(BadPlan, match=named):
        replace(ADULT, **changes).check()
