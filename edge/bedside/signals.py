"""Lamps, flashes and tones at the bedside for each condition of the agent, after IEC 60601-1-8.

Pure: a status and a time in, lamps and sounds out. Numbers that were taken from secondary sources and not checked
against the text of the standard are marked *unverified*; nothing here was measured with a sound-level meter.
"""

import io
import math
import wave
from array import array
from enum import StrEnum
from functools import cache
from typing import Final, NamedTuple

import msgspec

from edge.errors import BadEdgeConfig
from edge.status import Status, age_ms

SILENT_MS: Final = 60_000
"""An agent without progress for so long counts as dead, a data centre without an acknowledgement as silent."""
FAILURE_SOUND_MS: Final = 120_000
"""For so long at least the failure of an alarm system itself is to be heard; after that it is only recalled."""
RECALL_MS: Final = 60_000


class Condition(StrEnum):
    """State of the agent as shown at the bedside; the first that applies is shown."""

    DEAD = "the agent does nothing"
    ALARM = "a high alarm, and the data centre is silent"
    STUCK = "readings cannot be kept"
    ALONE = "the data centre is silent"
    WELL = "all is well"


class Tone(NamedTuple):
    """One burst: pulses in milliseconds, on and then off."""

    pulses: tuple[tuple[int, int], ...]
    every_ms: int

    @property
    def long_ms(self) -> int:
        return sum(on + off for on, off in self.pulses)


# High: ten pulses in two groups of three and two. Pulses of 75-200 ms every 2.5-15 s (unverified); the pauses within
# a burst are ours.
_FIVE: Final = ((150, 100), (150, 100), (150, 350), (150, 100), (150, 900))
HIGH: Final = Tone((*_FIVE, *_FIVE), every_ms=6_000)
# Medium: three pulses of 125-250 ms every 2.5-30 s (unverified).
MEDIUM: Final = Tone(((200, 200), (200, 200), (200, 200)), every_ms=7_500)

FAST_MS: Final = 500  # red, 2 Hz: 1.4-2.8 Hz (unverified), half of the time on (20-60 %, unverified)
SLOW_MS: Final = 1_667  # yellow, 0.6 Hz: 0.4-0.8 Hz (unverified)


class BedsideSignal(NamedTuple):
    """How a condition looks and sounds."""

    lamp: str  # red, yellow, green
    period_ms: int  # of the flash; 0: steady
    tone: Tone | None


SHOWN: Final = {
    Condition.DEAD: BedsideSignal("red", FAST_MS, MEDIUM),
    Condition.ALARM: BedsideSignal("red", FAST_MS, HIGH),
    Condition.STUCK: BedsideSignal("yellow", SLOW_MS, None),
    Condition.ALONE: BedsideSignal("yellow", SLOW_MS, None),
    Condition.WELL: BedsideSignal("green", 0, None),
}


class Outputs(NamedTuple):
    """Lamps and sounds at one moment."""

    lamps: frozenset[str]
    buzzer: bool
    burst: int | None  # number of the burst that runs, counted from the beginning of the condition


class BedsideConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Lamps and sounders connected to this machine: pins by their BCM number, a sound card by its ALSA name."""

    red: int | None = None
    yellow: int | None = None
    green: int | None = None
    buzzer: int | None = None
    sound: str = ""  # for instance "default"; empty: none
    silent_after_s: float = SILENT_MS / 1_000

    @property
    def pins(self) -> dict[str, int]:
        named = {"red": self.red, "yellow": self.yellow, "green": self.green, "buzzer": self.buzzer}
        return {name: pin for name, pin in named.items() if pin is not None}


def check(config: BedsideConfig) -> None:
    """Raise BadEdgeConfig, naming the key and the fix, if the bedside cannot work with these settings."""
    if not 10 <= config.silent_after_s <= 600:
        raise BadEdgeConfig("bedside.silent_after_s must be between 10 and 600")
    for name, pin in config.pins.items():
        if not 0 <= pin <= 27:
            raise BadEdgeConfig(f"bedside.{name}: {pin} is no pin of a Pi's header; BCM numbers are 0 to 27")
        if [*config.pins.values()].count(pin) > 1:
            raise BadEdgeConfig(f"bedside.{name}: pin {pin} is used twice; give each signal its own pin")


def condition(status: Status | None, mono_ms: int, *, since_ms: int, silent_ms: int = SILENT_MS) -> Condition:
    """What there is to say.

    Args:
        status: the newest, or None if there is none.
        mono_ms: now.
        since_ms: since when this is watched; an agent that was never seen has so long to appear.
    """
    progress_ms = None if status is None else age_ms(status.progress_ms, mono_ms)
    if status is None or progress_ms is None:
        return Condition.DEAD if mono_ms - since_ms > silent_ms else Condition.ALONE
    if progress_ms > silent_ms:
        return Condition.DEAD
    if status.sounding:
        return Condition.ALARM
    if status.stuck:
        return Condition.STUCK
    heard_ms = status.started_ms if status.heard_ms is None else status.heard_ms
    is_alone = not all(status.lanes.values()) or mono_ms - heard_ms > silent_ms
    return Condition.ALONE if is_alone or status.stopped else Condition.WELL


def outputs(what: Condition, for_ms: int) -> Outputs:
    """Lamps and buzzer, so long after a condition began."""
    shown = SHOWN[what]
    lit = not shown.period_ms or for_ms % shown.period_ms < shown.period_ms // 2
    lamps = frozenset({shown.lamp} if lit else ())
    if shown.tone is None:
        return Outputs(lamps, buzzer=False, burst=None)
    number, within_ms = _burst_at(what, shown.tone, for_ms)
    if within_ms >= shown.tone.long_ms:
        return Outputs(lamps, buzzer=False, burst=None)
    return Outputs(lamps, buzzer=_is_on(shown.tone, within_ms), burst=number)


def _burst_at(what: Condition, tone: Tone, for_ms: int) -> tuple[int, int]:
    """Number of the burst that began last, and how long ago."""
    if what is not Condition.DEAD or for_ms < FAILURE_SOUND_MS:
        return divmod(for_ms, tone.every_ms)
    number, within_ms = divmod(for_ms - FAILURE_SOUND_MS, RECALL_MS)
    return FAILURE_SOUND_MS // tone.every_ms + number, within_ms


def _is_on(tone: Tone, within_ms: int) -> bool:
    for on, off in tone.pulses:
        if within_ms < on + off:
            return within_ms < on
        within_ms -= on + off
    return False


RATE_HZ: Final = 16_000
FUNDAMENTAL_HZ: Final = 523.25
"""Within 150-1000 Hz, with at least four harmonics within 300-4000 Hz whose levels are within 15 dB of each other."""
HARMONICS: Final = (1.0, 0.8, 0.7, 0.6, 0.5)
_RISE_MS: Final = 15  # a pulse that begins at once would click


@cache
def wav(tone: Tone) -> bytes:
    """One burst for a sound card: 16 bit, one channel."""
    samples = array("h")
    for on, off in tone.pulses:
        samples.extend(_pulse(on))
        samples.extend([0] * (off * RATE_HZ // 1_000))
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setparams((1, 2, RATE_HZ, len(samples), "NONE", ""))
        file.writeframes(samples.tobytes())
    return out.getvalue()


@cache
def _pulse(long_ms: int) -> "array[int]":
    count, rise = long_ms * RATE_HZ // 1_000, _RISE_MS * RATE_HZ // 1_000
    loudest = 0.9 * 32_767 / sum(HARMONICS)
    turns = [2 * math.pi * FUNDAMENTAL_HZ * (n + 1) / RATE_HZ for n in range(len(HARMONICS))]
    return array(
        "h",
        (
            int(
                loudest
                * min(1.0, at / rise, (count - at) / rise)
                * sum(level * math.sin(turn * at) for level, turn in zip(HARMONICS, turns, strict=True))
            )
            for at in range(count)
        ),
    )
