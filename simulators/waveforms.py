"""ECG and PPG of a simulated heart: beats first, then a wave drawn around each beat.

The shape is the one of McSharry, Clifford, Tarassenko and Smith (IEEE Trans Biomed Eng 50:289, 2003): Gaussian bumps
P, Q, R, S and T at fixed angles of the cardiac cycle. Their differential equation only carries the bumps along; we
place them directly on the phase between R peaks, which is exact, has no step size, and costs one vectorised pass.
NeuroKit2 can do this too, but brings pandas, SciPy, scikit-learn and matplotlib (some 300 MB) to every place that
runs a ward; sixty lines on NumPy do what the rhythm model's alarm path needs. For training there are real recordings.

Seeded: the generator is an argument, and the same generator state gives the same bytes.
"""

from enum import StrEnum
from typing import Final, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from simulators.errors import BadWaveform
from vitals.messages import Waveform

Floats: TypeAlias = npt.NDArray[np.float64]

ECG_STEP_UV: Final = 5.0
PPG_STEPS: Final = 8_000.0  # one systolic upstroke, in steps of the arbitrary unit


class Kind(StrEnum):
    ECG = "ecg"
    PPG = "ppg"


class HeartRhythm(StrEnum):
    SINUS = "sinus"
    ATRIAL_FIBRILLATION = "atrial_fibrillation"


class Heart(msgspec.Struct, frozen=True, kw_only=True):
    """Heart, breathing and disturbances during one waveform."""

    heart_rate: tuple[float, ...] = (70.0,)  # /min, spread evenly over the waveform
    rhythm: HeartRhythm = HeartRhythm.SINUS
    respiratory_rate: float = 15.0  # /min; sways the baseline, and the rate of a sinus rhythm
    noise: float = 0.02  # mV deviation in an ECG; the same share of a PPG upstroke
    motion: float = 0.0  # 0 to 1: artefacts of a moving wearer


# Angle in turns of the cycle with the R peak at 0, height in mV, width in turns.
_BUMPS: Final = {
    "P": (-0.20, 0.15, 0.025),
    "Q": (-0.040, -0.12, 0.010),
    "R": (0.0, 1.10, 0.011),
    "S": (0.042, -0.25, 0.010),
    "T": (0.30, 0.30, 0.050),
}
_PULSE: Final = ((0.18, 1.0, 0.07), (0.42, 0.38, 0.08))  # systolic wave and the one after the dicrotic notch
_TRANSIT_S: Final = 0.2  # from R peak to the foot of the pulse at the wrist
_REFRACTORY_S: Final = 0.3  # no two beats are closer
_F_WAVE_MV: Final = 0.06
_MARGIN_S: Final = 2.5  # beats before and after, so that no wave is cut at the edges


def beats_s(heart: Heart, *, duration_s: float, rng: np.random.Generator) -> Floats:
    """Times of R peaks in seconds, in order, with some before 0 and after `duration_s`.

    A sinus rhythm sways with breathing; the intervals of atrial fibrillation are independent draws whose deviation is
    a fifth of their mean.
    """
    rates = np.asarray(heart.heart_rate, dtype=np.float64)
    knots = np.linspace(0.0, duration_s, rates.size) if rates.size > 1 else np.array([0.0])
    breath = 2 * np.pi * heart.respiratory_rate / 60
    at = -_MARGIN_S - rng.uniform(0.0, 0.5)
    beats = []
    while at < duration_s + _MARGIN_S:
        beats.append(at)
        mean = 60.0 / float(np.interp(at, knots, rates))
        if heart.rhythm is HeartRhythm.ATRIAL_FIBRILLATION:
            # Shifted gamma: never below the refractory time, with a long tail of pauses.
            spread = 0.2 * mean
            floor = min(_REFRACTORY_S, 0.8 * mean)
            shape = ((mean - floor) / spread) ** 2
            interval = floor + float(rng.gamma(shape, (mean - floor) / shape))
        else:
            sway = 0.03 * float(np.sin(breath * at))
            interval = mean * (1.0 + sway + 0.01 * float(rng.standard_normal()))
        at += max(interval, 0.2)
    return np.array(beats)


def ecg_mv(heart: Heart, *, duration_s: float, sampling_rate_hz: float, rng: np.random.Generator) -> Floats:
    """One lead of ECG in millivolts."""
    at = _grid(duration_s, sampling_rate_hz)
    beats = beats_s(heart, duration_s=duration_s, rng=rng)
    bumps = [bump for name, bump in _BUMPS.items() if name != "P" or heart.rhythm is HeartRhythm.SINUS]
    # The QRS complex and the T wave do not shrink as much as the cycle does: square root, after Bazett.
    wave = _waves(at, beats, bumps, stretch=0.5)
    if heart.rhythm is HeartRhythm.ATRIAL_FIBRILLATION:
        wave += _f_waves(at, rng)
    wave += 0.05 * np.sin(2 * np.pi * heart.respiratory_rate / 60 * at + rng.uniform(0, 2 * np.pi))
    wave += heart.noise * rng.standard_normal(at.size)
    return wave + _shaking(at, heart.motion, 0.8, rng)


