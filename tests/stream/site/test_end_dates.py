"""Whatever ends in the folder of a site or of an edge is on the list of end dates; a new file that ends fails here."""

import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from cryptography import x509

from runtime.clock import SystemClock
from runtime.end_dates import Urgency, urgency
from runtime.hardening import write_private
from stream.site.broker_files import BrokerFolder
from stream.site.end_dates import FILE, read_end_dates, site_end_dates, write_end_dates
from stream.site.folder import Site
from tests.stream.site.registries import DAY, FACTS, HOUR, NOW, Desk
from tests.stream.site.test_mosquitto_conf import ME, settings
from wire.enrol.authority import moment

_BLOCK = re.compile(rb"-----BEGIN (CERTIFICATE|X509 CRL)-----.*?-----END \1-----\n", re.DOTALL)
_ENDS = re.compile(r"after|until|expir|ends|valid_to|deadline", re.IGNORECASE)

DATED_FACTS = {
    # Every key of a file and column of a database that sounds like an end, and where it is looked at.
    "identity.json not_after_ms": "the end date of the wallet",
    "end-dates.json ends": "the list itself",
    "end-dates.json ends_ms": "the list itself",
    "registry.sqlite certificate.not_after_ms": "devices in use",
    "registry.sqlite credential.not_after_ms": "devices in use",
    "registry.sqlite token.expires_ms": "an invitation ends after an hour by design; a new one is made",
    "registry.sqlite binding.valid_to_ms": "the end of a stay, which a person enters",
    "registry.sqlite order_level.until_ms": "the end of an order, which a person sets; what was before holds again",
    "registry.sqlite stay_orders.until_ms": "when orders of a stay begin or end; they say themselves what comes then",
}


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """A site with everything: a broker, a second issuing key, an edge and a wearable on a patient."""
    made = Desk(tmp_path)
    site = made.site
    site.renew_issuing(passphrase="", who="tester")
    broker = BrokerFolder(site.broker_folder)
    broker.write(
        site.registry, site.authority, settings(broker.folder, ME), hosts=["h"], at=moment(NOW), who="t",
        retired=site.retired,
    )  # fmt: skip
    edge, wearable = made.enrol("edge"), made.enrol()
    made.bind(wearable, edge)
    write_end_dates(site.folder, site_end_dates(site), at_ms=NOW)
    yield made
    site.close()


def ends_in(folder: Path) -> Iterator[tuple[str, int]]:
    """Every certificate and revocation list in the files of a folder, and its end."""
    for path in sorted(one for one in folder.rglob("*") if one.is_file()):
        content = path.read_bytes()
        if path.suffix == ".json":
            content = content.replace(b"\\n", b"\n")
        for block in _BLOCK.finditer(content):
            if block[1] == b"CERTIFICATE":
                end = x509.load_pem_x509_certificate(block[0]).not_valid_after_utc
            else:
                found = x509.load_pem_x509_crl(block[0]).next_update_utc
                assert found is not None
                end = found
            yield str(path.relative_to(folder)), round(end.timestamp() * 1_000)


