"""Topic names on MQTT and on Kafka: format and parse.

``vl/v1/w/<device>/up/<class>`` and ``vl/v1/w/<device>/down`` between wearables and edges, the same under ``e`` between
edges and ingest, where answers to alarms come on ``down-a``. Device ids are 32 lower-case hex digits, so nothing else
can enter a topic.
"""

import re
from typing import Final, NamedTuple

from wire.errors import BadTopic

E_UP_VITALS: Final = ("vl/v1/e/+/up/1", "vl/v1/e/+/up/3")
E_UP_ALARMS: Final = ("vl/v1/e/+/up/2",)

KAFKA_READINGS: Final = "vl.readings.v1"
KAFKA_STATE: Final = "vl.state.v1"
KAFKA_EVENTS: Final = "vl.events.v1"
KAFKA_ALARMS: Final = "vl.alarms.v1"
KAFKA_ENTRIES: Final = "vl.orders.v1"
KAFKA_STORED: Final = "vl.stored.v1"
KAFKA_DEAD_LETTERS: Final = "vl.dlq.v1"
KAFKA_HEALTH: Final = "vl.health.v1"
KAFKA_HEARTBEATS: Final = "vl.heartbeats.v1"

_PATTERN: Final = re.compile(
    r"vl/v1/(?P<branch>[we])/(?P<device>[0-9a-f]{32})/(?:up/(?P<class>[1-4])|down(?P<alarm>-a)?)\Z"
)


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


def e_down_alarm(device_id: bytes) -> str:
    """Answers to what came on the alarm lane, and to its connection."""
    return f"vl/v1/e/{device_id.hex()}/down-a"


def is_alarm_lane(topic: str) -> bool:
    """Whether a topic between edges and the data centre belongs to the connection that carries alarms alone."""
    return topic.startswith("vl/v1/e/") and topic.endswith(("/up/2", "/down-a"))


def parse(topic: str) -> Topic:
    """Take a topic apart.

    Raises:
        BadTopic: it is not one of ours.
    """
    found = _PATTERN.match(topic)
    if found is None or (found["alarm"] and found["branch"] == "w"):
        raise BadTopic(topic)
    frame_class = found["class"]
    return Topic(found["branch"], bytes.fromhex(found["device"]), None if frame_class is None else int(frame_class))


def device_of(topic: str) -> bytes | None:
    """The device that a topic names; None: not one of ours."""
    try:
        return parse(topic).device_id
    except BadTopic:
        return None
