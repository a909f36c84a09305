"""Streams of readings of very ill patients, and what the kernel makes of them.

A program of its own, so that one version of the project can judge another: it prints one JSON object per stream. It
imports nothing but the kernel, and only what the kernel has had from the start.
"""

import json
import sys
from collections.abc import Callable
from typing import Any, Final

from vitals.messages import AlarmChanged, Consciousness, Reading
from vitals.monitor import PatientMonitor
from vitals.plan import MonitoringPlan

START_MS: Final = 1_790_000_000_000
CADENCE_S: Final = 5
BINDING: Final = "ab" * 16
COMPLETE: Final[dict[str, Any]] = {
    "heart_rate": 72.0,
    "respiratory_rate": 16.0,
    "spo2": 97.0,
    "temperature": 36.8,
    "systolic_bp": 124.0,
    "diastolic_bp": 70.0,
    "supplemental_oxygen": 0.0,
    "consciousness": Consciousness.ALERT,
}
TEN_MINUTES_S: Final = 600

Stream = Callable[[int], dict[str, Any]]


def well(second: int) -> dict[str, Any]:
    """The signs of a healthy patient, who breathes and moves."""
    turn = second // CADENCE_S
    signs = {
        "heart_rate": 72.0 + turn % 3,
        "respiratory_rate": 16.0 + turn % 2,
        "spo2": 97.0 - turn // 2 % 2,
    }
    return signs | ({"temperature": 36.8} if second % 300 == 0 else {})


def after_ten_minutes(changed: Stream) -> Stream:
    """A complete set at once, ten healthy minutes, then another stream."""

    def stream(second: int) -> dict[str, Any]:
        if second == 0:
            return COMPLETE
        return well(second) if second < TEN_MINUTES_S else changed(second)

    return stream


def very_ill(second: int) -> dict[str, Any]:
    return {
        "heart_rate": 160.0 + second % 3,
        "respiratory_rate": 32.0,
        "spo2": 80.0 + second % 2,
        "temperature": 39.5,
        "systolic_bp": 80.0,
    }


def medium_risk(second: int) -> dict[str, Any]:
    turn = second // CADENCE_S
    return COMPLETE | {
        "respiratory_rate": 22.0 + turn % 2,
        "spo2": 94.0,
        "heart_rate": 105.0 + turn % 3,
        "systolic_bp": 100.0,
    }


def entered_once(second: int) -> dict[str, Any]:
    if second == 0:
        return COMPLETE
    pressure = {"systolic_bp": 105.0, "diastolic_bp": 70.0} if second % 900 == 0 else {}
    turn = second // CADENCE_S
    return well(second) | {"respiratory_rate": 22.0, "heart_rate": 112.0 + turn % 3} | pressure


STREAMS: Final[dict[str, tuple[Stream, float, int]]] = {
    # name: readings, hours, how far the device's clock is behind in ms
    "apnoea": (after_ten_minutes(lambda s: well(s) | {"respiratory_rate": 0.0}), 1, 0),
    "spo2_45_to_49": (after_ten_minutes(lambda s: well(s) | {"spo2": 45.0 + s // 5 % 5}), 1, 0),
    "spo2_as_a_fraction": (lambda s: well(s) | {"spo2": 0.85}, 24, 0),
    "clock_an_hour_behind": (very_ill, 2, 3_600_000),
    "medium_risk": (medium_risk, 0.3, 0),
    "entered_once": (entered_once, 11.9, 0),
}


def judge(stream: Stream, hours: float, behind_ms: int) -> dict[str, Any]:
    """The first state of each alarm of each priority, and the score at the end."""
    monitor = PatientMonitor(BINDING, MonitoringPlan())
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    readings = int(hours * 3600 / CADENCE_S)
    now_ms = START_MS
    for number in range(readings):
        now_ms = START_MS + number * CADENCE_S * 1_000
        reading = Reading(
            stay_id=BINDING,
            reading_id=(number + 1).to_bytes(16, "big"),
            session_id=b"s" * 16,
            counter=number + 1,
            at_ms=now_ms - behind_ms,
            received_ms=now_ms,
            **stream(number * CADENCE_S),
        )
        events = monitor.on_reading(reading)
        for _ in range(50):  # a timer may be due again at once
            due_ms = monitor.timer_at()
            if due_ms is None or due_ms >= now_ms + CADENCE_S * 1_000:
                break
            events += monitor.on_timer(due_ms)
        for event in events:
            if isinstance(event, AlarmChanged) and event.state.value != "pending":
                kind = (event.rule_id, event.key, event.priority, event.state, event.retrospective)
                found.setdefault(
                    kind,
                    {
                        "second": number * CADENCE_S,
                        "rule": event.rule_id,
                        "key": event.key,
                        "priority": event.priority.name,
                        "state": event.state.value,
                        "sounds": not event.retrospective,
                        "text": event.text,
                    },
                )
    score = monitor.view(now_ms).news2
    return {
        "alarms": list(found.values()),
        "total": score.total,
        "at_least": score.at_least,
        "missing": [sign.value for sign in score.missing],
    }


if __name__ == "__main__":
    for name in sys.argv[1:] or STREAMS:
        sys.stdout.write(json.dumps({"stream": name} | judge(*STREAMS[name])) + "\n")
