"""Mosquitto's access list, as text: which client may publish and read which topics. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from stream.errors import RegistryRefused
from wire.enrol.requests import is_device_id
from wire.identity import BindingRecord
from wire.topics import E_UP_ALARMS, E_UP_VITALS

SERVICE_RIGHTS: Final[Mapping[str, tuple[str, ...]]] = {
    "ingest-v": (*(f"read {one}" for one in E_UP_VITALS), "write vl/v1/e/+/down"),
    "ingest-a": (*(f"read {one}" for one in E_UP_ALARMS), "write vl/v1/e/+/down-a"),
    "monitor": ("read $SYS/#",),
}
"""Topics that each service of the data centre may use, by the name in its certificate."""


def access_list(
    *,
    edges: Iterable[bytes | str],
    bindings: Iterable[BindingRecord],
    revoked: Iterable[bytes | str] = (),
    services: Iterable[str] = tuple(SERVICE_RIGHTS),
) -> str:
    """The topics that each client may publish and read, as Mosquitto's access list.

    Args:
        edges: device ids.
        bindings: those whose frames may still arrive.
        revoked: device ids that are denied every topic.
        services: keys of `SERVICE_RIGHTS`.

    Raises:
        RegistryRefused: a device id is malformed; no other text may enter a topic.
    """
    denied = {_id(one) for one in revoked}
    worn: dict[str, set[str]] = {_id(one): set() for one in edges}
    for one in bindings:
        if (edge := _id(one.edge_id)) in worn and (wearable := _id(one.wearable_id)) not in denied:
            worn[edge].add(wearable)
    sections = [
        "# Written by vitalloom, and written again: changes made here do not last.",
        "# Wearables, by the name in the certificate; the last level is the class of a frame.",
        "pattern write vl/v1/w/%u/up/+\npattern read vl/v1/w/%u/down",
        "# Revoked. Denials of a user are looked at before grants and patterns, for publishing and for delivery.",
        *(_section(name, ["deny #"]) for one in sorted(denied) for name in (one, f"{one}-a")),
        "# Services of the data centre.",
        *(_section(name, SERVICE_RIGHTS[name]) for name in services),
        # By line, not by pattern: with a pattern every device could pass for an edge.
        "# Edges, each with the wearables that it hears; and its alarm lane, a connection of its own.",
        *(text for edge in sorted(worn.keys() - denied) for text in _edge(edge, sorted(worn[edge]))),
    ]
    return "\n\n".join(sections) + "\n"


def _edge(edge: str, wearables: Sequence[str]) -> tuple[str, str]:
    rules = [f"write vl/v1/e/{edge}/up/1", f"write vl/v1/e/{edge}/up/3", f"read vl/v1/e/{edge}/down"]
    for one in wearables:
        rules += [f"read vl/v1/w/{one}/up/+", f"write vl/v1/w/{one}/down"]
    alarms = [f"write vl/v1/e/{edge}/up/2", f"read vl/v1/e/{edge}/down-a"]
    return _section(edge, rules), _section(f"{edge}-a", alarms)


def _section(user: str, rules: Iterable[str]) -> str:
    return "\n".join([f"user {user}", *(f"topic {one}" for one in rules)])


def _id(one: bytes | str) -> str:
    text = one.hex() if isinstance(one, bytes) else one
    if not is_device_id(text):
        raise RegistryRefused(f"{text[:64]!r} is not a device id: 32 lower-case hexadecimal digits")
    return text
