"""The heart models: risk of a narrowed coronary artery from clinic or home attributes, with the reason."""

from collections.abc import Mapping
from typing import Final, NamedTuple

import numpy as np

from models.artifacts import Artifact
from models.errors import ModelUnavailable
from models.heart_features import Form, attributes_of, features, is_known, names_of
from models.runtime import InferenceEngine, engine_of, logit, probability
from models.suitability import too_young

NAMES: Final = {Form.CLINIC: "heart", Form.HOME: "heart-home"}
REQUIRED: Final = ("age", "sex", "cp")
"""Without these three attributes the model abstains, because the others carry little information."""


class HeartVerdict(NamedTuple):
    """The result of a heart model for one patient."""

    score: float | None  # probability; None: the model abstains
    reason: str


class HeartModel:
    """A released heart model, for clinic or home attributes.

    Raises:
        ModelUnavailable: it cannot run on this machine, or it expects other features.
    """

    def __init__(self, artifact: Artifact, *, prefer: str = "onnxruntime") -> None:
        forms = {name: form for form, name in NAMES.items()}
        form = forms.get(artifact.passport.name)
        if form is None or artifact.passport.inputs != names_of(form):
            raise ModelUnavailable(
                "schema",
                f"{artifact.title} expects other features than this version computes; install matching versions",
            )
        self.artifact = artifact
        self.form = form
        self.threshold = artifact.passport.threshold
        self._engine: InferenceEngine = engine_of(artifact, prefer=prefer)

    def score(self, patient: Mapping[str, float | None]) -> float:
        """Probability of a coronary artery narrowed by more than half.

        Args:
            patient: values by attribute; an unknown value is absent or None.

        Raises:
            NoSuchAttribute: a name that is not one of the 13 attributes.
            ModelUnavailable: the output of the network is not a probability.
        """
        return self.scores([patient])[0]

    def scores(self, patients: list[Mapping[str, float | None]]) -> list[float]:
        """`score` of many patients; one call each, so that no result depends on the other patients of a batch."""
        rows = np.asarray([features(self.form, patient) for patient in patients], np.float32)
        return [probability(float(self._engine({"x": row[None]})[0][0])) for row in rows]

    def abstention(self, patient: Mapping[str, float | None]) -> str | None:
        """The reason for which the model abstains; None: it does not abstain. An impossible value is not known."""
        required = (one for one in attributes_of(self.form) if one.name in REQUIRED)
        missing = [one.name for one in required if not is_known(one, patient.get(one.name))]
        if missing:
            return f"{', '.join(missing)} not known"
        return too_young(patient["age"])

    def judge(self, patient: Mapping[str, float | None]) -> HeartVerdict:
        """A score with the three attributes of greatest influence, or the reason for abstaining."""
        abstention = self.abstention(patient)
        if abstention is not None:
            return HeartVerdict(None, abstention)
        score = self.score(patient)
        return HeartVerdict(score, self._why(patient))

    def influences(self, patient: Mapping[str, float | None]) -> list[tuple[str, float, float]]:
        """(attribute, logits it adds, score without it), strongest first.

        Exact: the score is computed once without each attribute.
        """
        names = [one.name for one in attributes_of(self.form) if patient.get(one.name) is not None]
        full, *without = self.scores([patient, *({**patient, name: None} for name in names)])
        found = [(name, logit(full) - logit(score), score) for name, score in zip(names, without, strict=True)]
        return sorted(found, key=lambda one: -abs(one[1]))

    def _why(self, patient: Mapping[str, float | None]) -> str:
        found = self.influences(patient)
        listed = ", ".join(f"{_describe(name, patient[name])} ({moved:+.1f})" for name, moved, _ in found[:3])
        return f"{listed}; {found[0][2]:.1%} without {LABELS.get(found[0][0], found[0][0])}" if found else listed


def _describe(name: str, value: float | None) -> str:
    if value is None:
        return name
    return _CODES.get((name, int(value))) or f"{LABELS.get(name, name)} {value:g}"


LABELS: Final = {"age": "age", "cp": "chest pain", "trestbps": "SBP"}
_CODES: Final = {
    ("sex", 0): "woman",
    ("sex", 1): "man",
    ("cp", 1): "typical angina",
    ("cp", 2): "atypical angina",
    ("cp", 3): "non-anginal chest pain",
    ("cp", 4): "no chest pain",
}
