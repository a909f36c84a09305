"""The process `vitalloom edge watch`: lamps, buzzer and loudspeaker beside the bed, driven by what the agent says.

It is small and apart from the agent, so that it is heard when the agent is dead. It opens no connection, knows no key
and no patient. Without anything to light or to sound it still writes every change to the log.
"""

import contextlib
import signal
import sys
import tempfile
import tomllib
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import Final

import msgspec

from edge import status as statuses
from edge.bedside.outputs import Aplay, Bedside, pins
from edge.bedside.signals import SHOWN, BedsideConfig, check, condition
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


def read_config(path: Path | None) -> tuple[BedsideConfig, list[Path]]:
    """The table `bedside` of an agent's file, and where that agent may leave its status. Other keys are not checked.

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
    """Read the status and show it until `stop` is set."""
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
    """Show every condition in turn, whatever the status of the agent: a test after connecting a lamp."""
    for what, shown in SHOWN.items():
        say(f"{what.value}: {shown.lamp}, {'with' if shown.tone else 'without'} a sound\n")
        began_ms = mono_ms()
        while not stop.is_set() and mono_ms() - began_ms < _REHEARSED_MS:
            bedside.show(what, mono_ms())
            stop.wait(_TICK_S)


def main(config_path: Path | None, *, rehearsal: bool = False) -> int:
    """The command `vitalloom edge watch`.

    Raises:
        BadEdgeConfig: the message names the problem and the fix.
    """
    logs.set_up()
    supervisor = SystemdNotifier.from_environment()
    config, places = read_config(config_path)
    stop = Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    if not config.pins and not config.sound:
        _log.warning("no pin and no sound is configured; changes are only logged", fix="set pins or sound in [bedside]")
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
    """A status that cannot be read counts as none: the bedside then sounds, so that staff come."""
    with contextlib.suppress(OSError):
        return statuses.read(places)
    return None
