"""The monitoring orders for one patient: SpO2 scale, cadence, validity, rules."""

from functools import cached_property
from typing import Final

import msgspec

from vitals.activity import NOT_BELIEVED, ActivityPlan
from vitals.errors import BadPlan
from vitals.patient_group import PatientGroup
from vitals.rules import ADULT_QUANTITIES, DEFAULT_RULES, Rule
from vitals.sender_clock import BOUND_MS
from vitals.signs import SIGNS, SPEC, VitalSign, spec_of

# Signs that a wearable measures continuously; if they stop, that is an alarm.
EXPECTED: Final = (VitalSign.HEART_RATE, VitalSign.RESPIRATORY_RATE, VitalSign.SPO2)


class MonitoringPlan(msgspec.Struct, frozen=True, kw_only=True, dict=True):  # dict: for the cached properties
    """Orders for one patient. The default is the RCP's NEWS2 with a wearable's cadence."""

    spo2_scale: int = 1  # 2 only by a documented prescription
    group: PatientGroup = PatientGroup.UNSTATED  # children and pregnant patients have no adult score and no model
    cadence_ms: dict[str, int] = {}  # by sign; overrules the table of signs
    valid_ms: dict[str, int] = {}  # by sign; how old a value may be and still be scored
    expected: tuple[VitalSign, ...] = EXPECTED  # signs that raise an alarm when their data stops
    rules: tuple[Rule, ...] = DEFAULT_RULES
    window_ms: int = 60_000
    lateness_ms: int = 30_000  # how long a window waits for late readings
    backfill_after_ms: int = 300_000  # a reading that arrives later than this is only recorded
    clock_bound_ms: int = BOUND_MS  # a sender's clock that is off by no more is not wrong
    stale_after_ms: int | None = None  # overrules the table by NEWS2
    lost_after_ms: int | None = None
    time_zone: str = ""  # IANA name, of the site; empty: UTC
    activity: ActivityPlan = NOT_BELIEVED  # how far what the patient does explains a fast heart and breathing
    orders_version: int = 0  # of the orders that this plan was made from; 0: none, the defaults
    orders_from_ms: int = 0  # from when on the orders say this; 0: from their beginning
    until_ms: int | None = None  # an order ends or begins then, and `then` is the plan
    then: "MonitoringPlan | None" = None

    def cadence(self, sign: VitalSign) -> int:
        """Milliseconds between two expected values of a sign."""
        return self.cadence_ms.get(sign, SPEC[sign].cadence_ms)

    def valid(self, sign: VitalSign) -> int:
        """Milliseconds that a value may enter a score: as ordered, or by the table of signs.

        Where another cadence was ordered, at least three times that: a value must outlive the wait for the next.
        """
        return self.valid_ms.get(sign, max(SPEC[sign].valid_ms, 3 * self.cadence_ms.get(sign, 0)))

    @cached_property
    def validity(self) -> dict[VitalSign, int]:
        """`valid` of every sign; one table for all patients of this plan."""
        return {sign: self.valid(sign) for sign in SPEC}

    def judges(self, rule: Rule) -> bool:
        """Whether a rule is judged for this patient: enabled, and meant for patients like this one."""
        is_meant = self.group not in rule.not_for
        return rule.enabled and is_meant and (self.group.has_adult_scores or ADULT_QUANTITIES.isdisjoint(rule.parts))

    @cached_property
    def meant_rules(self) -> tuple[Rule, ...]:
        """The rules for patients like this one, with those that are not enabled."""
        return tuple(rule for rule in self.rules if self.judges(rule) or not rule.enabled)

    @cached_property
    def rules_by_quantity(self) -> dict[str, tuple[Rule, ...]]:
        """The rules that are judged, by quantity."""
        found: dict[str, tuple[Rule, ...]] = {}
        for rule in self.rules:
            if self.judges(rule):
                found[rule.quantity] = (*found.get(rule.quantity, ()), rule)
        return found

    @cached_property
    def rules_by_sign(self) -> tuple[tuple[VitalSign, tuple[Rule, ...]], ...]:
        """The rules that are judged on the value of a single sign, in the order of the table of signs."""
        found = self.rules_by_quantity
        return tuple((sign, found[sign.value]) for sign in SPEC if sign.value in found)

    def watches(self, rule_id: str, key: str) -> bool:
        """Whether a condition is judged for this patient: its rule, and where it is of a sign, that sign."""
        rule = next((rule for rule in self.rules if rule.rule_id == rule_id), None)
        if rule is None or not self.judges(rule):
            return False
        return rule.quantity != "freshness" or (key in self.expected if key else bool(self.expected))

    def at(self, now_ms: int) -> "MonitoringPlan":
        """The plan at a later moment: orders begin and end."""
        plan = self
        while plan.then is not None and plan.until_ms is not None and plan.until_ms <= now_ms:
            plan = plan.then
        return plan

    def check(self) -> None:
        """Raise BadPlan, naming the key and the fix, if this plan is invalid."""
        if self.spo2_scale not in {1, 2}:
            raise BadPlan(f"spo2_scale: {self.spo2_scale} is not a NEWS2 scale; use 1, or 2 by prescription")
        for key, table in (("cadence_ms", self.cadence_ms), ("valid_ms", self.valid_ms)):
            for name, value in table.items():
                spec_of(name)
                if value <= 0:
                    raise BadPlan(f"{key}.{name}: {value} ms is not a positive time")
        if self.window_ms <= 0 or self.lateness_ms < 0 or self.backfill_after_ms < self.lateness_ms:
            raise BadPlan("window_ms must be positive and lateness_ms between 0 and backfill_after_ms")
        self.activity.check()
        ids = [rule.rule_id for rule in self.rules]
        for rule in self.rules:
            rule.check()
            if ids.count(rule.rule_id) > 1:
                raise BadPlan(f"rule {rule.rule_id}: occurs twice; give each rule an id of its own")


MEASURED: Final = tuple(spec.sign for spec in SIGNS if not spec.entered)
