"""The newest values of a patient: what is missing, and NEWS2 of the values that are left."""

from tests.vitals.stories import HOUR, MINUTE, START, WELL, a_plan
from vitals.latest import ALL_SIGNS, LatestValues, SignValue
from vitals.signs import VitalSign, mask_of

SPO2, PULSE, DIASTOLIC = VitalSign.SPO2, VitalSign.HEART_RATE, VitalSign.DIASTOLIC_BP


def values_of(**changes: float) -> LatestValues:
    latest = LatestValues(a_plan())
    for sign, value in {**WELL, **changes}.items():
        latest.by_sign[VitalSign(sign)] = SignValue(value, START)
    return latest


def test_a_sign_is_missing_until_it_was_measured_and_when_its_value_is_too_old() -> None:
    latest = values_of()

    assert LatestValues(a_plan()).missing(START) == ALL_SIGNS
    assert latest.missing(START + MINUTE) == mask_of(DIASTOLIC)  # measured by a cuff only
    assert latest.missing(START + MINUTE + 1) & mask_of(SPO2, PULSE) == mask_of(SPO2, PULSE)


def test_a_score_has_only_the_values_that_are_still_valid() -> None:
    latest = values_of(heart_rate=135, systolic_bp=95)  # 3 points, 2 points

    assert latest.news2(START).total == 5
    score = latest.news2(START + HOUR)  # the cuff's value is valid for three hours, the others were lost

    assert (score.total, score.at_least) == (None, 2)


def test_a_patient_whose_data_stopped_is_not_presumed_to_be_better() -> None:
    latest = values_of(heart_rate=135, systolic_bp=95)
    score = latest.news2(START + HOUR)

    assert latest.news2_of_any_age(score).at_least == 5


def test_values_survive_a_restart_in_their_order() -> None:
    before, after = values_of(heart_rate=95), LatestValues(a_plan())

    after.load_state(before.to_state())

    assert list(after.by_sign.items()) == list(before.by_sign.items())
