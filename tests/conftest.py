"""Services that any test may ask for by name."""

from tests.services.influxdb import influxdb
from tests.services.kafka import kafka
from tests.services.mosquitto import mosquitto

__all__ = ["influxdb", "kafka", "mosquitto"]
