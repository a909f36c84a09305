"""The folder of a data centre: made once, opened by its owner, and what becomes of old keys."""

import contextlib
import shutil
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID
from msgspec.structs import replace

from runtime.clock import ManualClock
from stream.errors import RegistryRefused, SiteUnusable
from stream.site.folder import Site
from tests.stream.site.registries import DAY, FACTS, NOW, Desk
from wire.enrol.authority import moment
from wire.enrol.documents import ControlKeysV1, control_key_id, open_document
from wire.enrol.wallet import Wallet


def opened(desk: Desk, *, to_read: bool = False) -> Site:
    return Site.open(desk.site.folder, clock=desk.clock, to_read=to_read)


def reopened(desk: Desk) -> None:
    """The process ends and another begins."""
    desk.site.close()
    desk.site = opened(desk)
    desk.registry = desk.site.registry
    desk.server = desk.site.server_certificate()


def certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def names_of(made: x509.Certificate) -> list[str]:
    return [str(one.value) for one in made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value]


def chains(leaf: x509.Certificate, bundle: bytes) -> bool:
    """Whether a certificate verifies against a bundle as a server would check it: leaf, issuing, root."""
    known = x509.load_pem_x509_certificates(bundle)
    issuing = [one for one in known if one.subject == leaf.issuer]
    for one in issuing:
        with contextlib.suppress(Exception):
            leaf.verify_directly_issued_by(one)
            return any(one.issuer == root.subject and root.issuer == root.subject for root in known)
    return False


# Beginning and opening


def test_what_was_created_can_be_opened(desk: Desk) -> None:
    device = desk.enrol()
    pin, tenant = desk.site.authority.pin, desk.registry.tenant_id

    reopened(desk)

    assert desk.site.facts == FACTS
    assert (desk.site.authority.pin, desk.registry.tenant_id) == (pin, tenant)
    assert desk.registry.sender(device.me.device_id) is not None
    desk.renew(device)
    desk.enrol("edge")


def test_everything_in_it_is_its_owners(desk: Desk) -> None:
    desk.enrol()

    for one in (desk.site.folder, *desk.site.folder.rglob("*")):
        assert one.stat().st_mode & 0o077 == 0, one


def test_there_is_one_site_in_a_folder(desk: Desk) -> None:
    root = desk.site.root_file.read_bytes()

    with pytest.raises(SiteUnusable, match="name an empty folder"):
        Site.create(desk.site.folder, FACTS, clock=desk.clock, who="tester")

    assert desk.site.root_file.read_bytes() == root


@pytest.mark.parametrize("name", ["", "x" * 41, "a\nb", "a\0b"])
def test_a_name_that_no_certificate_can_hold_leaves_no_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(SiteUnusable, match="1 to 40 printable characters"):
        Site.create(tmp_path / "site", replace(FACTS, name=name), clock=ManualClock(NOW), who="tester")

    assert not (tmp_path / "site").exists()


@pytest.mark.parametrize("host", ["", "two words", "bücher.example", "x" * 65, "a\nb", "*.example", "host/path"])
@pytest.mark.parametrize("key", ["registry_host", "broker_host"])
def test_a_host_that_is_none_leaves_no_folder(tmp_path: Path, key: str, host: str) -> None:
    with pytest.raises(SiteUnusable, match="is not a host"):
        Site.create(tmp_path / "site", replace(FACTS, **{key: host}), clock=ManualClock(NOW), who="tester")

    assert not (tmp_path / "site").exists()


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "https://127.0.0.1:8443"),
        ("rpm-1.ward_3.example", "https://rpm-1.ward_3.example:8443"),
        ("fd00::7", "https://[fd00::7]:8443"),
    ],
)
def test_devices_are_told_where_the_registry_is(tmp_path: Path, host: str, url: str) -> None:
    facts = replace(FACTS, registry_host=host)
    with contextlib.closing(Site.create(tmp_path / "site", facts, clock=ManualClock(NOW), who="tester")) as site:
        assert site.facts.url == url
        assert names_of(certificate(site.registry_tls)) == [host]


