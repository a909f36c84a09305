"""Messages into the kernel and events out of it: immutable, with units in the field names.

Times are integer milliseconds since 1970 (UTC): `at_ms` is event time, `received_ms` is arrival at the edge.
"""

from enum import IntEnum, IntFlag, StrEnum
from typing import TypeAlias

import msgspec


class Consciousness(IntEnum):
    """ACVPU. C is *new* confusion; confusion of unknown age counts as new (RCP 2017)."""

    ALERT = 0
    CONFUSION = 1
    VOICE = 2
    PAIN = 3
    UNRESPONSIVE = 4

    @property
    def letter(self) -> str:
        return "ACVPU"[self]


class ClockQuality(IntEnum):
    """How reliable the wall clock of a device is."""

    UNSET = 0
    FREE_RUNNING = 1
    SYNCHRONISED = 2


class SensorFlag(IntFlag):
    """Flags of a whole reading, set by the device and by the edge agent."""

    NONE = 0
    SENSOR_OFF = 1  # no skin contact
    LOW_PERFUSION = 2
    MOTION = 4
    BATTERY_LOW = 8
    CLOCK_CORRECTED = 16  # the clock of the device is wrong: event time rebuilt from elapsed time
    CLOCK_CLAMPED = 32  # event time lay in the future
    EDGE_CLOCK_CORRECTED = 64  # set by ingest: the clock of the edge is wrong; its times are corrected


class Activity(IntEnum):
    """What the wearer is doing, as far as the wearable can tell. The numbers are stored: they never change."""

    UNKNOWN = 0
    REST = 1
    LIGHT = 2  # standing, household
    WALK = 3
    EXERCISE = 4  # running, cycling, training

    @property
    def phrase(self) -> str:
        """When a value was measured, for people; empty if it is not known.

        >>> Activity.WALK.phrase
        'on a walk'
        """
        return ("", "at rest", "at light activity", "on a walk", "in exercise")[self]


class Reading(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="reading"):
    """The vital signs of one patient from one wearable at one moment. `None`: not measured."""

    stay_id: str  # hex of 16 bytes
    reading_id: bytes  # 16 bytes, permanent
    session_id: bytes  # 16 bytes; with `counter` the place in the device's stream
    counter: int
    at_ms: int
    received_ms: int
    heart_rate: float | None = None  # /min
    respiratory_rate: float | None = None  # /min
    spo2: float | None = None  # %
    systolic_bp: float | None = None  # mmHg
    diastolic_bp: float | None = None  # mmHg
    temperature: float | None = None  # °C
    supplemental_oxygen: float | None = None  # L/min; 0 is room air
    consciousness: Consciousness | None = None
    sensor_flags: int = 0  # SensorFlag
    battery: float | None = None  # %
    unusable: int = 0  # mask by signs.INDEX: value kept, not to be scored
    arrived_ms: int | None = None  # arrival in the data centre; None: judged at the edge
    age_ms: int | None = None  # at `heard_ms`, by elapsed time at its senders; None: they cannot tell
    clock_ms: int = 0  # how far the clock that a flag calls wrong is ahead; negative: behind
    edge: str = ""  # short id of the edge, if its clock is wrong
    binding_id: str = ""  # which device; empty: the first one of the stay, whose binding has the id of the stay
    activity: int = 0  # Activity

    @property
    def device(self) -> str:
        """The binding that this reading came by."""
        return self.binding_id or self.stay_id

    @property
    def heard_ms(self) -> int:
        """Arrival where it is judged: in the data centre, or else at the edge. An old reading is only recorded."""
        return self.received_ms if self.arrived_ms is None else self.arrived_ms


class Waveform(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="waveform"):
    """A stretch of ECG or PPG."""

    stay_id: str
    at_ms: int  # time of the first sample
    received_ms: int
    kind: str  # "ecg" or "ppg"
    sampling_rate_hz: float
    samples_uv: bytes  # little-endian int16; ECG in steps of 5 µV, PPG in arbitrary units