def ppg(heart: Heart, *, duration_s: float, sampling_rate_hz: float, rng: np.random.Generator) -> Floats:
    """A photoplethysmogram; one upstroke is about 1. A beat that comes early fills less and gives a smaller pulse."""
    at = _grid(duration_s, sampling_rate_hz)
    beats = beats_s(heart, duration_s=duration_s, rng=rng)
    wave = _waves(at, beats + _TRANSIT_S, _PULSE, stretch=0.3, by_filling=True)
    wave *= 1 + 0.08 * np.sin(2 * np.pi * heart.respiratory_rate / 60 * at)
    wave += heart.noise * rng.standard_normal(at.size)
    return wave + _shaking(at, heart.motion, 1.5, rng)


def waveform(
    kind: Kind,
    heart: Heart,
    *,
    stay_id: str,
    at_ms: int,
    received_ms: int,
    duration_s: float,
    sampling_rate_hz: float,
    rng: np.random.Generator,
) -> Waveform:
    """A stretch of ECG or PPG as a wearable sends it.

    Raises:
        BadWaveform: no duration, too few samples per second to show a beat, or an impossible heart rate.
    """
    if not 0 < duration_s <= 3600:
        raise BadWaveform(f"a waveform lasts more than 0 s and at most 3600 s, not {duration_s} s")
    if not 20 <= sampling_rate_hz <= 4_000:
        raise BadWaveform(f"sampling_rate_hz must lie between 20 and 4000, not {sampling_rate_hz}")
    if not heart.heart_rate or not all(15 <= rate <= 300 for rate in heart.heart_rate):
        raise BadWaveform("heart_rate needs at least one value, each between 15 and 300 /min")
    draw, steps = _DRAWN[kind]
    wave = draw(heart, duration_s=duration_s, sampling_rate_hz=sampling_rate_hz, rng=rng)
    samples = np.clip(np.rint(wave * steps), -32_768, 32_767).astype("<i2")
    return Waveform(
        stay_id=stay_id,
        at_ms=at_ms,
        received_ms=received_ms,
        kind=kind.value,
        sampling_rate_hz=sampling_rate_hz,
        samples_uv=samples.tobytes(),
    )


_DRAWN: Final = {Kind.ECG: (ecg_mv, 1000 / ECG_STEP_UV), Kind.PPG: (ppg, PPG_STEPS)}


def _grid(duration_s: float, sampling_rate_hz: float) -> Floats:
    return np.arange(round(duration_s * sampling_rate_hz)) / sampling_rate_hz


def _waves(
    at: Floats,
    beats: Floats,
    bumps: "list[tuple[float, float, float]] | tuple[tuple[float, float, float], ...]",
    *,
    stretch: float,
    by_filling: bool = False,
) -> Floats:
    """The bumps of the beat before and of the beat after each sample, in the time scale of their own cycle."""
    following = np.clip(np.searchsorted(beats, at, side="right"), 1, beats.size - 2)
    wave = np.zeros(at.size)
    intervals = np.diff(beats, prepend=2 * beats[0] - beats[1])
    filling = np.minimum(1.2, intervals / np.median(intervals)) if by_filling else np.ones(beats.size)
    for beat in (following - 1, following):
        # Seconds per turn: between a fixed second and the cycle itself.
        cycle = np.minimum(intervals[beat], intervals[np.minimum(beat + 1, beats.size - 1)])
        turn = cycle**stretch
        for angle, height, width in bumps:
            distance = (at - beats[beat]) / turn - angle
            wave += filling[beat] * height * np.exp(-0.5 * (distance / width) ** 2)
    return wave


def _f_waves(at: Floats, rng: np.random.Generator) -> Floats:
    """The quivering of the atria, 4 to 9 Hz, where the P wave would be."""
    rate, swell = rng.uniform(5.0, 7.0), rng.uniform(0.2, 0.5)
    phase = 2 * np.pi * rate * at + 1.5 * np.sin(2 * np.pi * swell * at)
    quiver: Floats = _F_WAVE_MV * (np.sin(phase) + 0.4 * np.sin(2 * phase + 1.0))
    return quiver


def _shaking(at: Floats, motion: float, size: float, rng: np.random.Generator) -> Floats:
    """Bursts of slow swings: a sum of sines between 0.5 and 5 Hz inside a seeded envelope."""
    if motion <= 0:
        return np.zeros(at.size)
    swings = sum(
        np.sin(2 * np.pi * rng.uniform(0.5, 5.0) * at + rng.uniform(0, 2 * np.pi)) / (1 + index) for index in range(4)
    )
    envelope = 0.5 + 0.5 * np.sin(2 * np.pi * rng.uniform(0.05, 0.2) * at + rng.uniform(0, 2 * np.pi))
    shaken: Floats = motion * size * envelope * swings
    return shaken