def test_the_ingest_is_enrolled_with_the_site(desk: Desk) -> None:
    ingest = Wallet.load(desk.site.ingest_folder)

    record = desk.registry.sender(ingest.me.device_id)
    assert record is not None
    assert record.role == "ingest"
    assert record.recipient is not None
    names = {one.name for one in desk.registry.certificates.all()}
    assert {"ingest-v", "ingest-a", "monitor", "registry"} <= names


def test_the_registry_server_is_a_server_and_the_monitor_is_a_client(desk: Desk) -> None:
    def uses(path: Path) -> list[x509.ObjectIdentifier]:
        return list(certificate(path).extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)

    assert uses(desk.site.registry_tls) == [ExtendedKeyUsageOID.SERVER_AUTH]
    assert uses(desk.site.folder / "services" / "monitor.pem") == [ExtendedKeyUsageOID.CLIENT_AUTH]


def test_the_root_key_may_be_away(desk: Desk) -> None:
    (desk.site.folder / "ca" / "root.key").unlink()

    reopened(desk)
    desk.enrol()

    with pytest.raises(SiteUnusable, match=r"root\.key: is missing; bring the root key back"):
        desk.site.renew_issuing(passphrase="", who="tester")


# What is wrong with a folder


def test_no_site_here_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(SiteUnusable, match=f"vitalloom pki init --site {tmp_path / 'site'}"):
        Site.open(tmp_path / "site", clock=ManualClock(NOW))


@pytest.mark.parametrize("part", ["ca/root.crt", "ca/issuing.crt", "ca/issuing.key", "control/keys", "registry.sqlite"])
def test_a_missing_part_is_named_with_the_cure(desk: Desk, part: str) -> None:
    desk.site.close()
    (desk.site.folder / part).unlink()

    with pytest.raises(SiteUnusable, match=f"{part}.*restore it from a backup"):
        opened(desk)

    assert not (desk.site.folder / part).exists()


@pytest.mark.parametrize(
    ("part", "content"),
    [
        ("site.json", b"{}"),
        ("site.json", b"\xff"),
        ("ca/root.crt", b"not a certificate"),
        ("ca/issuing.key", b"not a key"),
        ("control/keys", b""),
        ("control/keys", b"00" * 32 + b"\n"),
        ("control/keys", b"zz" * 32 + b"\n" + b"00" * 32),
        ("control/keys", b"\xff" * 64 + b"\n" + b"00" * 32),
    ],
)
def test_a_damaged_part_is_said_to_be_damaged(desk: Desk, part: str, content: bytes) -> None:
    desk.site.close()
    (desk.site.folder / part).write_bytes(content)

    with pytest.raises(SiteUnusable, match="a part of it is damaged"):
        opened(desk)


def test_a_tenant_that_is_none_is_said_to_be_none(desk: Desk) -> None:
    desk.site.close()
    facts = (desk.site.folder / "site.json").read_text(encoding="utf-8")
    (desk.site.folder / "site.json").write_text(facts.replace("ab" * 16, "ab" * 15), encoding="utf-8")

    with pytest.raises(SiteUnusable, match="tenant_id"):
        opened(desk)


def test_a_key_beside_a_certificate_of_another_key_is_not_signed_with(desk: Desk) -> None:
    desk.site.renew_issuing(passphrase="", who="tester")
    desk.site.close()
    ca = desk.site.folder / "ca"
    shutil.copy(ca / "retired-1.crt", ca / "issuing.crt")  # a power cut between two files

    with pytest.raises(SiteUnusable, match=r"issuing\.key: is not the key of the certificate beside it"):
        opened(desk)


@pytest.mark.parametrize("part", [".", "site.json", "ca/issuing.key", "control/keys", "registry.sqlite"])
def test_what_others_can_read_is_not_used_and_the_cure_is_named(desk: Desk, part: str) -> None:
    desk.site.close()
    path = desk.site.folder / part
    path.chmod(path.stat().st_mode | 0o040)

    with pytest.raises(SiteUnusable, match="chmod"):
        opened(desk)


# To read


