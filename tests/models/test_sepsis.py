"""The sepsis model: state of a patient, restoring, reasons and abstaining."""

import pytest

from models.artifacts import Artifact
from models.errors import ModelUnavailable, StepOutOfOrder
from models.sepsis import KEPT_STEPS, SepsisModel, SepsisPatient, why
from models.sepsis_features import HOUR_MS, INPUTS
from tests.models.made_up import released
from vitals.signs import VitalSign

WELL = dict(zip(INPUTS, (78.0, 97.0, 36.8, 15.0, 126.0, 74.0), strict=True))
ILL = dict(zip(INPUTS, (118.0, 92.0, 39.1, 28.0, 92.0, 50.0), strict=True))


@pytest.fixture(scope="module")
def model() -> SepsisModel:
    return SepsisModel(released("sepsis"))


def after(model: SepsisModel, *hours: dict[VitalSign, float]) -> SepsisPatient:
    patient = model.patient(age_years=70.0, is_male=False)
    for hour, values in enumerate(hours):
        model.step(patient, hour * HOUR_MS, values)
    return patient


def test_a_worsening_patient_scores_higher(model: SepsisModel) -> None:
    patient = after(model, *[WELL] * 12)

    well, ill = model.preview(patient, 12 * HOUR_MS, WELL), model.preview(patient, 12 * HOUR_MS, ILL)

    assert 0 < well < ill < 1
    assert ill > 3 * well


def test_a_preview_does_not_change_the_state(model: SepsisModel) -> None:
    patient = after(model, *[WELL] * 3)
    before = patient.snapshot()

    model.preview(patient, 3 * HOUR_MS, ILL)
    model.influences(patient, 3 * HOUR_MS, ILL)
    model.abstention(patient, 3 * HOUR_MS, ILL)

    assert patient.snapshot() == before


def test_a_restored_patient_continues_with_the_same_bits(model: SepsisModel) -> None:
    patient = after(model, *[WELL] * 20, ILL)
    again = model.restore(patient.snapshot())

    scores = [model.step(one, 21 * HOUR_MS, ILL) for one in (patient, again)]

    assert scores[0] == scores[1]
    assert patient.snapshot() == again.snapshot()


def test_another_model_rebuilds_the_state_from_the_stored_hours(model: SepsisModel) -> None:
    patient = after(model, *[WELL] * 10, ILL)
    patient.digest, patient.h = "another model", patient.h + 1

    again = model.restore(patient.snapshot())

    assert again.snapshot() == after(model, *[WELL] * 10, ILL).snapshot()


def test_the_state_does_not_grow_with_the_stay(model: SepsisModel) -> None:
    patient = after(model, *[WELL] * KEPT_STEPS)
    size = len(patient.snapshot())

    for hour in range(KEPT_STEPS, KEPT_STEPS + 48):
        model.step(patient, hour * HOUR_MS, WELL)

    assert len(patient.snapshot()) <= size + 400


def test_a_step_out_of_order_changes_nothing(model: SepsisModel) -> None:
    patient = after(model, WELL, WELL)
    before = patient.snapshot()

    with pytest.raises(StepOutOfOrder):
        model.step(patient, HOUR_MS, ILL)

    assert patient.snapshot() == before


def test_the_model_abstains_with_too_few_recent_signs(model: SepsisModel) -> None:
    hr, rr = VitalSign.HEART_RATE, VitalSign.RESPIRATORY_RATE
    patient = after(model, WELL)

    assert model.abstention(patient, 3 * HOUR_MS, {}) is None
    assert model.abstention(patient, 4 * HOUR_MS, {hr: 80.0, rr: 16.0}) == "only 2 of 6 signs within 3 h"


def test_the_model_abstains_outside_the_range_of_its_training_data(model: SepsisModel) -> None:
    strange = {**WELL, VitalSign.HEART_RATE: 290.0, VitalSign.TEMPERATURE: 29.0}

    assert model.abstention(after(model, WELL), HOUR_MS, strange) == "HR, T outside the range of the training data"


def test_the_reason_names_three_signs_and_the_score_without_the_first(model: SepsisModel) -> None:
    patient = after(model, *[WELL] * 12)
    found = model.influences(patient, 12 * HOUR_MS, ILL)

    text = why(found, ILL)

    assert [abs(one.moved) for one in found] == sorted((abs(one.moved) for one in found), reverse=True)
    assert text.count("(") == 3
    assert text.endswith(f"; {found[0].without:.1%} without {text.split()[0]}")


def test_the_first_sign_of_a_reason_has_the_greatest_influence(model: SepsisModel) -> None:
    patient = after(model, *[WELL] * 12)
    full = model.preview(patient, 12 * HOUR_MS, ILL)
    first, *others = model.influences(patient, 12 * HOUR_MS, ILL)

    assert all(abs(full - first.without) >= abs(full - one.without) for one in others[1:])


def test_a_model_with_other_features_is_refused() -> None:
    import msgspec

    artifact = released("sepsis")
    other = Artifact(msgspec.structs.replace(artifact.passport, inputs=("hour",)), artifact.files)

    with pytest.raises(ModelUnavailable) as caught:
        SepsisModel(other)

    assert caught.value.reason == "schema"
