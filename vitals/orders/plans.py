"""From orders to the plan that a monitor judges by."""

from collections.abc import Mapping
from typing import Final

from vitals.activity import EXPLAINS, NOT_BELIEVED, ActivityPlan
from vitals.messages import Activity
from vitals.orders.orders import Orders, OrderSettings, is_known
from vitals.patient_group import ADULT_FROM_YEARS, PatientGroup
from vitals.plan import MonitoringPlan
from vitals.rules import DEFAULT_RULES
from vitals.sender_clock import BOUND_MS
from vitals.signs import SPEC


def plan_of(
    orders: Orders | None,
    *,
    group: PatientGroup = PatientGroup.UNSTATED,
    cadence_ms: Mapping[str, int] | None = None,
    time_zone: str = "",
    clock_bound_ms: int = BOUND_MS,
    spo2_scale: int = 1,
    age_years: float | None = None,
) -> MonitoringPlan:
    """The plan of one stay. Without orders: the default.

    A rule that this version knows and the orders do not is judged by its default. One on a quantity that it does not
    know cannot be judged; `in_words` says so.

    Args:
        orders: what was ordered for the stay; None: nothing.
        group: of the patient, as stated at the binding.
        cadence_ms: how often the devices of this place measure, by sign; orders overrule it.
        time_zone: of the site.
        clock_bound_ms: a sender's clock that is off by no more is not wrong.
        spo2_scale: as stated at the binding; orders overrule it.
        age_years: of the patient, for how fast a heart an activity explains; None: not known.
    """
    if orders is None:
        return MonitoringPlan(
            spo2_scale=spo2_scale,
            group=group,
            cadence_ms=dict(cadence_ms or {}),
            time_zone=time_zone,
            clock_bound_ms=clock_bound_ms,
        )
    settings = orders.settings
    said = {rule.rule_id for rule in orders.rules}
    until_ms = orders.until_ms
    return MonitoringPlan(
        spo2_scale=spo2_scale if settings.spo2_scale is None else settings.spo2_scale,
        group=group,
        cadence_ms={**(cadence_ms or {}), **_of_known(settings.cadence_ms)},
        valid_ms=_of_known(settings.valid_ms),
        expected=tuple(sign for sign in SPEC if sign.value in settings.expected),
        rules=(
            *(rule for rule in orders.rules if is_known(rule)),
            *(rule for rule in DEFAULT_RULES if rule.rule_id not in said),
        ),
        clock_bound_ms=clock_bound_ms,
        stale_after_ms=settings.stale_after_ms,
        lost_after_ms=settings.lost_after_ms,
        time_zone=time_zone,
        activity=_activity_of(settings, age_years),
        orders_version=orders.version,
        orders_from_ms=orders.from_ms,
        until_ms=until_ms,
        then=None
        if until_ms is None
        else plan_of(
            orders.at(until_ms),
            group=group,
            cadence_ms=cadence_ms,
            time_zone=time_zone,
            clock_bound_ms=clock_bound_ms,
            spo2_scale=spo2_scale,
            age_years=age_years,
        ),
    )


def _activity_of(settings: OrderSettings, age_years: float | None) -> ActivityPlan:
    is_known = settings.holds_up_to in {int(activity) for activity in EXPLAINS}
    if not is_known and not settings.learns_by_activity:
        return NOT_BELIEVED
    is_adult = age_years is not None and ADULT_FROM_YEARS <= age_years <= OLDEST
    return ActivityPlan(
        holds_up_to=Activity(settings.holds_up_to) if is_known else Activity.UNKNOWN,
        age_years=age_years if is_adult else None,
        learns_by_activity=settings.learns_by_activity,
    )


def _of_known(by_sign: Mapping[str, int]) -> dict[str, int]:
    return {sign: ms for sign, ms in by_sign.items() if sign in _NAMES}


OLDEST: Final = 130.0
"""An age above it is a mistake, and so not known."""

_NAMES: Final = frozenset(sign.value for sign in SPEC)
