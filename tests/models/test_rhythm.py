"""The rhythm model: beat detection, scaling, classification and the stated reason."""

import numpy as np
import pytest

from models.errors import UnusableEcg
from models.rhythm import RhythmModel, without
from models.rhythm_signal import BEAT_FEATURES, RATE_HZ, prepare
from tests.models.made_up import heartbeat_mv, released


@pytest.fixture(scope="module")
def model() -> RhythmModel:
    return RhythmModel(released("rhythm"))


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("rate_hz", [250, 300, 360, 500])
def test_every_beat_is_found_at_any_sampling_rate_and_in_an_inverted_lead(sign: int, rate_hz: int) -> None:
    ecg = prepare(sign * heartbeat_mv(irregular=False, rate_hz=rate_hz), rate_hz)

    expected = np.arange(0.4, 20, 0.85) * RATE_HZ
    assert len(ecg.r_peaks) == len(expected)
    assert np.abs(ecg.r_peaks - expected).max() <= 3
    assert ecg.beats.shape == (len(expected), BEAT_FEATURES)


@pytest.mark.parametrize("gain", [0.1, 1.0, 5.0])
def test_the_amplitude_of_a_recording_does_not_matter(gain: float) -> None:
    one, other = (prepare(factor * heartbeat_mv(irregular=True), 300) for factor in (1.0, gain))

    np.testing.assert_allclose(one.wave, other.wave, atol=1e-6)


@pytest.mark.parametrize(
    ("wave", "rate_hz", "problem"),
    [
        (np.zeros(3_000), 300, "flat"),
        (np.zeros(600), 300, "at least 5 s"),
        (np.full(3_000, np.nan), 300, "a sample is no number"),
        (heartbeat_mv(irregular=False) / 1_000, 300, "another unit"),
        (heartbeat_mv(irregular=False) * 1_000, 300, "another unit"),
        (heartbeat_mv(irregular=False, seconds=62), 300, "judged in pieces"),
        (np.zeros(3_000), 50, "between 100 and 4000"),
    ],
)
def test_an_unusable_recording_is_refused(wave: np.ndarray, rate_hz: int, problem: str) -> None:
    with pytest.raises(UnusableEcg, match=problem):
        prepare(wave, rate_hz)


def test_regular_beats_are_no_fibrillation_and_irregular_beats_without_p_waves_are(model: RhythmModel) -> None:
    regular = model.judge(heartbeat_mv(irregular=False, seconds=30), 300)
    irregular = model.judge(heartbeat_mv(irregular=True, seconds=30), 300)

    assert irregular.scores[1] > 0.5 > regular.scores[1]
    assert irregular.label == "A"


def test_an_unusable_recording_is_not_judged(model: RhythmModel) -> None:
    said = model.judge(np.zeros(3_000), 300)

    assert said.label == ""
    assert np.isnan(said.scores).all()
    assert said.reason.startswith("not judged: amplitude of 0 mV: flat line")


def test_a_recording_with_one_beat_is_not_judged(model: RhythmModel) -> None:
    wave = np.zeros(6_000)
    wave[3_000:3_012] = 1.0

    said = model.judge(wave, 300)

    assert said.label == ""
    assert "flat line" in said.reason


def test_a_flat_line_is_never_part_of_a_normal_rhythm(model: RhythmModel) -> None:
    beats = heartbeat_mv(irregular=False, seconds=20)
    stopped = np.concatenate([beats[:2_400], np.zeros(1_500), beats[2_400:]])

    assert model.judge(beats, 300).label == "N"
    said = model.judge(stopped, 300)

    assert said.label != "N"
    assert "flat line from 8 to 13 s: asystole, or electrode off" in said.reason


@pytest.mark.parametrize("pause_s", [1.0, 2.0])
def test_a_short_pause_is_left_to_the_model(model: RhythmModel, pause_s: float) -> None:
    beats = heartbeat_mv(irregular=False, seconds=20)
    slow = np.concatenate([beats[:2_400], np.zeros(round(pause_s * 300)), beats[2_400:]])

    assert "flat line" not in model.judge(slow, 300).reason


def test_the_reason_names_the_most_important_part_of_the_recording(model: RhythmModel) -> None:
    said = model.judge(heartbeat_mv(irregular=True, seconds=30), 300)

    assert said.reason.startswith("mainly the ")
    assert "intervals vary by" in said.reason


@pytest.mark.parametrize("part", ["intervals between beats", "shapes of beats", "wave between them"])
def test_removing_one_part_of_a_recording_keeps_the_others(part: str) -> None:
    ecg = prepare(heartbeat_mv(irregular=True), 300)
    less = without(ecg, part)

    changed = (
        not np.array_equal(ecg.beats[:, -6:], less.beats[:, -6:]),
        not np.array_equal(ecg.beats[:, :-6], less.beats[:, :-6]),
        not np.array_equal(ecg.wave, less.wave),
    )
    assert changed == tuple(part == one for one in ("intervals between beats", "shapes of beats", "wave between them"))
