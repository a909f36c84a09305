"""Features of the heart models: missing values are flagged, never imputed, and the hospital is not a feature."""

import csv
import math
import os
from pathlib import Path

import pytest

from models.errors import NoSuchAttribute
from models.heart_features import ATTRIBUTES, Form, attributes_of, features, names_of

DATA = Path(os.environ.get("VITALLOOM_DATA", Path(__file__).parents[2] / "../shared/data"))
ANN = {
    "age": 63.0,
    "sex": 1.0,
    "cp": 1.0,
    "trestbps": 145.0,
    "chol": 233.0,
    "fbs": 1.0,
    "restecg": 2.0,
    "thalach": 150.0,
    "exang": 0.0,
    "oldpeak": 2.3,
    "slope": 3.0,
    "ca": 0.0,
    "thal": 6.0,
}


def named(form: Form, patient: dict[str, float | None]) -> dict[str, float]:
    return dict(zip(names_of(form), features(form, patient), strict=True))


def test_numbers_stay_numbers_and_codes_become_flags() -> None:
    shown = named(Form.CLINIC, dict(ANN))

    assert (shown["age"], shown["trestbps"], shown["oldpeak"]) == (63, 145, 2.3)
    assert [shown[f"cp={code}"] for code in (1, 2, 3, 4)] == [1, 0, 0, 0]
    assert [shown[f"thal={code}"] for code in (3, 6, 7)] == [0, 1, 0]
    assert not any(shown[name] for name in shown if name.endswith(" missing"))


def test_the_home_form_uses_five_attributes_and_ignores_the_others() -> None:
    assert [one.name for one in attributes_of(Form.HOME)] == ["age", "sex", "cp", "trestbps", "restecg"]
    known = {one.name: ANN[one.name] for one in attributes_of(Form.HOME)}

    assert features(Form.HOME, dict(ANN)) == features(Form.HOME, dict(known))


@pytest.mark.parametrize("name", [one.name for one in ATTRIBUTES])
@pytest.mark.parametrize("value", [None, math.nan, math.inf, -99.0])
def test_a_missing_value_is_flagged_and_not_imputed(name: str, value: float | None) -> None:
    shown = named(Form.CLINIC, {**ANN, name: value})

    assert shown[f"{name} missing"] == 1
    assert sum(shown[one] for one in shown if one.startswith(f"{name}=") or one == name) == 0
    without = {other: known for other, known in ANN.items() if other != name}
    assert shown == named(Form.CLINIC, dict(without))


@pytest.mark.parametrize("name", ["trestbps", "chol", "thalach", "age"])
def test_zero_means_not_measured_where_it_is_implausible(name: str) -> None:
    assert named(Form.CLINIC, {**ANN, name: 0.0})[f"{name} missing"] == 1


@pytest.mark.parametrize("name", ["fbs", "exang", "restecg", "ca", "oldpeak", "sex"])
def test_zero_is_a_value_where_it_is_plausible(name: str) -> None:
    assert named(Form.CLINIC, {**ANN, name: 0.0})[f"{name} missing"] == 0


@pytest.mark.parametrize("name", ["site", "num", "target", "row_id", "Age"])
def test_a_hospital_or_an_outcome_is_refused(name: str) -> None:
    with pytest.raises(NoSuchAttribute, match=f"'{name}' is not an attribute; the attributes are age, sex"):
        features(Form.CLINIC, {**ANN, name: 1.0})


def test_an_unknown_patient_has_only_missing_flags() -> None:
    for form in Form:
        shown = named(form, {})
        assert sum(shown.values()) == len(attributes_of(form))


def test_every_row_of_the_published_data_set_has_features() -> None:
    path = DATA / "heart_uci" / "heart_dev.csv"
    if not path.exists():
        pytest.skip("no heart_uci; set VITALLOOM_DATA to the folder that holds it")
    with path.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    patients = [{one.name: float(row[one.name]) if row[one.name] else None for one in ATTRIBUTES} for row in rows]

    shown = [named(Form.CLINIC, patient) for patient in patients]

    # All cholesterol values from Switzerland are 0, which means "not measured".
    swiss = [one for one, row in zip(shown, rows, strict=True) if row["site"].lower().startswith("switz")]
    assert len(swiss) == 105
    assert all(one["chol missing"] == 1 for one in swiss)
    assert all(math.isfinite(value) for one in shown for value in one.values())
    assert sum(one["age missing"] for one in shown) == 0
