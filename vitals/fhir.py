"""FHIR R4 resources as plain dicts: Encounter for a stay, Observation for signs, NEWS2 and what people observed, and
DetectedIssue and Communication for alarms.

Ids are permanent: the same measurement or alarm gives the same id however often it is made, so an upload may be
repeated. An Observation's id follows the idea of the Personal Health Device guide: device, patient, code, time and
value. The resources hold values of a patient; where they may be sent is the caller's decision.
"""

from collections.abc import Sequence
from hashlib import sha256
from math import isfinite, isnan
from typing import Any, Final, TypeAlias

import numpy as np

from vitals.messages import (
    Activity,
    AlarmChanged,
    AlarmState,
    Consciousness,
    News2Part,
    News2Scored,
    ObservationRecorded,
    Priority,
    Reading,
)
from vitals.news2 import risk_text
from vitals.signs import INDEX, SIGNS, SPEC, VitalSign

Resource: TypeAlias = dict[str, Any]

LOINC: Final = "http://loinc.org"
SNOMED: Final = "http://snomed.info/sct"
UCUM: Final = "http://unitsofmeasure.org"
MDC: Final = "urn:iso:std:iso:11073:10101"

BLOOD_PRESSURE_PANEL: Final = "85354-9"
_BLOOD_PRESSURE_MDC: Final = "150020"
_NEWS2_TOTAL: Final = "1104051000000101"
_NEWS2_LOINC: Final = "88330-6"
_GLUCOSE: Final = "15074-8"
_INSPIRED_OXYGEN: Final = "3150-6"
_NOTE: Final = "34109-9"
_NOT_A_DEVICE: Final = "Decision support and secondary notification. Not a certified medical device."

# Signs that have an R4 profile of their own.
_PROFILE: Final = {
    VitalSign.HEART_RATE: "heartrate",
    VitalSign.RESPIRATORY_RATE: "resprate",
    VitalSign.SPO2: "oxygensat",
    VitalSign.TEMPERATURE: "bodytemp",
}

# SNOMED CT findings as UK Core's value set of ACVPU lists them.
_ACVPU: Final = {
    Consciousness.ALERT: ("248234008", "Mentally alert"),
    Consciousness.CONFUSION: ("130987000", "Acute confusion"),
    Consciousness.VOICE: ("300202002", "Responds to voice"),
    Consciousness.PAIN: ("450847001", "Responds to pain"),
    Consciousness.UNRESPONSIVE: ("422768004", "Unresponsive"),
}

# SNOMED CT UK codes of the NEWS2 sub-scores; SpO2 has one for each scale.
_NEWS2_PART: Final = {
    VitalSign.RESPIRATORY_RATE: ("1104301000000104", "respiration rate score"),
    VitalSign.SUPPLEMENTAL_OXYGEN: ("1104331000000105", "air or oxygen score"),
    VitalSign.SYSTOLIC_BP: ("1104341000000101", "systolic blood pressure score"),
    VitalSign.HEART_RATE: ("1104351000000103", "pulse score"),
    VitalSign.CONSCIOUSNESS: ("1104361000000100", "consciousness score"),
    VitalSign.TEMPERATURE: ("1104371000000107", "temperature score"),
}
_NEWS2_SPO2: Final = {
    1: ("1104311000000102", "oxygen saturation scale 1 score"),
    2: ("1104321000000108", "oxygen saturation scale 2 score"),
}

_ACTIVITIES: Final = frozenset(int(activity) for activity in Activity)

_ABSENT: Final = {
    "error": "Error",
    "not-a-number": "Not a Number (NaN)",
    "not-performed": "Not Performed",
    "unknown": "Unknown",
}

_CATEGORY: Final = {"vital-signs": "Vital Signs", "laboratory": "Laboratory", "exam": "Exam"}
_OXYGEN_CODES: Final = (SPEC[VitalSign.SUPPLEMENTAL_OXYGEN].loinc, _INSPIRED_OXYGEN)

_SEVERITY: Final = {Priority.HIGH: "high", Priority.MEDIUM: "moderate", Priority.LOW: "low"}
_URGENCY: Final = {Priority.HIGH: "stat", Priority.MEDIUM: "urgent", Priority.LOW: "routine"}