class ModelScore(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="model_score"):
    """One output of one model, in addition to the rules and never instead of them. High score = abnormal."""

    stay_id: str
    reading_id: bytes
    at_ms: int
    received_ms: int
    model: str  # "sepsis", "heart", "rhythm"
    version: str
    score: float | None  # probability in [0, 1]; None: the model abstains
    threshold: float  # the model raises an alarm from this score on; above 0, from the passport of the model
    reason: str = ""  # the inputs with the most influence, or why the model abstains
    arrived_ms: int | None = None  # arrival in the data centre; None: judged at the edge
    edge: str = ""  # the edge that scored, if several hear the stay: each scores what it hears; empty: there is one

    @property
    def heard_ms(self) -> int:
        """As `Reading.heard_ms`."""
        return self.received_ms if self.arrived_ms is None else self.arrived_ms


class Tick(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="tick"):
    """Time has passed."""

    now_ms: int


class Priority(IntEnum):
    """IEC 60601-1-8: high asks for an immediate response, medium for a prompt one, low for awareness."""

    LOW = 1
    MEDIUM = 2
    HIGH = 3


class Acknowledge(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="acknowledge"):
    """A person has seen an alarm."""

    stay_id: str
    alarm_id: bytes
    by: str
    at_ms: int
    revision: int | None = None  # of the alarm that the person saw; if it got worse since, it stays unacknowledged
    priority: Priority | None = None  # of the alarm that the person saw; a higher one stays unacknowledged
    grade: float | None = None  # of the alarm that the person saw; one that is worse stays unacknowledged


class Silence(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="silence"):
    """A person silences one condition of one patient for a while; a higher priority breaks through.

    A condition is a rule and, where the rule is judged sign by sign, the sign. Silences of earlier versions have no
    sign.
    """

    stay_id: str
    rule_id: str
    by: str
    at_ms: int
    until_ms: int
    priority: Priority | None = None  # of the alarm that the person saw; a higher one is not silenced
    key: str | None = None  # the sign; empty: of a rule that is judged as a whole; None: not known
    grade: float | None = None  # of the alarm that the person saw; one that is worse is not silenced


class BindingPeriod(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="binding_period"):
    """From when to when a device is on a patient, as the registry signed it. Whoever is bound is monitored.

    It may be repeated at any time: what is known already changes nothing. A binding that has ended never begins again,
    nor does a stay.
    """

    stay_id: str
    from_ms: int  # by the clock of the registry
    to_ms: int | None = None  # by the clock of the registry; None: it has not ended
    heard_ms: int  # arrival where it is judged, by the clock there
    edge_heard_ms: int | None = None  # when the edge was last heard, by that clock; None: it is not heard
    binding_id: str = ""  # which device; empty: the first one of the stay, whose binding has the id of the stay
    stay_goes_on: bool = False  # after the end of this binding: the device was taken off, the patient is still watched
    stay_to_ms: int | None = None  # end of the stay, by the clock of the registry, if that is not `to_ms`
    device_name: str = ""  # what people call the device

    @property
    def device(self) -> str:
        """The binding that this is about."""
        return self.binding_id or self.stay_id


class Observation(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="observation"):
    """What a person observed of a patient at one moment, and entered. `None`: not observed.

    The same observation again changes nothing. One that corrects another replaces its values; both stay in the record.
    """

    stay_id: str
    observation_id: bytes  # 16 bytes, made where it is entered
    by: str  # who observed and entered it
    at_ms: int  # when it was observed, by the clock where it was entered
    entered_ms: int  # when it was entered, by the same clock
    heard_ms: int  # arrival where it is judged, by the clock there
    consciousness: Consciousness | None = None
    supplemental_oxygen: float | None = None  # L/min; 0 is room air
    inspired_oxygen: float | None = None  # FiO2, %; 21 is room air
    oxygen_device: str = ""
    heart_rate: float | None = None  # /min
    respiratory_rate: float | None = None  # /min
    spo2: float | None = None  # %
    systolic_bp: float | None = None  # mmHg
    diastolic_bp: float | None = None  # mmHg
    temperature: float | None = None  # °C
    glucose: float | None = None  # mmol/L; recorded, not judged
    off_until_ms: int | None = None  # devices are off until then, on purpose: a bath, an examination
    note: str = ""
    corrects: bytes = b""  # the observation that this one replaces; empty: none
    edge: str = ""  # short id of the edge where it was entered; empty: at the alarm desk


Message: TypeAlias = Reading | ModelScore | Acknowledge | Silence | BindingPeriod | Observation | Tick


class AlarmKind(StrEnum):
    PHYSIOLOGICAL = "physiological"
    TECHNICAL = "technical"


