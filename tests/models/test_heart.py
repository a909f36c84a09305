"""The heart models: scores, reasons, and abstaining where too little is known."""

import re

import pytest

from models.artifacts import Artifact
from models.errors import ModelUnavailable, NoSuchAttribute
from models.heart import LABELS, HeartModel
from tests.models.made_up import released

WELL = {"age": 42.0, "sex": 0.0, "cp": 3.0, "trestbps": 118.0, "restecg": 0.0}
ILL = {"age": 66.0, "sex": 1.0, "cp": 4.0, "trestbps": 160.0, "restecg": 2.0}


@pytest.fixture(scope="module", params=["heart", "heart-home"])
def model(request: pytest.FixtureRequest) -> HeartModel:
    return HeartModel(released(request.param))


def test_an_older_patient_with_asymptomatic_disease_scores_higher(model: HeartModel) -> None:
    assert model.score(WELL) < 0.4 < 0.6 < model.score(ILL)


@pytest.mark.parametrize("missing", ["age", "sex", "cp"])
def test_the_model_abstains_without_age_sex_or_chest_pain(model: HeartModel, missing: str) -> None:
    said = model.judge({name: value for name, value in ILL.items() if name != missing})

    assert said.score is None
    assert said.reason == f"{missing} not known"


def test_the_reason_names_three_attributes_and_the_score_without_the_first(model: HeartModel) -> None:
    said = model.judge(ILL)
    first = model.influences(ILL)[0]

    assert said.score == model.score(ILL)
    assert said.reason.count("(") == 3
    assert said.reason.endswith(f"; {first[2]:.1%} without {LABELS.get(first[0], first[0])}")


def test_a_reason_uses_words_instead_of_codes(model: HeartModel) -> None:
    said = model.judge({"age": 40, "sex": 0, "cp": 1, "trestbps": 120}).reason

    assert not re.search(r"\b(sex|cp|trestbps) \d", said)
    assert "typical angina" in said


def test_the_hospital_is_not_an_attribute(model: HeartModel) -> None:
    with pytest.raises(NoSuchAttribute):
        model.score({**ILL, "site": 1.0})


def test_patients_score_the_same_together_and_alone(model: HeartModel) -> None:
    assert model.scores([WELL, ILL] * 50) == [model.score(WELL), model.score(ILL)] * 50


def test_a_model_of_another_kind_is_refused() -> None:
    artifact = released("sepsis")

    with pytest.raises(ModelUnavailable) as caught:
        HeartModel(Artifact(artifact.passport, artifact.files))

    assert caught.value.reason == "schema"
