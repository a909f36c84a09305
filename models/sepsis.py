"""Sepsis early warning for one patient after the other: a step for each hour, a score, and why.

A patient's memory is small and says which model made it. When another model comes, the memory is made anew from the
hours that are kept.
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
from models.sepsis_features import HOUR_MS, INPUTS, NAMES, SepsisFeatures
from vitals.signs import SPEC, VitalSign

Floats: TypeAlias = npt.NDArray[np.float32]
Values: TypeAlias = Mapping[VitalSign, float]

NAME: Final = "sepsis"
KEPT_STEPS: Final = 72
"""Hours that are kept, to make the memory anew and to say what the score would be without a sign."""
FRESH_MS: Final = 3 * HOUR_MS
LEAST_FRESH: Final = 3
"""Of six signs; with fewer of the last three hours the model abstains."""
MOST_STRANGE: Final = 2
"""Signs beyond what training has seen, of which the model says nothing any more."""
TOLD: Final = 3


class Influence(NamedTuple):
    """What a sign does to a score."""

    sign: VitalSign
    moved: float  # logits: positive raises the score
    without: float  # the score without this sign, ever since it is remembered


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
    """What is remembered of one patient. Made by `SepsisModel`."""

    def __init__(self, *, hidden: int, age_years: float | None, is_male: bool | None) -> None:
        self.digest = ""
        self.h = np.zeros((1, 1, hidden), np.float32)
        self.c = np.zeros((1, 1, hidden), np.float32)
        self.age_years, self.is_male = age_years, is_male
        self.features = SepsisFeatures(age_years=age_years, is_male=is_male)
        self.kept: list[_KeptStep] = []

    def snapshot(self) -> bytes:
        """Everything that the next step depends on."""
        return _ENCODER.encode(
            _SavedPatient(
                self.digest, self.h.ravel().tolist(), self.c.ravel().tolist(), self.features.snapshot(), self.kept,
                self.age_years, self.is_male,
            )
        )  # fmt: skip


_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(_SavedPatient)


class SepsisModel:
    """The released model.

    Raises:
        ModelUnavailable: it cannot run here, or it was made for other features.
    """

    def __init__(self, artifact: Artifact, *, prefer: str = "onnxruntime") -> None:
        if artifact.passport.inputs != NAMES:
            raise ModelUnavailable("schema", f"{artifact.title} was made for other features than this version computes")
        self.artifact = artifact
        self.threshold = artifact.passport.threshold
        self._engine: InferenceEngine = engine_of(artifact, prefer=prefer)
        self._hidden = len(artifact.passport.golden.inputs["h"][0])
        self._bounds = {VitalSign(name): bounds for name, bounds in artifact.passport.bounds.items()}

    def patient(self, *, age_years: float | None = None, is_male: bool | None = None) -> SepsisPatient:
        """Somebody new."""
        age = None if age_years is None else float(age_years)
        made = SepsisPatient(hidden=self._hidden, age_years=age, is_male=is_male)
        made.digest = self.artifact.digest
        return made

    def restore(self, snapshot: bytes) -> SepsisPatient:
        """Somebody known. What another model remembered is made anew from the hours that were kept.

        Raises:
            msgspec.DecodeError: it is no snapshot.
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
        """An hour is over: take it into the memory and score it. One call, one step of the network.

        Raises:
            StepOutOfOrder: not later than the one before.
            ModelUnavailable: the network gave no probability. The memory is as before.
        """
        features = patient.features.copy()
        row = np.asarray(features.step(at_ms, values), np.float32)[None, None]
        y, h, c = self._engine({"x": row, "h": patient.h, "c": patient.c})
        score = probability(float(y[0, 0]))
        patient.h, patient.c, patient.features = h, c, features
        patient.kept.append(_KeptStep(at_ms, [_number(values.get(sign)) for sign in INPUTS]))
        del patient.kept[:-KEPT_STEPS]
        return score

    def glance(self, patient: SepsisPatient, at_ms: int, values: Values) -> float:
        """What `step` would say, and remember nothing.

        Raises:
            As `step`.
        """
        row = np.asarray(patient.features.copy().step(at_ms, values), np.float32)[None, None]
        return probability(float(self._engine({"x": row, "h": patient.h, "c": patient.c})[0][0, 0]))

    def doubt(self, patient: SepsisPatient, at_ms: int, values: Values) -> str | None:
        """Why the model should rather say nothing of this moment; None: it may speak."""
        last = dict.fromkeys(INPUTS, -math.inf)
        for kept in patient.kept:
            for sign, value in zip(INPUTS, kept.values, strict=True):
                if value is not None:
                    last[sign] = kept.at_ms
        last |= dict.fromkeys(values, at_ms)
        fresh = sum(at_ms - last[sign] <= FRESH_MS for sign in INPUTS)
        if fresh < LEAST_FRESH:
            return f"only {fresh} of {len(INPUTS)} signs within {FRESH_MS // HOUR_MS} h"
        strange = [
            SPEC[sign].abbreviation
            for sign, value in values.items()
            if sign in self._bounds and not self._bounds[sign][0] <= value <= self._bounds[sign][1]
        ]
        if len(strange) >= MOST_STRANGE:
            return f"{', '.join(strange)} unlike anything that it has learned from"
        return None

    def influences(self, patient: SepsisPatient, at_ms: int, values: Values) -> list[Influence]:
        """What each sign does to the score of `glance`, the strongest first.

        Exact: the kept hours are gone through once more for each sign, without it. A sign that was never measured in
        them has no influence. All signs go through the network as one batch.
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
    """The three strongest, signed, and what the score would be without the first.

    `RR 28 (+1.2), Temp 38.9 (+0.7), SpO2 97 (-0.3); 1.2% without RR`
    """
    if not influences:
        return ""
    told = ", ".join(_told(one, values) for one in influences[:TOLD])
    first = influences[0]
    return f"{told}; {first.without:.1%} without {SPEC[first.sign].abbreviation}"


def _told(one: Influence, values: Values) -> str:
    spec = SPEC[one.sign]
    value = f" {values[one.sign]:.{spec.decimals}f}" if one.sign in values else ""
    return f"{spec.abbreviation}{value} ({one.moved:+.1f})"


def _known(kept: _KeptStep) -> dict[VitalSign, float]:
    return {sign: value for sign, value in zip(INPUTS, kept.values, strict=True) if value is not None}


def _number(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else float(value)
