"""Topic names on MQTT and on Kafka: format and parse.

``vl/v1/w/<device>/up/<class>`` and ``vl/v1/w/<device>/down`` between wearables and edges, the same under ``e`` between
edges and ingest. Device ids are 32 lower-case hex digits, so nothing else can enter a topic.
"""

import re
from typing import Final, NamedTuple

from wire.errors import BadTopic

W_UP_ALL: Final = "vl/v1/w/+/up/+"
W_DOWN_ALL: Final = "vl/v1/w/+/down"
E_UP_ALL: Final = "vl/v1/e/+/up/+"
E_DOWN_ALL: Final = "vl/v1/e/+/down"

KAFKA_READINGS: Final = "vl.readings.v1"
KAFKA_ALARMS: Final = "vl.alarms.v1"
KAFKA_STORED: Final = "vl.stored.v1"
KAFKA_DEAD_LETTERS: Final = "vl.dlq.v1"
KAFKA_HEARTBEATS: Final = "vl.heartbeats.v1"

_PATTERN: Final = re.compile(r"vl/v1/(?P<branch>[we])/(?P<device>[0-9a-f]{32})/(?:up/(?P<class>[1-4])|down)\Z")


class Topic(NamedTuple):
    """What a topic says."""

    branch: str  # "w" wearables, "e" edges
    device_id: bytes
    frame_class: int | None  # None: down


def w_up(device_id: bytes, frame_class: int) -> str:
    return f"vl/v1/w/{device_id.hex()}/up/{int(frame_class)}"


def w_up_of(device_id: bytes) -> str:
    """The filter for everything that one wearable sends."""
    return f"vl/v1/w/{device_id.hex()}/up/+"


def w_down(device_id: bytes) -> str:
    return f"vl/v1/w/{device_id.hex()}/down"


def e_up(device_id: bytes, frame_class: int) -> str:
    return f"vl/v1/e/{device_id.hex()}/up/{int(frame_class)}"


def e_down(device_id: bytes) -> str:
    return f"vl/v1/e/{device_id.hex()}/down"


def parse(topic: str) -> Topic:
    """Take a topic apart.

    Raises:
        BadTopic: it is not one of ours.
    """
    found = _PATTERN.match(topic)
    if found is None:
        raise BadTopic(topic)
    frame_class = found["class"]
    return Topic(found["branch"], bytes.fromhex(found["device"]), None if frame_class is None else int(frame_class))
