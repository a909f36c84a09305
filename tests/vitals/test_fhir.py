"""FHIR resources: codes, absent values, permanent ids; every resource is read back by fhir.resources (R4B)."""

import importlib
import json
from math import nan
from typing import Any

import msgspec
import pytest

from vitals import fhir, news2
from vitals.messages import (
    AlarmChanged,
    AlarmKind,
    AlarmState,
    Consciousness,
    News2Scored,
    Observation,
    ObservationRecorded,
    Priority,
    Reading,
)
from vitals.signs import INDEX, VitalSign

AT = 1_772_352_930_250  # 2026-03-01T08:15:30.250Z
WHO = {"subject": "Patient/p-17", "device": "Device/w-4"}

# R4B left these resources as they were in R4.
MODEL = {
    name: getattr(importlib.import_module(f"fhir.resources.R4B.{name.lower()}"), name)
    for name in ("Observation", "DetectedIssue", "Communication", "Encounter")
}


def a_reading(**changes: Any) -> Reading:
    whole = Reading(
        stay_id="00" * 16,
        reading_id=bytes(16),
        session_id=bytes(16),
        counter=1,
        at_ms=AT,
        received_ms=AT + 40,
        heart_rate=95.0,
        respiratory_rate=26.0,
        spo2=91.4,
        systolic_bp=118.0,
        diastolic_bp=76.0,
        temperature=38.1,
        supplemental_oxygen=2.0,
        consciousness=Consciousness.VOICE,
    )
    return msgspec.structs.replace(whole, **changes)


def an_alarm(**changes: Any) -> AlarmChanged:
    whole = AlarmChanged(
        stay_id="00" * 16,
        alarm_id=b"\x07" * 16,
        rule_id="news2-high",
        kind=AlarmKind.PHYSIOLOGICAL,
        priority=Priority.HIGH,
        state=AlarmState.ACTIVE,
        at_ms=AT,
        onset_ms=AT - 60_000,
        revision=1,
        text="NEWS2 7: RR 26 (+3)",
        basis="NEWS2",
    )
    return msgspec.structs.replace(whole, **changes)


def a_score(inputs: dict[VitalSign, tuple[float, int]], scale: int = 1) -> News2Scored:
    result = news2.score(inputs, spo2_scale=scale)
    return News2Scored(
        stay_id="00" * 16,
        reading_id=b"\x01" * 16,
        at_ms=AT,
        total=result.total,
        at_least=result.at_least,
        risk=result.risk,
        spo2_scale=scale,
        parts=result.parts,
    )


def an_observation(refused: str = "", **changes: Any) -> ObservationRecorded:
    whole = Observation(
        stay_id="00" * 16,
        observation_id=b"\x03" * 16,
        by="Anna Petersen",
        at_ms=AT,
        entered_ms=AT + 60_000,
        heard_ms=AT + 60_100,
        consciousness=Consciousness.CONFUSION,
        supplemental_oxygen=2.0,
        inspired_oxygen=28.0,
        oxygen_device="Venturi mask",
        systolic_bp=118.0,
        glucose=5.6,
        note="sleepy since lunch",
    )
    return ObservationRecorded(observation=msgspec.structs.replace(whole, **changes), late=False, refused=refused)


WHOLE = {
    VitalSign.RESPIRATORY_RATE: (26.0, 0),
    VitalSign.SPO2: (91.0, 0),
    VitalSign.SUPPLEMENTAL_OXYGEN: (0.0, 0),
    VitalSign.SYSTOLIC_BP: (118.0, 0),
    VitalSign.HEART_RATE: (95.0, 0),
    VitalSign.CONSCIOUSNESS: (0.0, 0),
    VitalSign.TEMPERATURE: (37.0, 0),
}


