"""The whole orders of one stay, as they are in force: one value that travels to whoever judges, and its bytes.

Whole, and not a difference: the rules stand in it with every number, so that an edge and a data centre of different
versions judge by the same limits. What begins or ends later is in it as well, so that an order ends on time where
nobody can be asked.
"""

from collections.abc import Iterable
from typing import Final

import msgspec

from vitals.errors import BadOrders, BadPlan
from vitals.messages import AlarmKind, Priority
from vitals.orders.level import OBSERVE, Prescription, QuietHours, call_class
from vitals.plan import EXPECTED
from vitals.rules import DEFAULT_RULES, QUANTITIES, TERM_QUANTITIES, Rule
from vitals.signs import SPEC

MAX_BYTES: Final = 7_000
"""Orders travel in one message of the wire."""


class LevelNote(msgspec.Struct, frozen=True, array_like=True):
    """Which level said something: who, why, from when to when."""

    level: str
    name: str = ""
    by: str = ""
    why: str = ""
    by_prescriber: bool = False
    from_ms: int | None = None
    until_ms: int | None = None

    @property
    def title(self) -> str:
        """Such as `ward 3b` or `patient`."""
        return f"{self.level} {self.name}".strip()

    def is_valid(self, now_ms: int) -> bool:
        """Whether the level is in force at a moment."""
        return (self.from_ms is None or self.from_ms <= now_ms) and (self.until_ms is None or now_ms < self.until_ms)


class OrderSettings(msgspec.Struct, frozen=True, array_like=True):
    """What is ordered besides the rules."""

    spo2_scale: int | None = None  # None: nothing is ordered, the scale of the binding holds
    prescription: Prescription | None = None
    expected: tuple[str, ...] = EXPECTED  # signs by name, here and below: a later version may know more of them
    cadence_ms: dict[str, int] = {}
    valid_ms: dict[str, int] = {}
    stale_after_ms: int | None = None
    lost_after_ms: int | None = None
    calls: dict[str, str] = {}  # by rule id or one of CALL_CLASSES: name of a ladder, or OBSERVE
    quiet: QuietHours | None = None
    said_by: dict[str, tuple[int, ...]] = {}  # by key, such as `rule.low_spo2`: positions in `Orders.levels`
    profile: str = ""
    holds_up_to: int = 0  # Activity: alarms that such an activity explains are held back
    learns_by_activity: bool = False


class LaterOrders(msgspec.Struct, frozen=True, array_like=True):
    """What changes at a moment at which a level begins or ends."""

    at_ms: int
    rules: tuple[Rule, ...]  # those that are another from then on
    gone: tuple[str, ...]  # ids of those that are not there any more
    settings: OrderSettings