def encounter(stay_id: str, *, subject: str, from_ms: int | None = None, to_ms: int | None = None) -> Resource:
    """A stay: one patient under monitoring at one site.

    Args:
        subject: reference to the patient, `Patient/p-17`.
        from_ms, to_ms: by the registry; None: not known, and not ended.
    """
    found = encounter_id(stay_id)
    period = {"start": instant(from_ms)} if from_ms is not None else {}
    if to_ms is not None:
        period["end"] = instant(to_ms)
    made: Resource = {
        "resourceType": "Encounter",
        "id": found,
        "identifier": [_identifier(found)],
        "status": "in-progress" if to_ms is None else "finished",
        "class": _coding("http://terminology.hl7.org/CodeSystem/v3-ActCode", "IMP", "inpatient encounter"),
        "subject": {"reference": subject},
    }
    return made | {"period": period} if period else made


def encounter_id(stay_id: str) -> str:
    """The id of the Encounter of a stay."""
    return _uuid("Encounter", stay_id)


def practitioner(name: str) -> str:
    """The reference to a person who observed: permanent, and without the name."""
    return f"Practitioner/{_uuid('Practitioner', name)}"


def entered(
    recorded: ObservationRecorded, *, subject: str, encounter: str = "", replaced: bool = False
) -> list[Resource]:
    """What a person observed: one Observation for each value, as those of a reading, with the person as performer.

    One that corrects another has the status `corrected`. One whose values do not count has the reason `error`.

    Args:
        subject: reference to the patient.
        encounter: reference to the stay; empty: not named.
        replaced: another one corrects it: its status is `entered-in-error`.
    """
    one = recorded.observation
    seed = one.observation_id.hex()
    status = "entered-in-error" if replaced else "corrected" if one.corrects else "final"
    common: dict[str, Any] = {"at_ms": one.at_ms, "subject": subject, "encounter": encounter, "status": status}
    made = []
    for sign in (spec.sign for spec in SIGNS if spec.sign not in _PRESSURES):
        value = getattr(one, sign.value)
        if value is not None:
            found = _observation(
                _uuid(seed, sign.value), _codings(sign), SPEC[sign].label, profile=_PROFILE.get(sign), **common
            )
            made.append(found | _told(sign, value, recorded.refused))
    if one.systolic_bp is not None or one.diastolic_bp is not None:
        panel = _observation(_uuid(seed, "bp"), _pressure_codings(), "blood pressure", profile="bp", **common)
        panel["component"] = [
            {"code": {"coding": _codings(sign), "text": SPEC[sign].label}}
            | _told(sign, getattr(one, sign.value), recorded.refused)
            for sign in _PRESSURES
        ]
        made.append(panel)
    for code, display, value, unit in (
        (_INSPIRED_OXYGEN, "Inhaled oxygen concentration", one.inspired_oxygen, "%"),
        (_GLUCOSE, "Glucose [Moles/volume] in Blood", one.glucose, "mmol/L"),
    ):
        if value is not None:
            category = "laboratory" if code == _GLUCOSE else "vital-signs"
            found = _observation(
                _uuid(seed, code), [_coding(LOINC, code, display)], display, category=category, **common
            )
            made.append(found | (_refused(recorded.refused) or _quantity(value, unit, unit)))
    if one.note and not made:
        found = _observation(_uuid(seed, _NOTE), [_coding(LOINC, _NOTE, "Note")], "note", category="exam", **common)
        made.append(found | {"valueString": one.note})
    elif one.note:
        made[0]["note"] = [{"text": one.note}]
    for found in made:
        found["performer"] = [{"reference": practitioner(one.by)}]
        if one.oxygen_device and found["code"]["coding"][0]["code"] in _OXYGEN_CODES:
            found["method"] = {"text": one.oxygen_device}
    return made


def observations(reading: Reading, *, subject: str, device: str, encounter: str = "") -> list[Resource]:
    """One Observation for each sign that was measured; the two pressures make one panel.

    A value that was marked unusable is not sent: the data absent reason is `error`. A sign that was not measured makes
    no Observation; a missing half of a blood pressure has a data absent reason in its component. What the patient did
    is a note: LOINC's codes of activity are of what kind of sport somebody does, or of a whole day.

    Args:
        subject: reference to the patient, `Patient/p-17`.
        device: reference to the device that measured, `Device/w-4`.
        encounter: reference to the stay; empty: not named.
    """
    single = (spec.sign for spec in SIGNS if spec.sign not in _PRESSURES)
    made = [_sign(reading, sign, subject, device, encounter) for sign in single if _value(reading, sign) is not None]
    if any(_value(reading, sign) is not None for sign in _PRESSURES):
        made.append(_pressures(reading, subject, device, encounter))
    activity = Activity(reading.activity) if reading.activity in _ACTIVITIES else Activity.UNKNOWN
    if activity is not Activity.UNKNOWN:
        for one in made:
            one["note"] = [{"text": f"measured {activity.phrase}, as the wearable tells"}]
    return made


