"""Model scores of the patients of one edge: computed every few minutes, with a memory that grows hour by hour.

A model adds and never takes away: whatever fails here, the rules have judged before and continue. A model that cannot
score reports the reason instead.
"""

import time
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple, TypeVar

import msgspec

from models.artifacts import Artifact, LoadedModels
from models.errors import ModelsError, ModelUnavailable
from models.heart import HeartModel
from models.sepsis import SepsisModel, SepsisPatient, why
from models.sepsis_features import HOUR_MS, INPUTS
from vitals.messages import ModelScore, Reading
from vitals.patient_group import group_of
from vitals.risk import duration
from vitals.signs import INDEX, VitalSign
from wire.identity import About

ASK_MS: Final = 300_000
"""So often a patient's models are asked, at most. They look hours ahead; the rules look at every reading."""
EXPLAIN_MS: Final = HOUR_MS
"""So often it is worked out what moves a score; and at once when it begins to speak."""
BUDGET_S: Final = 0.2
"""Processor time that a score, or its explanation, may cost."""
ASKED: Final = {"sepsis": "sepsis", "heart-home": "heart"}
"""The released models that this edge asks, and what their scores are called."""

_UNKNOWN_THRESHOLD: Final = 1.0
Model = TypeVar("Model", SepsisModel, HeartModel)


class _ScoringMemory(msgspec.Struct, array_like=True):
    """The hours that are over. What was measured since is known to the monitor, see `Scoring.resume`."""

    hour_ends_ms: int
    sepsis: bytes


class _ScoredPatient:
    def __init__(self, hour_ends_ms: int) -> None:
        self.hour_ends_ms = hour_ends_ms
        self.now: dict[VitalSign, tuple[int, float]] = {}  # the newest value of each sign in this hour, and when
        self.systolic: float | None = None
        self.systolic_ms = 0
        self.sepsis: SepsisPatient | None = None
        self.trouble = ""  # why the last hour could not be taken into the memory
        self.asked_ms: int | None = None
        self.speaking: set[str] = set()  # models whose last score was at their threshold or above
        self.reasons: dict[str, tuple[int, str]] = {}  # by model: when it was last worked out why, and what came of it

    def shift(self, by_ms: int) -> None:
        self.hour_ends_ms += by_ms
        self.systolic_ms += by_ms
        self.now = {sign: (at_ms + by_ms, value) for sign, (at_ms, value) in self.now.items()}
        self.reasons = {model: (at_ms + by_ms, reason) for model, (at_ms, reason) in self.reasons.items()}
        if self.asked_ms is not None:
            self.asked_ms += by_ms

    def values(self) -> dict[VitalSign, float]:
        return {sign: value for sign, (_, value) in self.now.items()}


class _ModelAnswer(NamedTuple):
    """A score, and how to find out why."""

    score: float
    explain: Callable[[], str]


