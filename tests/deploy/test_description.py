"""The description of a site: start order, ports, and access to secrets."""

import re
from pathlib import Path

import pytest

from deploy.description import (
    DEMO,
    FURTHER_WORKERS,
    Deployment,
    Ports,
    Process,
    by_name,
    in_profiles,
    processes,
    start_order,
    with_copies,
)
from deploy.settings import SiteSettings, native_deployment
from stream.site.folder import SiteFacts

FACTS = SiteFacts(
    name="north", tenant_id="00" * 16, registry_host="127.0.0.1", registry_port=8_443, broker_host="127.0.0.1",
    broker_port=8_883,
)  # fmt: skip
SETTINGS = SiteSettings(kafka_id="AAAAAAAAAAAAAAAAAAAAAA")


@pytest.fixture
def deployment() -> Deployment:
    return native_deployment(Path("/srv/site"), SETTINGS, FACTS)


def test_dependencies_start_in_earlier_rounds(deployment: Deployment) -> None:
    rounds = start_order(processes(deployment))

    before: set[str] = set()
    for these in rounds:
        assert all(set(one.needs) <= before for one in these)
        before |= {one.name for one in these}
    assert before == set(by_name(processes(deployment)))


def test_no_process_depends_on_an_optional_one(deployment: Deployment) -> None:
    everything = by_name(processes(deployment))

    for one in in_profiles(everything.values()):
        assert not [need for need in one.needs if everything[need].profile or everything[need].is_optional], one.name


def test_unsatisfiable_dependency_is_named() -> None:
    lonely = Process(name="worker", about="", arguments=(), needs=("kafka",), memory_mb=1)

    with pytest.raises(ValueError, match="worker needs kafka"):
        start_order([lonely])


def test_environment_variables_are_addresses(deployment: Deployment) -> None:
    address = re.compile(r"(https?://)?[\w.]+:\d+/?|127\.0\.0\.1|\d+|/srv/site/[\w./-]+|false|vitalloom")

    for one in processes(deployment):
        for name, value in one.environment.items():
            assert address.fullmatch(value), (one.name, name, value)


def test_ports_are_distinct(deployment: Deployment) -> None:
    five = with_copies(processes(deployment), workers=5, deployment=deployment)
    pages = [int(deployment.facts.get(one.health.port, one.health.port)) for one in five if one.health is not None]

    assert len(pages) == len(set(pages))
    assert Ports().worker_http + FURTHER_WORKERS not in {getattr(Ports(), name) for name in Ports.__struct_fields__}


def test_demo_adds_simulated_devices_and_a_phone(deployment: Deployment) -> None:
    site, demo = in_profiles(processes(deployment)), in_profiles(processes(deployment), profiles=(DEMO,))

    assert {one.name for one in demo} - {one.name for one in site} == {
        "phone", "demo-enrol", "edge-1", "edge-2", "wearables",
    }  # fmt: skip


def test_few_processes_have_access_to_secrets(deployment: Deployment) -> None:
    keys = {one.name: {*one.access.writes, *one.access.reads} for one in processes(deployment)}

    assert {name for name, seen in keys.items() if seen & {"secrets", "secrets/"}} == {"prepare"}
    for name in ("ingest", "registry"):
        assert "secrets" in by_name(processes(deployment))[name].access.hides, name
    assert {"ca", "control"} <= set(by_name(processes(deployment))["ingest"].access.hides)


def test_site_with_a_host_name_listens_on_all_addresses_for_devices_only(deployment: Deployment) -> None:
    from msgspec.structs import replace

    outside = native_deployment(
        Path("/srv/site"), SETTINGS, replace(FACTS, broker_host="ward.example", registry_host="ward.example")
    )

    assert (deployment.outside, deployment.listen) == ("127.0.0.1", "127.0.0.1")
    assert (outside.outside, outside.listen) == ("0.0.0.0", "127.0.0.1")  # noqa: S104 - that is what is tested
