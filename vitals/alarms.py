"""The alarm life cycle of one patient: pending, active, cleared; latched, acknowledged and silenced beside it.

A pure state machine. Durations run in event time. One condition (a rule, and where it is judged sign by sign its sign)
has at most one open alarm. An alarm's id is made of what began it, so that the edge and the data centre, a restart and
a replay all give the same one.
"""

import hashlib
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, Final, Self, TypeAlias
from zlib import crc32

import msgspec

from vitals.messages import AlarmChanged, AlarmKind, AlarmState, Priority
from vitals.rules import Rule, Truth

KEPT_LATCHED: Final = 20
"""How many unacknowledged alarms are kept after their condition ended; the oldest beyond that are dropped."""

WORSE_BY: Final = 2.0
"""An alarm whose grade rises by this much is announced again and needs a new acknowledgement."""

_RETROSPECTIVE_GAP_MS: Final = 600_000
_NO_READING: Final = b""


def alarm_id(stay_id: str, rule: Rule, key: str, reading_id: bytes, onset_ms: int) -> bytes:
    """The permanent id of an alarm: 16 bytes.

    The onset is only part of it where no reading began the alarm: two places that hear the same reading may put its
    time on different clocks. See `BegunWithoutReading`.
    """
    digest = hashlib.sha256()
    if reading_id:
        onset_ms = 0
    for part in (b"alarm", stay_id.encode(), rule.rule_id.encode(), key.encode(), reading_id):
        digest.update(len(part).to_bytes(2, "big") + part)
    digest.update(rule.version.to_bytes(4, "big") + onset_ms.to_bytes(8, "big", signed=True))
    return digest.digest()[:16]


ClockText: TypeAlias = Callable[[int], str]
"""Writes a time of day, from milliseconds since 1970 (UTC), with its time zone named."""


def clock_text(at_ms: int) -> str:
    """Time of day for a one-line text, in UTC: for a site that has stated no time zone.

    >>> clock_text(1_767_621_720_000)
    '14:02 UTC'
    """
    minutes = at_ms // 60_000 % 1_440
    return f"{minutes // 60:02d}:{minutes % 60:02d} UTC"


class JudgedCondition(msgspec.Struct, frozen=True, kw_only=True):
    """The result of judging one condition at one moment."""

    truth: Truth
    at_ms: int  # event time
    reading_id: bytes = _NO_READING  # the reading that was judged
    priority: Priority = Priority.LOW  # of the worst limit that was crossed; only meaningful if the condition is TRUE
    grade: float = 0.0  # rises as the patient gets worse
    onset_ms: int | None = None  # when the condition began, if that is not `at_ms`
    response: str = ""  # recommended clinical response; only meaningful if the condition is TRUE
    is_certain: bool = False  # a person has seen it: the alarm does not wait for the condition to last


class _Episode(msgspec.Struct, array_like=True):
    """One occurrence of a condition, from its first true result until it ends."""

    rule_id: str
    key: str
    alarm_id: bytes
    onset_ms: int
    seen_ms: int  # when the condition could last be judged
    changed_ms: int
    priority: Priority
    grade: float
    state: AlarmState = AlarmState.PENDING
    revision: int = -1
    text: str = ""
    clearing_ms: int | None = None
    clear_count: int = 0
    unknown: bool = False
    acknowledged_by: str | None = None
    acknowledged_ms: int | None = None
    worsened: int = 0  # revision at which it last got worse
    response: str = ""  # states that were stored earlier have none
    orders_version: int = 0  # of the orders that it was last judged by
    rule_mark: int = 0  # of the rule that it was judged by; 0: not known, of states that were stored earlier

    def shift(self, by_ms: int) -> None:
        self.onset_ms += by_ms
        self.seen_ms += by_ms
        self.changed_ms += by_ms
        if self.clearing_ms is not None:
            self.clearing_ms += by_ms
        if self.acknowledged_ms is not None:
            self.acknowledged_ms += by_ms


class _Silenced(msgspec.Struct, array_like=True):
    by: str
    until_ms: int
    priority: Priority  # of what was silenced; a higher one breaks through
    key: str | None = (
        None  # the sign; empty: of a rule that is judged as a whole. None: states that were stored earlier
    )