def keys_of(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for key, one in value.items():
            yield key
            yield from keys_of(one)
    elif isinstance(value, list):
        for one in value:
            yield from keys_of(one)


def dated_facts(folder: Path) -> set[str]:
    """Names in JSON files and databases that sound like an end."""
    found = set()
    for path in folder.rglob("*.json"):
        found |= {f"{path.name} {key}" for key in keys_of(msgspec.json.decode(path.read_bytes())) if _ENDS.search(key)}
    for path in folder.rglob("*.sqlite"):
        with sqlite3.connect(path) as db:
            for (table,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
                columns = [row[1] for row in db.execute(f"PRAGMA table_info({table})")]
                found |= {f"{path.name} {table}.{one}" for one in columns if _ENDS.search(one)}
        db.close()
    return found


def test_every_certificate_and_list_of_a_site_is_on_the_list(desk: Desk) -> None:
    listed = {one.ends_ms for one in site_end_dates(desk.site)}
    found = dict(ends_in(desk.site.folder))

    missing = {name: end for name, end in ends_in(desk.site.folder) if end not in listed}
    assert not missing
    assert {"ca/root.crt", "ca/retired-1.crt", "registry/tls.pem", "broker/broker.crt", "broker/revoked.crl"} <= set(
        found
    )
    assert {"services/monitor.pem", "ingest/tls.pem", "ingest/tls-a.pem", "ingest/identity.json"} <= set(found)


def test_every_certificate_of_an_edge_is_on_the_list(desk: Desk) -> None:
    edge = desk.enrol("edge")
    ends = {end for name, end in ends_in(edge.folder)}
    authority = {
        one.ends_ms
        for one in site_end_dates(desk.site)
        if one.what in ("certificate of the authority", "certificate of the issuing key")
    }

    assert ends - authority == {edge.end_date.ends_ms}


def test_a_fact_that_sounds_like_an_end_is_known(desk: Desk) -> None:
    found = dated_facts(desk.folder)

    assert found == set(DATED_FACTS)


def test_a_new_site_has_nothing_urgent_and_everything_has_a_fix(desk: Desk) -> None:
    found = site_end_dates(desk.site)

    assert [one.what for one in found if urgency(one, NOW)] == []
    assert all(one.fix for one in found)


def test_a_root_key_in_its_safe_leaves_the_issuing_key_to_a_person(desk: Desk) -> None:
    (desk.site.folder / "ca" / "root.key").rename(desk.folder / "root.key")

    (one,) = [one for one in site_end_dates(desk.site) if one.what == "certificate of the issuing key"]

    assert (one.due_ms, one.renewed_by) == (None, "a person")
    assert urgency(one, one.ends_ms - 60 * DAY) is Urgency.LOW


def test_devices_in_use_are_announced_and_those_in_a_drawer_are_not(desk: Desk) -> None:
    desk.enrol()  # on nobody
    desk.clock.advance(20 * DAY)

    (one,) = [one for one in site_end_dates(desk.site) if one.what == "certificate of a device in use"]

    assert urgency(one, NOW + 20 * DAY) is Urgency.LOW
    assert "and 1 more" in one.which  # the edge and its wearable
    assert urgency(one, NOW + 40 * DAY) is Urgency.MEDIUM  # and never higher


def test_certificates_that_the_configuration_names_are_on_the_list(desk: Desk) -> None:
    certificate = desk.folder / "desk.crt"
    certificate.write_bytes((desk.site.folder / "registry" / "tls.pem").read_bytes())
    (desk.site.folder / "config").mkdir()
    (desk.site.folder / "config" / "desk.toml").write_text(
        f'[api.tls]\ncertificate = "{certificate}"\nkey = "k"\n[kafka.tls]\nroot = "{desk.site.root_file}"\n'
        f'certificate = "{certificate}"\nkey = "k"\n'
    )

    found = {one.what for one in site_end_dates(desk.site)}

    assert {"certificate of the alarm desk", "Kafka certificate of desk", "Kafka authority of desk"} <= found


def test_a_registry_that_does_not_run_is_an_end_date_itself(desk: Desk) -> None:
    folder = desk.site.folder

    def level(at_ms: int) -> Urgency:
        (one,) = [one for one in read_end_dates(folder, now_ms=at_ms) if one.what.startswith("the registry's daily")]
        return urgency(one, at_ms)

    found = [level(NOW + hours * HOUR) for hours in (0, 23, 25, 73, 145)]
    assert found == [Urgency.NONE, Urgency.NONE, Urgency.LOW, Urgency.HIGH, Urgency.ENDED]
    write_private(folder / FILE, b"{")
    assert level(SystemClock().now_ms() + 25 * HOUR) is Urgency.LOW
    (folder / FILE).unlink()
    assert read_end_dates(folder, now_ms=NOW) == []


def test_a_site_that_was_opened_to_read_lists_the_same(desk: Desk) -> None:
    reading = Site.open(desk.site.folder, clock=desk.clock, to_read=True)

    assert site_end_dates(reading) == site_end_dates(desk.site)
    assert FACTS.name == reading.facts.name
    reading.close()
