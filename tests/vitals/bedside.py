"""Builders for tests of one stay with several devices and people: readings by device, observations, bindings."""

from collections.abc import Iterable
from typing import Any, Final

from msgspec.structs import replace

from tests.vitals.stories import BINDING, START, a_reading
from vitals.messages import BindingPeriod, Event, Observation, Reading, Tick
from vitals.monitor import PatientMonitor

PATCH: Final = BINDING
OXIMETER: Final = "0e" * 16
CUFF: Final = "cf" * 16
THERMOMETER: Final = "7e" * 16
NAMES: Final = {PATCH: "patch", OXIMETER: "oximeter", CUFF: "cuff", THERMOMETER: "thermometer"}


def of(device: str, reading: Reading) -> Reading:
    """The reading as if this device had measured it: in its own stream, with an id of its own."""
    if device == BINDING:
        return reading
    name = bytes.fromhex(device)
    return replace(
        reading,
        binding_id=device,
        session_id=name,
        reading_id=name[:8] + reading.reading_id[8:],
    )


def by(device: str, after_ms: int, **what: Any) -> Reading:
    """What a device measured then."""
    return of(device, a_reading(after_ms, **what))


def entered(
    after_ms: int, name: str = "anna", *, number: int | None = None, late_ms: int = 0, **what: Any
) -> Observation:
    """What a person observed then, and entered so much later."""
    what = {key: value + START if key == "off_until_ms" else value for key, value in what.items()}
    identity = after_ms if number is None else number
    return Observation(
        stay_id=BINDING,
        observation_id=b"o" + identity.to_bytes(15, "big"),
        by=name,
        at_ms=START + after_ms,
        entered_ms=START + after_ms + late_ms,
        heard_ms=START + after_ms + late_ms,
        **what,
    )


def observation_id(number: int) -> bytes:
    return b"o" + number.to_bytes(15, "big")


def bound(
    device: str, after_ms: int, *, to_ms: int | None = None, heard_ms: int | None = None, **what: Any
) -> BindingPeriod:
    """The registry says that a device is on the patient from then on, or was until then."""
    heard_ms = after_ms if heard_ms is None else heard_ms
    heard_ms = max(heard_ms, after_ms if to_ms is None else to_ms)
    if "stay_to_ms" in what:
        what["stay_to_ms"] += START
    return BindingPeriod(
        stay_id=BINDING,
        binding_id="" if device == BINDING else device,
        from_ms=START + after_ms,
        to_ms=None if to_ms is None else START + to_ms,
        heard_ms=START + heard_ms,
        edge_heard_ms=START + heard_ms,
        device_name=NAMES.get(device, ""),
        **what,
    )


AtBedside = Reading | Observation | BindingPeriod | Tick


def play(monitor: PatientMonitor, *messages: AtBedside) -> list[Event]:
    """Messages in the order of their arrival, with the timers that are due before each of them."""
    events: list[Event] = []
    for message in messages:
        now_ms = message.now_ms if isinstance(message, Tick) else message.heard_ms
        while (at_ms := monitor.timer_at()) is not None and at_ms < now_ms:
            events += monitor.on_timer(at_ms)
        if isinstance(message, Reading):
            events += monitor.on_reading(message)
        elif isinstance(message, Observation):
            events += monitor.on_observation(message)
        elif isinstance(message, BindingPeriod):
            events += monitor.on_binding(message)
        else:
            events += monitor.on_timer(now_ms)
    return events


def in_order(*streams: Iterable[AtBedside]) -> list[AtBedside]:
    """Several streams as they arrive."""
    found = [message for stream in streams for message in stream]
    return sorted(found, key=lambda one: one.now_ms if isinstance(one, Tick) else one.heard_ms)
