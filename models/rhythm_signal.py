"""Input of the rhythm model from a single-lead ECG: the filtered wave and its single beats.

Pure: training and prediction call the same functions. The length of a recording is not an input: in the training data
it correlates with the rhythm, which reflects how recordings were selected, not the heart.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import signal

from models.errors import UnusableEcg

Wave: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]

RATE_HZ: Final = 100
"""Sampling rate of the model's input."""
BAND_HZ: Final = (0.5, 40.0)
QRS_BAND_HZ: Final = (8.0, 20.0)
"""Band in which a QRS complex stands out from P, T and motion artefacts (Elgendi, PLoS ONE 8:e73557, 2013)."""
MIN_S: Final = 5.0
"""Minimum length of a recording."""
MAX_S: Final = 61.0
"""Maximum length of a recording that is judged as a whole; longer ones are judged in `pieces`."""
PIECE_S: Final = 30.0
JOIN_S: Final = 10.0
"""So much before and after the end of a piece is looked at for a flat line across it."""
AMPLITUDE_MV: Final = (0.02, 50.0)
"""Amplitude that an ECG can have, as `_amplitude` takes it. Of 7,249 hand-held recordings the lowest has 0.23 mV and
the highest 11 mV; what is outside is a flat line or another unit."""
FLAT_S: Final = 3.0
"""A flat line of this length is a significant pause, or an electrode that is off (Kusumoto et al., Circulation
140:e382, 2019)."""
_FLAT_SHARE: Final = 0.1  # of the amplitude; between two beats P and T waves are larger
_FLAT_WINDOW_S: Final = 0.5
_FLAT_STEP_S: Final = 0.1  # windows are laid from several starts, because a flat line begins anywhere
BEFORE: Final = 25
AFTER: Final = 45
"""Samples of a beat before and after its R peak: 0.25 s and 0.45 s."""
RHYTHM_NAMES: Final = ("rr_before", "rr_after", "rr_before_of_usual", "rr_after_of_usual", "rr_ratio", "rr_change")
BEAT_FEATURES: Final = BEFORE + AFTER + len(RHYTHM_NAMES)
_REFRACTORY_S: Final = 0.25
_AROUND_R_S: Final = 0.06
_MAX_HEIGHT: Final = 6.0
"""Limit of the scaled wave, in median QRS heights; larger values are artefacts."""


class Ecg(NamedTuple):
    """One recording as input of the model."""

    wave: Wave  # [T], 100 Hz, in units of this recording's median QRS height
    beats: Wave  # [K, BEAT_FEATURES]
    r_peaks: Ints  # [K], samples of `wave`


