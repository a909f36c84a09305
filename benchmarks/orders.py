"""Alarms that call per patient-day, and the share of septic patients called about before onset, under several orders.

`python -m benchmarks.orders [--json] [--quick] [--half choose|report] [--septic N] [--others N] [--plot PNG] FILE`
where FILE is `sepsis2019/setB_dev.parquet`; without a file, four made-up stays show that it runs.

Rules alone, the kernel, a reading a minute, nobody answers. An alarm calls as `vitals.escalation` says: high at once,
a medium NEWS2 at once, other medium ones after 15 min, low ones never. *Called before onset*: a call begins within the
24 h before it, so an alarm that stands from before does not count. Beside it the share of windows as long as those, at
random, in stays without sepsis. Stays are weighted so that septic ones are as frequent as in the file; intervals are
95 %, of 1,000 samples of patients. Orders were chosen on one half of the stays and are reported on the other.

All orders but the first expect a value an hour, as these charts have it, and are judged side by side in one pass: each
different rule once, under an id of its own.
"""

import os
import random
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Final, NamedTuple

import msgspec
from rich.console import Console
from rich.progress import track

from benchmarks._timing import QUICK, report
from models.patient_files.recorded_stays import RecordedStay, open_replay
from vitals.escalation import DEFAULT_RULE_LADDERS, NEWS2_RULE, EscalationPolicy
from vitals.messages import AlarmKind, Priority, Reading
from vitals.plan import EXPECTED, MonitoringPlan
from vitals.replay import StayReplay
from vitals.rules import DEFAULT_RULES, AlarmLimit, Rule
from vitals.signs import VitalSign
from vitals.what_if import FOUND_WITHIN_MS, AlarmLife, compare, first_call, lives_of
from wire.codec import EdgeVitalsV1, OriginV1, VitalsV1, to_reading

MINUTE: Final = 60_000
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR
START_MS: Final = 1_790_000_000_000
KEY: Final = bytes(16)
SAMPLES: Final = 20 if QUICK else 1_000
_M, _H = Priority.MEDIUM, Priority.HIGH

EARLIER: Final[dict[str, dict[str, Any]]] = {  # as these default rules were before they were chosen here
    "qsofa": {"for_ms": MINUTE, "clear_for_ms": 10 * MINUTE},
    "shock_index": {"for_ms": 5 * MINUTE, "clear_margin": 0.05, "clear_for_ms": 10 * MINUTE},
}
SUSTAINED: Final[dict[str, dict[str, Any]]] = {
    "qsofa": {"for_ms": 30 * MINUTE, "clear_for_ms": 30 * MINUTE},
    "shock_index": {"for_ms": 30 * MINUTE, "clear_margin": 0.1, "clear_for_ms": 30 * MINUTE},
}
_OFF: Final[dict[str, Any]] = {"enabled": False}
_NEWS2_5: Final = {"limits": (AlarmLimit(5, _M),), "for_ms": 30 * MINUTE, "clear_margin": 1.0, "clear_for_ms": HOUR}
_NEWS2_6: Final = {**_NEWS2_5, "limits": (AlarmLimit(6, _M),)}
_NEWS2_7: Final = {"limits": (AlarmLimit(7, _H),)}


class Candidate(NamedTuple):
    """Orders, as changes of the default rules; `news2_high` is a second rule on NEWS2, for its own delay."""

    name: str
    changes: dict[str, dict[str, Any]]
    joins_ms: int | None = None  # see `joined`; None: every alarm calls by itself


_CALM: Final = {
    **SUSTAINED,
    "news2": _NEWS2_5,
    "news2_high": _NEWS2_7,
    "red_sign": {"for_ms": 15 * MINUTE, "clear_margin": 1.0, "clear_for_ms": HOUR},
}
_FEWEST: Final = {**SUSTAINED, "news2": _NEWS2_6, "news2_high": _NEWS2_7, "red_sign": _OFF, "shock_index": _OFF}
_ALONE: Final = {"red_sign": _OFF, "shock_index": _OFF, "qsofa": _OFF}

