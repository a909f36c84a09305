"""Alarms per patient-day with and without an order to hold what a walk explains, and what holding costs the ill.

`python -m benchmarks.activity [--json] [--quick]`. Everything is simulated (`simulators/physiology.py`): the recordings
that we have come from intensive care, and tell no activity.

Three groups, each judged twice from the same readings, by the kernel alone:

- a ward of healthy patients for a day, who walk for eight minutes of every hour of the day and climb stairs twice;
- athletes at home for a week, with five trainings of an hour, watched by a plan for athletes and by the default;
- patients who walk in the same way and deteriorate while they walk. Found is the first moment from the onset on at
  which an alarm of high priority is active; the delay is how much later that is with the order than without.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from statistics import median
from typing import Any, Final, NamedTuple, TypeAlias

from msgspec.structs import replace
from rich.console import Console
from rich.progress import track

from benchmarks._timing import QUICK, report
from simulators.physiology import Drive
from simulators.scenarios import MINUTE_MS, Effect, Scenario, scenario
from simulators.wearable import Wearables, WearableSpec
from vitals.activity import ActivityPlan
from vitals.messages import Activity, AlarmChanged, AlarmKind, AlarmState, Event, Priority, Reading
from vitals.monitor import PatientMonitor
from vitals.patient_group import PatientGroup
from vitals.plan import MonitoringPlan
from wire.codec import EdgeVitalsV1, OriginV1, VitalsV1, to_reading

STAY: Final = bytes(16)
HOUR_MS: Final = 60 * MINUTE_MS
DAY_MS: Final = 24 * HOUR_MS
START_MS: Final = 1_790_000_000_000 // DAY_MS * DAY_MS + 8 * HOUR_MS  # eight in the morning

WARD_PATIENTS: Final = 2 if QUICK else 24
WARD_MS: Final = 3 * HOUR_MS if QUICK else DAY_MS
WARD_SPEC: Final = WearableSpec(cadence_ms=20_000)
ATHLETES: Final = 1 if QUICK else 8
ATHLETE_MS: Final = 3 * HOUR_MS if QUICK else 7 * DAY_MS
HOME_SPEC: Final = WearableSpec(cadence_ms=30_000, cuff_ms=DAY_MS, round_ms=DAY_MS, battery_hours=10_000)
ILL_PATIENTS: Final = 2 if QUICK else 20
ILL_STORIES: Final = ("sepsis-onset", "hypoxia", "atrial-fibrillation", "haemorrhage")
ILL_ONSET_MS: Final = 73 * MINUTE_MS  # a minute into the second walk
ILL_MS: Final = ILL_ONSET_MS + 200 * MINUTE_MS
SEED: Final = 16

_console = Console(stderr=True)


def on_the_ward(age_years: float) -> ActivityPlan:
    """The order for a patient who may walk."""
    return ActivityPlan(holds_up_to=Activity.WALK, age_years=age_years)


def of_an_athlete(age_years: float) -> ActivityPlan:
    """The order for an athlete at home."""
    return ActivityPlan(
        holds_up_to=Activity.EXERCISE,
        age_years=age_years,
        most_held_ms=2 * HOUR_MS,
        within_ms=6 * HOUR_MS,
        most_believed_ms=3 * HOUR_MS,
        learns_by_activity=True,
    )


OrderOf: TypeAlias = Callable[[float], ActivityPlan]


class Judged(NamedTuple):
    """The alarms about one patient, oldest first, and what was held until it was over."""

    alarms: list[AlarmChanged]

    def called(self) -> list[AlarmChanged]:
        """One for each alarm that called somebody: as it was at its highest priority."""
        highest: dict[bytes, AlarmChanged] = {}
        for one in self.alarms:
            if one.state is AlarmState.ACTIVE and not one.retrospective:
                before = highest.get(one.alarm_id)
                highest[one.alarm_id] = one if before is None or one.priority > before.priority else before
        return list(highest.values())

    def held(self) -> int:
        return len({one.alarm_id for one in self.alarms if one.retrospective})

    def first_high_ms(self, from_ms: int) -> int | None:
        """The first moment from then on at which an alarm of high priority is active."""
        active: set[bytes] = set()
        for one in self.alarms:
            if one.at_ms >= from_ms and active:
                return from_ms
            if one.state is AlarmState.ACTIVE and one.priority is Priority.HIGH and not one.retrospective:
                if one.at_ms >= from_ms:
                    return one.at_ms
                active.add(one.alarm_id)
            else:
                active.discard(one.alarm_id)
        return from_ms if active else None


def main() -> None:
    ward = _judge([_walks()] * WARD_PATIENTS, WARD_MS, WARD_SPEC, on_the_ward)
    _report_load("a ward that walks", ward, WARD_MS)
    # A quarter of the simulated patients is young enough; the others are not judged.
    athletes = _judge([_week()] * max(24, 6 * ATHLETES), ATHLETE_MS, HOME_SPEC, of_an_athlete, oldest=45, most=ATHLETES)
    _report_load("athletes at home", athletes, ATHLETE_MS)
    _report_found()


def _walks() -> Scenario:
    """A day of walks, from the twelfth minute of each hour until eight in the evening, two of them on stairs."""
    effects = [
        _exertion(0.5, hour * HOUR_MS + 12 * MINUTE_MS, 10)
        if hour in (2, 7)
        else _exertion(0.32, hour * HOUR_MS + 12 * MINUTE_MS, 8)
        for hour in range(12)
    ]
    return replace(scenario("walks"), name="a day of walks", effects=tuple(effects))


def _week() -> Scenario:
    """A week with five trainings in the morning, each with a walk to cool down."""
    effects = [Effect(what=Drive.CHRONOTROPY, size=-15, onset_ms=0)]
    for day in (0, 1, 3, 4, 6):
        effects.append(_exertion(0.75, day * DAY_MS + HOUR_MS, 60))
        effects.append(_exertion(0.32, day * DAY_MS + 2 * HOUR_MS + MINUTE_MS, 10))
    return replace(scenario("training"), name="a week", effects=tuple(effects))


def _ill(name: str) -> Scenario:
    """A story whose events begin on the second walk of a patient who walks on as ordered."""
    begins_ms = min(effect.onset_ms for effect in scenario(name).effects)
    later = tuple(
        replace(effect, onset_ms=effect.onset_ms - begins_ms + ILL_ONSET_MS) for effect in scenario(name).effects
    )
    return replace(_walks(), name=name, effects=(*_walks().effects, *later))


def _exertion(size: float, onset_ms: int, minutes: int) -> Effect:
    return Effect(
        what=Drive.EXERTION, size=size, onset_ms=onset_ms, ramp_ms=MINUTE_MS // 2, hold_ms=minutes * MINUTE_MS
    )


def _judge(
    stories: Sequence[Scenario],
    lasting_ms: int,
    spec: WearableSpec,
    order_of: OrderOf,
    *,
    oldest: int = 200,
    most: int | None = None,
) -> list[tuple[Judged, Judged]]:
    """The alarms about each patient with the order and without it."""
    wearables = Wearables(stories, seed=SEED, start_ms=START_MS, spec=spec)
    ages = wearables.cohort.age_years.tolist()
    chosen = [number for number, age_years in enumerate(ages) if age_years <= oldest][:most]
    watched = {number: (_Watched(order_of(ages[number])), _Watched(ActivityPlan())) for number in chosen}
    moments = lasting_ms // spec.cadence_ms
    for at_ms, samples in track(
        wearables.run(START_MS + lasting_ms),
        total=moments,
        console=_console,
        transient=True,
        description=stories[0].name,
    ):
        for number, both in watched.items():
            sample = samples[number]
            if sample is not None:
                reading = _reading(sample, at_ms, (at_ms - START_MS) // spec.cadence_ms)
                for one in both:
                    one.hear(reading)
    return [(Judged(with_order.alarms), Judged(without.alarms)) for with_order, without in watched.values()]


class _Watched:
    """One patient with one order."""

    def __init__(self, order: ActivityPlan) -> None:
        self._monitor = PatientMonitor(STAY.hex(), MonitoringPlan(group=PatientGroup.ADULT, activity=order))
        self.alarms: list[AlarmChanged] = []

    def hear(self, reading: Reading) -> None:
        monitor = self._monitor
        while (due_ms := monitor.timer_at()) is not None and due_ms < reading.at_ms:
            self._keep(monitor.on_timer(due_ms))
        self._keep(monitor.on_reading(reading))

    def _keep(self, events: Iterable[Event]) -> None:
        self.alarms += [one for one in events if isinstance(one, AlarmChanged) and one.kind is AlarmKind.PHYSIOLOGICAL]


def _reading(sample: VitalsV1, at_ms: int, counter: int) -> Reading:
    message = EdgeVitalsV1(
        origin=OriginV1(wearable_id=STAY, session_id=STAY, counter=counter),
        vitals=sample,
        at_ms=at_ms,
        received_ms=at_ms,
        sensor_flags=sample.sensor_flags,
        unusable=0,
    )
    return to_reading(message, STAY)


def _report_load(title: str, judged: Sequence[tuple[Judged, Judged]], lasting_ms: int) -> None:
    days = len(judged) * lasting_ms / DAY_MS
    with_order, without = (
        Counter((alarm.rule_id, alarm.priority) for both in judged for alarm in both[which].called())
        for which in (0, 1)
    )
    held = sum(both[0].held() for both in judged)
    rows = [
        ("patients, patient-days", f"{len(judged)}, {days:.1f}", ""),
        ("alarms about the patient, a day", f"{without.total() / days:.2f}", f"{with_order.total() / days:.2f}"),
        ("  of them high", f"{_high(without) / days:.2f}", f"{_high(with_order) / days:.2f}"),
        *(
            (f"  {rule} {priority.name.lower()}", f"{n / days:.2f}", f"{with_order[rule, priority] / days:.2f}")
            for (rule, priority), n in (without | with_order).most_common()
        ),
        ("held until over, in the record, a day", "", f"{held / days:.2f}"),
    ]
    facts: dict[str, Any] = {
        "patient_days": round(days, 2),
        "without": f"{without.total() / days:.2f}",
        "with": f"{with_order.total() / days:.2f}",
        "high_without": f"{_high(without) / days:.2f}",
        "high_with": f"{_high(with_order) / days:.2f}",
    }
    report(f"{title}: alarms a patient-day", rows, ("measurement", "without", "with the order"), facts)


def _high(found: Counter[tuple[str, Priority]]) -> int:
    return sum(n for (_, priority), n in found.items() if priority is Priority.HIGH)


def _report_found() -> None:
    rows = []
    found_of, patients = 0, 0
    for name in ILL_STORIES:
        judged = _judge([_ill(name)] * ILL_PATIENTS, ILL_MS, WARD_SPEC, on_the_ward)
        moments = [tuple(one.first_high_ms(START_MS + ILL_ONSET_MS) for one in both) for both in judged]
        both_found = [(held, plain) for held, plain in moments if held is not None and plain is not None]
        after = [
            sorted((at_ms - START_MS - ILL_ONSET_MS) / MINUTE_MS for at_ms in each)
            for each in zip(*both_found, strict=True)
        ]
        later = [(held - plain) / MINUTE_MS for held, plain in both_found]
        rows.append(
            (
                name,
                f"{sum(plain is not None for _, plain in moments)} of {len(moments)}",
                f"{sum(held is not None for held, _ in moments)} of {len(moments)}",
                f"{median(after[1]):.1f} min",
                f"{median(after[0]):.1f} min",
                f"{median(later):.1f}, at most {max(later):.1f} min",
            )
        )
        found_of += sum(held is not None for held, _ in moments)
        patients += len(moments)
    columns = ("deteriorates on a walk", "found without", "with", "after, without", "with", "later with the order")
    report("found by a high alarm", rows, columns, {"patients": patients, "found_with": found_of})


if __name__ == "__main__":
    main()
