"""An athlete's heart at rest is not what it is in training: each activity has a normal of its own, beside the day's."""

from collections.abc import Iterator
from itertools import chain

from tests.vitals.stories import HOUR, MINUTE, SECOND, a_monitor, a_reading, alarms, feed, restarted, steady
from vitals.activity import ActivityPlan
from vitals.messages import Activity, AlarmState, Reading
from vitals.monitor import PatientMonitor
from vitals.patient_group import PatientGroup

REST, LIGHT, WALK, EXERCISE = Activity.REST, Activity.LIGHT, Activity.WALK, Activity.EXERCISE
ATHLETE = ActivityPlan(
    holds_up_to=EXERCISE, age_years=30, most_held_ms=2 * HOUR, within_ms=6 * HOUR, learns_by_activity=True
)


def an_athlete(**changes: object) -> PatientMonitor:
    return a_monitor(activity=ATHLETE, group=PatientGroup.ADULT, **changes)


def hours(first: float, last: float, activity: Activity, heart_rate: float) -> Iterator[Reading]:
    """A reading a minute, of a heart that varies by 2 /min."""
    for number, after_ms in enumerate(range(round(first * HOUR), round(last * HOUR), MINUTE)):
        beats = heart_rate + (-2, 0, 2)[number % 3]
        yield from steady(
            after_ms, after_ms, heart_rate=beats, respiratory_rate=13, systolic_bp=150, activity=int(activity)
        )


def a_day_with_training(first: float = 0) -> Iterator[Reading]:
    """At rest 48 /min, about the house 75 /min, more than an hour of training at 150 /min, and home on foot."""
    return chain(
        *(
            chain(hours(first + at, first + at + 0.5, REST, 48), hours(first + at + 0.5, first + at + 1, LIGHT, 75))
            for at in range(4)
        ),
        hours(first + 4, first + 5.2, EXERCISE, 150),
        hours(first + 5.2, first + 5.5, WALK, 90),
        hours(first + 5.5, first + 8, REST, 48),
    )


def unusual(monitor: PatientMonitor, *readings: Reading) -> list[str]:
    return [
        one.text
        for one in alarms(feed(monitor, *readings), "unusual_heart_rate")
        if one.state is AlarmState.ACTIVE and not one.retrospective
    ]


def test_at_rest_the_heart_of_an_athlete_that_is_fast_for_them_alone_is_an_alarm() -> None:
    athlete, other = an_athlete(), a_monitor(group=PatientGroup.ADULT)
    feed(athlete, *a_day_with_training())
    feed(other, *a_day_with_training())
    ill = list(hours(8, 8.5, REST, 70))

    assert unusual(other, *ill) == []  # a number that this day has seen often
    texts = unusual(athlete, *ill)

    assert len(texts) == 1
    assert "HR 70" in texts[0] or "HR 72" in texts[0] or "HR 68" in texts[0]
    assert "usually 48 at rest" in texts[0]


def test_the_normal_of_the_day_speaks_as_before() -> None:
    athlete, other = an_athlete(), a_monitor(group=PatientGroup.ADULT)
    calm = list(hours(0, 3, REST, 60))
    feed(athlete, *calm)
    feed(other, *calm)
    fast = [*hours(3, 3.4, REST, 100)]

    assert len(unusual(athlete, *fast)) == len(unusual(other, *fast)) == 1


def test_training_that_is_harder_than_ever_is_not_explained_by_training() -> None:
    athlete = an_athlete()
    feed(athlete, *a_day_with_training(), *a_day_with_training(8))

    assert unusual(athlete, *hours(16, 16.2, EXERCISE, 150)) == []
    texts = unusual(athlete, *hours(16.2, 16.6, EXERCISE, 172))

    assert any("usually 15" in text and "in exercise" in text for text in texts)


def test_what_is_measured_in_recovery_belongs_to_no_activity() -> None:
    athlete = an_athlete()
    feed(athlete, *hours(0, 2, REST, 48), *hours(2, 2.5, EXERCISE, 150))

    # Ten minutes of recovery, told as rest.
    feed(athlete, *hours(2.5, 2.5 + 9 / 60, REST, 110), *hours(2.7, 4, REST, 48))

    texts = unusual(athlete, *hours(4, 4.5, REST, 75))
    assert texts
    assert "usually 48 at rest" in texts[0]


def test_nothing_is_learned_by_activity_without_an_order() -> None:
    plain = a_monitor(activity=ActivityPlan(holds_up_to=EXERCISE, age_years=30), group=PatientGroup.ADULT)
    feed(plain, *a_day_with_training())

    assert unusual(plain, *hours(8, 8.5, REST, 70)) == []


def test_what_was_learned_survives_a_restart() -> None:
    athlete = an_athlete()
    feed(athlete, *a_day_with_training())

    again = restarted(athlete)

    assert again.snapshot() == athlete.snapshot()
    ill = list(hours(8, 8.5, REST, 70))
    assert unusual(again, *ill) == unusual(athlete, *ill) != []


def test_a_clock_that_is_set_forgets_nothing() -> None:
    athlete = an_athlete()
    feed(athlete, *a_day_with_training())

    athlete.shift(HOUR)

    assert unusual(athlete, *hours(9, 9.5, REST, 70)) != []


def test_a_week_without_training_forgets_no_training() -> None:
    athlete = an_athlete()
    feed(athlete, *a_day_with_training(), *a_day_with_training(8))
    feed(athlete, a_reading(9 * 24 * HOUR + 30 * SECOND, heart_rate=48, activity=int(REST)))

    texts = unusual(athlete, *hours(9 * 24 + 0.1, 9 * 24 + 0.5, EXERCISE, 172))

    assert any("usually 15" in text for text in texts)
