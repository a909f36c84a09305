"""Common-cause grouping: if the data of many patients of a site stops together, that is one outage.

A pure state machine, one per site, fed with every alarm of its patients. It removes nothing: each alarm stays in the
record, and `Outage.grouped` names those whose own notifications the outage may replace. Physiological and high
alarms are never among them.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable
from typing import Any, Final, Self

import msgspec

from vitals.alarms import ClockText, clock_text
from vitals.messages import AlarmChanged, AlarmKind, AlarmState, Priority

WITHIN_MS: Final = 60_000
LEAST_PATIENTS: Final = 3
MORE_THAN: Final = 0.3
NO_DATA_RULES: Final = frozenset({"no_data"})
"""Rules whose alarms say that no data comes. A sensor that fell off concerns one patient only and is not among them."""


class Outage(msgspec.Struct, frozen=True, kw_only=True):
    """The state of an outage of a site, announced whenever something about it changed."""

    outage_id: bytes  # permanent; derived from the first alarms of the outage
    site: str
    began_ms: int  # when the data of its first patient stopped
    at_ms: int  # when it changed to this state
    ended_ms: int | None = None
    without_data: tuple[str, ...]  # bindings that send no data now
    returned: tuple[str, ...] = ()  # bindings that send data again
    grouped: tuple[bytes, ...]  # alarms that need no notification of their own while the outage is open
    patients: int | None  # all monitored patients of the site; None: not known
    revision: int
    text: str


class _NoDataAlarm(msgspec.Struct, array_like=True):
    """One open no-data alarm."""

    stay_id: str
    alarm_id: bytes
    onset_ms: int
    may_be_grouped: bool


class _StoredOutage(msgspec.Struct, array_like=True):
    """An open outage in the stored state."""

    outage_id: bytes
    first_ms: int
    last_ms: int
    alarms: list[bytes]
    bindings: list[str]  # every patient it ever held, in the order of joining
    revision: int = -1


class _OpenOutage:
    """An open outage in memory. Adding or removing one of thousands of alarms takes constant time."""

    __slots__ = ("_alarms_of", "alarms", "bindings", "first_ms", "last_ms", "outage_id", "revision")

    def __init__(self, outage_id: bytes, first_ms: int, last_ms: int) -> None:
        self.outage_id = outage_id
        self.first_ms = first_ms
        self.last_ms = last_ms
        self.revision = -1
        self.alarms: dict[bytes, None] = {}  # in the order of joining
        self.bindings: dict[str, None] = {}
        self._alarms_of: Counter[str] = Counter()  # by binding

    def add(self, alarm: _NoDataAlarm) -> None:
        self.alarms[alarm.alarm_id] = None
        self.bindings[alarm.stay_id] = None
        self._alarms_of[alarm.stay_id] += 1

    def remove(self, alarm: _NoDataAlarm) -> None:
        del self.alarms[alarm.alarm_id]
        self._alarms_of[alarm.stay_id] -= 1
        if not self._alarms_of[alarm.stay_id]:
            del self._alarms_of[alarm.stay_id]

    @property
    def without_data(self) -> int:
        """How many patients send no data."""
        return len(self._alarms_of)


class SiteOutages:
    """The outages of one site.

    Patients belong to one outage if their data *stopped* within a minute of each other. The times of their alarms do
    not count: how soon missing data becomes an alarm depends on how ill the patient was, so the alarms after one cut
    cable are spread over half an hour, and each joins the outage as it comes.
    """

    def __init__(self, site: str, clock: ClockText = clock_text) -> None:
        self._site = site
        self._clock = clock
        self._no_data: dict[bytes, _NoDataAlarm] = {}  # by alarm id
        self._outages: list[_OpenOutage] = []
        self._outage_of: dict[bytes, _OpenOutage] = {}  # by alarm id

    def observe(self, alarm: AlarmChanged, *, patients: int | None) -> list[Outage]:
        """Process one alarm of one patient of the site; see `observe_all`."""
        return self.observe_all([alarm], patients=patients)

    def observe_all(self, alarms: Iterable[AlarmChanged], *, patients: int | None) -> list[Outage]:
        """Process alarms of patients of the site. Alarms that are not about missing data change nothing.

        Args:
            alarms: the states of the alarms, in their order.
            patients: how many are monitored at the site now. None, if that is not known: an outage then needs three.

        Returns:
            The outages that began, grew, shrank or ended, each once, as it is after the last of the alarms.
        """
        changed: dict[bytes, tuple[_OpenOutage, int]] = {}
        for alarm in alarms:
            touched = self._process(alarm, patients)
            if touched is not None:
                changed[touched.outage_id] = (touched, alarm.at_ms)
        return [self._changed(one, at_ms, patients) for one, at_ms in changed.values()]

    def replaces(self, alarm_id: bytes) -> bool:
        """Whether an open outage replaces the notification of an alarm."""
        return self.replaced_by(alarm_id) is not None

    def replaced_by(self, alarm_id: bytes) -> bytes | None:
        """The id of the open outage that replaces the notification of an alarm; None if none does."""
        alarm, outage = self._no_data.get(alarm_id), self._outage_of.get(alarm_id)
        return outage.outage_id if alarm is not None and alarm.may_be_grouped and outage is not None else None

    def to_state(self) -> list[Any]:
        """What msgspec can encode; nearly empty while data comes from every patient."""
        stored = [
            _StoredOutage(one.outage_id, one.first_ms, one.last_ms, list(one.alarms), list(one.bindings), one.revision)
            for one in self._outages
        ]
        return [list(self._no_data.values()), stored]

    @classmethod
    def from_state(cls, site: str, state: list[Any], clock: ClockText = clock_text) -> Self:
        """The outages in the state of `to_state`."""
        outages = cls(site, clock)
        outages._no_data = {one.alarm_id: one for one in msgspec.convert(state[0], list[_NoDataAlarm])}
        for stored in msgspec.convert(state[1], list[_StoredOutage]):
            one = _OpenOutage(stored.outage_id, stored.first_ms, stored.last_ms)
            one.revision = stored.revision
            one.bindings = dict.fromkeys(stored.bindings)
            outages._open(one, [outages._no_data[alarm_id] for alarm_id in stored.alarms])
        return outages

    def _process(self, alarm: AlarmChanged, patients: int | None) -> _OpenOutage | None:
        """Apply one alarm; returns the outage that it changed."""
        if alarm.kind is not AlarmKind.TECHNICAL or alarm.rule_id not in NO_DATA_RULES or alarm.retrospective:
            return None
        before = self._no_data.get(alarm.alarm_id)
        if alarm.state is not AlarmState.ACTIVE:
            return None if before is None else self._shrink(before, patients)
        now = _NoDataAlarm(alarm.stay_id, alarm.alarm_id, alarm.onset_ms, alarm.priority < Priority.HIGH)
        self._no_data[alarm.alarm_id] = now
        if before == now:
            return None
        return self._outage_of.get(alarm.alarm_id) or self._join(now) or self._begin(now, patients)

    def _join(self, new: _NoDataAlarm) -> _OpenOutage | None:
        for one in self._outages:
            first_ms, last_ms = min(one.first_ms, new.onset_ms), max(one.last_ms, new.onset_ms)
            if last_ms - first_ms <= WITHIN_MS:
                one.first_ms, one.last_ms = first_ms, last_ms
                one.add(new)
                self._outage_of[new.alarm_id] = one
                return one
        return None

    def _begin(self, new: _NoDataAlarm, patients: int | None) -> _OpenOutage | None:
        free = sorted(
            (one for one in self._no_data.values() if one.alarm_id not in self._outage_of),
            key=lambda one: (one.onset_ms, one.alarm_id),
        )
        largest: list[_NoDataAlarm] = []
        for start in free:
            if new.onset_ms - WITHIN_MS <= start.onset_ms <= new.onset_ms:
                together = [one for one in free if start.onset_ms <= one.onset_ms <= start.onset_ms + WITHIN_MS]
                if len(_bindings(together)) > len(_bindings(largest)):
                    largest = together
        if not _is_common(len(_bindings(largest)), patients):
            return None
        found = _OpenOutage(_outage_id(self._site, largest), largest[0].onset_ms, largest[-1].onset_ms)
        self._open(found, largest)
        return found

    def _open(self, outage: _OpenOutage, alarms: list[_NoDataAlarm]) -> None:
        self._outages.append(outage)
        for alarm in alarms:
            outage.add(alarm)
            self._outage_of[alarm.alarm_id] = outage

    def _shrink(self, alarm: _NoDataAlarm, patients: int | None) -> _OpenOutage | None:
        del self._no_data[alarm.alarm_id]
        one = self._outage_of.pop(alarm.alarm_id, None)
        if one is None:
            return None
        one.remove(alarm)
        if not _is_common(one.without_data, patients):
            # Too few patients are left for a common cause: their own alarms are notified again.
            self._outages.remove(one)
            for alarm_id in one.alarms:
                del self._outage_of[alarm_id]
        return one

    def _changed(self, one: _OpenOutage, at_ms: int, patients: int | None) -> Outage:
        one.revision += 1
        alarms = [self._no_data[alarm_id] for alarm_id in one.alarms if alarm_id in self._no_data]
        without_data = dict.fromkeys(_bindings(alarms))
        has_ended = all(one is not other for other in self._outages)
        since = f"since {self._clock(one.first_ms)}"
        of_all = "" if patients is None else f" of {patients}"
        return Outage(
            outage_id=one.outage_id,
            site=self._site,
            began_ms=one.first_ms,
            at_ms=at_ms,
            ended_ms=at_ms if has_ended else None,
            without_data=tuple(without_data),
            returned=tuple(stay_id for stay_id in one.bindings if stay_id not in without_data),
            grouped=() if has_ended else tuple(alarm.alarm_id for alarm in alarms if alarm.may_be_grouped),
            patients=patients,
            revision=one.revision,
            text=f"{self._site}: outage {since} is over; {len(without_data)}{of_all} patients still without data"
            if has_ended
            else f"{self._site}: no data from {len(without_data)}{of_all} patients {since}",
        )


def _is_common(without_data: int, patients: int | None) -> bool:
    # A single patient has no common cause with others, however small the site is.
    if without_data >= LEAST_PATIENTS:
        return True
    return patients is not None and without_data >= 2 and without_data > MORE_THAN * patients


def _bindings(alarms: Iterable[_NoDataAlarm]) -> list[str]:
    return list(dict.fromkeys(alarm.stay_id for alarm in alarms))


def _outage_id(site: str, alarms: list[_NoDataAlarm]) -> bytes:
    digest = hashlib.sha256(b"outage")
    for part in (site.encode(), *sorted(alarm.alarm_id for alarm in alarms)):
        digest.update(len(part).to_bytes(2, "big") + part)
    return digest.digest()[:16]
