"""The form that a person fills in about a patient, as it is sent to the alarm desk or to an edge. Pure."""

from typing import Annotated, Literal

import msgspec

from vitals.entry_limits import MOST_DEVICE_CHARACTERS, MOST_NOTE_CHARACTERS, MOST_OFF_MS
from vitals.entry_text import observation_of
from vitals.messages import Observation

Id = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{32}$")]
Minutes = Annotated[int, msgspec.Meta(ge=1, le=MOST_OFF_MS // 60_000)]
Time = Annotated[int, msgspec.Meta(ge=0, lt=2**47)]


class EntryForm(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was not observed is left out."""

    id: Id  # made by whoever enters it: 16 random bytes as hex; the same id again changes nothing
    at_ms: Time | None = None  # when it was observed; None: now
    consciousness: Literal["A", "C", "V", "P", "U"] | None = None
    supplemental_oxygen: float | None = None  # L/min; 0 is room air
    inspired_oxygen: float | None = None  # FiO2, %
    oxygen_device: Annotated[str, msgspec.Meta(max_length=MOST_DEVICE_CHARACTERS)] = ""
    heart_rate: float | None = None  # /min
    respiratory_rate: float | None = None  # /min
    spo2: float | None = None  # %
    systolic_bp: float | None = None  # mmHg
    diastolic_bp: float | None = None  # mmHg
    temperature: float | None = None  # °C
    glucose: float | None = None  # mmol/L
    off_minutes: Minutes | None = None  # devices are off on purpose for so long, from `at_ms` on
    note: Annotated[str, msgspec.Meta(max_length=MOST_NOTE_CHARACTERS)] = ""
    corrects: Id | None = None  # the observation that this one replaces
    confirmed: bool = False  # extreme values are right

    def observation(self, stay_id: str, *, by: str, now_ms: int, edge: str = "") -> Observation:
        """The observation that the form enters now.

        Args:
            by: who is logged in.
            edge: short id of the edge where it is entered; empty: at the desk.
        """
        values = {name: getattr(self, name) for name in EntryForm.__struct_fields__}
        return observation_of(
            values | {"oxygen_device": self.oxygen_device.strip(), "note": self.note.strip()},
            at_ms=now_ms if self.at_ms is None else self.at_ms,
            by=by,
            stay_id=stay_id,
            observation_id=bytes.fromhex(self.id),
            entered_ms=now_ms,
            heard_ms=now_ms,
            edge=edge,
        )