def valid(resource: dict[str, Any]) -> dict[str, Any]:
    """Through JSON and the library and back: nothing lost, nothing refused."""
    text = json.dumps(resource, allow_nan=False)
    model = MODEL[resource["resourceType"]].model_validate_json(text)
    # The library writes moments with microseconds.
    assert json.loads(model.model_dump_json().replace("000Z", "Z")) == json.loads(text)
    return resource


def by_code(made: list[dict[str, Any]], code: str) -> dict[str, Any]:
    return next(one for one in made if one["code"]["coding"][0]["code"] == code)


def test_every_sign_of_a_reading_becomes_a_valid_observation() -> None:
    made = [valid(one) for one in fhir.observations(a_reading(), **WHO)]

    assert [one["code"]["coding"][0]["code"] for one in made] == [
        "8867-4",
        "9279-1",
        "2708-6",
        "8310-5",
        "3151-8",
        "80288-4",
        "85354-9",
    ]
    assert all(one["effectiveDateTime"] == "2026-03-01T08:15:30.250Z" for one in made)
    assert all(one["subject"] == {"reference": "Patient/p-17"} for one in made)
    assert all(one["category"][0]["coding"][0]["code"] == "vital-signs" for one in made)


@pytest.mark.parametrize(
    ("code", "value", "unit", "profile"),
    [
        ("8867-4", 95, "/min", "heartrate"),
        ("9279-1", 26, "/min", "resprate"),
        ("2708-6", 91.4, "%", "oxygensat"),
        ("8310-5", 38.1, "Cel", "bodytemp"),
        ("3151-8", 2, "L/min", None),
    ],
)
def test_quantities_are_in_ucum(code: str, value: float, unit: str, profile: str | None) -> None:
    made = by_code(fhir.observations(a_reading(), **WHO), code)

    assert made["valueQuantity"]["value"] == value
    assert made["valueQuantity"]["code"] == unit
    assert made["valueQuantity"]["system"] == "http://unitsofmeasure.org"
    expected = [f"http://hl7.org/fhir/StructureDefinition/{profile}"] if profile else None
    assert made.get("meta", {}).get("profile") == expected


def test_oxygen_saturation_carries_the_code_of_the_profile_and_that_of_pulse_oximetry() -> None:
    made = by_code(fhir.observations(a_reading(), **WHO), "2708-6")

    assert [(coding["system"], coding["code"]) for coding in made["code"]["coding"]] == [
        ("http://loinc.org", "2708-6"),
        ("http://loinc.org", "59408-5"),
        ("urn:iso:std:iso:11073:10101", "150456"),
    ]


def test_consciousness_is_a_finding() -> None:
    made = by_code(fhir.observations(a_reading(), **WHO), "80288-4")

    assert made["valueCodeableConcept"]["coding"][0]["code"] == "300202002"
    assert made["valueCodeableConcept"]["text"] == "Responds to voice"


@pytest.mark.parametrize(
    ("activity", "note"),
    [(0, None), (1, "measured at rest"), (3, "measured on a walk"), (4, "measured in exercise"), (9, None)],
)
def test_what_the_patient_did_is_a_note_of_each_observation(activity: int, note: str | None) -> None:
    made = [valid(one) for one in fhir.observations(a_reading(activity=activity), **WHO)]

    told = {one["note"][0]["text"] if "note" in one else None for one in made}
    assert told == {None if note is None else f"{note}, as the wearable tells"}


def test_what_was_not_measured_makes_no_observation() -> None:
    reading = a_reading(spo2=None, systolic_bp=None, diastolic_bp=None)

    codes = [one["code"]["coding"][0]["code"] for one in fhir.observations(reading, **WHO)]

    assert "2708-6" not in codes
    assert "85354-9" not in codes


def test_a_missing_half_of_a_pressure_says_so() -> None:
    made = valid(by_code(fhir.observations(a_reading(diastolic_bp=None), **WHO), "85354-9"))

    assert "valueQuantity" not in made
    systolic, diastolic = made["component"]
    assert systolic["valueQuantity"]["value"] == 118
    assert diastolic["code"]["coding"][0]["code"] == "8462-4"
    assert diastolic["dataAbsentReason"]["coding"][0]["code"] == "not-performed"
    assert "valueQuantity" not in diastolic