def news2_observation(
    scored: News2Scored, *, subject: str, device: str, derived_from: Sequence[str] = (), encounter: str = ""
) -> Resource:
    """A NEWS2 with its seven sub-scores.

    An incomplete score is sent as `>= n`: FHIR obliges every reader to respect a comparator, so the lower bound cannot
    be mistaken for a total. A missing sub-score says `unknown`. The clinical risk is then
    `>= medium`, for instance, or unknown where only a low bound is known.

    Args:
        derived_from: references to the Observations that were scored.
    """
    codings = [
        _coding(SNOMED, _NEWS2_TOTAL, "Royal College of Physicians NEWS2 (National Early Warning Score 2) total score"),
        _coding(LOINC, _NEWS2_LOINC, "National Early Warning Score (NEWS)"),
    ]
    made = _observation(
        # The id leaves out the value: a score that was corrected by late data replaces the wrong one.
        _uuid(device, subject, _NEWS2_TOTAL, str(scored.at_ms), scored.reading_id.hex()),
        codings,
        "NEWS2",
        at_ms=scored.at_ms,
        subject=subject,
        device=device,
        encounter=encounter,
    )
    made["valueQuantity"] = _points(scored.at_least, lower_bound=scored.total is None)
    risk = risk_text(scored)
    made["interpretation"] = [{"text": f"{risk} clinical risk" if risk else "clinical risk unknown: incomplete score"}]
    made["component"] = [_news2_component(part, scored) for part in scored.parts]
    if derived_from:
        made["derivedFrom"] = [{"reference": reference} for reference in derived_from]
    return made


def detected_issue(alarm: AlarmChanged, *, subject: str, device: str, evidence: Sequence[str] = ()) -> Resource:
    """An alarm as it stands now: one resource for the alarm's whole life, replaced with every revision.

    Args:
        evidence: references to the Observations behind it.
    """
    issue_id = _uuid("DetectedIssue", alarm.alarm_id.hex())
    period = {"start": instant(alarm.onset_ms)}
    if alarm.state is AlarmState.CLEARED:
        period["end"] = instant(alarm.at_ms)
    nature = f"{alarm.kind}, retrospective" if alarm.retrospective else str(alarm.kind)
    made: Resource = {
        "resourceType": "DetectedIssue",
        "id": issue_id,
        "identifier": [_identifier(issue_id)],
        "status": "preliminary" if alarm.state is AlarmState.PENDING else "final",
        "code": {"text": f"{alarm.rule_id} ({nature})"},
        "severity": _SEVERITY[alarm.priority],
        "patient": {"reference": subject},
        "identifiedPeriod": period,
        "author": {"reference": device},
        "detail": f"{alarm.text} [basis: {alarm.basis}] {_NOT_A_DEVICE}",
    }
    if evidence:
        made["evidence"] = [{"detail": [{"reference": reference}]} for reference in evidence]
    mitigation = _mitigation(alarm)
    if mitigation:
        made["mitigation"] = mitigation
    return made


def communication(
    alarm: AlarmChanged,
    *,
    subject: str,
    device: str,
    recipients: Sequence[str] = (),
    sent_ms: int | None = None,
    encounter: str = "",
) -> Resource:
    """The notification of an alarm: one resource for each priority that it reaches, replaced with every revision.

    Its status is `preparation` for a pending alarm, `on-hold` for a silenced one, `completed` for one that was
    acknowledged or cleared, and `not-done` for one that was found in backfilled data.
    """
    about = _uuid("DetectedIssue", alarm.alarm_id.hex())
    communication_id = _uuid("Communication", alarm.alarm_id.hex(), str(int(alarm.priority)))
    made: Resource = {
        "resourceType": "Communication",
        "id": communication_id,
        "identifier": [_identifier(communication_id)],
        "status": _communication_status(alarm),
        "category": [
            {"coding": [_coding("http://terminology.hl7.org/CodeSystem/communication-category", "alert", "Alert")]}
        ],
        "priority": _URGENCY[alarm.priority],
        "subject": {"reference": subject},
        "about": [{"reference": f"DetectedIssue/{about}"}],
        "sender": {"reference": device},
        "payload": [{"contentString": text} for text in (alarm.text, alarm.response) if text],
        "note": [{"text": f"Basis: {alarm.basis}. {_NOT_A_DEVICE}"}],
    }
    if alarm.retrospective:
        made["statusReason"] = {"text": "for the record: found in data that came too late, or over while it was held"}
    if recipients:
        made["recipient"] = [{"reference": reference} for reference in recipients]
    if encounter:
        made["encounter"] = {"reference": encounter}
    if sent_ms is not None:
        made["sent"] = instant(sent_ms)
    if alarm.acknowledged_ms is not None:
        made["received"] = instant(alarm.acknowledged_ms)
    return made