def prepare(millivolts: Wave, sampling_rate_hz: int) -> Ecg:
    """Filter a recording, find its beats and scale it.

    Args:
        millivolts: one lead; an inverted one is accepted.

    Raises:
        UnusableEcg: too short, too long, flat, in another unit, not finite, or sampled too slowly or too fast.
    """
    if not 100 <= sampling_rate_hz <= 4000:
        raise UnusableEcg(f"sampling rate of {sampling_rate_hz} Hz; between 100 and 4000 Hz are needed")
    if len(millivolts) < MIN_S * sampling_rate_hz:
        raise UnusableEcg(f"{len(millivolts) / sampling_rate_hz:.1f} s; at least {MIN_S:.0f} s are needed")
    if not np.isfinite(millivolts).all():
        raise UnusableEcg("a sample is no number")
    if len(millivolts) > MAX_S * sampling_rate_hz:
        raise UnusableEcg(f"{len(millivolts) / sampling_rate_hz:.0f} s; more than {MAX_S:.0f} s are judged in pieces")
    raw = np.asarray(millivolts, np.float64)
    # The upper cut-off must stay below the Nyquist frequency.
    high = min(BAND_HZ[1], 0.45 * sampling_rate_hz)
    passed = signal.sosfiltfilt(
        signal.butter(2, (BAND_HZ[0], high), "bandpass", fs=sampling_rate_hz, output="sos"), raw
    )
    common = np.gcd(RATE_HZ, sampling_rate_hz)
    wave = signal.resample_poly(passed, RATE_HZ // common, sampling_rate_hz // common)
    amplitude = _amplitude(wave)
    if not AMPLITUDE_MV[0] <= amplitude <= AMPLITUDE_MV[1]:
        what = "flat line, check the electrode contact, or another unit" if amplitude < 1 else "another unit"
        raise UnusableEcg(f"amplitude of {amplitude:.2g} mV: {what}; say the unit in uv_per_step")
    r_peaks = find_r_peaks(wave)
    wave = np.clip(wave / _usual_height(wave, r_peaks), -_MAX_HEIGHT, _MAX_HEIGHT)
    return Ecg(wave, beats_of(wave, r_peaks), r_peaks)


def pieces(samples: int, sampling_rate_hz: int) -> list[tuple[int, int]]:
    """First sample and end of the pieces in which a recording is judged: itself, or pieces of `PIECE_S` seconds.

    The last piece has the rest, so none is shorter than the others.

    >>> pieces(9_000, 300), pieces(30_000, 300)
    ([(0, 9000)], [(0, 9000), (9000, 18000), (18000, 30000)])
    """
    if samples <= MAX_S * sampling_rate_hz:
        return [(0, samples)]
    size = round(PIECE_S * sampling_rate_hz)
    starts = range(0, samples - size + 1, size)
    return [(start, samples if start == starts[-1] else start + size) for start in starts]


def flat_stretch_s(ecg: "Ecg") -> tuple[float, float] | None:
    """The longest stretch without any wave, in seconds from the start, if it is at least `FLAT_S` long."""
    size, step = round(_FLAT_WINDOW_S * RATE_HZ), round(_FLAT_STEP_S * RATE_HZ)
    limit = _FLAT_SHARE * _amplitude(ecg.wave)
    spans = [
        (float(offset + first * size) / RATE_HZ, float(offset + end * size) / RATE_HZ)
        for offset in range(0, size, step)
        for edges in (np.flatnonzero(np.diff(np.r_[False, _heights(ecg.wave[offset:], size) < limit, False])),)
        for first, end in zip(edges[::2], edges[1::2], strict=True)
    ]
    found = max(spans, key=lambda span: span[1] - span[0], default=(0.0, 0.0))
    return found if found[1] - found[0] >= FLAT_S else None


def flat_joins_s(
    millivolts: Wave, sampling_rate_hz: int, parts: Sequence[tuple[int, int]]
) -> list[tuple[float, float]]:
    """Flat lines across the ends of pieces, in seconds of the recording; each part may be too short."""
    found = []
    reach = round(JOIN_S * sampling_rate_hz)
    for join, _ in parts[1:]:
        first = join - reach
        try:
            flat = flat_stretch_s(prepare(millivolts[first : join + reach], sampling_rate_hz))
        except UnusableEcg:
            continue  # so are the pieces
        if flat is not None:
            found.append((first / sampling_rate_hz + flat[0], first / sampling_rate_hz + flat[1]))
    return found


def find_r_peaks(wave: Wave) -> Ints:
    """Sample numbers of the R peaks, [K]; an inverted lead is accepted.

    Args:
        wave: band-pass filtered, at `RATE_HZ`.
    """
    steep = signal.sosfiltfilt(signal.butter(2, QRS_BAND_HZ, "bandpass", fs=RATE_HZ, output="sos"), wave)
    # Root mean square over 0.12 s, the length of a QRS complex.
    energy = np.sqrt(np.convolve(steep * steep, np.full(12, 1 / 12), "same"))
    # Local reference: the maximum of each 1.5 s, median over seven of these.
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
    """The beats of a scaled wave, [K, BEAT_FEATURES]: samples around the R peak, then `RHYTHM_NAMES`.

    Intervals are in seconds; "usual" is this recording's median interval. The first and the last beat use the interval
    of their neighbour, because the interval outside the recording is unknown.
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
    return np.concatenate([shapes, np.clip(intervals * 2, -_MAX_HEIGHT, _MAX_HEIGHT)], axis=1)


def _exactly(wave: Wave, r_peaks: Ints) -> Wave:
    """R peaks with sub-sample precision: the vertex of a parabola through three samples."""
    inside = np.clip(r_peaks, 1, len(wave) - 2)
    left, top, right = wave[inside - 1], wave[inside], wave[inside + 1]
    bend = left - 2 * top + right
    moved = np.where(np.abs(bend) > 1e-12, 0.5 * (left - right) / np.where(bend == 0, 1, bend), 0.0)
    return np.asarray(inside + np.clip(moved, -0.5, 0.5))


def _amplitude(wave: Wave) -> float:
    """Height that only a tenth of all stretches of 2 s exceed: neither a single artefact nor a long pause counts."""
    return float(np.percentile(_heights(wave, 2 * RATE_HZ), 90))


def _heights(wave: Wave, size: int) -> Wave:
    whole = len(wave) // size * size
    return np.asarray(np.ptp(wave[:whole].reshape(-1, size), axis=1))


def _usual_height(wave: Wave, r_peaks: Ints) -> float:
    if not len(r_peaks):
        return float(4 * np.std(wave))
    reach = round(_AROUND_R_S * RATE_HZ)
    heights = [np.ptp(wave[max(0, at - reach) : at + reach + 1]) for at in r_peaks]
    return max(float(np.median(heights)), 1e-3)
