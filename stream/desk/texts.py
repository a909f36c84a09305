"""Texts of notifications, short enough and without values by default, for locked screens. Pure."""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from stream.desk.decisions import Kept
from vitals.alarms import ClockText, clock_text
from vitals.messages import AlarmKind, AlarmState, Priority

NOT_A_DEVICE: Final = "Decision support and secondary notification. Not a certified medical device."
MARKS: Final[Mapping[Priority, str]] = {Priority.HIGH: "***", Priority.MEDIUM: "**", Priority.LOW: "*"}
WORDS: Final[Mapping[Priority, str]] = {Priority.HIGH: "high", Priority.MEDIUM: "medium", Priority.LOW: "low"}

_LINES_IN_A_DIGEST: Final = 20
_REASON_CHARACTERS: Final = 300


class Telling(NamedTuple):
    """Settings of a site for the texts of its notifications."""

    site: str = ""
    where: str = ""  # URL of the ward's screen
    values: bool = False  # include the alarm's text, with values; it then leaves the ward's systems
    clock: ClockText = clock_text  # writes times, in the time zone of the site


class Message(NamedTuple):
    title: str
    body: str
    priority: Priority


def place(bed: str, patient: str, stay_id: str) -> str:
    """The patient's place: the bed, else the pseudonym, else the first digits of the stay id."""
    if bed:
        return f"bed {bed}"
    return f"patient {patient}" if patient else f"stay {stay_id[:8]}"


def where(kept: Kept, bed: str, patient: str, device: str = "") -> str:
    """The place of an alarm; "several beds" for an outage, whose text names them; else a place of the site.

    Args:
        device: name of the device that the alarm is about; empty: it is about the patient.
    """
    if kept.is_outage:
        return "several beds"
    if kept.is_own:
        return "the alarm desk" if kept.is_own_clock else "the site"
    found = place(bed, patient, kept.alarm.stay_id)
    return f"{found}, {device}" if device else found


def ref(alarm_id: bytes) -> str:
    """The short id of an alarm that people use."""
    return alarm_id.hex()[:8]


def age_text(ms: int) -> str:
    """A duration for people: "12 s", "4 min", "3 h 5 min"."""
    seconds = max(0, ms) // 1_000
    if seconds < 60:
        return f"{seconds} s"
    minutes = seconds // 60
    if minutes < 60:
        return f"{minutes} min"
    hours = minutes // 60
    return f"{hours} h {minutes % 60} min" if hours < 24 else f"{hours // 24} d {hours % 24} h"


def of_alarm(kept: Kept, where: str, telling: Telling, *, now_ms: int, ordered: str = "") -> Message:
    """The message for one alarm.

    Args:
        where: the patient's place; see `place`.
        ordered: how orders change who is called; empty: they do not.
    """
    if kept.is_outage:
        return of_outage(kept, telling, now_ms=now_ms)
    alarm = kept.alarm
    mark, word = MARKS[alarm.priority], WORDS[alarm.priority]
    kind = "technical alarm" if alarm.kind is AlarmKind.TECHNICAL else "alarm"
    site = f", {telling.site}" if telling.site else ""
    lines = [
        f"{mark} {word.upper()} {kind}: {where}{site}.",
        f"Since {telling.clock(alarm.onset_ms)}, {age_text(now_ms - alarm.onset_ms)} ago. Alarm {ref(alarm.alarm_id)}.",
    ]
    if telling.values or kept.is_own:  # there is nothing of a patient in it
        lines.append(alarm.text[:_REASON_CHARACTERS])
    if alarm.response:
        lines.append(f"Recommended: {alarm.response}.")
    if ordered:
        lines.append(f"{ordered}.")
    lines += [_look(telling), NOT_A_DEVICE]
    return Message(f"{mark} {word} {kind}, {where}{site}", "\n".join(lines), alarm.priority)


def of_outage(kept: Kept, telling: Telling, *, now_ms: int) -> Message:
    """The message for an open or ended outage. Names beds and never values."""
    alarm = kept.alarm
    mark, word = MARKS[alarm.priority], WORDS[alarm.priority]
    site = f", {telling.site}" if telling.site else ""
    beds = len(kept.without_data)
    reference = f"Alarm {ref(alarm.alarm_id)}."
    if not kept.is_active:
        lines = [f"Outage is over{site}. {reference}", f"{alarm.text}.", _look(telling), NOT_A_DEVICE]
        return Message(f"{mark} outage is over{site}", "\n".join(lines), alarm.priority)
    lines = [
        f"{mark} {word.upper()} technical alarm: no data from {beds} patients{site}.",
        f"Since {telling.clock(alarm.onset_ms)}, {age_text(now_ms - alarm.onset_ms)} ago. {reference}",
        f"{alarm.text}.",
        "This message replaces one for each of them. High alarms and alarms about patients are sent as always.",
        _look(telling),
        NOT_A_DEVICE,
    ]
    return Message(
        f"{mark} {word} technical alarm, no data from {beds} patients{site}", "\n".join(lines), alarm.priority
    )


def of_many(alarms: Sequence[tuple[Kept, str]], telling: Telling) -> Message:
    """A digest of several alarms below high priority, the highest priority first.

    Args:
        alarms: each with the patient's place.
    """
    ordered = sorted(alarms, key=lambda one: (-one[0].alarm.priority, one[0].alarm.onset_ms))
    worst = ordered[0][0].alarm.priority
    site = f", {telling.site}" if telling.site else ""
    lines = [f"{len(ordered)} alarms below high{site}, together because many came:"]
    for kept, where in ordered[:_LINES_IN_A_DIGEST]:
        alarm = kept.alarm
        if kept.is_outage:
            lines.append(f"{MARKS[alarm.priority]} {alarm.text[:_REASON_CHARACTERS]}")
            continue
        over = "" if alarm.state is AlarmState.ACTIVE else ", over"
        reason = f": {alarm.text[:_REASON_CHARACTERS]}" if telling.values or kept.is_own else ""
        lines.append(f"{MARKS[alarm.priority]} {where}, since {telling.clock(alarm.onset_ms)}{over}{reason}")
    if len(ordered) > _LINES_IN_A_DIGEST:
        lines.append(f"and {len(ordered) - _LINES_IN_A_DIGEST} more")
    lines += [_look(telling), NOT_A_DEVICE]
    return Message(f"{MARKS[worst]} {len(ordered)} alarms{site}", "\n".join(lines), worst)


def of_trial(telling: Telling, *, now_ms: int) -> Message:
    """The test message of `vitalloom desk try`."""
    site = f" at {telling.site}" if telling.site else ""
    body = f"A test of the alarm desk{site} at {telling.clock(now_ms)}. There is no alarm.\n{NOT_A_DEVICE}"
    return Message(f"Test of the alarm desk{site}", body, Priority.LOW)


def _look(telling: Telling) -> str:
    return f"Open the ward to see why: {telling.where}" if telling.where else "Open the ward to see why."