def instant(at_ms: int) -> str:
    """Milliseconds since 1970 as FHIR writes a moment.

    >>> instant(1_772_352_930_250)
    '2026-03-01T08:15:30.250Z'
    """
    return f"{np.datetime64(at_ms, 'ms')}Z"


_PRESSURES: Final = (VitalSign.SYSTOLIC_BP, VitalSign.DIASTOLIC_BP)


def _value(reading: Reading, sign: VitalSign) -> float | None:
    value: float | None = getattr(reading, sign.value)
    return value


def _sign(reading: Reading, sign: VitalSign, subject: str, device: str, encounter: str) -> Resource:
    spec = SPEC[sign]
    made = _observation(
        _uuid(device, subject, str(spec.mdc or spec.loinc), str(reading.at_ms), _canonical(_value(reading, sign))),
        _codings(sign),
        spec.label,
        at_ms=reading.at_ms,
        subject=subject,
        device=device,
        encounter=encounter,
        profile=_PROFILE.get(sign),
    )
    made.update(_measured(reading, sign))
    return made


def _pressures(reading: Reading, subject: str, device: str, encounter: str) -> Resource:
    values = [_canonical(_value(reading, sign)) for sign in _PRESSURES]
    made = _observation(
        _uuid(device, subject, _BLOOD_PRESSURE_MDC, str(reading.at_ms), *values),
        _pressure_codings(),
        "blood pressure",
        at_ms=reading.at_ms,
        subject=subject,
        device=device,
        encounter=encounter,
        profile="bp",
    )
    made["component"] = [
        {"code": {"coding": _codings(sign), "text": SPEC[sign].label}} | _measured(reading, sign) for sign in _PRESSURES
    ]
    return made


def _observation(
    observation_id: str,
    codings: list[Resource],
    text: str,
    *,
    at_ms: int,
    subject: str,
    device: str = "",
    encounter: str = "",
    profile: str | None = None,
    status: str = "final",
    category: str = "vital-signs",
) -> Resource:
    made: Resource = {
        "resourceType": "Observation",
        "id": observation_id,
        "identifier": [_identifier(observation_id)],
        "status": status,
        "category": [
            {
                "coding": [
                    _coding("http://terminology.hl7.org/CodeSystem/observation-category", category, _CATEGORY[category])
                ]
            }
        ],
        "code": {"coding": codings, "text": text},
        "subject": {"reference": subject},
        "effectiveDateTime": instant(at_ms),
    }
    if device:
        made["device"] = {"reference": device}
    if encounter:
        made["encounter"] = {"reference": encounter}
    if profile is not None:
        made["meta"] = {"profile": [f"http://hl7.org/fhir/StructureDefinition/{profile}"]}
    return made


def _measured(reading: Reading, sign: VitalSign) -> Resource:
    """`value[x]`, or `dataAbsentReason`."""
    value = _value(reading, sign)
    if value is None:
        return {"dataAbsentReason": _absent("not-performed")}
    if reading.unusable & (1 << INDEX[sign]):
        return {"dataAbsentReason": _absent("error", text="measured, judged unusable")}
    return _told(sign, value, "")


def _told(sign: VitalSign, value: float | None, refused: str) -> Resource:
    """`value[x]`, or `dataAbsentReason`."""
    if value is None:
        return {"dataAbsentReason": _absent("not-performed")}
    if refused:
        return _refused(refused)
    if not isfinite(value):
        return {"dataAbsentReason": _absent("not-a-number" if isnan(value) else "error")}
    if sign is VitalSign.CONSCIOUSNESS:
        code, display = _ACVPU[Consciousness(int(value))]
        return {"valueCodeableConcept": {"coding": [_coding(SNOMED, code, display)], "text": display}}
    spec = SPEC[sign]
    return _quantity(value, spec.unit, spec.ucum)