def test_opened_to_read_it_changes_nothing(desk: Desk) -> None:
    device = desk.enrol()
    site = opened(desk, to_read=True)

    with contextlib.closing(site):
        assert site.registry.devices() == desk.registry.devices()
        for change in (
            lambda: site.registry.add_device("edge", who="tester"),
            lambda: site.registry.revoke(device.me.device_id, why="", who="tester"),
            lambda: site.registry.certificates.revoke("monitor", who="tester"),
        ):
            with pytest.raises(RegistryRefused, match="opened for reading"):
                change()
        for refused in (
            lambda: site.issue_service("monitor", who="tester"),
            lambda: site.issue_registry_certificate(who="tester"),
            lambda: site.renew_control(who="tester"),
            lambda: site.renew_issuing(passphrase="", who="tester"),
        ):
            with pytest.raises(SiteUnusable, match="needs the signing keys"):
                refused()


def test_to_read_no_signing_key_is_needed(desk: Desk) -> None:
    desk.site.close()
    shutil.rmtree(desk.site.folder / "ca")
    shutil.rmtree(desk.site.folder / "control")

    with contextlib.closing(opened(desk, to_read=True)) as site:
        assert len(site.registry.devices()) == 1


# The passphrase of the root key


def test_the_root_key_may_have_a_passphrase(tmp_path: Path) -> None:
    clock = ManualClock(NOW)
    site = Site.create(tmp_path / "site", FACTS, clock=clock, who="tester", passphrase="a long one")
    with contextlib.closing(site):
        kept = (site.folder / "ca" / "root.key").read_bytes()
        with pytest.raises(TypeError, match="encrypted"):
            load_pem_private_key(kept, None)
        before = site.authority.issuing

        for wrong in ("", "another"):
            with pytest.raises(SiteUnusable, match="its passphrase is another"):
                site.renew_issuing(passphrase=wrong, who="tester")
            assert site.authority.issuing == before
        site.renew_issuing(passphrase="a long one", who="tester")

        assert site.authority.issuing != before


def test_the_root_key_of_another_site_signs_nothing(desk: Desk, tmp_path: Path) -> None:
    with contextlib.closing(Site.create(tmp_path / "b", FACTS, clock=desk.clock, who="tester")) as other:
        shutil.copy(other.folder / "ca" / "root.key", desk.site.folder / "ca" / "root.key")

    with pytest.raises(SiteUnusable, match="is not the key of the certificate beside it"):
        desk.site.renew_issuing(passphrase="", who="tester")

    assert desk.site.retired == ()


# A new issuing key


def test_after_a_new_issuing_key_old_certificates_verify_and_have_a_list_of_their_own(desk: Desk) -> None:
    old, gone = desk.enrol(), desk.enrol()
    desk.site.renew_issuing(passphrase="", who="tester")
    new = desk.enrol()
    desk.registry.revoke(gone.me.device_id, why="lost", who="tester")

    bundle = desk.site.bundle_file.read_bytes()
    assert chains(certificate(old.tls.client), bundle)
    assert chains(certificate(new.tls.client), bundle)
    (retired,) = desk.site.retired
    assert retired.issuing.public_key() != desk.site.authority.issuing.public_key()
    listed = retired.revocation_list(desk.registry.certificates.revoked(), number=1, at=moment(NOW))
    crl = x509.load_pem_x509_crl(listed)
    assert crl.issuer == certificate(old.tls.client).issuer
    assert crl.is_signature_valid(retired.issuing.public_key())  # type: ignore[arg-type]
    assert crl.get_revoked_certificate_by_serial_number(certificate(gone.tls.client).serial_number) is not None
    certificate(old.tls.client).verify_directly_issued_by(retired.issuing)


def test_after_a_new_issuing_key_the_site_can_be_opened_and_devices_renew(desk: Desk) -> None:
    device = desk.enrol()
    desk.site.renew_issuing(passphrase="", who="tester")

    reopened(desk)
    desk.renew(device)

    certificate(device.tls.client).verify_directly_issued_by(desk.site.authority.issuing)
    certificate(desk.site.registry_tls).verify_directly_issued_by(desk.site.authority.issuing)
    assert device.tls.root.read_bytes() == desk.site.root_file.read_bytes()