def test_an_unusable_value_is_not_sent() -> None:
    reading = a_reading(unusable=1 << INDEX[VitalSign.SPO2])

    made = valid(by_code(fhir.observations(reading, **WHO), "2708-6"))

    assert made["dataAbsentReason"]["coding"][0]["code"] == "error"
    assert "valueQuantity" not in made


def test_not_a_number_is_named() -> None:
    made = valid(by_code(fhir.observations(a_reading(heart_rate=nan), **WHO), "8867-4"))

    assert made["dataAbsentReason"]["coding"][0]["code"] == "not-a-number"


def test_the_same_measurement_has_the_same_id_and_another_has_another() -> None:
    first = fhir.observations(a_reading(), **WHO)
    again = fhir.observations(a_reading(received_ms=AT + 99_000, unusable=1), **WHO)
    others = (
        fhir.observations(a_reading(at_ms=AT + 1), **WHO)
        + fhir.observations(a_reading(), subject="Patient/p-18", device="Device/w-4")
        + fhir.observations(a_reading(), subject="Patient/p-17", device="Device/w-5")
    )

    assert [one["id"] for one in first] == [one["id"] for one in again]
    ids = [one["id"] for one in first + others]
    assert len(set(ids)) == len(ids)
    assert first[0]["identifier"] == [{"system": "urn:ietf:rfc:3986", "value": f"urn:uuid:{first[0]['id']}"}]
    # Frozen: ids that are already on a FHIR server must not change with the next version.
    assert first[0]["id"] == "adad22a4-2847-8f02-8fac-94e649ea9a75"


def test_a_changed_value_is_another_measurement() -> None:
    one = by_code(fhir.observations(a_reading(), **WHO), "8867-4")
    other = by_code(fhir.observations(a_reading(heart_rate=96.0), **WHO), "8867-4")

    assert one["id"] != other["id"]


def test_a_complete_news2() -> None:
    made = valid(fhir.news2_observation(a_score(WHOLE), **WHO, derived_from=["Observation/a", "Observation/b"]))

    assert made["code"]["coding"][0]["code"] == "1104051000000101"
    assert made["valueQuantity"] == {
        "value": 7,
        "unit": "ScoreOf",
        "system": "http://unitsofmeasure.org",
        "code": "{ScoreOf}",
    }
    assert made["interpretation"] == [{"text": "high clinical risk"}]
    assert made["derivedFrom"] == [{"reference": "Observation/a"}, {"reference": "Observation/b"}]
    assert [(one["code"]["coding"][0]["code"], one["valueQuantity"]["value"]) for one in made["component"]] == [
        ("1104301000000104", 3),
        ("1104311000000102", 3),
        ("1104331000000105", 0),
        ("1104341000000101", 0),
        ("1104351000000103", 1),
        ("1104361000000100", 0),
        ("1104371000000107", 0),
    ]


def test_an_incomplete_news2_is_sent_as_a_lower_bound() -> None:
    inputs = {sign: given for sign, given in WHOLE.items() if sign is not VitalSign.TEMPERATURE}

    made = valid(fhir.news2_observation(a_score(inputs), **WHO))

    assert (made["valueQuantity"]["comparator"], made["valueQuantity"]["value"]) == (">=", 7)
    assert made["component"][-1]["dataAbsentReason"]["coding"][0]["code"] == "unknown"
    assert "derivedFrom" not in made


