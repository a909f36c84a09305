"""What the orders of a patient say about calling: another ladder, nobody, or nobody in quiet hours.

Pure. What cannot be read or is not known calls as if nothing were ordered.
"""

from collections.abc import Callable
from datetime import tzinfo
from typing import Final, TypeAlias

from runtime.time_zone import moment_in
from vitals.escalation import EscalationPolicy
from vitals.messages import AlarmChanged
from vitals.orders import OBSERVE, Orders

OrdersOf: TypeAlias = Callable[[str], Orders | None]
"""The orders of a stay that are in force now; None: nothing is ordered."""

NOTHING: Final[OrdersOf] = lambda _: None  # noqa: E731


def is_held(orders: Orders | None, alarm: AlarmChanged, wall_ms: int, zone: tzinfo) -> bool:
    """Whether orders keep an alarm from calling now.

    Args:
        zone: of the site, for quiet hours.
    """
    if orders is None:
        return False
    moment = moment_in(zone, wall_ms)
    return orders.calls_nobody(alarm.rule_id, alarm.kind, alarm.priority, moment.hour * 60 + moment.minute)


def ladder_of(orders: Orders | None, alarm: AlarmChanged) -> str:
    """Name of the ladder that is ordered for an alarm; empty: that of the desk."""
    found = "" if orders is None else orders.call_of(alarm.rule_id, alarm.kind, alarm.priority)
    return "" if found == OBSERVE else found


def policy_for(policy: EscalationPolicy, ladder: str) -> EscalationPolicy:
    """The policy with the ordered ladder; that of the desk where it is not known: never nobody."""
    return policy.with_ladder(ladder) if ladder in policy.named else policy


def words(policy: EscalationPolicy, orders: Orders | None, alarm: AlarmChanged, *, is_held: bool) -> str:
    """How orders change who is called; empty if they do not.

    Args:
        is_held: see `is_held`.
    """
    if orders is None:
        return ""
    if is_held:
        is_observed = orders.call_of(alarm.rule_id, alarm.kind, alarm.priority) == OBSERVE
        return "Ordered: observe, do not call" if is_observed else "Ordered: quiet hours; it calls when they are over"
    ladder = ladder_of(orders, alarm)
    if not ladder:
        return ""
    if ladder in policy.named:
        return f'By order the ladder "{ladder}" calls, not that of the site'
    return f'The ladder "{ladder}" is ordered, and this desk does not know it: the ladder of the site calls'