def _quantity(value: float, unit: str, code: str | None) -> Resource:
    number = int(value) if value == int(value) else value
    return {"valueQuantity": {"value": number, "unit": unit, "system": UCUM, "code": code}}


def _refused(why: str) -> Resource:
    return {"dataAbsentReason": _absent("error", text=why)} if why else {}


def _news2_component(part: News2Part, scored: News2Scored) -> Resource:
    sign = VitalSign(part.sign)
    code, display = _NEWS2_SPO2[scored.spo2_scale] if sign is VitalSign.SPO2 else _NEWS2_PART[sign]
    made: Resource = {"code": {"coding": [_coding(SNOMED, code, f"Royal College of Physicians NEWS2 - {display}")]}}
    if part.points is None:
        made["dataAbsentReason"] = _absent("unknown")
    else:
        made["valueQuantity"] = _points(part.points, lower_bound=_open_above(part, scored))
    return made


def _open_above(part: News2Part, scored: News2Scored) -> bool:
    """Whether the points are a lower bound: on scale 2 those of an SpO2 from 93 depend on oxygen, which is unknown."""
    oxygen_unknown = any(p.sign == VitalSign.SUPPLEMENTAL_OXYGEN and p.points is None for p in scored.parts)
    return part.sign == VitalSign.SPO2 and scored.spo2_scale == 2 and oxygen_unknown and (part.value or 0) >= 93


def _points(points: int, *, lower_bound: bool) -> Resource:
    quantity: Resource = {"value": points, "unit": "ScoreOf", "system": UCUM, "code": "{ScoreOf}"}
    return quantity | {"comparator": ">="} if lower_bound else quantity


def _mitigation(alarm: AlarmChanged) -> list[Resource]:
    steps: list[Resource] = []
    if alarm.acknowledged_by is not None:
        step: Resource = {"action": {"text": "acknowledged"}, "author": {"display": alarm.acknowledged_by}}
        if alarm.acknowledged_ms is not None:
            step["date"] = instant(alarm.acknowledged_ms)
        steps.append(step)
    if alarm.silenced_until_ms is not None:
        steps.append({"action": {"text": f"silenced until {instant(alarm.silenced_until_ms)}"}})
    return steps


def _communication_status(alarm: AlarmChanged) -> str:
    checks = (
        (alarm.retrospective, "not-done"),
        (alarm.acknowledged_by is not None or (alarm.state is AlarmState.CLEARED and not alarm.latched), "completed"),
        (alarm.state is AlarmState.PENDING, "preparation"),
        (alarm.silenced_until_ms is not None, "on-hold"),
    )
    return next((status for holds, status in checks if holds), "in-progress")


def _pressure_codings() -> list[Resource]:
    return [
        _coding(LOINC, BLOOD_PRESSURE_PANEL, "Blood pressure panel with all children optional"),
        _coding(SNOMED, "75367002", "Blood pressure"),
        _coding(MDC, _BLOOD_PRESSURE_MDC),
    ]


def _codings(sign: VitalSign) -> list[Resource]:
    spec = SPEC[sign]
    codings = [_coding(LOINC, code) for code in (spec.loinc, *spec.loinc_also)]
    return codings if spec.mdc is None else [*codings, _coding(MDC, str(spec.mdc))]


def _coding(system: str, code: str, display: str | None = None) -> Resource:
    coding = {"system": system, "code": code}
    return coding if display is None else coding | {"display": display}


def _absent(code: str, *, text: str | None = None) -> Resource:
    coding = _coding("http://terminology.hl7.org/CodeSystem/data-absent-reason", code, _ABSENT[code])
    return {"coding": [coding]} if text is None else {"coding": [coding], "text": text}


def _identifier(uuid: str) -> Resource:
    return {"system": "urn:ietf:rfc:3986", "value": f"urn:uuid:{uuid}"}


def _canonical(value: float | None) -> str:
    return "" if value is None else repr(float(value))


def _uuid(*facts: str) -> str:
    """A UUID from SHA-256 of the facts, in the layout that RFC 9562 leaves for it (version 8)."""
    digest = bytearray(sha256("\x1f".join(facts).encode()).digest()[:16])
    digest[6] = 0x80 | digest[6] & 0x0F
    digest[8] = 0x80 | digest[8] & 0x3F
    text = digest.hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))