class Orders(msgspec.Struct, frozen=True, array_like=True):
    """The orders of one stay that are in force, whole. Of two, the one with the higher version holds: `newer`."""

    version: int  # rises with every change that is signed
    as_of_ms: int = 0  # when it was worked out which levels are in force
    rules: tuple[Rule, ...] = DEFAULT_RULES
    settings: OrderSettings = OrderSettings()
    levels: tuple[LevelNote, ...] = ()  # lowest first, also those that are not in force
    later: tuple[LaterOrders, ...] = ()  # by time
    from_ms: int = 0  # since when the levels in force are these; 0: from the beginning of these orders

    def at(self, now_ms: int) -> "Orders":
        """The orders as they are at a later moment: levels that ended by then are gone, those that began are in."""
        due = [later for later in self.later if later.at_ms <= now_ms]
        if not due:
            return self
        rules = {rule.rule_id: rule for rule in self.rules}
        for later in due:
            rules |= {rule.rule_id: rule for rule in later.rules}
            for rule_id in later.gone:
                rules.pop(rule_id, None)
        return Orders(
            self.version,
            as_of_ms=due[-1].at_ms,
            rules=in_order(rules.values()),
            settings=due[-1].settings,
            levels=self.levels,
            later=self.later[len(due) :],
            from_ms=due[-1].at_ms,
        )

    @property
    def until_ms(self) -> int | None:
        """When a level begins or ends, and so `at` gives others; None: never."""
        return self.later[0].at_ms if self.later else None

    @property
    def quiet(self) -> QuietHours | None:
        """From when to when alarms of low priority call nobody."""
        quiet = self.settings.quiet
        return None if quiet is None or quiet.from_minute == quiet.to_minute else quiet

    def call_of(self, rule_id: str, kind: AlarmKind, priority: Priority) -> str:
        """Which ladder of the desk an alarm has by these orders: its name, OBSERVE, or empty: that of the desk.

        What is ordered for a rule comes before what is ordered for a priority.
        """
        calls = self.settings.calls
        return calls.get(rule_id) or calls.get(call_class(kind, priority), "")

    def calls_nobody(self, rule_id: str, kind: AlarmKind, priority: Priority, minute: int) -> bool:
        """Whether nobody is called of an alarm at a minute of the day, by the clock of the site."""
        if self.call_of(rule_id, kind, priority) == OBSERVE:
            return True
        return priority is Priority.LOW and self.quiet is not None and self.quiet.is_quiet(minute)

    def rule(self, rule_id: str) -> Rule | None:
        """The rule of an id; None: there is none."""
        return next((rule for rule in self.rules if rule.rule_id == rule_id), None)

    def check(self) -> None:
        """Raise BadOrders if nobody can judge by these orders. Rules on what a later version knows are left alone."""
        scales = [self.settings.spo2_scale, *(later.settings.spo2_scale for later in self.later)]
        if any(scale not in (None, 1, 2) for scale in scales):
            raise BadOrders("is not a NEWS2 scale; use 1, or 2 by prescription", key="spo2.scale")
        ids = [rule.rule_id for rule in self.rules]
        if len(set(ids)) < len(ids):
            raise BadOrders("a rule occurs twice; give each one an id of its own", key="rules")
        for rule in (*self.rules, *(rule for later in self.later for rule in later.rules)):
            if is_known(rule):
                try:
                    rule.check()
                except BadPlan as error:
                    raise BadOrders(str(error), key=f"rule.{rule.rule_id}") from error


_ORDER: Final = {rule.rule_id: place for place, rule in enumerate(DEFAULT_RULES)}
_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(Orders)
_LEAST_FIELDS: Final = 4
"""Version, time, rules and settings: those of the first version."""


def in_order(rules: Iterable[Rule]) -> tuple[Rule, ...]:
    """Rules in the order of the table of default rules, then those of orders by their ids."""
    return tuple(sorted(rules, key=lambda rule: (_ORDER.get(rule.rule_id, len(_ORDER)), rule.rule_id)))


def is_known(rule: Rule) -> bool:
    """Whether this version can judge a rule. Orders of a later one may have rules that it cannot."""
    known: set[str] = {*QUANTITIES, *SPEC}
    parts_known: set[str] = {*TERM_QUANTITIES, *SPEC} if rule.all_of or rule.trend else known
    return rule.quantity in known and parts_known.issuperset(rule.parts)


def newer(held: Orders | None, offered: Orders | None) -> Orders | None:
    """The orders that hold, of those that are held and those that came: a lower version never replaces a higher one."""
    if held is None or offered is None:
        return held or offered
    return offered if offered.version > held.version else held


def encode_orders(orders: Orders) -> bytes:
    """The bytes of orders: msgpack, every field by its position.

    Raises:
        BadOrders: nobody could judge by them, or they are longer than MAX_BYTES.
    """
    orders.check()
    encoded = _ENCODER.encode(orders)
    if len(encoded) > MAX_BYTES:
        raise BadOrders(
            f"{len(encoded)} bytes are more than the {MAX_BYTES} that travel; order fewer conditions, shorter reasons"
        )
    return encoded


def decode_orders(encoded: bytes) -> Orders:
    """The orders of `encode_orders`, also of an earlier version, which had fewer fields.

    Raises:
        BadOrders: the bytes are damaged, or nobody can judge by what they say.
    """
    try:
        orders = _DECODER.decode(encoded)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise BadOrders(f"the bytes of orders cannot be read: {error}") from error
    if len(msgspec.msgpack.decode(encoded)) < _LEAST_FIELDS:
        raise BadOrders("the bytes of orders are cut off: limits that are not there are not the default ones")
    orders.check()
    return orders
