"""The upkeep of a site: what commands changed is in use, what ends is renewed, what fails is named and tried again."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509

from runtime.clock import ManualClock
from runtime.end_dates import DAY_MS, EndDateWatch
from runtime.hardening import write_private
from stream.errors import SiteUnusable
from stream.site.broker_files import BrokerFolder
from stream.site.end_dates import FILE
from stream.site.folder import Site
from stream.site.health import RegistryHealth
from stream.site.http import RequestCounts
from stream.site.upkeep import FIRST_RETRY_MS, LONGEST_RETRY_MS, SiteUpkeep
from tests.stream.site.registries import NOW, Desk
from tests.stream.site.test_mosquitto_conf import ME, settings
from wire.enrol.authority import moment

MINUTE = 60_000


class House:
    """A site with a broker's files, and its upkeep."""

    def __init__(self, folder: Path) -> None:
        self.desk = Desk(folder)
        self.site, self.clock = self.desk.site, self.desk.clock
        broker = BrokerFolder(self.site.broker_folder)
        broker.write(
            self.site.registry, self.site.authority, settings(broker.folder, ME), hosts=["h"], at=moment(NOW), who="t"
        )
        self.upkeep = SiteUpkeep(self.site, self.clock)
        self.health = RegistryHealth(RequestCounts(), self.upkeep.status, self.clock)

    def turn(self, *, after_ms: int = 0) -> None:
        self.clock.advance(after_ms)
        self.upkeep.turn()

    def certificate(self, name: str = "registry/tls.pem") -> x509.Certificate:
        return x509.load_pem_x509_certificates((self.site.folder / name).read_bytes())[0]

    @property
    def watch(self) -> EndDateWatch:
        return EndDateWatch(lambda: self.upkeep.status.ends, self.clock.now_ms, self.health.notes)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    yield made
    made.site.close()


@pytest.mark.parametrize("name", ["registry/tls.pem", "services/monitor.pem", "broker/broker.crt"])
@pytest.mark.parametrize(("after_days", "is_new"), [(59, False), (61, True), (100, True)])
def test_certificates_are_renewed_in_their_last_month(name: str, after_days: int, is_new: bool, house: House) -> None:
    house.turn()
    before = house.certificate(name)

    house.turn(after_ms=after_days * DAY_MS)

    assert (house.certificate(name) != before) is is_new
    house.turn(after_ms=MINUTE)
    assert house.watch.trouble() == ""


def test_keys_that_a_command_has_changed_sign_from_then_on(house: House) -> None:
    house.turn()
    other = Site.open(house.site.folder, clock=house.clock)
    other.renew_control(who="person")
    other.renew_issuing(passphrase="", who="person")
    other.close()

    house.turn(after_ms=1_000)

    assert house.site.registry.documents.public_keys == other.registry.documents.public_keys
    assert house.site.authority.issuing == other.authority.issuing
    device = house.desk.enrol()
    device.certificate.verify_directly_issued_by(other.authority.issuing)
    assert house.certificate("broker/broker.crt").issuer == other.authority.issuing.subject


def test_a_key_without_its_certificate_leaves_those_before_in_use_until_both_are_there(house: House) -> None:
    house.turn()
    key = house.site.folder / "ca" / "issuing.key"
    kept, before = key.read_bytes(), house.site.authority
    other = house.site.folder / "ca" / "root.key"
    key.write_bytes(other.read_bytes())

    house.turn(after_ms=1_000)

    assert house.site.authority is before
    assert "issuing.key: is not the key of the certificate beside it" in house.health.trouble()
    key.write_bytes(kept)
    house.turn(after_ms=1_000)
    assert house.health.trouble() == ""


def test_the_issuing_key_is_renewed_two_months_before_its_end_if_the_root_key_is_there(house: House) -> None:
    house.turn()
    before = house.site.authority.issuing

    house.turn(after_ms=304 * DAY_MS)
    assert house.site.authority.issuing == before
    house.turn(after_ms=2 * DAY_MS)

    assert house.site.authority.issuing != before
    assert house.certificate().issuer == house.site.authority.issuing.subject


def test_what_is_issued_ends_with_the_issuing_key(house: House) -> None:
    (house.site.folder / "ca" / "root.key").unlink()
    house.turn(after_ms=355 * DAY_MS)

    device = house.desk.enrol()

    assert device.end_date.ends_ms == NOW + 365 * DAY_MS
    assert device.wants_renewal(NOW + 360 * DAY_MS + MINUTE)
    assert "certificate of the issuing key expires in 10 days" in house.watch.notes()[0]