@pytest.mark.parametrize(("spo2", "open_above"), [(92.0, False), (93.0, True), (97.0, True)])
def test_on_scale_2_without_oxygen_the_points_of_a_high_saturation_are_open(spo2: float, open_above: bool) -> None:
    inputs = WHOLE | {VitalSign.SPO2: (spo2, 0)}
    del inputs[VitalSign.SUPPLEMENTAL_OXYGEN]

    made = valid(fhir.news2_observation(a_score(inputs, scale=2), **WHO))

    part = made["component"][1]
    assert part["code"]["coding"][0]["code"] == "1104321000000108"
    assert ("comparator" in part["valueQuantity"]) is open_above


def test_a_corrected_score_replaces_the_one_before() -> None:
    one = fhir.news2_observation(a_score(WHOLE), **WHO)
    other = fhir.news2_observation(a_score(WHOLE | {VitalSign.HEART_RATE: (135.0, 0)}), **WHO)

    assert one["id"] == other["id"]
    assert one["valueQuantity"] != other["valueQuantity"]


def test_an_alarm_is_one_issue_through_its_life() -> None:
    life = [
        an_alarm(state=AlarmState.PENDING, priority=Priority.MEDIUM),
        an_alarm(revision=2),
        an_alarm(revision=3, acknowledged_by="nurse 3", acknowledged_ms=AT + 5_000),
        an_alarm(revision=4, state=AlarmState.CLEARED, at_ms=AT + 9_000, silenced_until_ms=AT + 60_000),
    ]

    made = [valid(fhir.detected_issue(alarm, subject="Patient/p-17", device="Device/e-1")) for alarm in life]

    assert len({one["id"] for one in made}) == 1
    assert [one["status"] for one in made] == ["preliminary", "final", "final", "final"]
    assert [one["severity"] for one in made] == ["moderate", "high", "high", "high"]
    assert made[2]["mitigation"] == [
        {"action": {"text": "acknowledged"}, "author": {"display": "nurse 3"}, "date": "2026-03-01T08:15:35.250Z"}
    ]
    assert made[1]["identifiedPeriod"] == {"start": "2026-03-01T08:14:30.250Z"}
    assert made[3]["identifiedPeriod"]["end"] == "2026-03-01T08:15:39.250Z"
    assert made[3]["mitigation"][0]["action"]["text"] == "silenced until 2026-03-01T08:16:30.250Z"
    assert "Not a certified medical device" in made[0]["detail"]


def test_an_issue_points_to_its_evidence() -> None:
    made = valid(fhir.detected_issue(an_alarm(retrospective=True), **WHO, evidence=["Observation/a"]))

    assert made["evidence"] == [{"detail": [{"reference": "Observation/a"}]}]
    assert made["code"]["text"] == "news2-high (physiological, retrospective)"


@pytest.mark.parametrize(
    ("changes", "status", "urgency"),
    [
        ({}, "in-progress", "stat"),
        ({"priority": Priority.LOW}, "in-progress", "routine"),
        ({"state": AlarmState.PENDING, "priority": Priority.MEDIUM}, "preparation", "urgent"),
        ({"silenced_until_ms": AT + 60_000}, "on-hold", "stat"),
        ({"acknowledged_by": "nurse 3", "acknowledged_ms": AT}, "completed", "stat"),
        ({"state": AlarmState.CLEARED}, "completed", "stat"),
        ({"state": AlarmState.CLEARED, "latched": True}, "in-progress", "stat"),  # not acknowledged yet
        ({"retrospective": True}, "not-done", "stat"),
    ],
)
def test_what_people_are_told(changes: dict[str, Any], status: str, urgency: str) -> None:
    made = valid(fhir.communication(an_alarm(**changes), **WHO, recipients=["Practitioner/n-3"], sent_ms=AT))

    assert (made["status"], made["priority"]) == (status, urgency)
    assert made["sent"] == "2026-03-01T08:15:30.250Z"
    assert made["payload"] == [{"contentString": "NEWS2 7: RR 26 (+3)"}]


