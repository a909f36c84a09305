"""The options of `vitalloom ward`: as typed on the command line, and parsed."""

import re
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from simulators.broker import LOOPBACK
from simulators.errors import BadWard
from simulators.faults import KEYS, FaultSpec
from simulators.wearable import DEVICES, MIXED

MOSQUITTO: Final = "mosquitto"
MANY_PATIENTS: Final = 300
"""A ward of more patients is drawn less often, and has no alarm desk unless it is asked for."""

_UNITS_MS: Final = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_KILLS: Final = {"broker-kill": "broker-kill=10s", "edge-kill": "edge-kill=20s"}


class WardOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The options as typed; see `vitalloom ward --help`."""

    scenario: str = "mixed"
    replay: Path | None = None
    units: tuple[str, ...] = ()  # of the columns of `replay`, such as `Temp=°F`
    patients: int = 8
    edges: int = 2
    devices: str = "mixed"  # of each patient: `MIXED`, or a number
    speed: float = 30.0
    duration: str | None = None
    cadence: str | None = None
    seed: int = 1
    broker: str | None = None
    models: Path | None = None
    data: Path | None = None
    faults: tuple[str, ...] = ()
    apart: bool = False
    headless: bool = False
    as_json: bool = False
    picture: Path | None = None
    desk: bool | None = None  # None: up to `MANY_PATIENTS`
    desk_port: int = 0  # 0: one that is free
    phone_port: int = 0

    def devices_of_patients(self, patients: int) -> tuple[int, ...]:
        """How many devices the patients wear, in turn.

        Raises:
            BadWard: it is neither `mixed` nor a number of devices that a patient can wear.
        """
        if self.devices == "mixed":
            return MIXED if patients <= MANY_PATIENTS else (1,)
        if not self.devices.isdecimal() or int(self.devices) not in DEVICES:
            raise BadWard(f"--devices {self.devices}: give mixed, or a number from 1 to {max(DEVICES)}")
        return (int(self.devices),)

    def has_desk(self, patients: int) -> bool:
        """Whether an alarm desk calls people."""
        return patients <= MANY_PATIENTS if self.desk is None else self.desk


class WardSettings(NamedTuple):
    """The options that need parsing, parsed."""

    link: FaultSpec
    broker_kill_s: float | None
    edge_kill_s: float | None
    duration_ms: int | None
    external_broker: tuple[str, int] | None  # host and port of a broker that the ward does not start; no TLS
    starts_mosquitto: bool
    separate_processes: bool  # of the edge agents

    @classmethod
    def parse(cls, options: WardOptions) -> "WardSettings":
        """Parse and check the options.

        Raises:
            BadWard, BadFault: the message names the option and the fix.
        """
        parts = [piece.strip() for text in options.faults for piece in text.split(",") if piece.strip()]
        kills = {}
        for part in list(parts):
            key, _, value = part.partition("=")
            if key in _KILLS:
                kills[key] = milliseconds(f"--fault {key}", value) / 1_000
                parts.remove(part)
        if any(part.partition("=")[0] not in KEYS for part in parts):
            known = ", ".join([*KEYS.values(), *_KILLS.values()])
            bad = next(part for part in parts if part.partition("=")[0] not in KEYS)
            raise BadWard(f"--fault {bad}: no such fault; known are {known}")
        is_external = options.broker is not None and options.broker != MOSQUITTO
        if "broker-kill" in kills and is_external:
            raise BadWard(
                "--fault broker-kill: the ward can only kill a broker that it has started; leave --broker out"
            )
        return cls(
            link=FaultSpec.parse(",".join(parts)),
            broker_kill_s=kills.get("broker-kill"),
            edge_kill_s=kills.get("edge-kill"),
            duration_ms=None if options.duration is None else milliseconds("--duration", options.duration),
            external_broker=address(options.broker) if options.broker is not None and is_external else None,
            starts_mosquitto=options.broker == MOSQUITTO,
            separate_processes=options.apart or "edge-kill" in kills,
        )

    @property
    def has_faults(self) -> bool:
        return self.link != FaultSpec() or self.broker_kill_s is not None or self.edge_kill_s is not None


def milliseconds(option: str, text: str) -> int:
    """`90s`, `45m`, `12h`, `2d`.

    Raises:
        BadWard: anything else.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text.strip())
    if found is None or float(found[1]) == 0:
        raise BadWard(f"{option} {text}: not a time; write for instance 90s, 45m, 12h or 2d")
    return round(float(found[1]) * _UNITS_MS[found[2]])


def address(text: str) -> tuple[str, int]:
    """`host:port`.

    Raises:
        BadWard: anything else.
    """
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or not 1 <= int(port) <= 65_535:
        raise BadWard(
            f"--broker {text}: not a broker address; write {MOSQUITTO} or host:port, for instance {LOOPBACK}:1883"
        )
    return host, int(port)
