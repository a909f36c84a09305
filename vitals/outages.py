"""Common-cause grouping: if the data of many patients of a site stops together, that is one outage.

A pure state machine, one per site, fed with every alarm of its patients. It removes nothing: each alarm stays in the
record, and `Outage.grouped` names those whose own notifications the outage may replace. Physiological and high
alarms are never among them.
"""

import hashlib
from collections.abc import Iterable
from typing import Any, Final, Self

import msgspec

from vitals.alarms import clock_text
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
    patients: int  # all monitored patients of the site
    revision: int
    text: str


class _NoDataAlarm(msgspec.Struct, array_like=True):
    """One open no-data alarm."""

    binding_id: str
    alarm_id: bytes
    onset_ms: int
    may_be_grouped: bool


class _OpenOutage(msgspec.Struct, array_like=True):
    outage_id: bytes
    first_ms: int
    last_ms: int
    alarms: list[bytes]
    bindings: list[str]  # every patient it ever held, in the order of joining
    revision: int = -1


class SiteOutages:
    """The outages of one site.

    Patients belong to one outage if their data *stopped* within a minute of each other. The times of their alarms do
    not count: how soon missing data becomes an alarm depends on how ill the patient was, so the alarms after one cut
    cable are spread over half an hour, and each joins the outage as it comes.
    """

    def __init__(self, site: str) -> None:
        self._site = site
        self._no_data: dict[bytes, _NoDataAlarm] = {}  # by alarm id
        self._outages: list[_OpenOutage] = []

    def observe(self, alarm: AlarmChanged, *, patients: int) -> list[Outage]:
        """Process one alarm of one patient of the site. Alarms that are not about missing data change nothing.

        Args:
            alarm: the state of the alarm.
            patients: how many are monitored at the site now.

        Returns:
            The outages that began, grew, shrank or ended.
        """
        if alarm.kind is not AlarmKind.TECHNICAL or alarm.rule_id not in NO_DATA_RULES or alarm.retrospective:
            return []
        before = self._no_data.get(alarm.alarm_id)
        if alarm.state is not AlarmState.ACTIVE:
            if before is None:
                return []
            del self._no_data[alarm.alarm_id]
            return self._shrink(alarm, patients)
        now = _NoDataAlarm(alarm.binding_id, alarm.alarm_id, alarm.onset_ms, alarm.priority < Priority.HIGH)
        self._no_data[alarm.alarm_id] = now
        if before == now:
            return []
        held = self._holding(alarm.alarm_id) or self._join(now) or self._begin(now, patients)
        return [] if held is None else [self._changed(held, alarm.at_ms, patients)]

    def replaces(self, alarm_id: bytes) -> bool:
        """Whether an open outage replaces the notification of an alarm."""
        alarm = self._no_data.get(alarm_id)
        return alarm is not None and alarm.may_be_grouped and self._holding(alarm_id) is not None

    def to_state(self) -> list[Any]:
        """What msgspec can encode; nearly empty while data comes from every patient."""
        return [list(self._no_data.values()), self._outages]

    @classmethod
    def from_state(cls, site: str, state: list[Any]) -> Self:
        """The outages in the state of `to_state`."""
        outages = cls(site)
        outages._no_data = {one.alarm_id: one for one in msgspec.convert(state[0], list[_NoDataAlarm])}
        outages._outages = msgspec.convert(state[1], list[_OpenOutage])
        return outages

    def _holding(self, alarm_id: bytes) -> _OpenOutage | None:
        return next((one for one in self._outages if alarm_id in one.alarms), None)

    def _join(self, new: _NoDataAlarm) -> _OpenOutage | None:
        for one in self._outages:
            first_ms, last_ms = min(one.first_ms, new.onset_ms), max(one.last_ms, new.onset_ms)
            if last_ms - first_ms <= WITHIN_MS:
                one.first_ms, one.last_ms = first_ms, last_ms
                _add_alarms(one, [new])
                return one
        return None

    def _begin(self, new: _NoDataAlarm, patients: int) -> _OpenOutage | None:
        free = sorted(
            (one for one in self._no_data.values() if self._holding(one.alarm_id) is None),
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
        found = _OpenOutage(
            _outage_id(self._site, largest), largest[0].onset_ms, largest[-1].onset_ms, alarms=[], bindings=[]
        )
        _add_alarms(found, largest)
        self._outages.append(found)
        return found

    def _shrink(self, alarm: AlarmChanged, patients: int) -> list[Outage]:
        one = self._holding(alarm.alarm_id)
        if one is None:
            return []
        one.alarms.remove(alarm.alarm_id)
        left = len(_bindings(self._no_data[alarm_id] for alarm_id in one.alarms))
        if _is_common(left, patients):
            return [self._changed(one, alarm.at_ms, patients)]
        # Too few patients are left for a common cause: their own alarms are notified again.
        self._outages.remove(one)
        return [self._changed(one, alarm.at_ms, patients, ended_ms=alarm.at_ms)]

    def _changed(self, one: _OpenOutage, at_ms: int, patients: int, *, ended_ms: int | None = None) -> Outage:
        one.revision += 1
        alarms = [self._no_data[alarm_id] for alarm_id in one.alarms]
        silent = _bindings(alarms)
        since = f"since {clock_text(one.first_ms)}"
        return Outage(
            outage_id=one.outage_id,
            site=self._site,
            began_ms=one.first_ms,
            at_ms=at_ms,
            ended_ms=ended_ms,
            without_data=tuple(silent),
            returned=tuple(binding_id for binding_id in one.bindings if binding_id not in silent),
            grouped=() if ended_ms is not None else tuple(alarm.alarm_id for alarm in alarms if alarm.may_be_grouped),
            patients=patients,
            revision=one.revision,
            text=f"{self._site}: no data from {len(silent)} of {patients} patients {since}"
            if ended_ms is None
            else f"{self._site}: outage {since} is over; {len(silent)} of {patients} patients still without data",
        )


def _add_alarms(one: _OpenOutage, alarms: list[_NoDataAlarm]) -> None:
    one.alarms += [alarm.alarm_id for alarm in alarms]
    one.bindings += [binding_id for binding_id in _bindings(alarms) if binding_id not in one.bindings]


def _is_common(silent: int, patients: int) -> bool:
    # A single patient has no common cause with others, however small the site is.
    return silent >= LEAST_PATIENTS or (silent >= 2 and silent > MORE_THAN * patients)


def _bindings(alarms: Iterable[_NoDataAlarm]) -> list[str]:
    return list(dict.fromkeys(alarm.binding_id for alarm in alarms))


def _outage_id(site: str, alarms: list[_NoDataAlarm]) -> bytes:
    digest = hashlib.sha256(b"outage")
    for part in (site.encode(), *sorted(alarm.alarm_id for alarm in alarms)):
        digest.update(len(part).to_bytes(2, "big") + part)
    return digest.digest()[:16]