class BegunWithoutReading:
    """The times that ids of alarms were made of, of alarms that no reading began: the newest one of each condition.

    What ended such an alarm need not end what began it: devices are off on purpose for a while, another alarm named the
    sign for a while. When it begins again its onset is the same, and an id that was made of it would be that of the
    alarm that ended, whose changes are known already. So no time serves twice. Timers may go off a little earlier at
    one place than at another; the time is therefore counted on from the last one, not taken from a clock.
    """

    __slots__ = ("_times",)

    def __init__(self) -> None:
        self._times: dict[tuple[str, str], int] = {}  # by rule and key

    def next_ms(self, place: tuple[str, str], onset_ms: int) -> int:
        """The time for the id of an alarm that begins: its onset, or the first later one that is free."""
        last_ms = self._times.get(place)
        chosen_ms = self._times[place] = onset_ms if last_ms is None else max(onset_ms, last_ms + 1)
        return chosen_ms

    def clear(self) -> None:
        """Nobody is monitored any more: no alarm begins."""
        self._times = {}

    def shift(self, by_ms: int) -> None:
        """The clock was set by so much: move every time with it."""
        self._times = {place: at_ms + by_ms for place, at_ms in self._times.items()}

    def to_state(self) -> list[Any]:
        """Plain lists that msgspec can encode; empty for most patients."""
        return [[*place, at_ms] for place, at_ms in self._times.items()]

    def load_state(self, state: list[Any]) -> None:
        """Replace the times with those of `to_state`."""
        self._times = {(rule_id, key): at_ms for rule_id, key, at_ms in state}


