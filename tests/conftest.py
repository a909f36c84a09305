"""Services that any test may ask for by name, rules for all tests, and the environment of processes that they start."""

import os

from tests.services.influxdb import influxdb
from tests.services.kafka import kafka
from tests.services.mosquitto import mosquitto

__all__ = ["influxdb", "kafka", "mosquitto"]

pytest_plugins = ["tests.skipped", "tests.times", "tests.unit_rule"]

# Many run at once, and whoever works on this machine may run others: none of them may have a port of its own choice.
os.environ |= {f"VITALLOOM_{name}__HTTP__LISTEN": "" for name in ("INGEST", "WORKER", "STORE")}
os.environ |= {f"VITALLOOM_{name}__HTTP__LISTEN": "127.0.0.1:0" for name in ("STREAM", "REGISTRY")}
# Some tests import onnxruntime themselves, before `models` can turn its telemetry off.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