CANDIDATES: Final = (
    Candidate("earlier defaults", EARLIER),
    Candidate("qSOFA after 30 min", {**EARLIER, "qsofa": SUSTAINED["qsofa"]}),
    Candidate("sustained", SUSTAINED),
    Candidate("sustained, joined", SUSTAINED, 0),
    Candidate("sustained, joined 4 h", SUSTAINED, 4 * HOUR),
    Candidate("calm", _CALM),
    Candidate("calm, joined 4 h", _CALM, 4 * HOUR),
    Candidate("fewest", _FEWEST),
    Candidate("fewest, joined 4 h", _FEWEST, 4 * HOUR),
    *(
        Candidate(
            f"NEWS2 of {points} alone",
            {**_ALONE, "news2": {"limits": (AlarmLimit(points, _H if points >= 7 else _M),)}},
        )
        for points in (5, 6, 7, 8)
    ),
)
FIRST: Final = "earlier defaults, a value a minute"


class Outcome(msgspec.Struct, frozen=True):
    """One stay under one candidate."""

    alarms: int  # that call
    high: int
    technical: int
    is_found: bool
    is_found_by_patient: bool  # by a physiological alarm
    changed: tuple[tuple[str, bool, int, int, bool], ...] = ()  # high calls: rule, lost?, later ms, silent ms, septic?


class Judged(msgspec.Struct, frozen=True):
    """One stay under all candidates."""

    is_septic: bool
    days: float
    outcomes: dict[str, Outcome]


def main() -> None:
    path = next((Path(one) for one in sys.argv[1:] if one.endswith(".parquet")), None)
    half = _option("--half", "report")
    septic, others, shares = _made_up() if path is None else _chosen(path)
    # Every other stay of a seeded order; which half is which was fixed before anything was measured.
    halves = {"choose": (septic[::2], others[::2]), "report": (septic[1::2], others[1::2])}
    septic, others = halves[half] if path is not None else (septic, others)
    windows = random.Random(3)
    lengths = [min(FOUND_WITHIN_MS, stay.onset_ms or 0) for stay in septic]
    tasks = [(stay, stay.onset_ms or 0, FOUND_WITHIN_MS) for stay in septic]
    for stay in others:
        length = min(windows.choice(lengths), stay.duration_ms)
        tasks.append((stay, length + round(windows.random() * (stay.duration_ms - length)), length))
    judged = list(track(_judged(tasks), total=len(tasks), console=Console(stderr=True), transient=True))
    names = [FIRST, *(one.name for one in CANDIDATES)]
    found = {name: _measures(judged, name, shares) for name in names}
    rows = [(name, *(text for _, text in found[name])) for name in names]
    title = f"orders, {half} half: {len(septic)} septic stays, {len(others)} others"
    columns = ("orders", "call/day", "high/day", "technical/day", "septic", "others", "septic*", "others*")
    if "--json" not in sys.argv[1:]:
        _show_high(judged)
    if (plot := _option("--plot", "")) and path is not None:
        _draw(Path(plot), found)
    facts = {name: {"per_day": round(found[name][0][0], 3), "septic": found[name][3][1]} for name in names}
    report(title, rows, columns, facts)


def _option(name: str, default: str) -> str:
    given = sys.argv[1:]
    return given[given.index(name) + 1] if name in given else default


def _chosen(path: Path) -> tuple[list[RecordedStay], list[RecordedStay], tuple[float, float]]:
    """Septic stays with a known onset, stays without sepsis, and how often each kind is in the file."""
    stays = open_replay(path).stays()
    rng = random.Random(16)
    septic = [stay for stay in stays if stay.onset_ms is not None]
    others = [stay for stay in stays if stay.labelled_ms is None]
    shares = (len(septic) / len(stays), len(others) / len(stays))
    return (
        rng.sample(septic, min(len(septic), int(_option("--septic", "400")))),
        rng.sample(others, min(len(others), int(_option("--others", "800")))),
        shares,
    )


def _judged(tasks: Sequence[tuple[RecordedStay, int, int]]) -> Iterable[Judged]:
    if QUICK:
        yield from map(judge, tasks)
        return
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        yield from pool.map(judge, tasks, chunksize=4)


