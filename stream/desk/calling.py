"""Which notifications are due now, and to whom: to those who have the role at this moment."""

from collections.abc import Collection, Mapping
from typing import Final

import msgspec

from runtime.logs import get
from stream.desk import decisions, outages
from stream.desk.book import DeskBook
from stream.desk.decisions import Delivery, DeliveryStatus, Kept, Limit, OutgoingMessage
from stream.desk.ordered_calls import policy_for
from stream.desk.people import People
from vitals.escalation import Attempt, Due, EscalationPolicy, Outcome, key_prefix, standing_calls

_log = get(__name__)

_NEVER: Final = (None, "", None)


class Calling:
    """Plans notifications and chooses those to be sent. Everything happens within a transaction of the book.

    Args:
        receipts: channels of which a service's acceptance counts as delivery.
    """

    def __init__(
        self, policy: EscalationPolicy, limit: Limit, people: People, book: DeskBook, *, receipts: Collection[str]
    ) -> None:
        self._policy = policy
        self._limit = limit
        self._people = people
        self._book = book
        self._receipts = receipts
        # By alarm: its heard_ms, the ladder that was ordered, when to plan it again.
        self._look: dict[bytes, tuple[int | None, str, int | None]] = {}
        self.no_address = 0
        self.slowest_first_ms = 0

    def set_people(self, people: People) -> None:
        """Roles or addresses have changed: every alarm that calls is planned again."""
        self._people = people
        self._look.clear()

    def forget(self, alarm_id: bytes) -> None:
        """Plan an alarm again at the next turn."""
        self._look.pop(alarm_id, None)

    def keep_only(self, alarm_ids: Collection[bytes]) -> None:
        """Forget all other alarms."""
        for alarm_id in self._look.keys() - set(alarm_ids):
            del self._look[alarm_id]

    def plan(self, kept: Kept, now_ms: int, ladder: str = "") -> None:
        """Store the notifications of an alarm that have become due since it was planned last.

        Args:
            ladder: name of the ladder that is ordered for it; empty: none.
        """
        alarm_id = kept.alarm.alarm_id
        heard_ms, planned_by, look_ms = self._look.get(alarm_id, _NEVER)
        if heard_ms != kept.heard_ms or planned_by != ladder or (look_ms is not None and look_ms <= now_ms):
            look_ms = self._plan(kept, now_ms, policy_for(self._policy, ladder))
            self._look[alarm_id] = (kept.heard_ms, ladder, look_ms)

    def begin(
        self, now_ms: int, standing: Mapping[bytes, Kept], flying: Collection[tuple[str, str, str]]
    ) -> list[OutgoingMessage]:
        """The messages to be sent now; their beginning is stored.

        Args:
            standing: the alarms of the list.
            flying: names of deliveries that are being sent.
        """
        waiting = []
        for one in self._book.deliveries.waiting():
            if one.name in flying:
                continue
            if outages.is_too_late(one, now_ms) or not (outages.is_end(one) or self._people.may_be_called(one)):
                self._book.deliveries.change(msgspec.structs.replace(one, fate=DeliveryStatus.STOPPED))
            else:
                waiting.append(one)
        self.waiting = len(waiting)
        sent = self._book.deliveries.begun_since(now_ms - self._limit.within_ms)
        begun = []
        for outgoing in decisions.outgoing_messages(waiting, sent, now_ms=now_ms, limit=self._limit):
            deliveries = tuple(
                msgspec.structs.replace(one, tries=one.tries + 1, begun_ms=now_ms, leads=index == 0)
                for index, one in enumerate(outgoing.deliveries)
            )
            for one in deliveries:
                self._book.deliveries.change(one)
                kept = standing.get(one.alarm_id)
                if one.tries == 1 and kept is not None and _is_first_call(kept, one):
                    self.slowest_first_ms = max(self.slowest_first_ms, now_ms - one.due_ms)
            begun.append(outgoing._replace(deliveries=deliveries))
        return begun

    def _plan(self, kept: Kept, now_ms: int, policy: EscalationPolicy) -> int | None:
        """Store due notifications; returns when to plan the alarm again."""
        alarm_id, ladder = kept.alarm.alarm_id, key_prefix(kept.escalation)
        deliveries = self._book.deliveries
        while True:
            known = frozenset(one.key for one in deliveries.of(alarm_id))
            attempts = deliveries.attempts(alarm_id, ladder)
            plan = decisions.plan(policy, kept, attempts, now_ms=now_ms, known=known)
            deliveries.put_passed(plan.passed, now_ms)
            is_unreachable = False
            for due in plan.due:
                calls = self._people.calls_of(due)
                channels = len(policy.ladder(due.priority, kept.alarm.rule_id).steps[due.level].channels)
                unreached = self._without_reached(due, calls, channels)
                deliveries.put_new(unreached)
                for one in unreached:
                    deliveries.overtake(one)
                if not calls:
                    # No person of this role has this channel: go on to the next channel at once, and report it.
                    is_unreachable = True
                    self.no_address += 1
                    _log.error("no address for a due notification", role=due.who, channel=due.channel)
                    deliveries.put_attempt(alarm_id, Attempt(key=due.key, at_ms=now_ms, outcome=Outcome.FAILED))
            if not is_unreachable:
                break
        self._call_uncalled(kept, ladder, tuple(attempts), now_ms, policy)
        return plan.look_ms

    def _call_uncalled(
        self, kept: Kept, ladder: str, attempts: tuple[Attempt, ...], now_ms: int, policy: EscalationPolicy
    ) -> None:
        """Call at once who has a role now whose step is due, and has not been called: after a change of shift, of an
        address, or while an outage called instead."""
        deliveries = self._book.deliveries
        before = [
            one
            for one in deliveries.of(kept.alarm.alarm_id)
            if one.key.startswith(ladder) and (not one.is_open or self._people.may_be_called(one))
        ]
        due = standing_calls(policy, kept.escalation, now_ms=now_ms, attempts=attempts)
        standing = [call for one in due for call in self._people.calls_of(one, due_ms=now_ms)]
        for call in decisions.uncalled(standing, before):
            deliveries.change(call)

    def _without_reached(self, due: Due, calls: list[Delivery], channels: int) -> list[Delivery]:
        """Leave out who was reached by an earlier channel of the same round, where a channel's receipt counts.

        Args:
            channels: number of channels of the step.
        """
        if not self._receipts or not calls:
            return calls
        first, _, attempt = due.key.rpartition(".")
        earlier = range(due.attempt - due.attempt % channels, int(attempt))
        reached = {
            one.person
            for index in earlier
            for one in self._book.deliveries.together(f"{first}.{index}")
            if one.fate is DeliveryStatus.SENT and one.channel in self._receipts
        }
        return [one for one in calls if one.person not in reached]

    waiting: int = 0


def _is_first_call(kept: Kept, one: Delivery) -> bool:
    # The ladder of an outage began before the outage was found, with that of its first alarm.
    return kept.escalation.begins_ms == one.due_ms and not kept.is_outage
