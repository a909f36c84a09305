"""Observations in the HTTP API of the alarm desk: what is accepted and what is shown."""

import msgspec

from stream.desk.observing import EnteredObservation
from stream.errors import BadRequest
from vitals.entry_form import EntryForm
from vitals.entry_limits import in_words
from vitals.messages import Observation
from wire.stays import KnownStay


class EnterObservation(EntryForm, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`POST /v1/stays/{stay, patient or bed}/observations`."""


class ShownObservation(msgspec.Struct, frozen=True, kw_only=True):
    """One observation of the list."""

    id: str
    by: str
    at_ms: int
    entered_ms: int
    words: list[str]  # what was observed, with units
    note: str
    corrects: str | None
    corrected_by: str | None  # id of the observation that replaces it
    corrected_by_person: str | None
    sent: bool  # whether the patient's record has it
    consciousness: str | None = None
    supplemental_oxygen: float | None = None
    inspired_oxygen: float | None = None
    oxygen_device: str = ""
    heart_rate: float | None = None
    respiratory_rate: float | None = None
    spo2: float | None = None
    systolic_bp: float | None = None
    diastolic_bp: float | None = None
    temperature: float | None = None
    glucose: float | None = None
    off_until_ms: int | None = None


class ShownObservations(msgspec.Struct, frozen=True, kw_only=True):
    """`GET /v1/stays/{stay, patient or bed}/observations`: newest first."""

    now_ms: int
    notice: str
    stay: str
    bed: str
    patient: str
    user: str
    observations: list[ShownObservation]


class ObservationDone(msgspec.Struct, frozen=True, kw_only=True):
    """Result of an entry."""

    id: str
    stay: str
    bed: str
    patient: str
    by: str
    at_ms: int
    entered_ms: int
    words: list[str]


def done_of(stay: KnownStay, kept: Observation) -> ObservationDone:
    return ObservationDone(
        id=kept.observation_id.hex(),
        stay=kept.stay_id,
        bed=stay.bed,
        patient=stay.patient,
        by=kept.by,
        at_ms=kept.at_ms,
        entered_ms=kept.entered_ms,
        words=in_words(kept),
    )


def shown_of(entered: EnteredObservation) -> ShownObservation:
    one, later = entered.observation, entered.corrected_by
    return ShownObservation(
        id=one.observation_id.hex(),
        by=one.by,
        at_ms=one.at_ms,
        entered_ms=one.entered_ms,
        words=in_words(one),
        note=one.note,
        corrects=one.corrects.hex() or None,
        corrected_by=None if later is None else later.observation_id.hex(),
        corrected_by_person=None if later is None else later.by,
        sent=entered.is_sent,
        consciousness=None if one.consciousness is None else one.consciousness.letter,
        supplemental_oxygen=one.supplemental_oxygen,
        inspired_oxygen=one.inspired_oxygen,
        oxygen_device=one.oxygen_device,
        heart_rate=one.heart_rate,
        respiratory_rate=one.respiratory_rate,
        spo2=one.spo2,
        systolic_bp=one.systolic_bp,
        diastolic_bp=one.diastolic_bp,
        temperature=one.temperature,
        glucose=one.glucose,
        off_until_ms=one.off_until_ms,
    )


def check_name(name: str) -> str:
    """The name of a bed or patient in a path. Raises BadRequest."""
    if not 0 < len(name) <= 64 or not name.isprintable():
        raise BadRequest(400, "the name of a bed or patient must have 1 to 64 printable characters")
    return name
