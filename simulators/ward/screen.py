"""The ward on a terminal: patients by urgency, their alarms, and the age of values that are not current.

Pure: views in, a rich renderable out. A stale value is never shown: its age stands in its place.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from io import StringIO
from typing import Final

import msgspec
from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from vitals.freshness import Freshness
from vitals.messages import Activity, AlarmChanged, AlarmState, Consciousness, Priority
from vitals.news2 import risk_text
from vitals.risk import due_texts, duration
from vitals.signs import SPEC, VitalSign
from vitals.view import ModelView, PatientView, SignView

NOT_A_DEVICE: Final = "Simulation. Decision support, not a certified medical device."

# IEC 60601-1-8: red, yellow, cyan; marks for people with impaired colour vision.
COLOUR: Final = {Priority.HIGH: "bold red", Priority.MEDIUM: "yellow", Priority.LOW: "cyan"}
MARK: Final = {Priority.HIGH: "***", Priority.MEDIUM: "**", Priority.LOW: "*"}

_RISK_COLOUR: Final = {"high": "bold red", "medium": "yellow", "low-medium": "yellow", "low": "green"}
_NEWS2_OF: Final = {int(Priority.HIGH): 7, int(Priority.MEDIUM): 5}
_TREND_MS: Final = 3_600_000
_WIDE: Final = 130  # columns from which on everything but what people entered has room
_WIDEST: Final = 170  # columns from which on that has room, too
RESPONSE_LINES: Final = 3  # one for each recommended response that a NEWS2 alarm may ask for
DUE_LINES: Final = 2
HELD_LINES: Final = 2
"""Lines about values that have to be measured or entered again."""
_MOST_BEDS: Final = 8
_COLUMNS: Final = (
    VitalSign.RESPIRATORY_RATE,
    VitalSign.SPO2,
    VitalSign.SYSTOLIC_BP,
    VitalSign.HEART_RATE,
    VitalSign.TEMPERATURE,
)


_MODELS: Final = ("sepsis", "heart")
BY_PERSON: Final = "p"
"""Stands behind a value that a person entered."""
_BY: Final = "by:"


class PatientRow(msgspec.Struct, frozen=True, kw_only=True):
    """One patient and their bed."""

    bed: str
    patient: str  # pseudonym
    view: PatientView


class WardStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The figures in the line above the table."""

    title: str
    simulated: str  # simulated time of day
    speed: float  # actual, simulated seconds per real second
    judged_by: str  # "rules + sepsis 1.0.0", or "rules only" and why
    sent: int
    stored: int
    waiting: int  # sent and not yet stored
    duplicates: int
    rejected: int
    trouble: str = ""  # broker lost, edge restarting


class CallStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Who was called for an alarm, and who answered."""

    alarm: str  # short id, as `vitalloom alarms` takes it
    called: tuple[tuple[str, int], ...] = ()  # person and when a message was accepted, oldest first
    answered_by: str = ""
    answered_ms: int | None = None
    silenced_until_ms: int | None = None
    is_calling: bool = False


def ward(
    rows: Sequence[PatientRow],
    status: WardStatus,
    recent: Sequence[tuple[str, AlarmChanged]],
    *,
    calls: Mapping[bytes, CallStatus] | None = None,
    hints: Sequence[RenderableType] = (),
    now_ms: int,
    most: int,
    width: int = _WIDE,
) -> RenderableType:
    """The whole screen.

    Args:
        rows: every patient; the worst `most` are shown.
        recent: (bed, alarm) of the newest alarms, newest last.
        calls: by alarm id, what the alarm desk did about them.
        hints: lines below everything else.
        most: rows of the table, at most.
        width: columns of the terminal. A narrow table has no pseudonyms, models, units and lines; what
            people entered has a column of its own where there is room.
    """
    worst_first = sorted(rows, key=_severity, reverse=True)
    table = _wide_table(has_entries=width >= _WIDEST) if width >= _WIDE else _narrow_table()
    for row in worst_first[:most]:
        table.add_row(
            *(_cells(row, now_ms, has_entries=width >= _WIDEST) if width >= _WIDE else _narrow_cells(row, now_ms))
        )
    left_out = len(rows) - most
    parts: list[RenderableType] = [_head(status, len(rows)), table]
    if left_out > 0:
        parts.append(Text(f"and {left_out} more, none of them worse", style="dim"))
    parts.extend(_responses(worst_first))
    parts.extend(_due(worst_first))
    parts.extend(_held(worst_first))
    parts.extend(_without_score(rows))
    for bed, alarm in recent:
        parts.append(_line(bed, alarm))
        status_of_calls = (calls or {}).get(alarm.alarm_id)
        if status_of_calls is not None and status_of_calls.called:
            parts.append(_calls_line(status_of_calls))
    if any(_person_of(sign) for row in rows for sign in row.view.signs if sign.sign in _COLUMNS):
        parts.append(Text(f"    {BY_PERSON}: entered by a person; all others are of devices", style="dim"))
    parts.extend(hints)
    parts.append(Text(NOT_A_DEVICE, style="dim italic"))
    return Group(*parts)


def as_svg(screen: RenderableType, *, title: str, width: int = 180) -> str:
    """A screen as an SVG picture that uses fonts of the reader's machine."""
    console = Console(record=True, width=width, file=StringIO(), force_terminal=True, color_system="truecolor")
    console.print(screen)
    picture = console.export_svg(title=title)
    # Without web fonts: opening a picture of patients must not cause network requests.
    return re.sub(r"@font-face \{.*?\}\s*", "", picture, flags=re.DOTALL)


