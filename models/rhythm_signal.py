"""What the rhythm model is shown of a single-lead ECG: the filtered wave, and its beats one by one.

Pure: training and the edge call the same functions. How long a recording is, is no input: in the recordings from which
the model learns, length goes with the rhythm, and that says something about how they were chosen, not about a heart.
"""

from typing import Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import signal

from models.errors import UnusableEcg

Wave: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]

RATE_HZ: Final = 100
"""Of everything that the model is shown."""
BAND_HZ: Final = (0.5, 40.0)
QRS_BAND_HZ: Final = (8.0, 20.0)
"""Where a QRS complex stands out from P, T and a moving hand (Elgendi, PLoS ONE 8:e73557, 2013)."""
LEAST_S: Final = 5.0
"""Shorter than this there is no rhythm to tell."""
MOST_S: Final = 61.0
BEFORE: Final = 25
AFTER: Final = 45
"""Samples of a beat before and after its R peak: 0.25 s and 0.45 s."""
RHYTHM_NAMES: Final = ("rr_before", "rr_after", "rr_before_of_usual", "rr_after_of_usual", "rr_ratio", "rr_change")
BEAT_FEATURES: Final = BEFORE + AFTER + len(RHYTHM_NAMES)
_REFRACTORY_S: Final = 0.25
_AROUND_R_S: Final = 0.06
_LOUDEST: Final = 6.0
"""In heights of a usual QRS complex; what is beyond is no heart."""


class Ecg(NamedTuple):
    """One recording, ready for the model."""

    wave: Wave  # [T], 100 Hz, in heights of this recording's usual QRS complex
    beats: Wave  # [K, BEAT_FEATURES]
    r_peaks: Ints  # [K], samples of `wave`


def prepare(millivolts: Wave, sampling_rate_hz: int) -> Ecg:
    """Filter, find beats, scale.

    Args:
        millivolts: one lead, either way up; more than `MOST_S` is cut in the middle of it.

    Raises:
        UnusableEcg: too short, a rate that shows no beat, not finite, or flat.
    """
    if not 100 <= sampling_rate_hz <= 4000:
        raise UnusableEcg(f"{sampling_rate_hz} samples a second; between 100 and 4000 are needed")
    if len(millivolts) < LEAST_S * sampling_rate_hz:
        raise UnusableEcg(f"{len(millivolts) / sampling_rate_hz:.1f} s; at least {LEAST_S:.0f} s are needed")
    if not np.isfinite(millivolts).all():
        raise UnusableEcg("a sample is no number")
    spare = max(0, len(millivolts) - round(MOST_S * sampling_rate_hz)) // 2
    raw = np.asarray(millivolts, np.float64)[spare : len(millivolts) - spare or None]
    # The upper edge may not lie above half of the rate.
    high = min(BAND_HZ[1], 0.45 * sampling_rate_hz)
    passed = signal.sosfiltfilt(
        signal.butter(2, (BAND_HZ[0], high), "bandpass", fs=sampling_rate_hz, output="sos"), raw
    )
    common = np.gcd(RATE_HZ, sampling_rate_hz)
    wave = signal.resample_poly(passed, RATE_HZ // common, sampling_rate_hz // common)
    if float(np.ptp(wave)) < 1e-3:
        raise UnusableEcg("flat: the electrodes do not touch")
    r_peaks = find_r_peaks(wave)
    wave = np.clip(wave / _usual_height(wave, r_peaks), -_LOUDEST, _LOUDEST)
    return Ecg(wave, beats_of(wave, r_peaks), r_peaks)


def find_r_peaks(wave: Wave) -> Ints:
    """Where the QRS complexes are, [K]; either way up.

    Args:
        wave: band-passed, at `RATE_HZ`.
    """
    steep = signal.sosfiltfilt(signal.butter(2, QRS_BAND_HZ, "bandpass", fs=RATE_HZ, output="sos"), wave)
    # The length of a QRS complex: the root of the mean square over 0.12 s.
    energy = np.sqrt(np.convolve(steep * steep, np.full(12, 1 / 12), "same"))
    # What is usual nearby: the loudest of each second and a half, the median of seven of those.
    span = round(1.5 * RATE_HZ)
    whole = np.pad(energy, (0, -len(energy) % span), mode="edge").reshape(-1, span).max(axis=1)
    usual = np.array([np.median(whole[max(0, at - 3) : at + 4]) for at in range(len(whole))])
    limit = 0.35 * np.repeat(usual, span)[: len(energy)]
    tops, _ = signal.find_peaks(energy, height=limit, distance=round(_REFRACTORY_S * RATE_HZ))
    reach = round(_AROUND_R_S * RATE_HZ)
    found = [
        first + int(np.argmax(np.abs(wave[first : top + reach + 1])))
        for top in tops
        for first in (max(0, int(top) - reach),)
    ]
    return np.unique(np.asarray(found, np.int64))


def beats_of(wave: Wave, r_peaks: Ints) -> Wave:
    """The beats of a scaled wave, [K, BEAT_FEATURES]: shape around R, then `RHYTHM_NAMES`.

    Intervals are in seconds, "usual" is this recording's median interval. A first or last beat has its neighbour's
    interval: nothing is known of what was before.
    """
    if len(r_peaks) < 2:
        return np.zeros((0, BEAT_FEATURES))
    padded = np.pad(wave, (BEFORE, AFTER), mode="edge")
    shapes = padded[r_peaks[:, None] + np.arange(BEFORE + AFTER)]
    between = np.diff(_exactly(wave, r_peaks)) / RATE_HZ
    before, after = np.r_[between[0], between], np.r_[between, between[-1]]
    usual = float(np.median(between))
    intervals = np.stack(
        [
            before - 0.8,
            after - 0.8,
            np.log(before / usual),
            np.log(after / usual),
            np.log(after / before),
            np.r_[0.0, np.diff(before)] / usual,
        ],
        axis=1,
    )
    return np.concatenate([shapes, np.clip(intervals * 2, -_LOUDEST, _LOUDEST)], axis=1)


def _exactly(wave: Wave, r_peaks: Ints) -> Wave:
    """R between the samples: the top of a parabola through three."""
    inside = np.clip(r_peaks, 1, len(wave) - 2)
    left, top, right = wave[inside - 1], wave[inside], wave[inside + 1]
    bend = left - 2 * top + right
    moved = np.where(np.abs(bend) > 1e-12, 0.5 * (left - right) / np.where(bend == 0, 1, bend), 0.0)
    return np.asarray(inside + np.clip(moved, -0.5, 0.5))


def _usual_height(wave: Wave, r_peaks: Ints) -> float:
    if not len(r_peaks):
        return float(4 * np.std(wave))
    reach = round(_AROUND_R_S * RATE_HZ)
    heights = [np.ptp(wave[max(0, at - reach) : at + reach + 1]) for at in r_peaks]
    return max(float(np.median(heights)), 1e-3)
