"""Lamps, buzzer and loudspeaker beside the bed: with gpiozero's own simulated pins, and with none."""

import builtins
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import Any

import gpiozero
import pytest
from gpiozero.pins.mock import MockFactory

import edge.bedside.watch
from edge import status as statuses
from edge.bedside.outputs import Aplay, Bedside, pins
from edge.bedside.signals import HIGH, MEDIUM, Condition, Tone
from edge.bedside.watch import main, read_config, rehearse, watch
from edge.errors import BadEdgeConfig
from runtime.systemd import SystemdNotifier
from tests.edge.statuses import NOW_MS, a_status
from tests.patience import PATIENCE_S

ROOT = Path(__file__).parents[3]
NAMED = {"red": 17, "yellow": 27, "green": 22, "buzzer": 23}


@pytest.fixture
def header() -> Iterator[MockFactory]:
    """The pins of a Pi that is not there."""
    before = gpiozero.Device.pin_factory
    gpiozero.Device.pin_factory = MockFactory()
    yield gpiozero.Device.pin_factory
    gpiozero.Device.pin_factory.reset()
    gpiozero.Device.pin_factory = before


class Heard:
    def __init__(self) -> None:
        self.bursts: list[Tone] = []

    def play(self, tone: Tone) -> None:
        self.bursts.append(tone)

    def close(self) -> None: ...


def lit(header: MockFactory) -> set[str]:
    return {name for name, number in NAMED.items() if header.pin(number).state}


def test_lamps_and_buzzer_follow_the_condition_and_go_off_at_the_end(header: MockFactory) -> None:
    with Bedside(pins(NAMED), None) as bedside:
        bedside.show(Condition.WELL, 0)
        assert lit(header) == {"green"}
        assert bedside.is_steady

        bedside.show(Condition.ALARM, 1_000)
        assert lit(header) == {"red", "buzzer"}
        bedside.show(Condition.ALARM, 1_300)  # between two flashes, in the second pulse
        assert lit(header) == {"buzzer"}
        assert not bedside.is_steady

        bedside.show(Condition.ALONE, 2_000)
        assert lit(header) == {"yellow"}
    assert lit(header) == set()


def test_bursts_are_played_once_each_and_begin_with_the_condition() -> None:
    heard = Heard()
    bedside = Bedside({}, heard)

    for at in range(0, 13_000, 20):
        bedside.show(Condition.ALARM, at)
    assert heard.bursts == [HIGH] * 3  # at 0, 6 and 12 s
    bedside.show(Condition.WELL, 13_000)
    bedside.show(Condition.DEAD, 13_020)
    assert heard.bursts == [HIGH] * 3 + [MEDIUM]


def test_every_change_is_logged_also_with_nothing_connected(caplog: pytest.LogCaptureFixture) -> None:
    bedside = Bedside({}, None)

    with caplog.at_level("INFO"):
        for at, what in enumerate([Condition.WELL, Condition.WELL, Condition.ALARM]):
            bedside.show(what, at)

    assert [record.levelname for record in caplog.records if record.message == "bedside"] == ["INFO", "WARNING"]


