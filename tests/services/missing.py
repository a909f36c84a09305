"""What this machine lacks for a test: the test is skipped, and the end of the run says by name what was not tested.

Where everything is required (`VITALLOOM_REQUIRE_SERVICES=1`, or `CI=true`) the test fails instead.
"""

import os
from typing import Final, NoReturn

import pytest

REQUIRED: Final = "VITALLOOM_REQUIRE_SERVICES"
WOULD_TEST: Final = {
    "mosquitto": "frames, access rules and certificates on a real MQTT broker, whole wards on it, and attacks on it",
    "kafka": "the ingest, the worker, the alarm desk and their restarts on a real Kafka, and whole sites",
    "influxdb": "the store's writes, the queries of the dashboards on a real database, and whole sites",
    "pi": "the edge agent with the wheels of a Raspberry Pi, on three emulated processors",
    "faketime": "processes whose clock is wrong, or for whom months pass: edge agents, registry, broker and desk",
    "systemd": "the edge agent's unit file, as systemd reads it",
    "curl": "the queries of docs/first-site.md, typed as it says",
    "training": "the training of the models and its export, and the benchmarks against other engines",
    "bare machine": "both commands of the README on a Debian that holds Python, make and git",
}


def is_required() -> bool:
    """Whether a test fails, rather than being skipped, where something is missing."""
    return os.environ.get(REQUIRED) == "1" or os.environ.get("CI") == "true"


def missing(name: str, reason: str) -> NoReturn:
    """End this test: `name` is a key of WOULD_TEST, the reason says how it could be had."""
    text = f"{name} is missing: {reason}"
    if is_required():
        pytest.fail(text, pytrace=False)
    pytest.skip(text)
