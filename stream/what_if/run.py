"""Replays the stays of a record under two orders, in as many processes as there are processors.

Each stay is one task. What is finished is kept in a file, if one is named, and is not done again.
"""

import contextlib
import signal
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from ctypes import c_bool, c_int64
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final, cast

import msgspec

from runtime.time_zone import clock_or_utc
from stream.errors import WhatIfRefused
from stream.what_if.record import ListedStay, OpenRecord, Record, digest_of
from vitals.escalation import EscalationPolicy
from vitals.messages import AlarmChanged, AlarmKind, Message, Priority, Reading
from vitals.plan import MonitoringPlan
from vitals.replay import StayReplay
from vitals.what_if import AlarmLife, Comparison, compare, lives_of

OBSERVE: Final = "observe"
"""In orders, in the place of the name of a ladder: an alarm is listed, and nobody is called."""

_TELL_EVERY: Final = 2_000  # readings
_MINUTE_MS: Final = 60_000
_POLL_S: Final = 0.25


class StayPlans(msgspec.Struct, frozen=True, kw_only=True):
    """What one stay was watched by, and what it would be."""

    then: MonitoringPlan
    new: MonitoringPlan
    then_calls: dict[str, str] = {}  # who is called, by rule or class of alarms: `vitals.orders`
    new_calls: dict[str, str] = {}


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked of every stay."""

    from_ms: int | None = None
    until_ms: int | None = None
    policy: EscalationPolicy = EscalationPolicy()
    labels: dict[str, tuple[int, ...]] = {}  # deteriorations by patient or stay
    trusts_stored: bool = False  # the alarms of then are those stored, and are not replayed


class Fidelity(msgspec.Struct, frozen=True, kw_only=True):
    """How the alarms of then, replayed, agree with those stored: changes of alarms."""

    stored: int = 0
    same: int = 0  # bit for bit
    other: dict[str, int] = {}  # the rest, by what differs


class StayResult(msgspec.Struct, frozen=True, kw_only=True):
    """One stay, replayed."""

    stay_id: str
    patient: str
    readings: int
    patient_ms: int  # minutes with a reading
    comparison: Comparison
    fidelity: Fidelity | None  # None: nothing is stored to compare with, or it was not replayed


class Progress(msgspec.Struct):
    """What the processes share: readings done, and whether to stop."""

    done: Any
    stop: Any


class Stopped(Exception):
    """The replay was told to stop."""


def replay_stay(
    record: OpenRecord, stay: ListedStay, plans: StayPlans, question: Question, tell: Callable[[int], None]
) -> StayResult:
    """Replay one stay under both orders.

    Args:
        tell: called with the number of readings since the last call; may raise `Stopped`.
    """
    opened = record.read(stay)
    is_replayed = not (question.trusts_stored and opened.stored is not None)
    is_same = plans.then == plans.new
    new = _replay(stay.stay_id, plans.new, opened.answers)
    then = new if is_same or not is_replayed else _replay(stay.stay_id, plans.then, opened.answers)
    then_changes: list[AlarmChanged] = []
    new_changes = then_changes if then is new and is_replayed else []
    readings, untold, patient_ms, minute, last_ms = 0, 0, 0, -1, 0
    from_ms = question.from_ms if question.from_ms is not None else -(1 << 62)
    until_ms = question.until_ms if question.until_ms is not None else 1 << 62
    for message in opened.messages:
        if _is_after(message, until_ms):
            continue
        new_changes += new.feed(message)
        if then is not new:
            then_changes += then.feed(message)
        if isinstance(message, Reading):
            readings, untold, last_ms = readings + 1, untold + 1, max(last_ms, message.heard_ms)
            if message.at_ms // _MINUTE_MS > minute and message.at_ms >= from_ms:
                minute = message.at_ms // _MINUTE_MS
                patient_ms += _MINUTE_MS
            if untold == _TELL_EVERY:
                tell(untold)
                untold = 0
    tell(untold)
    end_ms = last_ms if opened.until_ms is None else opened.until_ms
    end_ms = min(end_ms, until_ms)
    new_changes += new.finish(end_ms)
    if then is not new:
        then_changes += then.finish(end_ms)
    fidelity = None
    if opened.stored is not None and is_replayed:
        fidelity = fidelity_of(opened.stored, then_changes, until_ms=end_ms)
    if not is_replayed:
        then_changes = sorted(opened.stored or (), key=lambda one: (one.at_ms, one.revision))
    period = {"from_ms": from_ms, "until_ms": end_ms + 1}
    then_lives = called_by(plans.then_calls, lives_of(then_changes, question.policy, **period))
    new_lives = called_by(plans.new_calls, lives_of(new_changes, question.policy, **period))
    labelled = {
        *opened.deteriorations,
        *question.labels.get(stay.patient, ()),
        *question.labels.get(stay.stay_id, ()),
    }
    return StayResult(
        stay_id=stay.stay_id,
        patient=stay.patient,
        readings=readings,
        patient_ms=patient_ms,
        comparison=compare(
            then_lives, new_lives, deteriorations=sorted(at for at in labelled if from_ms <= at <= end_ms + 1)
        ),
        fidelity=fidelity,
    )


def called_by(calls: dict[str, str], lives: tuple[AlarmLife, ...]) -> tuple[AlarmLife, ...]:
    """The alarms, without the calls that were ordered not to be made.

    Args:
        calls: who is called, by rule or by class of alarms, as in orders; `observe`: nobody.
    """
    if OBSERVE not in calls.values():
        return lives
    return tuple(
        msgspec.structs.replace(
            one,
            calls=tuple((at_ms, priority) for at_ms, priority in one.calls if not _calls_nobody(calls, one, priority)),
        )
        for one in lives
    )


def fidelity_of(stored: Sequence[AlarmChanged], replayed: Sequence[AlarmChanged], *, until_ms: int) -> Fidelity:
    """How replayed changes of alarms agree with stored ones."""
    found: dict[tuple[bytes, int], AlarmChanged] = {}
    for one in replayed:
        found.setdefault((one.alarm_id, one.revision), one)  # as the store does: the first one stays
    known = {(one.alarm_id, one.revision): _as_stored(one) for one in stored if one.at_ms <= until_ms}
    differing: Counter[str] = Counter()
    same = 0
    for key, one in known.items():
        other = found.pop(key, None)
        if other is None:
            differing[f"{one.rule_id}: not replayed"] += 1
        elif _as_stored(other) == one:
            same += 1
        else:
            names = [name for name in one.__struct_fields__ if getattr(one, name) != getattr(_as_stored(other), name)]
            differing[f"{one.rule_id}: {', '.join(names)}"] += 1
    for other in found.values():
        differing[f"{other.rule_id}: not stored"] += 1
    return Fidelity(stored=len(known), same=same, other=dict(differing))


def run(
    record: Record,
    tasks: Sequence[tuple[ListedStay, StayPlans]],
    question: Question,
    *,
    processes: int,
    keep: Path | None = None,
    on_progress: Callable[[int], None] = lambda _: None,
) -> Iterator[StayResult]:
    """The results of all stays, as they are finished; those that are kept first.

    Args:
        processes: how many at a time; 1: in this process.
        keep: a file to which results are appended, and from which those of the same question are read.
        on_progress: called with the number of readings done.

    Raises:
        WhatIfRefused: the file cannot be used.
    """
    digests = {stay.stay_id: digest_of(record, stay, plans, question) for stay, plans in tasks}
    kept = {} if keep is None else _read_kept(keep)
    todo = []
    for stay, plans in tasks:
        result = kept.get(digests[stay.stay_id])
        if result is None:
            todo.append((stay, plans))
        else:
            on_progress(result.readings)
            yield result
    todo.sort(key=lambda task: -task[0].readings)  # the longest first, so that no process is left alone with one
    results = (
        _in_this_process(record, todo, question, on_progress)
        if processes <= 1 or len(todo) <= 1
        else _in_processes(record, todo, question, min(processes, len(todo)), on_progress)
    )
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.closing(results))
        for result in results:
            if keep is not None:
                _keep(keep, digests[result.stay_id], result)
            yield result


def _in_this_process(
    record: Record,
    tasks: Sequence[tuple[ListedStay, StayPlans]],
    question: Question,
    on_progress: Callable[[int], None],
) -> Generator[StayResult, None, None]:
    with contextlib.closing(record.open()) as opened:
        for stay, plans in tasks:
            yield replay_stay(opened, stay, plans, question, on_progress)


def _in_processes(
    record: Record,
    tasks: Sequence[tuple[ListedStay, StayPlans]],
    question: Question,
    processes: int,
    on_progress: Callable[[int], None],
) -> Generator[StayResult, None, None]:
    context = get_context("spawn")
    progress = Progress(done=context.Value(c_int64, 0), stop=context.Value(c_bool, False))
    told = 0

    def tell() -> None:
        nonlocal told
        done = int(progress.done.value)
        on_progress(done - told)
        told = done

    pool = ProcessPoolExecutor(
        processes, mp_context=context, initializer=_open_here, initargs=(record, question, progress)
    )
    try:
        waiting: set[Future[StayResult]] = {pool.submit(_replay_here, stay, plans) for stay, plans in tasks}
        while waiting:
            finished, waiting = wait(waiting, timeout=_POLL_S, return_when=FIRST_COMPLETED)
            tell()
            for future in finished:
                yield future.result()
    finally:
        progress.stop.value = True
        pool.shutdown(cancel_futures=True)


_here: dict[str, Any] = {}
"""Of a process of the pool: its open record, the question, the progress."""


def _open_here(record: Record, question: Question, progress: Progress) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process stops all of them
    _here.update(record=record.open(), question=question, progress=progress)


def _replay_here(stay: ListedStay, plans: StayPlans) -> StayResult:
    progress = cast(Progress, _here["progress"])

    def tell(readings: int) -> None:
        with progress.done.get_lock():
            progress.done.value += readings
        if progress.stop.value:
            raise Stopped

    return replay_stay(_here["record"], stay, plans, _here["question"], tell)


class _FinishedStay(msgspec.Struct, frozen=True):
    of: str
    result: StayResult


def _read_kept(path: Path) -> dict[str, StayResult]:
    if not path.exists():
        return {}
    decoder = msgspec.json.Decoder(_FinishedStay)
    found = {}
    try:
        with path.open("rb") as file:
            for line in file:
                with contextlib.suppress(msgspec.DecodeError):  # the last one may have been cut off
                    kept = decoder.decode(line)
                    found[kept.of] = kept.result
    except OSError as error:
        raise WhatIfRefused(f"{path}: cannot be read ({error.strerror}); name another file with --keep") from error
    return found


def _keep(path: Path, of: str, result: StayResult) -> None:
    try:
        with path.open("ab") as file:
            file.write(b"\n" if file.tell() and not _ends_a_line(path) else b"")
            file.write(msgspec.json.encode(_FinishedStay(of, result)) + b"\n")
    except OSError as error:
        raise WhatIfRefused(f"{path}: cannot be written ({error.strerror}); name another file with --keep") from error


def _ends_a_line(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, 2)
        return file.read(1) == b"\n"


def _replay(stay_id: str, plan: MonitoringPlan, answers: Sequence[Any]) -> StayReplay:
    return StayReplay(stay_id, plan, answers=answers, clock=clock_or_utc(plan.time_zone))


def _is_after(message: Message, until_ms: int) -> bool:
    return isinstance(message, Reading) and message.heard_ms > until_ms


def _as_stored(change: AlarmChanged) -> AlarmChanged:
    """Without the version of the orders, which is another question than what the alarm is."""
    return msgspec.structs.replace(change, orders_version=0)


def _calls_nobody(calls: dict[str, str], one: AlarmLife, priority: Priority) -> bool:
    of_class = "technical" if one.kind is AlarmKind.TECHNICAL else priority.name.lower()
    return (calls.get(one.rule_id) or calls.get(of_class)) == OBSERVE