def test_a_failed_renewal_is_named_at_once_and_tried_again_ever_more_rarely(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[int] = []

    def fail(self: Site, *, who: str) -> None:
        tried.append(house.clock.mono_ms())
        raise SiteUnusable(self.folder, "the disk is full")

    house.turn()
    house.clock.advance(61 * DAY_MS)
    with monkeypatch.context() as patched:
        patched.setattr(Site, "issue_registry_certificate", fail)
        house.turn()
        assert any("certificate of the registry" in one and "the disk is full" in one for one in house.watch.notes())
        assert house.watch.trouble() == ""  # there is a month left
        for _ in range(400):
            house.turn(after_ms=10_000)

    pauses = [later - earlier for earlier, later in itertools.pairwise(tried)]
    assert pauses[:4] == [FIRST_RETRY_MS * factor for factor in (1, 2, 4, 8)]
    assert max(pauses) <= LONGEST_RETRY_MS
    assert len(tried) < 12
    house.turn(after_ms=LONGEST_RETRY_MS)
    assert not any("certificate of the registry" in one for one in house.watch.notes())
    assert house.certificate().not_valid_after_utc > moment(house.clock.now_ms() + 89 * DAY_MS)


def test_a_clock_of_before_the_site_renews_nothing_and_is_named(house: House) -> None:
    house.turn()
    before = house.certificate()

    house.clock.set_wall(DAY_MS)
    house.turn()

    assert house.certificate() == before
    assert any("clock of this machine: is before the day" in one for one in house.health.notes())
    house.clock.set_wall(NOW + DAY_MS)
    house.turn()
    assert house.health.notes() == ["no broker is running"]


def test_what_a_clock_that_was_ahead_has_dated_into_the_future_is_made_again(house: House) -> None:
    house.clock.set_wall(NOW + 200 * DAY_MS)
    house.turn()
    house.clock.set_wall(NOW)
    house.turn()

    assert house.certificate().not_valid_before_utc <= moment(NOW)
    assert house.certificate("broker/broker.crt").not_valid_before_utc <= moment(NOW)
    found = x509.load_pem_x509_crl((house.site.folder / "broker" / "revoked.crl").read_bytes())
    assert found.last_update_utc <= moment(NOW)


def test_a_device_that_is_late_makes_nothing_unready(house: House) -> None:
    edge, wearable = house.desk.enrol("edge"), house.desk.enrol()
    house.desk.bind(wearable, edge)
    house.turn(after_ms=40 * DAY_MS)

    told = [one for one in house.watch.notes() if "device in use" in one]
    assert len(told) == 1
    assert "expired 10 days ago" in told[0]
    assert not house.watch.trouble().startswith("certificate of a device")


@pytest.mark.parametrize("damage", [None, b"", b"nothing that is a certificate"])
def test_a_damaged_certificate_of_the_registry_is_made_again(damage: bytes | None, house: House) -> None:
    if damage is None:
        house.site.registry_tls.unlink()
    else:
        write_private(house.site.registry_tls, damage)

    house.turn()

    house.certificate().verify_directly_issued_by(house.site.authority.issuing)


def test_a_host_that_was_changed_in_site_json_is_in_the_next_certificate(house: House) -> None:
    house.turn()
    file = house.site.folder / "site.json"
    write_private(file, file.read_bytes().replace(b'"registry_host": "127.0.0.1"', b'"registry_host": "ward.example"'))

    house.turn(after_ms=MINUTE)

    names = house.certificate().extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(one.value) for one in names] == ["ward.example", "127.0.0.1"]


def test_the_report_is_written_every_minute_although_each_look_at_the_clock_is_later(house: House) -> None:
    class Running(ManualClock):
        """As a real clock: no two readings are equal."""

        def mono_ms(self) -> int:
            self.advance(1)
            return super().mono_ms()

    clock = Running(house.clock.now_ms())
    upkeep = SiteUpkeep(house.site, clock)
    upkeep.turn()
    (house.site.folder / FILE).unlink()

    upkeep.turn()
    assert not (house.site.folder / FILE).exists()
    clock.advance(MINUTE)
    upkeep.turn()

    assert (house.site.folder / FILE).exists()