def test_without_the_library_of_the_pins_the_fix_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = builtins.__import__

    def without(name: str, *arguments: Any) -> Any:
        if name.startswith("gpiozero"):
            raise ModuleNotFoundError(name=name)
        return real(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", without)

    assert pins(NAMED) == {}
    assert "pip install 'vitalloom[pi]'" in caplog.records[0].vitalloom_facts["fix"]  # type: ignore[attr-defined]


def test_a_pin_that_is_taken_is_named_and_the_others_work(
    header: MockFactory, caplog: pytest.LogCaptureFixture
) -> None:
    with gpiozero.LED(17):
        switches = pins(NAMED)

    assert set(switches) == {"yellow", "green", "buzzer"}
    assert caplog.records[0].vitalloom_facts["pin"] == 17  # type: ignore[attr-defined]
    for switch in switches.values():
        switch.close()


@pytest.mark.services
def test_a_sound_goes_to_the_program_of_alsa(tmp_path: Path) -> None:
    program = tmp_path / "aplay"
    program.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/played\n', encoding="utf-8")
    program.chmod(0o755)
    sounds = Aplay("plughw:0", tmp_path, program=str(program))

    sounds.play(HIGH)
    assert sounds._playing is not None
    sounds._playing.wait(PATIENCE_S)

    assert (tmp_path / "played").read_text() == f"--quiet --device plughw:0 {tmp_path}/10.wav\n"
    assert (tmp_path / "10.wav").read_bytes()[:4] == b"RIFF"


@pytest.mark.services
@pytest.mark.parametrize(
    ("program", "fix"), [("/nowhere/aplay", "apt-get install alsa-utils"), ("/bin/false", "aplay -L")]
)
def test_a_sound_that_is_not_heard_is_said_once(
    program: str, fix: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sounds = Aplay("default", tmp_path, program=program)

    for _ in range(3):
        sounds.play(MEDIUM)
        if sounds._playing is not None:
            sounds._playing.wait(PATIENCE_S)

    assert len(caplog.records) == 1
    assert fix in caplog.records[0].vitalloom_facts["problem"]  # type: ignore[attr-defined]


def test_it_sounds_when_the_agent_stands_still_and_is_quiet_when_it_goes_on(tmp_path: Path) -> None:
    #   progress   x  x  x                        x
    #   shown      well     ...   well | DEAD     | well
    now_ms, stop, heard, shown = NOW_MS, Event(), Heard(), []

    class Counted(Bedside):
        is_steady = False

        def show(self, what: Condition, mono_ms: int) -> None:
            nonlocal now_ms
            shown.append(what)
            super().show(what, mono_ms)
            now_ms += 1_000
            if now_ms == NOW_MS + 70_000:
                statuses.write(file, a_status(progress_ms=now_ms, mono_ms=now_ms, heard_ms=now_ms))
            if now_ms > NOW_MS + 75_000:
                stop.set()

    file = tmp_path / "status"
    statuses.write(file, a_status(progress_ms=NOW_MS, heard_ms=NOW_MS + 60_000))
    stop.wait = lambda *_: None  # type: ignore[method-assign,assignment]

    watch(
        Counted({}, heard),
        lambda: statuses.read(file),
        stop,
        SystemdNotifier(),
        silent_ms=60_000,
        mono_ms=lambda: now_ms,
    )

    assert shown[60] is Condition.WELL
    assert shown[61:70] == [Condition.DEAD] * 9
    assert shown[70:] == [Condition.WELL] * len(shown[70:])
    assert heard.bursts == [MEDIUM] * 2


def test_a_status_that_is_taken_away_has_its_minute_from_the_last_progress_on() -> None:
    now_ms, stop, shown = NOW_MS, Event(), []

    class Counted(Bedside):
        is_steady = False

        def show(self, what: Condition, mono_ms: int) -> None:
            nonlocal now_ms
            shown.append(what)
            now_ms += 1_000
            if len(shown) == 70:
                stop.set()

    stop.wait = lambda *_: None  # type: ignore[method-assign,assignment]
    there = a_status(progress_ms=NOW_MS + 2_000, heard_ms=NOW_MS)

    watch(
        Counted({}, None), lambda: there if now_ms <= NOW_MS + 4_000 else None, stop, SystemdNotifier(),
        silent_ms=60_000, mono_ms=lambda: now_ms,
    )  # fmt: skip

    assert shown[2:5] == [Condition.WELL] * 3
    assert shown[5:63] == [Condition.ALONE] * 58
    assert shown[63:] == [Condition.DEAD] * 7


def test_whoever_connects_a_lamp_sees_and_hears_everything_once(header: MockFactory) -> None:
    now_ms, stop, heard, seen, said = 0, Event(), Heard(), set(), []

    def passes(_: float) -> None:
        nonlocal now_ms
        now_ms += 20
        seen.update(lit(header))

    stop.wait = passes  # type: ignore[method-assign,assignment]
    with Bedside(pins(NAMED), heard) as bedside:
        rehearse(bedside, stop, said.append, mono_ms=lambda: now_ms)

    assert seen == {"red", "yellow", "green", "buzzer"}
    assert set(heard.bursts) == {HIGH, MEDIUM}
    assert [line.split(":")[0] for line in said] == [what.value for what in Condition]


def test_the_library_of_the_pins_finds_a_folder_that_it_may_write_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "edge.toml"
    config.write_text('data_dir = "data"\n[bedside]\nred = 17\n', encoding="utf-8")
    began, begun_in = Path.cwd(), []

    def none_there(_: object) -> dict[str, Any]:
        begun_in.append(Path.cwd())
        return {}

    monkeypatch.setattr(edge.bedside.watch, "pins", none_there)
    monkeypatch.setattr(edge.bedside.watch, "rehearse", lambda *_: None)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.setattr("runtime.logs.set_up", lambda: None)

    assert main(config, rehearsal=True) == 0
    assert begun_in[0].name.startswith("vitalloom-")
    assert Path.cwd() == began


def test_what_is_not_there_or_not_toml_is_named(tmp_path: Path) -> None:
    bad = tmp_path / "edge.toml"
    bad.write_text("[bedside]\nrde = 17\n", encoding="utf-8")

    with pytest.raises(BadEdgeConfig, match="rde"):
        read_config(bad)
    with pytest.raises(BadEdgeConfig, match="--config FILE"):
        read_config(tmp_path / "nowhere.toml")


@pytest.mark.services
def test_the_process_tells_its_supervisor_says_what_it_sees_and_needs_no_big_library(tmp_path: Path) -> None:
    config = tmp_path / "edge.toml"
    config.write_text(f'data_dir = "data"\nstatus_file = "{tmp_path}/status"\n', encoding="utf-8")
    statuses.write(
        tmp_path / "status",
        a_status(**dict.fromkeys(("mono_ms", "progress_ms", "heard_ms", "started_ms"), statuses.monotonic_ms())),
    )
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as supervisor:
        supervisor.bind(str(tmp_path / "notify"))
        supervisor.settimeout(PATIENCE_S)
        process = subprocess.Popen(
            [sys.executable, "-m", "vitalloom", "edge", "watch", "--config", str(config)],
            cwd=ROOT,
            env={"NOTIFY_SOCKET": str(tmp_path / "notify"), "PATH": "/bin", "PYTHONPATH": str(ROOT)},
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            said = [supervisor.recv(200).decode() for _ in range(2)]
            loaded = Path(f"/proc/{process.pid}/maps").read_text(encoding="utf-8")
            process.terminate()
            _, log = process.communicate(timeout=PATIENCE_S)
        finally:
            process.kill()

    assert said == ["READY=1", "WATCHDOG=1\nSTATUS=all is well"]
    assert "shows=all is well" in log
    assert process.returncode == 0
    for library in ("numpy", "cryptography", "onnxruntime"):
        assert library not in loaded