class Scoring:
    """The models of one edge, and their memories of its patients.

    Args:
        found: the models in the folder, trusted or refused.
        about_of: age, sex and other facts about the patient of a stay.
        states: (stay, memory) as they were committed.
        timer: processor time of this thread, in seconds: what a model costs, however busy the machine is.
    """

    def __init__(
        self,
        found: LoadedModels,
        about_of: Callable[[str], About],
        states: Mapping[str, bytes] | None = None,
        *,
        timer: Callable[[], float] = time.thread_time,
    ) -> None:
        self.refused: dict[str, ModelUnavailable] = {
            name: error for name, error in found.refused.items() if name in ASKED
        }
        self.forgotten = 0  # memories that could not be read
        self._about_of = about_of
        self._timer = timer
        self._loaded: dict[str, Artifact] = {}
        self._sepsis = self._load("sepsis", found, SepsisModel)
        self._heart = self._load("heart-home", found, HeartModel)
        self._too_slow: set[str] = set()  # whose explanations this machine is too slow for
        self._patients: dict[str, _ScoredPatient] = {}
        self._changed: dict[str, None] = {}
        for stay_id, state in (states or {}).items():
            self._remember(stay_id, state)

    def shift(self, by_ms: int, stay_id: str | None = None) -> None:
        """A clock was set by so much: move every time with it, of one patient or of all."""
        for patient, memory in self._patients.items():
            if stay_id in (None, patient):
                memory.shift(by_ms)

    @property
    def title(self) -> str:
        """Models in use, for heartbeats and screens: `rules + sepsis 1.0.0`, or `rules only (sepsis refused: hash)`."""
        refused = "; ".join(f"{name} refused: {error.reason}" for name, error in self.refused.items())
        if not self._loaded:
            return f"rules only ({refused or 'no model artifacts'})"
        titles = ", ".join(artifact.title for artifact in self._loaded.values())
        return f"rules + {titles}" + (f" ({refused})" if refused else "")

    @property
    def versions(self) -> dict[str, str]:
        """Versions of the models in use, by name."""
        return {name: artifact.passport.version for name, artifact in self._loaded.items()}

    def resume(self, stay_id: str, latest: Mapping[VitalSign, tuple[float, int]], asked_ms: int | None) -> None:
        """After a restart: restore the current hour from the patient's monitor.

        Args:
            latest: newest value of each sign, and when it was measured.
            asked_ms: the last time that models were asked.
        """
        patient = self._patients.get(stay_id)
        if patient is None:
            return
        patient.asked_ms = asked_ms
        for sign in INPUTS:
            if sign in latest:
                value, at_ms = latest[sign]
                self._learn(patient, sign, value, at_ms)

    def score(self, reading: Reading, *, late: bool = False) -> list[ModelScore]:
        """Take account of one judged reading; scores of the models, if they are due.

        Args:
            late: it is older than an earlier reading. Then no model is asked, but a cuff pressure that was delayed by
                some seconds may still be the newest.
        """
        if not self._loaded and not self.refused:
            return []
        if not group_of(self._about_of(reading.stay_id)).has_adult_scores:
            return []  # every model was made from adults
        patient = self._patients.get(reading.stay_id)
        if patient is None:
            patient = self._patients[reading.stay_id] = self._new(reading)
        self._end_hours(patient, reading)
        for sign in INPUTS:
            value = getattr(reading, sign.value)
            if value is not None and not reading.unusable >> INDEX[sign] & 1:
                self._learn(patient, sign, value, reading.at_ms)
        if late or (patient.asked_ms is not None and reading.at_ms - patient.asked_ms < ASK_MS):
            return []
        patient.asked_ms = reading.at_ms
        return self._ask(patient, reading)

    def drain_states(self) -> dict[str, bytes]:
        """Memories of patients that are new, or whose hour ended, since the last call, by stay."""
        changed, self._changed = self._changed, {}
        states = {}
        for stay_id in changed:
            patient = self._patients[stay_id]
            if patient.sepsis is not None:
                states[stay_id] = _ENCODER.encode(_ScoringMemory(patient.hour_ends_ms, patient.sepsis.snapshot()))
        return states

    def forget(self, stay_id: str) -> None:
        """Nothing is remembered of this patient any more."""
        self._patients.pop(stay_id, None)
        self._changed.pop(stay_id, None)

    def _new(self, reading: Reading) -> _ScoredPatient:
        patient = _ScoredPatient(reading.at_ms + HOUR_MS)
        if self._sepsis is not None:
            about = self._about_of(reading.stay_id)
            patient.sepsis = self._sepsis.patient(age_years=about.age_years, is_male=about.is_male)
            self._changed[reading.stay_id] = None
        return patient

    def _learn(self, patient: _ScoredPatient, sign: VitalSign, value: float, at_ms: int) -> None:
        if sign is VitalSign.SYSTOLIC_BP and at_ms >= patient.systolic_ms:
            patient.systolic_ms, patient.systolic = at_ms, value
        began_ms = patient.hour_ends_ms - HOUR_MS
        if at_ms >= began_ms and (sign not in patient.now or at_ms >= patient.now[sign][0]):
            patient.now[sign] = (at_ms, value)

    def _end_hours(self, patient: _ScoredPatient, reading: Reading) -> None:
        """Take the hour that is over into the memory. Of hours without a value there is nothing to take."""
        over_ms = reading.at_ms - patient.hour_ends_ms
        if over_ms < 0:
            return
        ended_ms, values = patient.hour_ends_ms, patient.values()
        patient.hour_ends_ms += (over_ms // HOUR_MS + 1) * HOUR_MS
        patient.now = {}
        # Which hour runs has to outlive a restart as well, or a value of this hour is taken for one of an earlier.
        self._changed[reading.stay_id] = None
        if self._sepsis is None or patient.sepsis is None or not values:
            return
        patient.trouble = ""
        try:
            self._sepsis.step(patient.sepsis, ended_ms, values)
        except ModelsError as error:
            patient.trouble = str(error)
        except Exception as error:  # noqa: BLE001 - a defect of a model must not hide what the rules have found
            patient.trouble = type(error).__name__

    def _ask(self, patient: _ScoredPatient, reading: Reading) -> list[ModelScore]:
        scores = []
        if self._sepsis is not None:
            scores.append(self._answer(patient, reading, "sepsis", lambda: self._sepsis_says(patient)))
        elif "sepsis" in self.refused:
            scores.append(_unavailable(reading, "sepsis", self.refused["sepsis"]))
        about = self._about_of(reading.stay_id)
        if about.age_years is None or about.is_male is None or about.chest_pain is None:
            return scores  # the facts that a heart model needs are unknown, so no score is expected
        if self._heart is not None:
            scores.append(self._answer(patient, reading, "heart-home", lambda: self._heart_says(patient, about)))
        elif "heart-home" in self.refused:
            scores.append(_unavailable(reading, "heart-home", self.refused["heart-home"]))
        return scores

    def _sepsis_says(self, patient: _ScoredPatient) -> _ModelAnswer:
        """Score as if the hour ended with the values so far."""
        model, memory, ends_ms, values = self._sepsis, patient.sepsis, patient.hour_ends_ms, patient.values()
        if model is None or memory is None or patient.trouble:
            raise ModelUnavailable("step", patient.trouble or "there is no memory of this patient")
        if (abstention := model.abstention(memory, ends_ms, values)) is not None:
            raise ModelUnavailable("doubt", abstention)
        score = model.preview(memory, ends_ms, values)
        return _ModelAnswer(score, lambda: why(model.influences(memory, ends_ms, values), values))

    def _heart_says(self, patient: _ScoredPatient, about: About) -> _ModelAnswer:
        model = self._heart
        if model is None:
            raise ModelUnavailable("step", "there is no model")
        male = None if about.is_male is None else float(about.is_male)
        known = {"age": about.age_years, "sex": male, "cp": about.chest_pain, "trestbps": patient.systolic}
        return _ModelAnswer(model.score(known), lambda: model.judge(known).reason)

    def _answer(
        self, patient: _ScoredPatient, reading: Reading, name: str, ask: Callable[[], _ModelAnswer]
    ) -> ModelScore:
        passport = self._loaded[name].passport
        score: float | None = None
        reason = ""
        began_s = self._timer()
        try:
            said = ask()
            if (spent_s := self._timer() - began_s) > BUDGET_S:
                raise ModelUnavailable("budget", f"took {spent_s:.1f} s of {BUDGET_S:g} s")
            score = said.score
            reason = self._why(patient, reading.at_ms, name, said)
        except ModelsError as error:
            reason = str(error)
        except Exception as error:  # noqa: BLE001 - a defect of a model must not hide what the rules have found
            reason = type(error).__name__
        if score is not None and score >= passport.threshold:
            patient.speaking.add(name)
        else:
            patient.speaking.discard(name)
        return _score(reading, name, passport.version, score, passport.threshold, reason)

    def _why(self, patient: _ScoredPatient, at_ms: int, name: str, said: _ModelAnswer) -> str:
        """The inputs that move the score. They cost far more than the score, so they are worked out only now and then.

        While a model speaks the last reason is repeated: it is unknown which of its scores reaches the cloud in time.
        """
        speaks = said.score >= self._loaded[name].passport.threshold
        last_ms, reason = patient.reasons.get(name, (at_ms - EXPLAIN_MS, ""))
        if at_ms - last_ms < EXPLAIN_MS and (name in patient.speaking or not speaks):
            return f"{reason}; as of {duration(at_ms - last_ms)} ago" if speaks and reason else ""
        if name in self._too_slow:
            return "this machine is too slow to say why"
        began_s = self._timer()
        reason = said.explain()
        if self._timer() - began_s > BUDGET_S:
            self._too_slow.add(name)
        patient.reasons[name] = (at_ms, reason)
        return reason

    def _remember(self, stay_id: str, state: bytes) -> None:
        if self._sepsis is None:
            return
        try:
            memory = _DECODER.decode(state)
            patient = _ScoredPatient(memory.hour_ends_ms)
            patient.sepsis = self._sepsis.restore(memory.sepsis)
        except (msgspec.DecodeError, ModelsError):
            self.forgotten += 1
            return
        self._patients[stay_id] = patient

    def _load(self, name: str, found: LoadedModels, make: Callable[[Artifact], Model]) -> Model | None:
        artifact = found.models.get(name)
        if artifact is None:
            return None
        try:
            model = make(artifact)
        except ModelUnavailable as error:
            self.refused[name] = error
            return None
        self._loaded[name] = artifact
        return model


def _unavailable(reading: Reading, name: str, error: ModelUnavailable) -> ModelScore:
    return _score(reading, name, "", None, _UNKNOWN_THRESHOLD, f"refused: {error.reason}")


def _score(reading: Reading, name: str, version: str, score: float | None, threshold: float, reason: str) -> ModelScore:
    return ModelScore(
        stay_id=reading.stay_id,
        reading_id=reading.reading_id,
        at_ms=reading.at_ms,
        received_ms=reading.received_ms,
        model=ASKED[name],
        version=version,
        score=score,
        threshold=threshold,
        reason=reason,
    )


_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(_ScoringMemory)
