"""Heart risk of one patient: from the attributes of a clinic, or from the five that are known at home; and why."""

import math
from collections.abc import Mapping
from typing import Final, NamedTuple

import numpy as np

from models.artifacts import Artifact
from models.errors import ModelUnavailable
from models.heart_features import Form, attributes_of, features, names_of
from models.runtime import InferenceEngine, engine_of, logit, probability

NAMES: Final = {Form.CLINIC: "heart", Form.HOME: "heart-home"}
NEEDED: Final = ("age", "sex", "cp")
"""Without these three the model abstains: what is left says next to nothing."""


class HeartVerdict(NamedTuple):
    """What the model says of a patient."""

    score: float | None  # None: it abstains
    reason: str


class HeartModel:
    """A released model of one form.

    Raises:
        ModelUnavailable: it cannot run here, or it was made for other features.
    """

    def __init__(self, artifact: Artifact, *, prefer: str = "onnxruntime") -> None:
        forms = {name: form for form, name in NAMES.items()}
        form = forms.get(artifact.passport.name)
        if form is None or artifact.passport.inputs != names_of(form):
            raise ModelUnavailable("schema", f"{artifact.title} was made for other features than this version computes")
        self.artifact = artifact
        self.form = form
        self.threshold = artifact.passport.threshold
        self._engine: InferenceEngine = engine_of(artifact, prefer=prefer)

    def score(self, patient: Mapping[str, float | None]) -> float:
        """Probability of a narrowed vessel.

        Args:
            patient: by attribute; what is not known is not there, or None.

        Raises:
            NoSuchAttribute: a name that is none of the 13.
            ModelUnavailable: the network gave no probability.
        """
        return self.scores([patient])[0]

    def scores(self, patients: list[Mapping[str, float | None]]) -> list[float]:
        """As `score`, of many; one after the other, so that nobody's last bits depend on who else is there."""
        rows = np.asarray([features(self.form, patient) for patient in patients], np.float32)
        return [probability(float(self._engine({"x": row[None]})[0][0])) for row in rows]

    def judge(self, patient: Mapping[str, float | None]) -> HeartVerdict:
        """A score and the three attributes that moved it most, or why there is none."""
        known = {name for name, value in patient.items() if value is not None and not math.isnan(value)}
        missing = [name for name in NEEDED if name not in known]
        if missing:
            return HeartVerdict(None, f"{', '.join(missing)} not known")
        score = self.score(patient)
        return HeartVerdict(score, self._why(patient))

    def influences(self, patient: Mapping[str, float | None]) -> list[tuple[str, float, float]]:
        """(attribute, logits it adds, score without it), the strongest first. Exact: each is left out once."""
        names = [one.name for one in attributes_of(self.form) if patient.get(one.name) is not None]
        full, *without = self.scores([patient, *({**patient, name: None} for name in names)])
        found = [(name, logit(full) - logit(score), score) for name, score in zip(names, without, strict=True)]
        return sorted(found, key=lambda one: -abs(one[1]))

    def _why(self, patient: Mapping[str, float | None]) -> str:
        found = self.influences(patient)
        told = ", ".join(f"{_told(name, patient[name])} ({moved:+.1f})" for name, moved, _ in found[:3])
        return f"{told}; {found[0][2]:.1%} without {LABELS.get(found[0][0], found[0][0])}" if found else told


def _told(name: str, value: float | None) -> str:
    if value is None:
        return name
    return _CODES.get((name, int(value))) or f"{LABELS.get(name, name)} {value:g}"


LABELS: Final = {"age": "age", "cp": "chest pain", "trestbps": "SBP"}
_CODES: Final = {
    ("sex", 0): "woman",
    ("sex", 1): "man",
    ("cp", 1): "typical angina",
    ("cp", 2): "atypical angina",
    ("cp", 3): "chest pain not of the heart",
    ("cp", 4): "no chest pain",
}