class AlarmState(StrEnum):
    PENDING = "pending"
    ACTIVE = "active"
    CLEARED = "cleared"


class AlarmChanged(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="alarm_changed"):
    """The state of an alarm, announced whenever something about it changed and again for every duplicate input."""

    stay_id: str
    alarm_id: bytes
    rule_id: str
    key: str = ""  # the sign, for rules that are judged sign by sign
    kind: AlarmKind
    priority: Priority
    state: AlarmState
    at_ms: int  # when it changed to this state
    onset_ms: int  # when the condition began
    revision: int  # rises by one with every change of this alarm
    text: str  # condition, value, limit and reason in one line
    basis: str  # the source of the judgement: "NEWS2", "rule", "NEWS2+model 1.2"
    latched: bool = False  # the condition has ended, the alarm was not acknowledged yet
    acknowledged_by: str | None = None
    acknowledged_ms: int | None = None
    silenced_until_ms: int | None = None
    retrospective: bool = False  # found in backfilled data, or over while it was held: for the record, never sounds
    response: str = ""  # recommended clinical response to NEWS2, while an alarm of NEWS2 is active
    grade: float = 0.0  # rises as the patient gets worse within one priority; 0: the rule has no grades
    stay_ended: bool = False  # it ended because the stay did, not because the condition was over
    orders_version: int = 0  # of the orders that it was judged by; 0: the defaults


class News2Part(msgspec.Struct, frozen=True, array_like=True):
    """One parameter of a NEWS2."""

    sign: str
    value: float | None  # rounded to the chart's resolution; None: missing
    points: int | None
    age_ms: int | None
    source: str = ""  # the binding of the device that measured it; `by:NAME`: a person; empty: the first device


class News2Scored(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="news2_scored"):
    """NEWS2 as of one reading."""

    stay_id: str
    reading_id: bytes
    at_ms: int
    total: int | None  # None: at least one parameter is missing
    at_least: int  # sum of the parts that are present: a lower bound, because no part scores below 0
    risk: str  # low, low-medium, medium, high; `>= medium` if incomplete, and empty if only a low bound is known
    spo2_scale: int
    parts: tuple[News2Part, ...]
    due: tuple[str, ...] = ()  # signs that are older than the risk allows: they count in `at_least`, not in `total`
    measure_every_ms: int = 0  # how often a set of observations is due at this risk; 0: not known
    orders_version: int = 0  # of the orders that it was judged by; 0: the defaults


class ReadingJudged(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="reading_judged"):
    """A reading as it goes to the record: every value kept, the unusable ones marked."""

    reading: Reading
    late: bool  # older than the newest reading
    backfilled: bool  # too old to raise an alarm


class ObservationRecorded(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="observation_recorded"):
    """An observation as it goes to the record."""

    observation: Observation
    late: bool  # older than the newest message of the stay
    refused: str = ""  # why its values do not count; empty: they do
    remark: str = ""  # what else there is to say: what it corrects is not known here


class ModelScored(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="model_scored"):
    """A model's output as it goes to the record."""

    score: ModelScore
    late: bool  # older than the newest score of the same model
    backfilled: bool  # too old to raise an alarm


class WindowClosed(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="window_closed"):
    """Aggregate of the usable values of one sign over one window of event time, the end excluded."""

    stay_id: str
    sign: str
    start_ms: int
    width_ms: int
    count: int
    mean: float
    minimum: float
    maximum: float


class WindowOutdated(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="window_outdated"):
    """A reading came after its window had closed: the store of the readings has to compute that window again."""

    stay_id: str
    sign: str
    start_ms: int
    width_ms: int


class FreshnessChanged(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="freshness_changed"):
    """A sign became fresh, late, stale or lost."""

    stay_id: str
    sign: str
    at_ms: int
    state: str
    age_ms: int


class MonitoringEnded(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="monitoring_ended"):
    """A stay has ended: from now on nothing about it calls anybody, whoever found it."""

    stay_id: str
    at_ms: int  # when that became known where it is judged
    ended_ms: int  # when it ended, as the registry says


Event: TypeAlias = (
    ReadingJudged
    | ObservationRecorded
    | News2Scored
    | ModelScored
    | WindowClosed
    | WindowOutdated
    | FreshnessChanged
    | AlarmChanged
    | MonitoringEnded
)
