"""What is seen and heard beside the bed, and when."""

import io
import wave
from typing import Any

import numpy as np
import pytest

from edge.bedside.signals import (
    FAILURE_SOUND_MS,
    HIGH,
    MEDIUM,
    RATE_HZ,
    RECALL_MS,
    SHOWN,
    BedsideConfig,
    Condition,
    Tone,
    check,
    condition,
    outputs,
    wav,
)
from edge.errors import BadEdgeConfig
from tests.edge.statuses import NOW_MS, a_status


@pytest.mark.parametrize(
    ("changed", "wanted"),
    [
        ({}, Condition.WELL),
        ({"progress_ms": NOW_MS - 60_000}, Condition.WELL),
        ({"progress_ms": NOW_MS - 60_001}, Condition.DEAD),
        ({"progress_ms": NOW_MS + 1}, Condition.ALONE),  # of before the machine was started
        ({"progress_ms": NOW_MS - 60_001, "sounding": True}, Condition.DEAD),
        ({"sounding": True}, Condition.ALARM),
        ({"sounding": True, "lanes": {"readings": False}}, Condition.ALARM),
        ({"stuck": True}, Condition.STUCK),
        ({"lanes": {"readings": True, "alarms": False}}, Condition.ALONE),
        ({"heard_ms": NOW_MS - 60_001}, Condition.ALONE),
        ({"heard_ms": None, "started_ms": NOW_MS - 5_000}, Condition.WELL),  # it has only begun
        ({"heard_ms": None, "started_ms": NOW_MS - 60_001}, Condition.ALONE),
        ({"stopped": True}, Condition.ALONE),
    ],
)
def test_the_first_condition_that_is_true_is_shown(changed: dict[str, Any], wanted: Condition) -> None:
    assert condition(a_status(**changed), NOW_MS, since_ms=NOW_MS) is wanted


def test_an_agent_that_was_never_seen_has_a_minute_to_appear() -> None:
    assert condition(None, 60_000, since_ms=0) is Condition.ALONE
    assert condition(None, 60_001, since_ms=0) is Condition.DEAD


def test_lamps_flash_as_the_table_says() -> None:
    #  red, 2 Hz      |##..|##..|          green      |########|
    #                 0    500  1000 ms               0
    assert [bool(outputs(Condition.ALARM, at).lamps) for at in (0, 249, 250, 499, 500)] == [1, 1, 0, 0, 1]
    assert all(outputs(Condition.WELL, at).lamps == {"green"} for at in range(0, 5_000, 100))
    assert {lamp for at in range(0, 5_000, 50) for lamp in outputs(Condition.ALONE, at).lamps} == {"yellow"}


@pytest.mark.parametrize(
    ("what", "low_hz", "high_hz"),
    [(Condition.ALARM, 1.4, 2.8), (Condition.DEAD, 1.4, 2.8), (Condition.ALONE, 0.4, 0.8)],
)
def test_flashes_lie_within_what_is_said_of_the_standard(what: Condition, low_hz: float, high_hz: float) -> None:
    assert low_hz <= 1_000 / SHOWN[what].period_ms <= high_hz


@pytest.mark.parametrize(
    ("tone", "pulses", "shortest_ms", "longest_ms", "soonest_ms", "latest_ms"),
    [(HIGH, 10, 75, 200, 2_500, 15_000), (MEDIUM, 3, 125, 250, 2_500, 30_000)],
)
def test_bursts_lie_within_what_is_said_of_the_standard(
    tone: Tone, pulses: int, shortest_ms: int, longest_ms: int, soonest_ms: int, latest_ms: int
) -> None:
    assert len(tone.pulses) == pulses
    assert all(shortest_ms <= on <= longest_ms for on, _ in tone.pulses)
    assert soonest_ms <= tone.every_ms <= latest_ms
    assert tone.long_ms < tone.every_ms


def test_a_high_burst_is_two_groups_of_three_and_two() -> None:
    pauses = [off for _, off in HIGH.pulses]

    assert pauses[:5] == pauses[5:]
    assert max(pauses[:2]) < pauses[2] < pauses[4]


@pytest.mark.parametrize("tone", [HIGH, MEDIUM])
def test_the_buzzer_follows_the_pulses(tone: Tone) -> None:
    what = next(one for one, shown in SHOWN.items() if shown.tone is tone)

    on = [outputs(what, at).buzzer for at in range(tone.every_ms)]

    rises = sum(now and not before for before, now in zip([False, *on], on, strict=False))
    assert rises == len(tone.pulses)
    assert sum(on) == sum(length for length, _ in tone.pulses)


def test_a_dead_agent_is_heard_for_two_minutes_and_recalled_every_minute() -> None:
    bursts = [outputs(Condition.DEAD, at).burst for at in range(0, FAILURE_SOUND_MS + 3 * RECALL_MS, 100)]
    first, later = bursts[: FAILURE_SOUND_MS // 100], bursts[FAILURE_SOUND_MS // 100 :]

    assert len(set(first) - {None}) == FAILURE_SOUND_MS // MEDIUM.every_ms
    assert len(set(later) - {None}) == 3
    assert max(one for one in first if one is not None) < min(one for one in later if one is not None)


@pytest.mark.parametrize("tone", [HIGH, MEDIUM])
def test_the_sound_has_its_harmonics_and_does_not_click(tone: Tone) -> None:
    with wave.open(io.BytesIO(wav(tone))) as file:
        assert file.getframerate() == RATE_HZ
        samples = np.frombuffer(file.readframes(file.getnframes()), np.int16).astype(float)
    assert len(samples) == sum((on * RATE_HZ // 1_000) + (off * RATE_HZ // 1_000) for on, off in tone.pulses)
    assert np.max(np.abs(samples)) < 32_767
    assert np.max(np.abs(np.diff(np.concatenate([[0.0], samples[:16]])))) < 1_000

    pulse = samples[: tone.pulses[0][0] * RATE_HZ // 1_000]
    power = np.abs(np.fft.rfft(pulse * np.hanning(len(pulse))))
    hertz = np.fft.rfftfreq(len(pulse), 1 / RATE_HZ)
    levels = [20 * np.log10(power[np.abs(hertz - 523.25 * n) < 15].max()) for n in range(1, 6)]
    assert max(levels) - min(levels) < 15  # dB; five of them within 300-4000 Hz


@pytest.mark.parametrize(
    ("config", "key"),
    [
        (BedsideConfig(red=28), "bedside.red"),
        (BedsideConfig(buzzer=-1), "bedside.buzzer"),
        (BedsideConfig(red=17, green=17), "pin 17 is used twice"),
        (BedsideConfig(silent_after_s=5), "bedside.silent_after_s"),
    ],
)
def test_pins_that_cannot_be_are_named(config: BedsideConfig, key: str) -> None:
    with pytest.raises(BadEdgeConfig, match=key):
        check(config)
