"""The devices of a ward: enrolled over HTTPS like real ones, each with its own keys."""

import asyncio
import re
from pathlib import Path

import pytest
from cryptography import x509

from runtime.clock import ManualClock
from simulators.broker import free_port
from simulators.enrolled import EnrolledSite
from simulators.stories import START_MS
from wire.enrol.wallet import Wallet


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> EnrolledSite:
    return enrolled(tmp_path_factory.mktemp("ward"))


def enrolled(folder: Path) -> EnrolledSite:
    made = EnrolledSite(folder, ManualClock(START_MS), broker_port=free_port())
    asyncio.run(made.enrol(wearables=3, edges=2, now_ms=START_MS))
    return made


def folder_of(site: EnrolledSite) -> Path:
    return site.site.folder.parent


def secrets(wallet: Wallet) -> set[bytes]:
    """Every private key of a device, raw."""
    me = wallet.me
    return {me.signing_key.private_bytes_raw(), *(one.private_bytes_raw() for one in me.prekeys.values())}


def test_every_device_has_keys_and_a_certificate_of_its_own(site: EnrolledSite) -> None:
    devices = [*site.edges, *site.wearables]

    assert len({key for one in devices for key in secrets(one)}) == 2 * len(devices)
    names = [x509.load_pem_x509_certificate(one.tls.client.read_bytes()).subject.rfc4514_string() for one in devices]
    assert all(one.me.device_id.hex() in name for one, name in zip(devices, names, strict=True))
    assert all(one.tls.root.read_bytes() == devices[0].tls.root.read_bytes() for one in devices)


def test_the_registry_has_no_private_key_of_a_device(site: EnrolledSite) -> None:
    known = b"".join(path.read_bytes() for path in (folder_of(site) / "site").rglob("*") if path.is_file())

    for device in [*site.edges, *site.wearables]:
        for secret in secrets(device):
            assert secret not in known
            assert secret.hex().encode() not in known
        pem = re.search(r"-----BEGIN PRIVATE KEY-----\n(.*?)\n", device.tls.client.read_text())
        assert pem is not None
        assert pem[1].encode() not in known


def test_wearables_are_shared_out_and_every_edge_knows_its_own(site: EnrolledSite) -> None:
    for edge in site.edges:  # edges enrol first; the courier tells them about their wearables
        for frame in site.site.registry.documents.documents_for(edge.me.device_id):
            edge.take(frame)

    first, second = ({one.wearable_id for one in edge.provision.directory.bindings()} for edge in site.edges)
    ids = [one.me.device_id for one in site.wearables]

    assert (first, second) == ({ids[0], ids[2]}, {ids[1]})
    assert [one.patient for one in site.bindings] == ["P0001", "P0002", "P0003"]
    for wearable, binding in zip(site.wearables, site.bindings, strict=True):
        assigned = wearable.assignment(START_MS)
        assert assigned is not None
        assert (assigned.binding_id, assigned.edge_id, assigned.patient) == (binding.binding_id, binding.edge_id, "")


def test_ids_follow_from_what_a_device_is_and_keys_from_nothing(site: EnrolledSite, tmp_path: Path) -> None:
    other = enrolled(tmp_path)

    for one, same in zip([*site.edges, *site.wearables], [*other.edges, *other.wearables], strict=True):
        assert one.me.device_id == same.me.device_id
        assert not secrets(one) & secrets(same)
    other.close()


def test_after_enrolment_the_registry_has_stopped_listening(site: EnrolledSite) -> None:
    with pytest.raises(ConnectionRefusedError):
        asyncio.run(asyncio.open_connection("127.0.0.1", site.site.facts.registry_port))
