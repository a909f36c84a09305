"""The rhythm model: classifies an ECG recording as normal, atrial fibrillation, other or noisy, with the reason."""

import math
from typing import Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from models.artifacts import Artifact
from models.errors import ModelUnavailable, UnusableEcg
from models.rhythm_signal import BEAT_FEATURES, RATE_HZ, RHYTHM_NAMES, Ecg, flat_stretch_s, prepare
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
MIN_BEATS: Final = 2
_PARTS: Final = ("intervals between beats", "shapes of beats", "wave between them")


class Rhythm(NamedTuple):
    """The result for one recording."""

    label: str  # one of `CLASSES`; empty: not judged
    scores: tuple[float, float, float, float]  # probabilities, in the order of `CLASSES`; NaN: not judged
    reason: str


def flat_text(from_s: float, to_s: float) -> str:
    """A flat line in words."""
    return f"flat line from {from_s:.0f} to {to_s:.0f} s: asystole, or electrode off"


_NO_SCORES: Final = (math.nan, math.nan, math.nan, math.nan)


class RhythmModel:
    """The released rhythm model.

    Raises:
        ModelUnavailable: it cannot run on this machine, or it expects other features.
    """

    def __init__(self, artifact: Artifact) -> None:
        if artifact.passport.inputs != INPUTS:
            raise ModelUnavailable(
                "schema",
                f"{artifact.title} expects other features than this version computes; install matching versions",
            )
        self.artifact = artifact
        self._engine: InferenceEngine = engine_of(artifact)

    def judge(self, millivolts: npt.NDArray[np.float64], sampling_rate_hz: int, *, explain: bool = True) -> Rhythm:
        """Classify one single-lead recording; an inverted lead is accepted.

        Not judged is a recording that is unusable or has fewer than two beats, and one that would be normal or noisy
        but has a flat line of `FLAT_S` seconds: neither is a finding about the rhythm, and both have to be looked at.

        Raises:
            ModelUnavailable: an output of the network is not a probability.
        """
        try:
            ecg = prepare(millivolts, sampling_rate_hz)
        except UnusableEcg as error:
            return Rhythm("", _NO_SCORES, f"not judged: {error}")
        flat = flat_stretch_s(ecg)
        pause = "" if flat is None else flat_text(*flat)
        if len(ecg.beats) < MIN_BEATS:
            found = f"{len(ecg.r_peaks)} beats found in {len(ecg.wave) / RATE_HZ:.0f} s"
            return Rhythm("", _NO_SCORES, "; ".join(filter(None, (f"not judged: {found}", pause))))
        scores = self.scores(ecg)
        best = int(np.argmax(scores))
        if pause and CLASSES[best] in ("N", "~"):
            return Rhythm("", _NO_SCORES, f"not judged: {pause}")
        why = self._why(ecg, best, scores[best]) if explain else ""
        return Rhythm(CLASSES[best], scores, "; ".join(filter(None, (why, pause))))

    def scores(self, ecg: Ecg) -> tuple[float, float, float, float]:
        """Probabilities in the order of `CLASSES`."""
        n, a, o, noisy = self._engine(
            {"wave": ecg.wave.astype(np.float32)[None, None], "beats": ecg.beats.astype(np.float32)[None]}
        )[0][0]
        return probability(float(n)), probability(float(a)), probability(float(o)), probability(float(noisy))

    def _why(self, ecg: Ecg, best: int, score: float) -> str:
        """The part of the recording without which the log-probability of the class falls most."""
        losses = {
            part: math.log(score + 1e-9) - math.log(self.scores(without(ecg, part))[best] + 1e-9) for part in _PARTS
        }
        first = max(losses, key=lambda part: losses[part])
        intervals_ms = np.diff(ecg.r_peaks) * 10
        irregular = float(np.std(intervals_ms) / np.mean(intervals_ms)) if len(intervals_ms) else 0.0
        return f"mainly the {first} ({losses[first]:+.1f}); {len(ecg.r_peaks)} beats, intervals vary by {irregular:.0%}"


def without(ecg: Ecg, part: str) -> Ecg:
    """The recording with one part made uninformative: equal intervals, identical beats, or a flat wave."""
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
