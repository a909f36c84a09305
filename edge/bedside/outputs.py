"""Lamps, buzzer and loudspeaker beside the bed: pins of a Raspberry Pi, and a sound card through `aplay`."""

import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from edge.bedside.signals import SHOWN, Condition, Tone, outputs, wav
from runtime import logs

_log = logs.get(__name__)


class Switch(Protocol):
    """Something that is on or off."""

    def set(self, on: bool) -> None: ...
    def close(self) -> None: ...


class Sounds(Protocol):
    """Something that plays bursts."""

    def play(self, tone: Tone) -> None: ...
    def close(self) -> None: ...


class Bedside:
    """The lamps, buzzer and loudspeaker of one bedside.

    Args:
        switches: by name: red, yellow, green, buzzer.
        sounds: None: there is no loudspeaker.
    """

    def __init__(self, switches: Mapping[str, Switch], sounds: Sounds | None) -> None:
        self._switches = switches
        self._sounds = sounds
        self._condition: Condition | None = None
        self._since_ms = 0
        self._burst: int | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for switch in self._switches.values():
            switch.set(False)
            switch.close()
        if self._sounds is not None:
            self._sounds.close()

    @property
    def is_steady(self) -> bool:
        """Whether no lamp flashes and no sound plays."""
        shown = None if self._condition is None else SHOWN[self._condition]
        return shown is not None and not shown.period_ms and shown.tone is None

    def show(self, what: Condition, mono_ms: int) -> None:
        """Light and sound what belongs to this moment."""
        if what is not self._condition:
            told = _log.info if what is Condition.WELL else _log.warning
            told("bedside", shows=what.value, before="nothing" if self._condition is None else self._condition.value)
            self._condition, self._since_ms, self._burst = what, mono_ms, None
        now = outputs(what, mono_ms - self._since_ms)
        for name, switch in self._switches.items():
            switch.set(now.buzzer if name == "buzzer" else name in now.lamps)
        tone = SHOWN[what].tone
        if tone is not None and now.burst is not None and now.burst != self._burst and self._sounds is not None:
            self._sounds.play(tone)
        self._burst = now.burst if now.burst is not None else self._burst


class Aplay:
    """Plays through ALSA's own program. If it is missing or fails, that is logged once, with the fix.

    Args:
        device: as `aplay -L` lists them; "default" is one.
        folder: where the bursts may lie.
    """

    def __init__(self, device: str, folder: Path, *, program: str = "aplay") -> None:
        self._command = (program, "--quiet", "--device", device)
        self._folder = folder
        self._playing: subprocess.Popen[bytes] | None = None
        self._failed = False

    def play(self, tone: Tone) -> None:
        if self._playing is not None and (code := self._playing.poll()) is None:
            return  # the last burst has not ended; two at once are none
        if self._playing is not None and code != 0:
            self._tell(f"it ended with {code}; is the name right? `aplay -L` lists them; is the user in group audio?")
        path = self._folder / f"{len(tone.pulses)}.wav"
        if not path.exists():
            path.write_bytes(wav(tone))
        try:
            self._playing = subprocess.Popen(  # noqa: S603 - the device's name is the site's own
                [*self._command, str(path)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        except OSError as error:
            self._playing = None
            self._tell(f"{error.strerror}; install it: sudo apt-get install alsa-utils")

    def close(self) -> None:
        if self._playing is not None:
            self._playing.terminate()
            self._playing.wait()

    def _tell(self, problem: str) -> None:
        if not self._failed:
            _log.error("cannot play on the sound card", program=self._command[0], problem=problem)
        self._failed = True


class _Pin:
    def __init__(self, device: Any) -> None:
        self._device = device

    def set(self, on: bool) -> None:
        if bool(self._device.value) != on:
            self._device.value = int(on)

    def close(self) -> None:
        self._device.close()


def pins(numbers: Mapping[str, int]) -> dict[str, Switch]:
    """Pins of this machine as switches. A pin that cannot be used is logged with the fix, and left out."""
    if not numbers:
        return {}
    try:
        import gpiozero
        from gpiozero.exc import GPIOZeroError
    except ImportError:
        _log.error("no lamp and no buzzer", problem="gpiozero is not installed", fix="pip install 'vitalloom[pi]'")
        return {}
    found: dict[str, Switch] = {}
    for name, number in numbers.items():
        try:
            found[name] = _Pin(gpiozero.DigitalOutputDevice(number))
        except (GPIOZeroError, OSError, ImportError) as error:
            _log.error(
                "a pin cannot be used",
                name=name,
                pin=number,
                problem=str(error),
                fix="is lgpio installed (pip install 'vitalloom[pi]'), the user in group gpio, the pin free?",
            )
    return found
