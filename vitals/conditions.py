"""The alarm conditions of one patient: values of rules become observations in the alarm book.

Remembers which signs made a condition true. A condition ends only when each of these signs was seen to be better: a
score that falls because one of its parts went missing is no recovery.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from vitals.activity_hold import ActivityHold
from vitals.alarms import AlarmBook, JudgedCondition
from vitals.limit_texts import with_limit
from vitals.messages import AlarmKind, Event
from vitals.rules import Rule, Truth


class JudgingContext(NamedTuple):
    """What all rules share that are judged at one moment."""

    at_ms: int
    reading_id: bytes
    missing: int  # mask of the signs that may not be scored
    events: list[Event]  # the alarms that change are appended here
    measured_ms: int | None = None  # event time of the values that have just come, if there are any
    source: str = ""  # of these values; see `vitals.sources`
    certain: int = 0  # mask of the signs that a person has just entered: no wait tells them from noise


class Conditions:
    """Compares values with the limits of rules and tells the alarm book.

    Args:
        book: the alarms of the same patient.
        note: stands at the end of the text of every alarm: which scores there are not for this patient.
        hold: holds back what an activity explains; None: nothing does.
    """

    __slots__ = ("_causes", "_hold", "_note", "book")

    def __init__(self, book: AlarmBook, note: str = "", hold: ActivityHold | None = None) -> None:
        self.book = book
        self._note = note
        self._hold = hold
        self._causes: dict[tuple[str, str], int] = {}  # rule and key -> mask of the signs that made it true

    @property
    def is_holding(self) -> bool:
        """Whether any condition is held."""
        return self._hold is not None and bool(self._hold.held)

    def is_open(self, rule_id: str, key: str = "") -> bool:
        """Whether a condition is pending, active or held. Only then does a normal value matter."""
        return self.book.has(rule_id, key) or (self._hold is not None and (rule_id, key) in self._hold.held)

    def observe(
        self,
        rule: Rule,
        value: float,
        context: JudgingContext,
        explain: Callable[[], str],
        *,
        key: str = "",
        causes: int = 0,
        grade: float = 0.0,
        onset_ms: int | None = None,
        response: str = "",
        may_be_held: bool = True,
    ) -> None:
        """Judge one value by one rule. A normal value of a condition that is not open costs next to nothing.

        Args:
            rule: the rule to judge by.
            value: the quantity of the rule.
            moment: when, on which reading; the alarms that change are appended to its events.
            explain: makes the one-line text of the alarm without its limit, which is added here; called only when it is
                needed.
            key: the sign, for rules that are judged sign by sign.
            causes: mask of the signs that the value was made of.
            grade: rises as the patient gets worse.
            onset_ms: when the condition began, if not at this moment.
            response: the recommended clinical response to the value.
            may_be_held: whether what the patient does may explain the value, as far as the caller knows.
        """
        priority, hold = rule.reached(value), self._hold
        if priority is None:
            if hold is not None and hold.held:
                context.events.extend(hold.is_over(rule, key))
            if self.book.has(rule.rule_id, key):
                self._judge_normal(rule, value, context, (rule.rule_id, key))
            return
        seen = JudgedCondition(
            truth=Truth.TRUE,
            at_ms=context.at_ms,
            reading_id=context.reading_id,
            priority=priority,
            grade=grade,
            onset_ms=onset_ms,
            response=response,
            is_certain=bool(causes and context.certain) and not causes & ~context.certain,
        )
        note = self._note
        if hold is not None:
            if may_be_held and hold.take(rule, key, seen, with_limit(rule, value, explain, note)):
                return
            if hold.note and rule.kind is AlarmKind.PHYSIOLOGICAL:
                note = f"{note}; {hold.note}" if note else hold.note
        if causes:
            # A sign that made it true and then went missing must still be measured again and be better.
            place = (rule.rule_id, key)
            self._causes[place] = causes | self._causes.get(place, 0) & context.missing
        explain = with_limit(rule, value, explain, note)
        if hold is not None and hold.held:
            seen, explain = hold.release(rule, key, seen, explain)
        context.events.extend(self.book.observe(rule, seen, key=key, explain=explain))

    def mark_unknown(self, rule: Rule, at_ms: int, events: list[Event], *, key: str = "") -> None:
        """A condition cannot be judged now. It has not ended: an open alarm stays open."""
        seen = JudgedCondition(truth=Truth.UNKNOWN, at_ms=at_ms)
        events.extend(self.book.observe(rule, seen, key=key))

    def mark_missing(self, rules: Iterable[Rule], missing: int, at_ms: int, events: list[Event]) -> None:
        """Every condition that was caused by a sign in the mask `missing` cannot be judged now."""
        for rule in rules:
            for place in self.book.conditions():
                if place[0] == rule.rule_id and self._causes.get(place, 0) & missing:
                    self.mark_unknown(rule, at_ms, events, key=place[1])

    def to_state(self) -> list[Any]:
        """Plain lists that msgspec can encode. The book is not part of it: it has a state of its own."""
        return [[*place, mask] for place, mask in self._causes.items()]

    def load_state(self, state: list[Any]) -> None:
        """Replace the causes with those of `to_state`."""
        self._causes = {(rule_id, key): mask for rule_id, key, mask in state}

    def _judge_normal(self, rule: Rule, value: float, context: JudgingContext, place: tuple[str, str]) -> None:
        unknown = bool(self._causes.get(place, 0) & context.missing)
        if not unknown and not rule.is_well_inside(value):
            context.events.extend(self.book.restart_clearing(*place, at_ms=context.at_ms))
            return
        seen = JudgedCondition(truth=Truth.UNKNOWN if unknown else Truth.FALSE, at_ms=context.at_ms)
        context.events.extend(self.book.observe(rule, seen, key=place[1]))
        if not self.book.has(*place):
            self._causes.pop(place, None)