def judge(task: tuple[RecordedStay, int, int]) -> Judged:
    """One stay under all candidates; `task` is the stay, the end of its window and how long that is."""
    stay, until_ms, length_ms = task
    is_septic = stay.onset_ms is not None
    readings = [_reading(sample, number) for number, sample in enumerate(stay.samples(MINUTE, START_MS))]
    by_minute = {sign.value: MINUTE for sign in EXPECTED}
    earlier = tuple(_changed(rule, EARLIER.get(rule.rule_id, {})) for rule in DEFAULT_RULES)
    plain = _lives(readings, MonitoringPlan(cadence_ms=by_minute, rules=earlier), EscalationPolicy())
    rules, ids = _side_by_side()
    urgent = {rule_id: DEFAULT_RULE_LADDERS[NEWS2_RULE] for rule_id in rules if rule_id.startswith(NEWS2_RULE)}
    hourly = {sign.value: HOUR for sign in (*EXPECTED, VitalSign.TEMPERATURE)}
    every = _lives(
        readings, MonitoringPlan(cadence_ms=hourly, rules=tuple(rules.values())), EscalationPolicy(rules=urgent)
    )
    window = partial(_outcome, from_ms=START_MS + until_ms - length_ms, until_ms=START_MS + until_ms)
    outcomes = {FIRST: window(plain)}
    before: tuple[AlarmLife, ...] = ()
    for candidate in CANDIDATES:
        of_candidate = ids[candidate.name]
        lives = tuple(
            msgspec.structs.replace(one, rule_id=one.rule_id.partition(":")[0])
            for one in every
            if one.rule_id in of_candidate
        )
        if candidate.joins_ms is not None:
            lives = joined(lives, candidate.joins_ms)
        before = before or lives
        changed = tuple(
            (
                one.rule_id,
                one.later_ms is None,
                one.later_ms or 0,
                -1 if one.silent_ms is None else one.silent_ms,
                is_septic and START_MS + until_ms - length_ms <= one.at_ms < START_MS + until_ms,
            )
            for one in compare(_one_news2(before), _one_news2(lives)).high
        )
        outcomes[candidate.name] = msgspec.structs.replace(window(lives), changed=changed)
    return Judged(is_septic, stay.duration_ms / DAY, outcomes)


def joined(lives: Iterable[AlarmLife], hold_ms: int) -> tuple[AlarmLife, ...]:
    """One call a deterioration: alarms do not call that begin to inside an open one which is at least as high.

    Technical alarms neither join nor are joined: what protects from silence calls by itself.

    Args:
        hold_ms: so long after the end of an alarm its condition counts as the same deterioration.
    """
    every = list(lives)
    calls = sorted(
        (at_ms, priority, number)
        for number, one in enumerate(every)
        for at_ms, priority in one.calls
        if one.kind is AlarmKind.PHYSIOLOGICAL
    )
    kept: dict[int, list[tuple[int, Priority]]] = {}
    standing: list[tuple[int | None, Priority]] = []
    for at_ms, priority, number in calls:
        standing = [one for one in standing if one[0] is None or at_ms < one[0] + hold_ms]
        if not any(other >= priority for _, other in standing):
            kept.setdefault(number, []).append((at_ms, priority))
        standing.append((every[number].ended_ms, priority))
    return tuple(
        one if one.kind is AlarmKind.TECHNICAL else msgspec.structs.replace(one, calls=tuple(kept.get(number, ())))
        for number, one in enumerate(every)
    )


def _side_by_side() -> tuple[dict[str, Rule], dict[str, set[str]]]:
    """Every different rule of all candidates by an id of its own, and which of them a candidate has."""
    rules: dict[str, Rule] = {}
    ids: dict[str, set[str]] = {}
    for candidate in CANDIDATES:
        for base in (*DEFAULT_RULES, _changed(DEFAULT_RULES[0], {"rule_id": "news2_high"})):
            if base.rule_id == "news2_high" and base.rule_id not in candidate.changes:
                continue
            rule = _changed(base, candidate.changes.get(base.rule_id, {}))
            if not rule.enabled:
                continue
            same = next((one for one, other in rules.items() if _changed(other, {"rule_id": rule.rule_id}) == rule), "")
            rule_id = same or f"{rule.rule_id}:{len(rules)}"
            rules[rule_id] = _changed(rule, {"rule_id": rule_id})
            ids.setdefault(candidate.name, set()).add(rule_id)
    return rules, ids


