"""ECG and PPG: beats follow the rate, rhythms look like themselves, and a seed always gives the same recording."""

import numpy as np
import numpy.typing as npt
import pytest

from simulators import waveforms
from simulators.errors import BadWaveform
from simulators.waveforms import ECG_STEP_UV, Heart, HeartRhythm, Kind
from vitals.messages import Waveform

RATE_HZ = 250.0
FIBRILLATING = Heart(heart_rate=(120.0,), rhythm=HeartRhythm.ATRIAL_FIBRILLATION)


def recorded(kind: Kind = Kind.ECG, heart: Heart | None = None, *, seed: int = 1, duration_s: float = 60.0) -> Waveform:
    return waveforms.waveform(
        kind,
        heart or Heart(),
        stay_id="ab" * 16,
        at_ms=1_790_000_000_000,
        received_ms=1_790_000_060_000,
        duration_s=duration_s,
        sampling_rate_hz=RATE_HZ,
        rng=np.random.default_rng(seed),
    )


def samples(wave: Waveform) -> npt.NDArray[np.float64]:
    return np.frombuffer(wave.samples_uv, dtype="<i2").astype(np.float64)


def r_peaks_s(wave: Waveform) -> npt.NDArray[np.float64]:
    """A detector for clean ECG: the highest sample of each stretch above half a millivolt."""
    high = samples(wave) * ECG_STEP_UV / 1000 > 0.5
    edges = np.flatnonzero(np.diff(high.astype(int)))
    starts, ends = edges[::2] + 1, edges[1::2] + 1
    peaks = [start + int(np.argmax(samples(wave)[start:end])) for start, end in zip(starts, ends, strict=False)]
    return np.array(peaks) / RATE_HZ


@pytest.mark.parametrize("heart_rate", [40.0, 70.0, 120.0, 180.0])
def test_an_ecg_beats_at_the_heart_rate(heart_rate: float) -> None:
    intervals = np.diff(r_peaks_s(recorded(heart=Heart(heart_rate=(heart_rate,)))))

    assert 60 / intervals.mean() == pytest.approx(heart_rate, rel=0.03)


def test_the_heart_rate_may_change_along_the_way() -> None:
    peaks = r_peaks_s(recorded(heart=Heart(heart_rate=(60.0, 120.0))))

    first, last = np.diff(peaks[peaks < 15]).mean(), np.diff(peaks[peaks > 45]).mean()
    assert 60 / first < 75
    assert 60 / last > 105


def test_fibrillation_is_irregular_and_sinus_is_not() -> None:
    sinus = np.diff(r_peaks_s(recorded(heart=Heart(heart_rate=(120.0,)))))
    fibrillation = np.diff(r_peaks_s(recorded(heart=FIBRILLATING)))

    assert sinus.std() / sinus.mean() < 0.05
    assert 0.12 < fibrillation.std() / fibrillation.mean() < 0.30
    assert 60 / fibrillation.mean() == pytest.approx(120, rel=0.08)


def test_fibrillation_has_no_p_wave() -> None:
    def before_r(heart: Heart) -> float:
        """Height of the mean wave where P would be, over the level just before the next QRS."""
        wave, peaks = recorded(heart=heart, duration_s=120), None
        peaks = (r_peaks_s(wave) * RATE_HZ).astype(int)[3:-3]
        mean = np.mean([samples(wave)[peak - 60 : peak + 1] for peak in peaks], axis=0) * ECG_STEP_UV / 1000
        return float(mean[5:45].max() - mean[47:50].mean())

    assert before_r(Heart(heart_rate=(80.0,))) > 0.10
    assert before_r(Heart(heart_rate=(80.0,), rhythm=HeartRhythm.ATRIAL_FIBRILLATION)) < 0.08


def test_a_pulse_follows_each_beat() -> None:
    wave = samples(recorded(Kind.PPG, Heart(heart_rate=(60.0,), noise=0.0)))
    spectrum = np.abs(np.fft.rfft(wave - wave.mean()))
    frequency = np.fft.rfftfreq(wave.size, 1 / RATE_HZ)

    assert frequency[np.argmax(spectrum)] == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize("trouble", [Heart(noise=0.2), Heart(motion=1.0)])
def test_noise_and_motion_disturb(kind: Kind, trouble: Heart) -> None:
    def roughness(heart: Heart) -> float:
        return float(samples(recorded(kind, heart)).std())

    assert roughness(trouble) > 1.1 * roughness(Heart())


@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize("heart", [Heart(), FIBRILLATING, Heart(motion=1.0)])
def test_the_same_seed_is_the_same_recording(kind: Kind, heart: Heart) -> None:
    assert recorded(kind, heart).samples_uv == recorded(kind, heart).samples_uv
    assert recorded(kind, heart).samples_uv != recorded(kind, heart, seed=2).samples_uv


def test_a_waveform_says_what_it_is() -> None:
    wave = recorded(Kind.PPG, duration_s=10)

    assert (wave.kind, wave.sampling_rate_hz, len(wave.samples_uv)) == ("ppg", 250.0, 2 * 2_500)
    assert (wave.at_ms, wave.received_ms) == (1_790_000_000_000, 1_790_000_060_000)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"duration_s": 0.0}, "more than 0 s"),
        ({"sampling_rate_hz": 5.0}, "sampling_rate_hz"),
        ({"heart": Heart(heart_rate=())}, "heart_rate"),
        ({"heart": Heart(heart_rate=(0.0,))}, "heart_rate"),
    ],
)
def test_an_impossible_waveform_is_refused(change: dict[str, object], complaint: str) -> None:
    asked: dict[str, object] = {"duration_s": 10.0, "sampling_rate_hz": 250.0, "heart": Heart()} | change
    heart = asked.pop("heart")

    with pytest.raises(BadWaveform, match=complaint):
        waveforms.waveform(
            Kind.ECG,
            heart,
            stay_id="",
            at_ms=0,
            received_ms=0,
            rng=np.random.default_rng(1),
            **asked,  # type: ignore[arg-type]
        )
