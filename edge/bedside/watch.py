"""The process `vitalloom edge watch`: lamps, buzzer and loudspeaker beside the bed, driven by what the agent says.

It is small and apart from the agent, so that it is heard when the agent is dead. It opens no connection, knows no key
and no patient. Without anything to light or to sound it still writes every change to the log.
"""

import contextlib
import signal
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Event
from types import TracebackType
from typing import Any, Final, Protocol, Self

import msgspec

from edge import status as statuses
from edge.bedside.signals import SHOWN, BedsideConfig, Condition, Tone, check, condition, outputs, wav
from edge.errors import BadEdgeConfig
from edge.status import Status
from runtime import logs
from runtime.systemd import SystemdNotifier

CONFIG: Final = Path("/etc/vitalloom/edge.toml")
"""Where `vitalloom edge setup` puts it."""

_LOOK_MS: Final = 1_000
_TICK_S: Final = 0.02  # while something flashes or sounds
_REHEARSED_MS: Final = 7_000  # longer than a burst of ten pulses

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
    """What is connected here.

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
        """Nothing flashes and nothing sounds."""
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
    """Plays through ALSA's own program. One that is missing or fails is said once, with the cure.

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
                [*self._command, str(path)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )  # fmt: skip
        except OSError as error:
            self._playing = None
            self._tell(f"{error.strerror}; install it: sudo apt-get install alsa-utils")

    def close(self) -> None:
        if self._playing is not None:
            self._playing.terminate()
            self._playing.wait()

    def _tell(self, problem: str) -> None:
        if not self._failed:
            _log.error("nothing is heard from the sound card", program=self._command[0], problem=problem)
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
    """Pins of this machine as switches. What cannot be had is said with the cure, and done without."""
    if not numbers:
        return {}
    try:
        import gpiozero
        from gpiozero.exc import GPIOZeroError
    except ImportError:
        _log.error("no lamp and no buzzer", problem="gpiozero is not installed", cure="pip install 'vitalloom[pi]'")
        return {}
    found: dict[str, Switch] = {}
    for name, number in numbers.items():
        try:
            found[name] = _Pin(gpiozero.DigitalOutputDevice(number))
        except (GPIOZeroError, OSError, ImportError) as error:
            _log.error(
                "a pin cannot be used", name=name, pin=number, problem=str(error),
                cure="is lgpio installed (pip install 'vitalloom[pi]'), the user in group gpio, the pin free?",
            )  # fmt: skip
    return found


def read_config(path: Path | None) -> tuple[BedsideConfig, list[Path]]:
    """The table `bedside` of an agent's file, and where that agent may leave its status. The rest is not ours to judge.

    Raises:
        BadEdgeConfig: no such file, or something in these keys that cannot work.
    """
    path = path or CONFIG
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
        config = msgspec.convert(table.get("bedside", {}), BedsideConfig)
    except (OSError, UnicodeDecodeError) as error:
        raise BadEdgeConfig(f"cannot be read ({error}); name the agent's file: --config FILE") from error
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise BadEdgeConfig(f"{path}: bedside: {error}") from error
    check(config)
    home, told = path.resolve().parent, table.get("status_file")
    data_dir, configured = home / str(table.get("data_dir", "")), None if told is None else home / str(told)
    return config, statuses.places(data_dir, configured)


def watch(
    bedside: Bedside,
    read: Callable[[], Status | None],
    stop: Event,
    supervisor: SystemdNotifier,
    *,
    silent_ms: int,
    mono_ms: Callable[[], int] = statuses.monotonic_ms,
) -> None:
    """Look and show until told to stop."""
    since_ms = mono_ms()
    looked_ms, status = since_ms - _LOOK_MS, None
    supervisor.ready()
    while not stop.is_set():
        now_ms = mono_ms()
        if now_ms - looked_ms >= _LOOK_MS:
            looked_ms, status = now_ms, read()
            if status is not None and status.progress_ms <= now_ms:
                # A service that is stopped takes its folder along; from its last progress on it has its minute.
                since_ms = max(since_ms, status.progress_ms)
        what = condition(status, now_ms, since_ms=since_ms, silent_ms=silent_ms)
        bedside.show(what, now_ms)
        if looked_ms == now_ms:
            supervisor.alive(what.value)
        stop.wait(_LOOK_MS / 1_000 if bedside.is_steady else _TICK_S)
    supervisor.stopping()


def rehearse(
    bedside: Bedside, stop: Event, say: Callable[[str], object], *, mono_ms: Callable[[], int] = statuses.monotonic_ms
) -> None:
    """Show every condition in turn, whatever the agent says: for whoever has just connected a lamp."""
    for what, shown in SHOWN.items():
        say(f"{what.value}: {shown.lamp}, {'with' if shown.tone else 'without'} a sound\n")
        began_ms = mono_ms()
        while not stop.is_set() and mono_ms() - began_ms < _REHEARSED_MS:
            bedside.show(what, mono_ms())
            stop.wait(_TICK_S)


def main(config_path: Path | None, *, rehearsal: bool = False) -> int:
    """The command `vitalloom edge watch`.

    Raises:
        BadEdgeConfig: what is wrong, and the cure.
    """
    logs.set_up()
    supervisor = SystemdNotifier.from_environment()
    config, places = read_config(config_path)
    stop = Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    if not config.pins and not config.sound:
        _log.warning("nothing is connected; changes are only logged", cure="name pins or a sound in [bedside]")
    # lgpio makes a pipe in the folder that it is started in (joan2937/lg#22), and a service's is closed to it.
    with tempfile.TemporaryDirectory(prefix="vitalloom-") as folder, contextlib.chdir(folder):
        sounds = Aplay(config.sound, Path(folder)) if config.sound else None
        with Bedside(pins(config.pins), sounds) as bedside:
            if rehearsal:
                rehearse(bedside, stop, sys.stdout.write)
                return 0
            watch(bedside, lambda: _seen(places), stop, supervisor, silent_ms=int(config.silent_after_s * 1_000))
    return 0


def _seen(places: list[Path]) -> Status | None:
    """One that may not be read is none: then it sounds, and somebody comes."""
    with contextlib.suppress(OSError):
        return statuses.read(places)
    return None
