"""Services that any test may ask for by name."""

from tests.services.mosquitto import mosquitto

__all__ = ["mosquitto"]