class AlarmBook:
    """All alarms of one patient that are pending, active, or ended and not yet acknowledged.

    Attributes:
        begun: of alarms that no reading began, what their ids were made of. Its state is stored apart from the book's.
    """

    def __init__(
        self, stay_id: str, rules: tuple[Rule, ...], clock: ClockText = clock_text, orders_version: int = 0
    ) -> None:
        self._binding_id = stay_id
        self._orders_version = orders_version
        self._clock = clock
        self._rules = {rule.rule_id: rule for rule in rules}
        self._episodes: dict[tuple[str, str], _Episode] = {}
        self._latched: list[_Episode] = []  # ended, not acknowledged, oldest first
        self._silences: dict[tuple[str, str], _Silenced] = {}  # by rule and key
        self._retrospective: dict[tuple[str, str], int] = {}  # when a backfilled episode was last seen
        self.begun = BegunWithoutReading()

    def conditions(self) -> list[tuple[str, str]]:
        """Rule and key of every condition that is pending or active."""
        return list(self._episodes)

    def has(self, rule_id: str, key: str = "") -> bool:
        """Whether a condition is pending or active. Only then does a normal value matter."""
        return (rule_id, key) in self._episodes

    def has_active_of_patient(self) -> bool:
        """Whether any alarm about the patient is active, of whatever rule."""
        return any(
            episode.state is AlarmState.ACTIVE and _kind_of(self._rules.get(episode.rule_id)) is AlarmKind.PHYSIOLOGICAL
            for episode in self._episodes.values()
        )

    def observe(
        self, rule: Rule, seen: JudgedCondition, *, key: str = "", explain: Callable[[], str] | None = None
    ) -> list[AlarmChanged]:
        """One result of one condition.

        Args:
            rule: the rule that was judged.
            seen: the result, its time and its reading.
            key: the sign, for rules that are judged sign by sign.
            explain: makes the one-line text of a condition that is true; called only when it is needed.
        """
        episode = self._episodes.get((rule.rule_id, key))
        if seen.truth is Truth.TRUE:
            if episode is None:
                episode = self._begin(rule, key, seen)
            return self._continue(rule, episode, seen, explain or _unexplained)
        if episode is None:
            return []
        if seen.truth is Truth.UNKNOWN:
            return self._mark_unknown(episode, seen.at_ms)
        return self._count_towards_clearing(rule, episode, seen.at_ms)

    def restart_clearing(self, rule_id: str, key: str, *, at_ms: int) -> list[AlarmChanged]:
        """A value lies between the limit and its margin: the condition has not ended, and clearing starts over."""
        episode = self._episodes.get((rule_id, key))
        if episode is None or episode.state is AlarmState.PENDING:
            return []
        known_again, episode.unknown, episode.seen_ms = episode.unknown, False, at_ms
        episode.clearing_ms, episode.clear_count = None, 0
        return [self._changed(episode, at_ms)] if known_again else []

    def backfill(
        self, rule: Rule, seen: JudgedCondition, *, key: str = "", explain: Callable[[], str]
    ) -> list[AlarmChanged]:
        """Record a condition that was true and called nobody: one alarm for each occurrence.

        It was true in data which came too late to alarm, or while an activity explained it.
        """
        place = (rule.rule_id, key)
        last_ms = self._retrospective.get(place)
        self._retrospective[place] = seen.at_ms
        if last_ms is not None and abs(seen.at_ms - last_ms) <= _RETROSPECTIVE_GAP_MS:
            return []
        return [
            AlarmChanged(
                stay_id=self._binding_id,
                alarm_id=alarm_id(self._binding_id, rule, key, seen.reading_id, seen.at_ms),
                rule_id=rule.rule_id,
                key=key,
                kind=rule.kind,
                priority=seen.priority,
                state=AlarmState.CLEARED,
                at_ms=seen.at_ms,
                onset_ms=seen.at_ms,
                revision=0,
                text=explain(),
                basis=rule.basis,
                retrospective=True,
                orders_version=self._orders_version,
            )
        ]

    def acknowledge(
        self,
        alarm: bytes,
        *,
        by: str,
        at_ms: int,
        revision: int | None = None,
        priority: Priority | None = None,
        grade: float | None = None,
    ) -> list[AlarmChanged]:
        """A person has seen an alarm: escalation stops, the alarm stays open. An unknown id changes nothing.

        An acknowledgement of an earlier, milder `revision`, of a lower `priority`, or of a `grade` that is lower by
        `WORSE_BY`, changes nothing either: it may arrive late, or twice, and the person has not seen what the alarm has
        become.
        """
        for episode in [*self._latched, *self._episodes.values()]:
            open_and_unseen = episode.state is not AlarmState.PENDING and episode.acknowledged_by is None
            was_seen = (revision is None or revision >= episode.worsened) and not _is_worse(episode, priority, grade)
            if episode.alarm_id == alarm and open_and_unseen and was_seen:
                episode.acknowledged_by, episode.acknowledged_ms = by, at_ms
                self._latched = [one for one in self._latched if one is not episode]
                if episode.state is AlarmState.ACTIVE and not self._is_judged(episode):
                    self._end_unwatched(episode)
                return [self._changed(episode, at_ms)]
        return []

    def silence(
        self,
        rule_id: str,
        *,
        by: str,
        at_ms: int,
        until_ms: int,
        key: str | None = "",
        priority: Priority | None = None,
        grade: float | None = None,
    ) -> list[AlarmChanged]:
        """Silence one condition until a moment. Readings and restarts do not end a silence, a higher priority does.

        Nothing happens if the condition is worse now than the `priority` and `grade` that the person saw.

        Args:
            key: the sign, for rules that are judged sign by sign. None: not known; of such a rule nothing is silenced,
                because it may have been another sign.
        """
        if key is None:
            if self._may_have_signs(rule_id):
                return []
            key = ""
        place = (rule_id, key)
        known = self._silences.get(place)
        if known is not None and (known.by, known.until_ms) == (by, until_ms):
            return []
        episode = self._episodes.get(place)
        highest = Priority.LOW if episode is None else episode.priority
        if any(_is_worse(one, priority, grade) for one in self._open_episodes() if (one.rule_id, one.key) == place):
            return []
        if priority is not None:
            highest = min(highest, priority)
        self._silences[place] = _Silenced(by, until_ms, highest, key)
        return self._announce(place, at_ms)

    def on_timer(self, now_ms: int) -> list[AlarmChanged]:
        """End the silences that are over."""
        events: list[AlarmChanged] = []
        for place in [place for place, silence in self._silences.items() if silence.until_ms <= now_ms]:
            del self._silences[place]
            events += self._announce(place, now_ms)
        return events

    def timer_at(self) -> int | None:
        """When `on_timer` has to be called next; None if no silence is running."""
        return min((silence.until_ms for silence in self._silences.values()), default=None)

    def open(self) -> list[AlarmChanged]:
        """Every open alarm as it was last announced: those that ended without acknowledgement, then the active ones."""
        return [self._event(episode) for episode in self._open_episodes()]

    def announce_all(self, at_ms: int) -> list[AlarmChanged]:
        """Every open alarm again, because its times have changed."""
        return [self._changed(episode, at_ms) for episode in self._open_episodes()]

    def shift(self, by_ms: int) -> None:
        """The clock was set by so much: move every time with it. Alarms keep their ids."""
        for episode in (*self._episodes.values(), *self._latched):
            episode.shift(by_ms)
        for silence in self._silences.values():
            silence.until_ms += by_ms
        self._retrospective = {place: at_ms + by_ms for place, at_ms in self._retrospective.items()}
        self.begun.shift(by_ms)

    def accept_orders(
        self, at_ms: int, *, is_watched: Callable[[str, str], bool], limits_of: Callable[[Rule], str]
    ) -> list[AlarmChanged]:
        """Orders have changed. An alarm that stands goes on until somebody has looked or it is over by the new rule.

        Args:
            at_ms: the time now.
            is_watched: whether the condition of a rule and a key is still judged.
            limits_of: the limits of a rule, for the text of an alarm whose rule has changed.
        """
        events = []
        for place, episode in list(self._episodes.items()):
            rule = self._rules.get(episode.rule_id)
            mark = _mark_of(rule) if rule is not None and is_watched(*place) else _UNWATCHED
            is_unchanged = episode.rule_mark == mark or (episode.rule_mark == 0 and mark != _UNWATCHED)
            episode.rule_mark = mark
            if is_unchanged:
                continue
            if episode.state is AlarmState.PENDING:
                if mark == _UNWATCHED:
                    del self._episodes[place]
                continue
            if mark == _UNWATCHED and episode.acknowledged_by is not None:
                self._end_unwatched(episode)
            else:
                now = limits_of(rule) if rule is not None and mark != _UNWATCHED else "this is no longer watched"
                was = episode.text.split(_ORDERS_CHANGED)[0]
                episode.text = f"{was}{_ORDERS_CHANGED}{self._clock(at_ms)}: {now}"
            events.append(self._changed(episode, at_ms))
        return events

    def end_of_device(self, places: Iterable[tuple[str, str]], *, at_ms: int, ended_ms: int) -> list[AlarmChanged]:
        """A device was taken off and the stay goes on: the alarms and silences about the device end.

        Args:
            places: rule and key of each condition of the device.
            ended_ms: when its binding ended, for the text.
        """
        events = []
        for place in places:
            self._silences.pop(place, None)
            standing = [one for one in self._open_episodes() if (one.rule_id, one.key) == place]
            self._episodes.pop(place, None)
            self._latched = [one for one in self._latched if (one.rule_id, one.key) != place]
            for episode in standing:
                episode.text = f"device taken off at {self._clock(ended_ms)}; alarm was: {_text(episode, self._clock)}"
                episode.state, episode.unknown = AlarmState.CLEARED, False
                events.append(self._changed(episode, at_ms))
        return events

    def end(self, *, at_ms: int, ended_ms: int) -> list[AlarmChanged]:
        """The stay has ended: every alarm and every silence ends with it.

        An alarm that nobody answered stays in the record as that.

        Args:
            ended_ms: when the stay ended, for the text.
        """
        events = []
        self._silences.clear()
        self.begun.clear()
        standing, self._episodes, self._latched = self._open_episodes(), {}, []
        for episode in standing:
            episode.text = f"monitoring ended at {self._clock(ended_ms)}; alarm was: {_text(episode, self._clock)}"
            episode.state, episode.unknown = AlarmState.CLEARED, False
            events.append(msgspec.structs.replace(self._changed(episode, at_ms), stay_ended=True))
        return events

    def to_state(self) -> list[Any]:
        """What msgspec can encode; nearly empty while no alarm is open."""
        return [
            list(self._episodes.values()),
            self._latched,
            [[rule_id, silence] for (rule_id, _), silence in self._silences.items()],
            [[*place, at_ms] for place, at_ms in self._retrospective.items()],
        ]

    @classmethod
    def from_state(
        cls,
        stay_id: str,
        rules: tuple[Rule, ...],
        state: list[Any],
        clock: ClockText = clock_text,
        orders_version: int = 0,
    ) -> Self:
        """The book in the state of `to_state`. Alarms of rules that were removed are kept until acknowledged."""
        book = cls(stay_id, rules, clock, orders_version)
        episodes, latched, silences, retrospective = state
        book._episodes = {
            (episode.rule_id, episode.key): episode for episode in msgspec.convert(episodes, list[_Episode])
        }
        book._latched = msgspec.convert(latched, list[_Episode])
        for rule_id, stored in silences:
            silence = msgspec.convert(stored, _Silenced)
            # Of an earlier version: it may have been meant for one sign, and so silences none.
            if silence.key is not None or not book._may_have_signs(rule_id):
                silence.key = silence.key or ""
                book._silences[rule_id, silence.key] = silence
        book._retrospective = {(rule_id, key): at_ms for rule_id, key, at_ms in retrospective}
        return book

    def _begin(self, rule: Rule, key: str, seen: JudgedCondition) -> _Episode:
        onset_ms = seen.at_ms if seen.onset_ms is None else seen.onset_ms
        id_ms = onset_ms if seen.reading_id else self.begun.next_ms((rule.rule_id, key), onset_ms)
        episode = _Episode(
            rule_id=rule.rule_id,
            key=key,
            alarm_id=alarm_id(self._binding_id, rule, key, seen.reading_id, id_ms),
            onset_ms=onset_ms,
            seen_ms=seen.at_ms,
            changed_ms=seen.at_ms,
            priority=seen.priority,
            grade=seen.grade,
            rule_mark=_mark_of(rule),
        )
        self._episodes[rule.rule_id, key] = episode
        return episode

    def _continue(
        self, rule: Rule, episode: _Episode, seen: JudgedCondition, explain: Callable[[], str]
    ) -> list[AlarmChanged]:
        worse = seen.priority > episode.priority or seen.grade >= episode.grade + WORSE_BY
        news = worse or episode.unknown
        episode.seen_ms, episode.clearing_ms, episode.clear_count, episode.unknown = seen.at_ms, None, 0, False
        if episode.state is AlarmState.PENDING:
            episode.priority, episode.grade = max(episode.priority, seen.priority), max(episode.grade, seen.grade)
            if seen.at_ms - episode.onset_ms < rule.for_ms and not seen.is_certain:
                return []
            episode.state = AlarmState.ACTIVE
        elif not news:
            return []
        elif worse:
            # Priority never falls within an episode: what was red stays red until it is over.
            episode.priority, episode.grade = max(episode.priority, seen.priority), max(episode.grade, seen.grade)
            episode.acknowledged_by = episode.acknowledged_ms = None
            episode.worsened = episode.revision + 1
        episode.text = explain()
        episode.response = seen.response
        place = (episode.rule_id, episode.key)
        silence = self._silences.get(place)
        if silence is None or episode.priority <= silence.priority:
            return [self._changed(episode, seen.at_ms)]
        del self._silences[place]
        return self._announce(place, seen.at_ms)

    def _mark_unknown(self, episode: _Episode, at_ms: int) -> list[AlarmChanged]:
        # A condition that cannot be judged has not ended: clearing starts over when it can be judged again.
        episode.clearing_ms, episode.clear_count = None, 0
        if episode.state is AlarmState.PENDING or episode.unknown:
            return []
        episode.unknown = True
        return [self._changed(episode, at_ms)]

    def _count_towards_clearing(self, rule: Rule, episode: _Episode, at_ms: int) -> list[AlarmChanged]:
        place = (episode.rule_id, episode.key)
        if episode.state is AlarmState.PENDING:
            del self._episodes[place]
            return []
        known_again, episode.unknown, episode.seen_ms = episode.unknown, False, at_ms
        if episode.clearing_ms is None:
            episode.clearing_ms = at_ms
        episode.clear_count += 1
        if episode.clear_count < rule.clear_count or at_ms - episode.clearing_ms < rule.clear_for_ms:
            return [self._changed(episode, at_ms)] if known_again else []
        del self._episodes[place]
        episode.state = AlarmState.CLEARED
        episode.text = f"over since {self._clock(episode.clearing_ms)}; was {episode.text}"
        if rule.latches(episode.priority) and episode.acknowledged_by is None:
            self._latched.append(episode)
            del self._latched[:-KEPT_LATCHED]
        return [self._changed(episode, at_ms)]

    def _announce(self, place: tuple[str, str], at_ms: int) -> list[AlarmChanged]:
        return [self._changed(one, at_ms) for one in self._open_episodes() if (one.rule_id, one.key) == place]

    def _open_episodes(self) -> list[_Episode]:
        active = [episode for episode in self._episodes.values() if episode.state is AlarmState.ACTIVE]
        return [*self._latched, *active]

    def _may_have_signs(self, rule_id: str) -> bool:
        rule = self._rules.get(rule_id)
        return rule is None or rule.is_by_sign

    def _is_judged(self, episode: _Episode) -> bool:
        rule = self._rules.get(episode.rule_id)
        return rule is not None and rule.enabled and episode.rule_mark != _UNWATCHED

    def _end_unwatched(self, episode: _Episode) -> None:
        del self._episodes[episode.rule_id, episode.key]
        episode.state, episode.unknown = AlarmState.CLEARED, False
        episode.text = f"rule no longer applies; alarm was: {episode.text}"

    def _changed(self, episode: _Episode, at_ms: int) -> AlarmChanged:
        episode.revision += 1
        episode.changed_ms = at_ms
        episode.orders_version = self._orders_version
        return self._event(episode)

    def _event(self, episode: _Episode) -> AlarmChanged:
        rule = self._rules.get(episode.rule_id)
        silence = self._silences.get((episode.rule_id, episode.key))
        return AlarmChanged(
            stay_id=self._binding_id,
            alarm_id=episode.alarm_id,
            rule_id=episode.rule_id,
            key=episode.key,
            kind=_kind_of(rule),
            priority=episode.priority,
            state=episode.state,
            at_ms=episode.changed_ms,
            onset_ms=episode.onset_ms,
            revision=episode.revision,
            text=_text(episode, self._clock),
            basis="" if rule is None else rule.basis,
            latched=any(one is episode for one in self._latched),
            acknowledged_by=episode.acknowledged_by,
            acknowledged_ms=episode.acknowledged_ms,
            silenced_until_ms=None if silence is None else silence.until_ms,
            response=episode.response if episode.state is AlarmState.ACTIVE else "",
            grade=episode.grade,
            orders_version=episode.orders_version,
        )