def test_one_communication_for_each_priority_and_it_is_about_the_issue() -> None:
    first = fhir.communication(an_alarm(priority=Priority.MEDIUM), **WHO)
    again = fhir.communication(an_alarm(priority=Priority.MEDIUM, revision=5), **WHO)
    worse = fhir.communication(an_alarm(revision=6), **WHO)

    assert first["id"] == again["id"] != worse["id"]
    issue = fhir.detected_issue(an_alarm(), **WHO)["id"]
    assert first["about"] == worse["about"] == [{"reference": f"DetectedIssue/{issue}"}]


def test_what_a_person_observed_names_the_person_by_reference_alone() -> None:
    made = [valid(one) for one in fhir.entered(an_observation(), subject="Patient/p-17", encounter="Encounter/e-1")]

    codes = [one["code"]["coding"][0]["code"] for one in made]
    assert codes == ["3151-8", "80288-4", "85354-9", "3150-6", "15074-8"]
    assert {one["performer"][0]["reference"] for one in made} == {fhir.practitioner("Anna Petersen")}
    assert {one["encounter"]["reference"] for one in made} == {"Encounter/e-1"}
    assert all("device" not in one for one in made)
    assert "Anna" not in json.dumps(made)
    assert len({one["id"] for one in made}) == len(made)


def test_observed_values_have_codes_and_units() -> None:
    made = fhir.entered(an_observation(), subject="Patient/p-17")

    consciousness = by_code(made, "80288-4")["valueCodeableConcept"]["coding"][0]
    assert (consciousness["system"], consciousness["code"]) == ("http://snomed.info/sct", "130987000")
    oxygen, inspired, glucose = (by_code(made, code) for code in ("3151-8", "3150-6", "15074-8"))
    assert (oxygen["valueQuantity"]["value"], oxygen["valueQuantity"]["code"]) == (2, "L/min")
    assert oxygen["method"] == inspired["method"] == {"text": "Venturi mask"}
    assert (inspired["valueQuantity"]["value"], inspired["valueQuantity"]["code"]) == (28, "%")
    assert (glucose["valueQuantity"]["value"], glucose["valueQuantity"]["code"]) == (5.6, "mmol/L")
    assert glucose["category"][0]["coding"][0]["code"] == "laboratory"
    _, missing = by_code(made, "85354-9")["component"]
    assert missing["dataAbsentReason"]["coding"][0]["code"] == "not-performed"


def test_a_correction_a_replaced_and_a_refused_observation_say_so() -> None:
    corrected = fhir.entered(an_observation(corrects=b"\x02" * 16), subject="Patient/p-17")
    replaced = fhir.entered(an_observation(), subject="Patient/p-17", replaced=True)
    refused = [valid(one) for one in fhir.entered(an_observation("the stay has ended"), subject="Patient/p-17")]

    assert {one["status"] for one in corrected} == {"corrected"}
    assert {one["status"] for one in replaced} == {"entered-in-error"}
    assert by_code(refused, "15074-8")["dataAbsentReason"]["text"] == "the stay has ended"
    assert not any(key.startswith("value") for one in refused for key in one)


def test_a_note_alone_is_an_observation_of_its_own() -> None:
    alone = an_observation(
        consciousness=None, supplemental_oxygen=None, inspired_oxygen=None, systolic_bp=None, glucose=None
    )

    (made,) = [valid(one) for one in fhir.entered(alone, subject="Patient/p-17")]

    assert made["valueString"] == "sleepy since lunch"


@pytest.mark.parametrize(("to_ms", "status"), [(None, "in-progress"), (AT + 1_000, "finished")])
def test_a_stay_is_an_encounter_with_its_period(to_ms: int | None, status: str) -> None:
    made = valid(fhir.encounter("00" * 16, subject="Patient/p-17", from_ms=AT, to_ms=to_ms))

    assert made["status"] == status
    assert ("end" in made["period"]) == (to_ms is not None)
    assert made["id"] == fhir.encounter_id("00" * 16)