def _one_news2(lives: tuple[AlarmLife, ...]) -> tuple[AlarmLife, ...]:
    return tuple(
        msgspec.structs.replace(one, rule_id=NEWS2_RULE) if one.rule_id == "news2_high" else one for one in lives
    )


def _changed(rule: Rule, changes: dict[str, Any]) -> Rule:
    return msgspec.structs.replace(rule, **changes) if changes else rule


def _lives(readings: Sequence[Reading], plan: MonitoringPlan, policy: EscalationPolicy) -> tuple[AlarmLife, ...]:
    replay = StayReplay(KEY.hex(), plan)
    changes = [change for reading in readings for change in replay.feed(reading)]
    until_ms = readings[-1].at_ms + 1 if readings else START_MS + 1
    return lives_of(changes, policy, from_ms=START_MS, until_ms=until_ms)


def _outcome(lives: tuple[AlarmLife, ...], *, from_ms: int, until_ms: int) -> Outcome:
    of_patient = [one for one in lives if one.kind is AlarmKind.PHYSIOLOGICAL]
    within = partial(first_call, at_ms=until_ms, within_ms=until_ms - from_ms)
    return Outcome(
        alarms=sum(bool(one.calls) for one in lives),
        high=sum(one.high_ms is not None for one in lives),
        technical=sum(bool(one.calls) for one in lives) - sum(bool(one.calls) for one in of_patient),
        is_found=within(lives) is not None,
        is_found_by_patient=within(of_patient) is not None,
    )


def _measures(judged: Sequence[Judged], name: str, shares: tuple[float, float]) -> list[tuple[float, str]]:
    """Per patient-day: all that call, high ones, technical ones; found shares by all, and by physiological ones (*)."""
    groups = [[one for one in judged if one.is_septic], [one for one in judged if not one.is_septic]]
    weights = [share / max(1, len(group)) for share, group in zip(shares, groups, strict=True)]

    def per_day(sample: list[list[Judged]], count: Callable[[Outcome], int]) -> float:
        days = sum(weight * one.days for weight, group in zip(weights, sample, strict=True) for one in group)
        found = sum(
            weight * count(one.outcomes[name]) for weight, group in zip(weights, sample, strict=True) for one in group
        )
        return found / days if days else 0.0

    def share(group: list[Judged], is_found: Callable[[Outcome], bool]) -> float:
        return sum(is_found(one.outcomes[name]) for one in group) / max(1, len(group))

    figures: list[Callable[[list[list[Judged]]], float]] = [
        lambda sample: per_day(sample, lambda one: one.alarms),
        lambda sample: per_day(sample, lambda one: one.high),
        lambda sample: per_day(sample, lambda one: one.technical),
        lambda sample: share(sample[0], lambda one: one.is_found),
        lambda sample: share(sample[1], lambda one: one.is_found),
        lambda sample: share(sample[0], lambda one: one.is_found_by_patient),
        lambda sample: share(sample[1], lambda one: one.is_found_by_patient),
    ]
    rng = random.Random(5)
    samples = [[rng.choices(group, k=len(group)) if group else [] for group in groups] for _ in range(SAMPLES)]
    result = []
    for number, figure in enumerate(figures):
        value = figure(groups)
        spread = sorted(figure(sample) for sample in samples)
        low, high = spread[round(0.025 * (SAMPLES - 1))], spread[round(0.975 * (SAMPLES - 1))]
        form = "{:.0%}" if number > 2 else "{:.2f}"
        result.append((value, f"{form.format(value)} ({form.format(low)}-{form.format(high)})".replace("%-", "-")))
    return result


