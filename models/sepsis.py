"""The sepsis model: early warning from six vital signs, one step an hour, with the reason for each score.

The stored state of a patient names the model that produced it. After a change of the model the state is rebuilt from
the last 72 hours, which are stored with it.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from models.artifacts import Artifact
from models.errors import ModelUnavailable
from models.runtime import InferenceEngine, engine_of, logit, probability
from models.sepsis_features import HOUR_MS, INPUTS, NAMES, SepsisFeatures, learnable
from models.suitability import too_young
from vitals.signs import SPEC, VitalSign

Floats: TypeAlias = npt.NDArray[np.float32]
Values: TypeAlias = Mapping[VitalSign, float]

NAME: Final = "sepsis"
KEPT_STEPS: Final = 72
"""Hours that are stored: to rebuild the state for another model, and to compute the score without one sign."""
FRESH_MS: Final = 3 * HOUR_MS
MIN_FRESH_SIGNS: Final = 3
"""The model abstains if fewer of the six signs were measured within the last three hours."""
UNFAMILIAR_LIMIT: Final = 2
"""The model abstains if so many signs lie outside the range of the training data."""
REASON_SIGNS: Final = 3


class Influence(NamedTuple):
    """The influence of one sign on a score."""

    sign: VitalSign
    moved: float  # logits: positive raises the score
    without: float  # the score if this sign had not been measured in any of the stored hours


class _KeptStep(msgspec.Struct, array_like=True):
    at_ms: int
    values: list[float | None]  # as `INPUTS`


class _SavedPatient(msgspec.Struct, array_like=True):
    digest: str
    h: list[float]
    c: list[float]
    features: bytes
    kept: list[_KeptStep]
    age_years: float | None
    is_male: bool | None


class SepsisPatient:
    """The state of one patient between steps; made by `SepsisModel`."""

    def __init__(self, *, hidden: int, age_years: float | None, is_male: bool | None) -> None:
        self.digest = ""
        self.h = np.zeros((1, 1, hidden), np.float32)
        self.c = np.zeros((1, 1, hidden), np.float32)
        self.age_years, self.is_male = age_years, is_male
        self.features = SepsisFeatures(age_years=age_years, is_male=is_male)
        self.kept: list[_KeptStep] = []

    def snapshot(self) -> bytes:
        """The state as bytes, for `SepsisModel.restore`."""
        return _ENCODER.encode(
            _SavedPatient(
                self.digest,
                self.h.ravel().tolist(),
                self.c.ravel().tolist(),
                self.features.snapshot(),
                self.kept,
                self.age_years,
                self.is_male,
            )
        )


_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(_SavedPatient)


class SepsisModel:
    """The released sepsis model.

    Raises:
        ModelUnavailable: it cannot run on this machine, or it expects other features.
    """

    def __init__(self, artifact: Artifact, *, prefer: str = "onnxruntime") -> None:
        if artifact.passport.inputs != NAMES:
            raise ModelUnavailable(
                "schema",
                f"{artifact.title} expects other features than this version computes; install matching versions",
            )
        self.artifact = artifact
        self.threshold = artifact.passport.threshold
        self._engine: InferenceEngine = engine_of(artifact, prefer=prefer)
        self._hidden = len(artifact.passport.golden.inputs["h"][0])
        self._bounds = {VitalSign(name): bounds for name, bounds in artifact.passport.bounds.items()}

    def patient(self, *, age_years: float | None = None, is_male: bool | None = None) -> SepsisPatient:
        """The state of a new patient; age and sex are None if unknown."""
        age = None if age_years is None else float(age_years)
        made = SepsisPatient(hidden=self._hidden, age_years=age, is_male=is_male)
        made.digest = self.artifact.digest
        return made

    def restore(self, snapshot: bytes) -> SepsisPatient:
        """The state of a known patient; one that another model produced is rebuilt from its stored hours.

        Raises:
            msgspec.DecodeError: the bytes are not a snapshot.
        """
        memory = _DECODER.decode(snapshot)
        patient = self.patient(age_years=memory.age_years, is_male=memory.is_male)
        if memory.digest == self.artifact.digest and len(memory.h) == self._hidden:
            patient.h = np.asarray(memory.h, np.float32).reshape(1, 1, -1)
            patient.c = np.asarray(memory.c, np.float32).reshape(1, 1, -1)
            patient.features, patient.kept = SepsisFeatures.restore(memory.features), memory.kept
            return patient
        for kept in memory.kept:
            self.step(patient, kept.at_ms, _known(kept))
        return patient

    def step(self, patient: SepsisPatient, at_ms: int, values: Values) -> float:
        """Add a finished hour to the state and return its score, the probability of sepsis within 6 h.

        Raises:
            StepOutOfOrder: not later than the previous step.
            ModelUnavailable: the output of the network is not a probability. The state is unchanged.
        """
        features = patient.features.copy()
        row = np.asarray(features.step(at_ms, values), np.float32)[None, None]
        y, h, c = self._engine({"x": row, "h": patient.h, "c": patient.c})
        score = probability(float(y[0, 0]))
        patient.h, patient.c, patient.features = h, c, features
        patient.kept.append(_KeptStep(at_ms, [_number(values.get(sign)) for sign in INPUTS]))
        del patient.kept[:-KEPT_STEPS]
        return score

    def preview(self, patient: SepsisPatient, at_ms: int, values: Values) -> float:
        """The score that `step` would return, without changing the state.

        Raises:
            StepOutOfOrder, ModelUnavailable: as `step`.
        """
        row = np.asarray(patient.features.copy().step(at_ms, values), np.float32)[None, None]
        return probability(float(self._engine({"x": row, "h": patient.h, "c": patient.c})[0][0, 0]))

    def abstention(self, patient: SepsisPatient, at_ms: int, values: Values) -> str | None:
        """The reason for which the model abstains at this moment; None: it does not abstain.

        A value that the model cannot use is not a measurement here either: it is not fresh, and may be unfamiliar.
        """
        if (reason := too_young(patient.age_years)) is not None:
            return reason
        last = dict.fromkeys(INPUTS, -math.inf)
        for kept in patient.kept:
            for sign, value in zip(INPUTS, kept.values, strict=True):
                if not math.isnan(learnable(sign, value)):
                    last[sign] = kept.at_ms
        last |= {
            sign: at_ms for sign, value in values.items() if sign in last and not math.isnan(learnable(sign, value))
        }
        fresh = sum(at_ms - last[sign] <= FRESH_MS for sign in INPUTS)
        if fresh < MIN_FRESH_SIGNS:
            return f"only {fresh} of {len(INPUTS)} signs within {FRESH_MS // HOUR_MS} h"
        unfamiliar = [
            SPEC[sign].abbreviation
            for sign, value in values.items()
            if sign in self._bounds and not self._bounds[sign][0] <= value <= self._bounds[sign][1]
        ]
        if len(unfamiliar) >= UNFAMILIAR_LIMIT:
            return f"{', '.join(unfamiliar)} outside the range of the training data"
        return None

    def influences(self, patient: SepsisPatient, at_ms: int, values: Values) -> list[Influence]:
        """The influence of each sign on the score of `preview`, strongest first.

        Exact: the stored hours are scored again without each sign, all signs as one batch. A sign that was never
        measured in these hours has no influence and is left out.
        """
        steps = [*((kept.at_ms, _known(kept)) for kept in patient.kept), (at_ms, dict(values))]
        signs = [sign for sign in INPUTS if any(sign in known for _, known in steps)]
        rows = [self._replay(patient, steps, without) for without in (None, *signs)]
        zero = np.zeros((1, len(rows), self._hidden), np.float32)
        scores = self._engine({"x": np.asarray(rows, np.float32), "h": zero, "c": zero})[0][:, -1]
        full = logit(float(scores[0]))
        found = [
            Influence(sign, full - logit(float(score)), float(score))
            for sign, score in zip(signs, scores[1:], strict=True)
        ]
        return sorted(found, key=lambda one: -abs(one.moved))

    def _replay(
        self, patient: SepsisPatient, steps: Sequence[tuple[int, Values]], without: VitalSign | None
    ) -> list[list[float]]:
        features = SepsisFeatures(age_years=patient.age_years, is_male=patient.is_male)
        return [
            features.step(at_ms, {sign: value for sign, value in known.items() if sign is not without})
            for at_ms, known in steps
        ]


def why(influences: Sequence[Influence], values: Values) -> str:
    """The reason as text: the three strongest signs with their influence, and the score without the first.

    >>> strongest = Influence(VitalSign.RESPIRATORY_RATE, moved=1.24, without=0.012)
    >>> why([strongest, Influence(VitalSign.SPO2, -0.31, 0.05)], {VitalSign.RESPIRATORY_RATE: 28, VitalSign.SPO2: 97})
    'RR 28 (+1.2), SpO2 97 (-0.3); 1.2% without RR'
    """
    if not influences:
        return ""
    listed = ", ".join(_describe(one, values) for one in influences[:REASON_SIGNS])
    first = influences[0]
    return f"{listed}; {first.without:.1%} without {SPEC[first.sign].abbreviation}"


def _describe(one: Influence, values: Values) -> str:
    spec = SPEC[one.sign]
    value = f" {values[one.sign]:.{spec.decimals}f}" if one.sign in values else ""
    return f"{spec.abbreviation}{value} ({one.moved:+.1f})"


def _known(kept: _KeptStep) -> dict[VitalSign, float]:
    return {sign: value for sign, value in zip(INPUTS, kept.values, strict=True) if value is not None}


def _number(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else float(value)
