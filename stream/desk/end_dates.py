"""End dates at the desk: what a person has to renew, or was not renewed in time, is a technical alarm of the site.

Low at 30 days, which is on the list; medium at 14, which people are called for; high at 3 and when it has ended,
because then every patient of the site is without supervision at once. Each step asks for an answer of its own.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from runtime.clock import Clock
from runtime.end_dates import EndDate, EndDateWatch, Urgency, notes, sentence, urgency
from runtime.logs import get
from stream.config import DeskConfig
from stream.desk.decisions import END_DATE_RULE, Kept
from stream.desk.desk import AlarmDesk
from stream.site.end_dates import read_end_dates
from stream.tls import FollowingContext, kafka_end_dates
from vitals.messages import AlarmChanged, AlarmKind, AlarmState, Priority

_PRIORITY: Final = {
    Urgency.LOW: Priority.LOW,
    Urgency.MEDIUM: Priority.MEDIUM,
    Urgency.HIGH: Priority.HIGH,
    Urgency.ENDED: Priority.HIGH,
}

_log = get(__name__)


class EndDates:
    """What the desk knows of end dates: its own certificates, and what the registry of its site has found.

    Args:
        tls: what its API shows; None: plain HTTP.
        more_notes: further problems for the health endpoint that do no harm yet.
    """

    def __init__(
        self,
        config: DeskConfig,
        clock: Clock,
        tls: FollowingContext | None,
        *,
        more_notes: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        self._more_notes = more_notes
        self._config = config
        self._clock = clock
        self._tls = tls
        self._own: tuple[EndDate, ...] = ()
        self._site: tuple[EndDate, ...] = ()
        self.look()

    @property
    def watch(self) -> EndDateWatch:
        """For the health endpoint. What ends elsewhere at the site does not make the desk unready."""
        return EndDateWatch(lambda: self._own, self._clock.now_ms, self._further_notes)

    def look(self) -> None:
        """Read the files again, and show a certificate that was renewed."""
        # Times of a simulated ward say nothing about certificates.
        if self._config.clock_file is None:
            self._own = (*self._shown(), *kafka_end_dates(self._config.kafka, "desk"))
            named = {one.what for one in self._own}
            found = self._still_known(self._of_site(self._config.site))
            self._site = tuple(one for one in found if one.what not in named)

    def tell(self, desk: AlarmDesk) -> None:
        """Raise and clear the alarms of the site. Raises CommitFailed: nothing has changed."""
        if self._config.clock_file is not None:
            return
        raised, now_ms = desk.own_alarms(END_DATE_RULE), self._clock.now_ms()
        found = changes((*self._own, *self._site), raised, now_ms=now_ms)
        if found:
            desk.hear_own(found)
        for one in found:
            _log.warning("end date of the site", what=one.key, state=one.state.value, problem=one.text)

    def _shown(self) -> Sequence[EndDate]:
        tls, files = self._tls, self._config.api.tls
        if tls is None or files is None:
            return ()
        tls.current()
        return (
            EndDate(
                what="certificate of the alarm desk",
                ends_ms=tls.ends_ms,
                renewed_by="a person",
                fix=f"replace {files.certificate} and its key; no restart is needed",
                problem=tls.problem,
            ),
        )

    def _of_site(self, folder: Path | None) -> Sequence[EndDate]:
        return () if folder is None else read_end_dates(folder, now_ms=self._clock.now_ms())

    def _still_known(self, found: Sequence[EndDate]) -> Sequence[EndDate]:
        """What the report says; while it is missing or cannot be read, what it said before: nothing was renewed."""
        if found and not found[0].problem:
            return found
        named = {one.what for one in found}
        return (*found, *(one for one in self._site if one.what not in named))

    def _further_notes(self) -> list[str]:
        return [*notes(self._site, self._clock.now_ms()), *self._more_notes()]


def changes(ends: Iterable[EndDate], kept: Iterable[Kept], *, now_ms: int) -> list[AlarmChanged]:
    """Alarms to raise, to make more urgent, and to clear.

    Args:
        ends: everything that ends, urgent or not.
        kept: the alarms that were raised, also those that are over: one that is raised again continues its revisions.
    """
    before = {one.alarm.alarm_id: one.alarm for one in kept}
    found = []
    standing: set[bytes] = set()
    for one in ends:
        level = urgency(one, now_ms)
        if level is Urgency.NONE:
            continue
        alarm_id = _alarm_id(one)
        standing.add(alarm_id)
        known = before.get(alarm_id)
        if known is None or known.state is not AlarmState.ACTIVE or _level_of(known) < level:
            found.append(_alarm(one, level, known, now_ms))
    return found + [_cleared(alarm, now_ms) for alarm_id, alarm in before.items() if _is_over(alarm, standing)]


def _is_over(alarm: AlarmChanged, standing: set[bytes]) -> bool:
    return alarm.alarm_id not in standing and alarm.state is AlarmState.ACTIVE


def _alarm(one: EndDate, level: Urgency, before: AlarmChanged | None, now_ms: int) -> AlarmChanged:
    alarm_id = _alarm_id(one)
    return AlarmChanged(
        stay_id=alarm_id.hex(),
        alarm_id=alarm_id,
        rule_id=END_DATE_RULE,
        key=one.what,
        kind=AlarmKind.TECHNICAL,
        priority=_PRIORITY[level],
        state=AlarmState.ACTIVE,
        at_ms=now_ms,
        onset_ms=now_ms if before is None or before.state is not AlarmState.ACTIVE else before.onset_ms,
        revision=max(int(level), 0 if before is None else before.revision + 1),
        text=sentence(one, now_ms),
        basis=level.name.lower(),
    )


def _cleared(alarm: AlarmChanged, now_ms: int) -> AlarmChanged:
    return msgspec.structs.replace(alarm, state=AlarmState.CLEARED, at_ms=now_ms, revision=alarm.revision + 1)


def _level_of(alarm: AlarmChanged) -> Urgency:
    return Urgency[alarm.basis.upper()]


def _alarm_id(one: EndDate) -> bytes:
    """Of this end of this thing: what was renewed and ends once more is another alarm."""
    return hashlib.sha256(f"vitalloom end date\0{one.what}\0{one.ends_ms}".encode()).digest()[:16]
