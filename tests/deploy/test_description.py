"""The description of a site: what belongs together, in which order, and what is nobody's business."""

import re
from pathlib import Path

import pytest

from deploy.description import (
    DEMO,
    FURTHER_WORKERS,
    Place,
    Ports,
    Process,
    chosen,
    named,
    processes,
    start_order,
    with_copies,
)
from deploy.settings import SiteSettings, native
from stream.site.folder import SiteFacts

FACTS = SiteFacts(
    name="north", tenant_id="00" * 16, registry_host="127.0.0.1", registry_port=8_443, broker_host="127.0.0.1",
    broker_port=8_883,
)  # fmt: skip
SETTINGS = SiteSettings(kafka_id="AAAAAAAAAAAAAAAAAAAAAA")


@pytest.fixture
def place() -> Place:
    return native(Path("/srv/site"), SETTINGS, FACTS)


def test_every_need_is_met_by_what_starts_before(place: Place) -> None:
    rounds = start_order(processes(place))

    before: set[str] = set()
    for these in rounds:
        assert all(set(one.needs) <= before for one in these)
        before |= {one.name for one in these}
    assert before == set(named(processes(place)))


def test_nothing_waits_for_what_may_be_left_out(place: Place) -> None:
    everything = named(processes(place))

    for one in chosen(everything.values()):
        assert not [need for need in one.needs if everything[need].profile or everything[need].is_optional], one.name


def test_a_need_that_nobody_meets_is_named() -> None:
    lonely = Process(name="worker", about="", arguments=(), needs=("kafka",), memory_mb=1)

    with pytest.raises(ValueError, match="worker needs: kafka"):
        start_order([lonely])


def test_environments_hold_addresses_and_nothing_else(place: Place) -> None:
    address = re.compile(r"(https?://)?[\w.]+:\d+/?|127\.0\.0\.1|\d+|/srv/site/[\w./-]+|false|vitalloom")

    for one in processes(place):
        for name, value in one.environment.items():
            assert address.fullmatch(value), (one.name, name, value)


def test_no_two_ports_are_the_same(place: Place) -> None:
    five = with_copies(processes(place), workers=5, place=place)
    pages = [int(place.facts.get(one.health.port, one.health.port)) for one in five if one.health is not None]

    assert len(pages) == len(set(pages))
    assert Ports().worker_http + FURTHER_WORKERS not in {getattr(Ports(), name) for name in Ports.__struct_fields__}


def test_a_demo_has_what_a_site_has_and_a_ward(place: Place) -> None:
    site, demo = chosen(processes(place)), chosen(processes(place), profiles=(DEMO,))

    assert {one.name for one in demo} - {one.name for one in site} == {
        "phone", "demo-enrol", "edge-1", "edge-2", "wearables",
    }  # fmt: skip


def test_secrets_are_shown_to_few(place: Place) -> None:
    keys = {one.name: {*one.access.writes, *one.access.reads} for one in processes(place)}

    assert {name for name, seen in keys.items() if seen & {"secrets", "secrets/"}} == {"prepare"}
    for name in ("ingest", "registry"):
        assert "secrets" in named(processes(place))[name].access.hides, name
    assert {"ca", "control"} <= set(named(processes(place))["ingest"].access.hides)


def test_a_site_for_others_listens_for_devices_and_for_nobody_else(place: Place) -> None:
    from msgspec.structs import replace

    outside = native(
        Path("/srv/site"), SETTINGS, replace(FACTS, broker_host="ward.example", registry_host="ward.example")
    )

    assert (place.outside, place.listen) == ("127.0.0.1", "127.0.0.1")
    assert (outside.outside, outside.listen) == ("0.0.0.0", "127.0.0.1")  # noqa: S104 - that is what is tested
