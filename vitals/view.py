"""What a screen may show of one patient: every value with its age, nothing stale as current."""

import msgspec

from vitals.freshness import Freshness
from vitals.messages import AlarmChanged
from vitals.news2 import News2
from vitals.patient_group import PatientGroup
from vitals.signs import VitalSign


class SignView(msgspec.Struct, frozen=True, kw_only=True):
    """One sign of one patient, for a screen."""

    sign: VitalSign
    value: float
    age_ms: int
    freshness: Freshness


class ModelView(msgspec.Struct, frozen=True, kw_only=True):
    """The last score of one model for one patient, for a screen."""

    model: str
    version: str
    score: float | None  # probability; None: the model gave none, or it is too old to be shown as current
    threshold: float
    age_ms: int
    reason: str


class PatientView(msgspec.Struct, frozen=True, kw_only=True):
    """One patient at one moment, for a screen."""

    binding_id: str
    seen_ms: int | None  # event time of the newest reading
    news2: News2 | None  # None: no adult, or pregnant; `group` says which
    news2_before: tuple[tuple[int, int], ...]  # (at_ms, at_least), oldest first
    signs: tuple[SignView, ...]
    models: tuple[ModelView, ...]
    sensor_off_since_ms: int | None
    alarms: tuple[AlarmChanged, ...]
    group: PatientGroup = PatientGroup.UNSTATED
