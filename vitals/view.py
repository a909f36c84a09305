"""What a screen may show of one patient: every value with its age, nothing stale as current."""

import msgspec

from vitals.freshness import Freshness
from vitals.messages import Activity, AlarmChanged
from vitals.news2 import News2
from vitals.patient_group import PatientGroup
from vitals.signs import VitalSign


class SourceValue(msgspec.Struct, frozen=True, kw_only=True):
    """The current value of one sign by one source, beside the one that counts."""

    source: str  # as in `SignView`
    value: float
    age_ms: int


class SignView(msgspec.Struct, frozen=True, kw_only=True):
    """One sign of one patient, for a screen."""

    sign: VitalSign
    value: float
    age_ms: int
    freshness: Freshness
    source: str = ""  # the binding of the device; `by:NAME`: a person; empty: the stay's first device
    others: tuple[SourceValue, ...] = ()  # the newest first


class DeviceView(msgspec.Struct, frozen=True, kw_only=True):
    """One device of one patient, for a screen."""

    binding_id: str
    name: str  # what people call it; empty: not known
    heard_ms: int | None  # event time of its newest reading; None: it was never heard
    battery: float | None  # %
    sensor_off_since_ms: int | None
    is_silent: bool  # while others are heard
    has_ended: bool  # it was taken off


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

    stay_id: str
    seen_ms: int | None  # event time of the newest reading
    news2: News2 | None  # None: no adult, or pregnant; `group` says which
    news2_before: tuple[tuple[int, int], ...]  # (at_ms, at_least), oldest first
    signs: tuple[SignView, ...]
    models: tuple[ModelView, ...]
    sensor_off_since_ms: int | None  # of the first device; `devices` has all
    alarms: tuple[AlarmChanged, ...]
    group: PatientGroup = PatientGroup.UNSTATED
    devices: tuple[DeviceView, ...] = ()  # bound, heard or taken off
    off_until_ms: int | None = None  # the devices are off on purpose until then
    activity: Activity = Activity.UNKNOWN  # what the patient does now, as the wearables tell
    held: tuple[str, ...] = ()  # what an activity explains and no alarm is made of, each in one line