def time_of_day(at_ms: int | None) -> str:
    """`08:15:00`, in UTC; dashes if the time is not known."""
    if at_ms is None:
        return "--:--:--"
    return datetime.fromtimestamp(at_ms / 1_000, UTC).strftime("%H:%M:%S")


def _wide_table(*, has_entries: bool) -> Table:
    table = Table(expand=True, header_style="bold", row_styles=["", "on grey7"])
    for title, justify in (("bed", "right"), ("patient", "left"), ("NEWS2", "right"), ("1 h", "left")):
        table.add_column(title, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    for model in _MODELS:
        table.add_column(model, justify="right", no_wrap=True)
    for sign in _COLUMNS:
        spec = SPEC[sign]
        table.add_column(f"{spec.abbreviation} {spec.unit}", justify="right", no_wrap=True)
    if has_entries:
        table.add_column("entered", no_wrap=True)
    table.add_column("quality", no_wrap=True)
    table.add_column("alarm", ratio=1, no_wrap=True, overflow="ellipsis")
    return table


def _narrow_table() -> Table:
    table = Table(expand=True, header_style="bold", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for title in ("bed", "NEWS2", "1 h", *(SPEC[sign].abbreviation for sign in _COLUMNS)):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("alarm or quality", ratio=1, no_wrap=True, overflow="ellipsis")
    return table


def news2_text(view: PatientView) -> Text:
    """`7`; `≥ 5` if a sign is missing; `–` if no sign is known; `under 16` where there is no NEWS2."""
    score = view.news2
    if score is None:
        return Text(view.group.word, style="cyan")
    if all(part.points is None for part in score.parts):
        return Text("–", style="dim")
    text = str(score.at_least) if score.total is not None else f"≥ {score.at_least}"
    # What is missing may score: a low bound is not shown in the colour of a low risk.
    return Text(text, style=_RISK_COLOUR[str(score.risk)] if risk_text(score) else "")


def model_text(model: ModelView | None) -> Text:
    """A probability; `–` if a model abstains, was not run, or last ran too long ago."""
    if model is None or model.score is None:
        return Text("–", style="dim")
    return Text(f"{model.score:.1%}", style="bold yellow" if model.score >= model.threshold else "")


def sign_text(sign: SignView | None) -> Text:
    """A value, dim with its age when it is late, only its age when it is stale; marked if a person entered it."""
    if sign is None:
        return Text("–", style="dim")
    if sign.freshness >= Freshness.STALE:
        return Text(f"no data {duration(sign.age_ms)}", style="dim red")
    value = f"{sign.value:.{SPEC[sign.sign].decimals}f}{BY_PERSON if _person_of(sign) else ''}"
    if sign.freshness is Freshness.LATE:
        return Text(f"{value} {duration(sign.age_ms)}", style="dim")
    return Text(value)


def entered_text(signs: Mapping[VitalSign, SignView]) -> Text:
    """Consciousness and oxygen, who entered them, and how long ago: `C, 2 L/min, anna 12 min`."""
    level, flow = signs.get(VitalSign.CONSCIOUSNESS), signs.get(VitalSign.SUPPLEMENTAL_OXYGEN)
    known = [sign for sign in (level, flow) if sign is not None]
    if not known:
        return Text("–", style="dim")
    parts = [] if level is None else [Consciousness(int(level.value)).letter]
    if flow is not None:
        parts.append("air" if flow.value == 0 else f"{flow.value:g} L/min")
    oldest = max(known, key=lambda sign: sign.age_ms)
    who = _person_of(oldest) or "device"
    is_old = any(sign.freshness >= Freshness.STALE for sign in known)
    return Text(f"{', '.join(parts)}, {who} {duration(oldest.age_ms)}", style="dim red" if is_old else "")


def _person_of(sign: SignView) -> str:
    """Who entered a value; empty: a device measured it."""
    return sign.source.removeprefix(_BY) if sign.source.startswith(_BY) else ""


def _cells(row: PatientRow, now_ms: int, *, has_entries: bool) -> list[Text]:
    view = row.view
    signs = {sign.sign: sign for sign in view.signs}
    models = {model.model: model for model in view.models}
    return [
        Text(row.bed),
        Text(row.patient),
        news2_text(view),
        _trend(view, now_ms),
        *(model_text(models.get(model)) for model in _MODELS),
        *(sign_text(signs.get(sign)) for sign in _COLUMNS),
        *([entered_text(signs)] if has_entries else []),
        _quality(view, now_ms),
        _alarms(view),
    ]


def _narrow_cells(row: PatientRow, now_ms: int) -> list[Text]:
    view = row.view
    signs = {sign.sign: sign for sign in view.signs}
    return [
        Text(row.bed),
        news2_text(view),
        _trend(view, now_ms),
        *(_short(sign_text(signs.get(sign))) for sign in _COLUMNS),
        _alarms(view) or _quality(view, now_ms),
    ]


def _short(text: Text) -> Text:
    """An age in fewer letters: `14 7m`, `none 2h`."""
    plain = text.plain.replace("no data", "none")
    for word, letter in (("min", "m"), ("h", "h"), ("s", "s"), ("d", "d")):
        plain = plain.replace(f" {word}", letter)
    return Text(plain, style=text.style)


def _trend(view: PatientView, now_ms: int) -> Text:
    if view.news2 is None:
        return Text("")
    before = [points for at_ms, points in view.news2_before if now_ms - at_ms <= _TREND_MS + 600_000]
    if not before:
        return Text("")
    then, now = before[0], view.news2.at_least
    if now > then:
        return Text(f"↑ {then}", style="red")
    return Text(f"↓ {then}", style="green") if now < then else Text(f"→ {then}", style="dim")


def _quality(view: PatientView, now_ms: int) -> Text:
    if view.sensor_off_since_ms is not None:
        return Text(f"sensor off {duration(max(now_ms - view.sensor_off_since_ms, 0))}", style="cyan")
    if not view.signs:
        return Text("no reading yet", style="dim")
    if view.news2 is not None and view.news2.due:
        return Text(f"due: {', '.join(SPEC[sign].abbreviation for sign in view.news2.due)}", style="yellow")
    worst = max((sign.freshness for sign in view.signs if not SPEC[sign.sign].entered), default=Freshness.FRESH)
    if worst is Freshness.FRESH and view.activity in (Activity.WALK, Activity.EXERCISE):
        return Text(view.activity.phrase, style="cyan")
    return Text("ok" if worst is Freshness.FRESH else worst.name.lower(), style="dim" if not worst else "cyan")


def _alarms(view: PatientView) -> Text:
    if not view.alarms:
        return Text("")
    worst = max(view.alarms, key=_urgency)
    # The count stands first, because a narrow terminal cuts off the end of the line.
    answered = sum(alarm.acknowledged_by is not None for alarm in view.alarms)
    if len(view.alarms) > 1:
        count = f"{len(view.alarms)}, {answered} answered: " if answered else f"{len(view.alarms)}: "
    else:
        count = f"{worst.acknowledged_by} answered: " if answered else ""
    return Text(f"{MARK[worst.priority]} {count}{worst.text}", style=COLOUR[worst.priority])


def _responses(worst_first: Sequence[PatientRow]) -> list[Text]:
    """The recommended responses to NEWS2, the most urgent first, each with its beds; wrapped, never cut."""
    beds: dict[tuple[Priority, str], list[str]] = {}
    for row in worst_first:
        asking = [alarm for alarm in row.view.alarms if alarm.response]
        if asking:
            # NEWS2 as a whole says more than one red sign of it.
            worst = max(asking, key=lambda alarm: (alarm.rule_id == "news2", *_urgency(alarm)))
            beds.setdefault((worst.priority, worst.response), []).append(row.bed)
    lines = []
    for (priority, response), these in sorted(beds.items(), key=lambda one: -one[0][0])[:RESPONSE_LINES]:
        more = f" and {len(these) - _MOST_BEDS} more" if len(these) > _MOST_BEDS else ""
        text = f"{MARK[priority]:>3} bed {', '.join(these[:_MOST_BEDS])}{more}: recommended: {response}"
        lines.append(Text(text, style=COLOUR[priority]))
    return lines


def _due_texts(view: PatientView) -> tuple[str, ...]:
    return () if view.news2 is None else due_texts(view.news2)


def _without_score(rows: Sequence[PatientRow]) -> list[Text]:
    """The beds of patients for whom there is no adult score, a line for each group."""
    beds: dict[str, list[str]] = {}
    for row in rows:
        if row.view.group.note:
            beds.setdefault(row.view.group.note, []).append(row.bed)
    return [Text(f"    bed {', '.join(these)}: {note}", style="cyan") for note, these in sorted(beds.items())]


def _due(worst_first: Sequence[PatientRow]) -> list[Text]:
    """What is older than the risk allows, of the worst patients."""
    of_beds = [(row.bed, text) for row in worst_first for text in _due_texts(row.view)]
    lines = [Text(f"    bed {bed}: {text}", style="yellow", no_wrap=True) for bed, text in of_beds[:DUE_LINES]]
    if len(of_beds) > DUE_LINES:
        lines[-1].append(f"; and {len(of_beds) - DUE_LINES} more")
    return lines


def _held(worst_first: Sequence[PatientRow]) -> list[Text]:
    """What an activity explains and no alarm is made of, of the worst patients."""
    of_beds = [(row.bed, text) for row in worst_first for text in row.view.held]
    lines = [Text(f"    bed {bed}: {text}", style="cyan", no_wrap=True) for bed, text in of_beds[:HELD_LINES]]
    if len(of_beds) > HELD_LINES:
        lines[-1].append(f"; and {len(of_beds) - HELD_LINES} more")
    return lines


def _line(bed: str, alarm: AlarmChanged) -> Text:
    state = "was" if alarm.latched else alarm.state.value
    return Text(f"{MARK[alarm.priority]:>3} bed {bed}: {alarm.text} [{state}]", style=COLOUR[alarm.priority])


def _calls_line(calls: CallStatus) -> Text:
    # The same person may be called again and again: how often, and when last.
    times = Counter(person for person, _ in calls.called)
    last = dict(calls.called)
    called = ", ".join(
        f"{person} {time_of_day(at_ms)}{f' ({times[person]}×)' if times[person] > 1 else ''}"
        for person, at_ms in last.items()
    )
    line = Text(f"      alarm {calls.alarm}: called {called}; ", style="dim", no_wrap=True, overflow="ellipsis")
    if calls.answered_by:
        line.append(f"answered by {calls.answered_by} {time_of_day(calls.answered_ms)}", style="bold green not dim")
    elif calls.silenced_until_ms is not None and not calls.is_calling:
        line.append(f"silenced until {time_of_day(calls.silenced_until_ms)}", style="bold green not dim")
    elif calls.is_calling:
        line.append("no answer yet", style="bold not dim")
    else:
        line.append("over, no one answered")
    return line


def _head(status: WardStatus, patients: int) -> Text:
    line = Text.assemble(
        (f"{status.title}  ", "bold"),
        f"{patients} patients  {status.simulated} UTC  {status.speed:.0f}×  ",
        (status.judged_by, "dim"),
        f"  sent {status.sent}  stored {status.stored}  in transit {status.waiting}",
    )
    if status.duplicates or status.rejected:
        line.append(f"  duplicates dropped {status.duplicates}  rejected {status.rejected}")
    if status.trouble:
        line.append(f"  {status.trouble}", style="bold yellow")
    return line


def _severity(row: PatientRow) -> tuple[int, int, int]:
    view = row.view
    worst = max((int(alarm.priority) for alarm in view.alarms), default=0)
    # A patient without a score stands where an alarm of NEWS2 of that priority would.
    points = _NEWS2_OF.get(worst, 0) if view.news2 is None else view.news2.at_least
    # Among equals the lower bed comes first, so that rows do not change places all the time.
    return points, worst, -int(row.bed) if row.bed.isdigit() else 0


def _urgency(alarm: AlarmChanged) -> tuple[bool, int, bool, bool, int]:
    """Sort key. Of one priority, unanswered comes first; then NEWS2: its text names all signs that contribute."""
    is_unanswered = alarm.acknowledged_by is None
    is_active, is_news2 = alarm.state is AlarmState.ACTIVE, alarm.rule_id == "news2"
    return is_active, int(alarm.priority), is_unanswered, is_news2, alarm.at_ms