_ORDERS_CHANGED: Final = "; orders changed at "
_UNWATCHED: Final = 1
"""In the place of the mark of a rule: the condition is not judged any more."""


@lru_cache(maxsize=1_024)
def _mark_of(rule: Rule) -> int:
    """A number that is another one if the rule is judged another way: never 0 or 1, and the same on every machine."""
    limits = [(limit.threshold, int(limit.priority)) for limit in rule.limits]
    lasting = (rule.for_ms, rule.clear_margin, rule.clear_for_ms, rule.clear_count, rule.latching)
    judged = msgspec.to_builtins((rule.quantity, rule.comparison, limits, lasting, rule.all_of, rule.trend))
    return 2 + crc32(msgspec.msgpack.encode(_with_floats(judged))) % (2**31)


def _with_floats(plain: Any) -> Any:
    """Lists and numbers, with every number as a float: a limit of 3 is the same as one of 3.0."""
    if isinstance(plain, list | tuple):
        return [_with_floats(one) for one in plain]
    return float(plain) if isinstance(plain, int | float) else plain


def _kind_of(rule: Rule | None) -> AlarmKind:
    # A rule that was removed from the plan: its kind is unknown, so the more serious one is assumed.
    return AlarmKind.PHYSIOLOGICAL if rule is None else rule.kind


def _is_worse(episode: _Episode, priority: Priority | None, grade: float | None) -> bool:
    """Whether an alarm is worse than what a person saw. None: not known, so it does not count."""
    return (priority is not None and episode.priority > priority) or (
        grade is not None and episode.grade >= grade + WORSE_BY
    )


def _text(episode: _Episode, clock: ClockText) -> str:
    if episode.unknown:
        return f"was {episode.text}; no data since {clock(episode.seen_ms)}"
    return episode.text


def _unexplained() -> str:
    return ""