def _show_high(judged: Sequence[Judged]) -> None:
    """High calls of the first candidate that another would have lost or delayed."""
    console = Console()
    total = sum(one.outcomes[CANDIDATES[0].name].high for one in judged)
    console.print(f"Calls of high priority under '{CANDIDATES[0].name}': {total}, over all replayed stays")
    for candidate in CANDIDATES[1:]:
        every = [(one, change) for one in judged for change in one.outcomes[candidate.name].changed]
        lost = [change for _, change in every if change[1]]
        later = [change[2] for _, change in every if not change[1]]
        unheard = [change for change in lost if change[3] < 0]
        by_rule = Counter(change[0] for _, change in every)
        console.print(
            f"  {candidate.name}: lost {len(lost)}, of which {sum(change[3] == 0 for change in lost)} while another "
            f"alarm had called and stood, {len(unheard)} with no call while they lasted; delayed {len(later)}, median "
            f"{round(median(later) / MINUTE) if later else 0} min, most {round(max(later, default=0) / MINUTE)} min; "
            f"within the day before onset: {sum(change[4] for _, change in every)}, with no call "
            f"{sum(change[4] for change in unheard)}; {', '.join(f'{rule} {n}' for rule, n in by_rule.most_common())}"
        )


def _draw(into: Path, found: dict[str, list[tuple[float, str]]]) -> None:
    """Alarms that call per patient-day against the share that they are called about, septic and others."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7.5, 4.6))
    for number, (name, figures) in enumerate(found.items()):
        per_day = figures[0][0] - figures[2][0]
        colour = plt.get_cmap("tab20")(number)
        axes.plot([per_day, per_day], [figures[6][0], figures[5][0]], color=colour, linewidth=0.8)
        axes.plot(per_day, figures[5][0], "o", color=colour, label=name)
        axes.plot(per_day, figures[6][0], "o", color=colour, markerfacecolor="white")
    axes.plot([0.65], [0.80], "*", color="black", markersize=11, label="aim: 0.65 a day, 80 %")
    axes.set(
        xscale="log",
        ylim=(0, 1),
        xlabel="physiological alarms that call, per patient-day",
        ylabel="share with a call in the 24 h",
        title="filled: septic, before onset; white: random windows without sepsis",
    )
    axes.minorticks_off()
    axes.set_xticks([0.2, 0.5, 1, 2, 5], ["0.2", "0.5", "1", "2", "5"])
    axes.legend(fontsize=6.5, loc="lower right")
    axes.title.set_fontsize(9)
    figure.text(0.01, 0.01, "CinC 2019, set B (CC BY 4.0). Not a certified medical device.", fontsize=6)
    figure.tight_layout()
    figure.savefig(into, dpi=110)


def _made_up() -> tuple[list[RecordedStay], list[RecordedStay], tuple[float, float]]:
    """Two ill stays with an onset in their last hours, and two without."""
    hours = range(31)
    charted = {
        VitalSign.HEART_RATE: tuple((hour * HOUR, 112.0 + hour % 3) for hour in hours),
        VitalSign.RESPIRATORY_RATE: tuple((hour * HOUR, 26.0 if hour % 6 > 1 else 16.0) for hour in hours),
        VitalSign.SPO2: tuple((hour * HOUR, 91.0 if hour % 6 > 1 else 97.0) for hour in hours),
    }
    stays = [
        RecordedStay(
            stay_id=str(number),
            source="made-up",
            charted=charted,
            max_gap_ms=2 * HOUR,
            max_temperature_gap_ms=6 * HOUR,
            labelled_ms=20 * HOUR if number < 2 else None,
        )
        for number in range(4)
    ]
    return stays[:2], stays[2:], (0.05, 0.95)


def _reading(sample: VitalsV1, counter: int) -> Reading:
    message = EdgeVitalsV1(
        origin=OriginV1(wearable_id=KEY, session_id=KEY, counter=counter),
        vitals=sample,
        at_ms=sample.t_ms,
        received_ms=sample.t_ms,
        sensor_flags=sample.sensor_flags,
        unusable=0,
    )
    return to_reading(message, KEY)


if __name__ == "__main__":
    main()