def test_a_retired_issuing_key_is_forgotten_when_its_time_is_over(desk: Desk) -> None:
    desk.clock.advance(DAY)
    desk.site.renew_issuing(passphrase="", who="tester")
    desk.clock.advance(DAY)
    desk.site.renew_issuing(passphrase="", who="tester")
    assert len(desk.site.retired) == 2

    desk.clock.advance(363 * DAY)

    assert len(desk.site.retired) == 1


def test_the_registry_keeps_its_further_names(desk: Desk) -> None:
    desk.site.issue_registry_certificate(who="tester", hosts=["registry.example", "10.0.0.7"])
    wanted = ["127.0.0.1", "registry.example", "10.0.0.7"]

    desk.site.issue_registry_certificate(who="tester")
    assert names_of(certificate(desk.site.registry_tls)) == wanted
    desk.site.renew_issuing(passphrase="", who="tester")
    assert names_of(certificate(desk.site.registry_tls)) == wanted

    desk.site.issue_registry_certificate(who="tester", hosts=[])
    assert names_of(certificate(desk.site.registry_tls)) == ["127.0.0.1"]
    with pytest.raises(SiteUnusable, match="is not a host"):
        desk.site.issue_registry_certificate(who="tester", hosts=["two words"])


# New control keys


def control_keys(desk: Desk, frame: bytes) -> tuple[bytes, ...]:
    keys = {control_key_id(one.public_key()): one.public_key() for one in desk.site._control}
    content = open_document(frame, keys).content
    return content.keys if isinstance(content, ControlKeysV1) else ()


def test_devices_follow_control_keys_step_by_step(desk: Desk) -> None:
    edge, wearable = desk.enrol("edge"), desk.enrol()
    binding = desk.bind(wearable, edge)

    for _ in range(3):
        before = [one.public_key().public_bytes_raw() for one in desk.site._control]
        desk.clock.advance(DAY)
        desk.site.renew_control(who="tester")
        for device in (edge, wearable):
            desk.deliver(device)
            assert device.digest == desk.registry.documents.digest_for(device.me.device_id)
        after = [one.public_key().public_bytes_raw() for one in desk.site._control]
        assert after[0] == before[1]
        assert after[1] not in before

    reopened(desk)
    desk.registry.unbind(binding, who="tester")
    desk.deliver(edge)
    found = edge.provision.directory.binding(binding)
    assert found is not None
    assert found.valid_to_ms == desk.clock.now_ms()


def test_every_document_is_signed_by_the_new_control_key(desk: Desk) -> None:
    edge, wearable = desk.enrol("edge"), desk.enrol()
    desk.bind(wearable, edge)
    old = {bytes(frame[8:24]) for frame in desk.registry.documents.documents_for(edge.me.device_id)}

    desk.site.renew_control(who="tester")

    new = {bytes(frame[8:24]) for frame in desk.registry.documents.documents_for(edge.me.device_id)}
    assert old != new
    assert new == {control_key_id(desk.site._control[0].public_key())}
    (known,) = [
        found for frame in desk.registry.documents.documents_for(edge.me.device_id) if (found := keys_in(desk, frame))
    ]
    assert known == tuple(one.public_key().public_bytes_raw() for one in desk.site._control)


def keys_in(desk: Desk, frame: bytes) -> tuple[bytes, ...]:
    with contextlib.suppress(Exception):  # sealed to a device
        return control_keys(desk, frame)
    return ()


def test_what_is_done_at_a_site_is_in_its_log(desk: Desk) -> None:
    desk.site.renew_issuing(passphrase="", who="ann")
    desk.site.renew_control(who="ann")
    desk.site.issue_service("monitor", who="ann")

    log = desk.registry.file.audit.path.read_text(encoding="utf-8")

    for what in ("vouched for", "certificate issued", "documents signed again"):
        assert f'"what":"{what}"' in log
    assert log.count('"who":"ann"') >= 3


def test_facts_with_a_typo_are_refused(desk: Desk) -> None:
    desk.site.close()
    path = desk.site.folder / "site.json"
    path.write_text(path.read_text(encoding="utf-8").replace("broker_port", "brokr_port"), encoding="utf-8")

    with pytest.raises(SiteUnusable, match="brokr_port"):
        opened(desk)
