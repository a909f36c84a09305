"""The rhythm of one recording: normal, atrial fibrillation, other, or too noisy to tell; and what spoke for it."""

import math
from typing import Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from models.artifacts import Artifact
from models.errors import ModelUnavailable, UnusableEcg
from models.rhythm_signal import BEAT_FEATURES, RHYTHM_NAMES, Ecg, prepare
from models.runtime import InferenceEngine, engine_of, probability

Floats: TypeAlias = npt.NDArray[np.float32]

NAME: Final = "rhythm"
CLASSES: Final = ("N", "A", "O", "~")
"""Normal, atrial fibrillation, other rhythm, too noisy: the classes of PhysioNet/CinC 2017."""
INPUTS: Final = (
    "wave at 100 Hz",
    *(f"beat {place}" for place in range(BEAT_FEATURES - len(RHYTHM_NAMES))),
    *RHYTHM_NAMES,
)
LEAST_BEATS: Final = 2
_PARTS: Final = ("intervals between beats", "shapes of beats", "wave between them")


class Rhythm(NamedTuple):
    """What the model says of a recording."""

    label: str  # of `CLASSES`
    scores: tuple[float, float, float, float]  # probabilities, as `CLASSES`
    reason: str


class RhythmModel:
    """The released model.

    Raises:
        ModelUnavailable: it cannot run here, or it was made for other features.
    """

    def __init__(self, artifact: Artifact) -> None:
        if artifact.passport.inputs != INPUTS:
            raise ModelUnavailable("schema", f"{artifact.title} was made for other features than this version computes")
        self.artifact = artifact
        self._engine: InferenceEngine = engine_of(artifact)

    def judge(self, millivolts: npt.NDArray[np.float64], sampling_rate_hz: int, *, explain: bool = True) -> Rhythm:
        """One recording of one lead, either way up.

        Of one in which no beat can be found nothing but "too noisy" can be said.

        Raises:
            ModelUnavailable: the network gave no probability.
        """
        try:
            ecg = prepare(millivolts, sampling_rate_hz)
        except UnusableEcg as error:
            return Rhythm("~", (0.0, 0.0, 0.0, 1.0), str(error))
        if len(ecg.beats) < LEAST_BEATS:
            return Rhythm("~", (0.0, 0.0, 0.0, 1.0), f"{len(ecg.beats)} beats found; at least {LEAST_BEATS} are needed")
        scores = self.scores(ecg)
        best = int(np.argmax(scores))
        return Rhythm(CLASSES[best], scores, self._why(ecg, best, scores[best]) if explain else "")

    def scores(self, ecg: Ecg) -> tuple[float, float, float, float]:
        """Probabilities, as `CLASSES`."""
        n, a, o, noisy = self._engine(
            {"wave": ecg.wave.astype(np.float32)[None, None], "beats": ecg.beats.astype(np.float32)[None]}
        )[0][0]
        return probability(float(n)), probability(float(a)), probability(float(o)), probability(float(noisy))

    def _why(self, ecg: Ecg, best: int, score: float) -> str:
        """Which part of the recording speaks for the class: how far its log-probability falls without it."""
        fallen = {
            part: math.log(score + 1e-9) - math.log(self.scores(without(ecg, part))[best] + 1e-9) for part in _PARTS
        }
        first = max(fallen, key=lambda part: fallen[part])
        intervals_ms = np.diff(ecg.r_peaks) * 10
        irregular = float(np.std(intervals_ms) / np.mean(intervals_ms)) if len(intervals_ms) else 0.0
        return (
            f"mostly by the {first} ({fallen[first]:+.1f}); {len(ecg.r_peaks)} beats, intervals vary by {irregular:.0%}"
        )


def without(ecg: Ecg, part: str) -> Ecg:
    """The same recording with one part of it made meaningless: regular intervals, beats all alike, or no wave."""
    if part == _PARTS[0]:
        beats = ecg.beats.copy()
        beats[:, -len(RHYTHM_NAMES) :] = 0.0
        beats[:, -len(RHYTHM_NAMES) : 2 - len(RHYTHM_NAMES)] = np.median(
            ecg.beats[:, -len(RHYTHM_NAMES) : 2 - len(RHYTHM_NAMES)]
        )
        return ecg._replace(beats=beats)
    if part == _PARTS[1]:
        beats = ecg.beats.copy()
        beats[:, : -len(RHYTHM_NAMES)] = np.median(beats[:, : -len(RHYTHM_NAMES)], axis=0)
        return ecg._replace(beats=beats)
    return ecg._replace(wave=np.zeros_like(ecg.wave))
