"""A site for 400 days without a restart: it shows valid certificates, devices renew, nothing ends unannounced.

Time is injected. The servers are those of the processes, with a handshake in memory instead of a socket; the processes'
loops are turned by hand. A person renews what cannot renew itself, some days after the first alarm, or never.
"""

import os
import random
import ssl
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from starlette.applications import Starlette

from runtime.end_dates import urgency
from runtime.hardening import write_private
from stream.config import DeskApiConfig, DeskTls
from stream.desk.http import DeskServer
from stream.errors import EnrolmentRefused
from stream.site.broker_files import BrokerFolder
from stream.site.end_dates import read_end_dates
from stream.site.folder import Site
from stream.site.http import RegistryServer
from stream.site.upkeep import SiteUpkeep
from tests.stream.site.registries import DAY, HOUR, Desk, new_keys
from tests.stream.site.test_mosquitto_conf import ME, settings
from wire.enrol.authority import Authority, key_pem, moment, new_tls_key, pem
from wire.enrol.client import renew_request
from wire.enrol.wallet import Wallet

DAYS = 400
MOST_STEP = 2 * DAY
BEFORE = (30 * DAY, 14 * DAY, 3 * DAY)


class Walk:
    """One site with its desk, its devices and its person.

    Args:
        root_key: where the root's key is: ``folder``, or ``safe``.
        person_ms: how long after the first alarm the person acts; None: never.
    """

    def __init__(self, folder: Path, rng: random.Random, *, root_key: str, person_ms: int | None) -> None:
        self.rng, self.desk = rng, Desk(folder)
        self.site, self.clock = self.desk.site, self.desk.clock
        self.root_key, self.person_ms = root_key, person_ms
        self.safe = folder / "root.key"
        if root_key == "safe":
            (self.site.folder / "ca" / "root.key").rename(self.safe)
        self.broker = BrokerFolder(self.site.broker_folder)
        self.write_broker(self.site)
        self.hospital, _ = Authority.begin("hospital", at=self.at)
        self.desk_life_ms = rng.randint(20, 90) * DAY
        self.desk_files = DeskTls(certificate=folder / "desk.crt", key=folder / "desk.key")
        self.renew_desk()
        self.upkeep = SiteUpkeep(self.site, self.clock)
        self.upkeep.turn()
        self.registry_server = RegistryServer(
            self.site.enrolment,
            tls=self.site.registry_tls,
            root=pem(self.site.authority.root),
            clients=self.site.bundle_file,
            host="127.0.0.1",
            port=0,
        )
        self.desk_server = DeskServer(Starlette(), DeskApiConfig(listen="127.0.0.1:0", tls=self.desk_files))
        self.devices = [self.desk.enrol("edge"), *(self.desk.enrol() for _ in range(3))]
        self.talks_ms = [rng.randint(2, 14) * DAY for _ in self.devices]
        self.talked_ms = [self.clock.now_ms()] * len(self.devices)
        self.alarmed_ms: int | None = None
        self.announced: dict[tuple[str, int], set[int]] = {}  # by name and end: the marks at which an alarm stood
        self.failed: Counter[str] = Counter()
        self.checks = 0

    @property
    def at(self) -> datetime:
        return moment(self.clock.now_ms())

    def check(self, holds: bool, what: str) -> None:
        self.checks += 1
        self.failed[what] += not holds

    def write_broker(self, site: Site) -> None:
        self.broker.write(
            site.registry, site.authority, settings(self.broker.folder, ME), hosts=["127.0.0.1"], at=self.at, who="t",
            retired=site.retired,
        )  # fmt: skip

    def renew_desk(self) -> None:
        key = new_tls_key()
        made = self.hospital.server(key.public_key(), hosts=["127.0.0.1"], at=self.at, days=self.desk_life_ms / DAY)
        self.desk_end_ms = self.clock.now_ms() + self.desk_life_ms
        write_private(self.desk_files.key, key_pem(key))
        write_private(self.desk_files.certificate, pem(made))

    # A step

    def step(self) -> None:
        self.clock.advance(self.rng.choice((6 * HOUR, DAY, DAY, MOST_STEP)))
        if self.desk_end_ms - self.clock.now_ms() < self.desk_life_ms / 3:
            self.renew_desk()
        turn(self)
        self.person()
        for name, server in (("registry", self.registry_server), ("desk", self.desk_server)):
            self.check(self.is_valid(shown(server)), f"{name} shows an expired certificate")
        self.check(self.is_valid(*self.chain(self.broker.folder / "broker.crt")), "broker shows an expired certificate")
        for index, device in enumerate(self.devices):
            if self.clock.now_ms() - self.talked_ms[index] > self.talks_ms[index] - MOST_STEP:  # not a day later
                self.talked_ms[index] = self.clock.now_ms()
                self.talk(device)
        self.announce()

    def is_valid(self, *certificates: x509.Certificate) -> bool:
        return all(one.not_valid_before_utc <= self.at < one.not_valid_after_utc for one in certificates)

    def chain(self, path: Path) -> list[x509.Certificate]:
        return x509.load_pem_x509_certificates(path.read_bytes().split(b"-----BEGIN PRIVATE KEY")[0])

    def talk(self, device: Wallet) -> None:
        """A device connects, and renews if it wants to."""
        self.check(self.is_valid(*self.chain(device.tls.client)), "a device has an expired certificate")
        if not device.wants_renewal(self.clock.now_ms()):
            return
        server, keys = shown(self.registry_server), new_keys()
        reached = self.is_valid(server) and self.is_valid(*self.chain(device.tls.client))
        self.check(reached, "a device cannot reach the registry to renew")
        if not reached:
            return
        der = server.public_bytes(Encoding.DER)
        try:
            reply = self.site.enrolment.renew(
                renew_request(device, keys, der), peer=self.desk.peer(device), server=der, address="192.0.2.7",
                mono_ms=self.clock.mono_ms(),
            )  # fmt: skip
        except EnrolmentRefused:
            self.check(False, "a device is refused")
            return
        device.renewed(reply, keys)

    def person(self) -> None:
        """Renews the issuing key some time after the first alarm, with the commands, in another process."""
        if self.person_ms is None:
            return
        now_ms = self.clock.now_ms()
        if not any("issuing" in name for name, _ in alarms(self)):
            self.alarmed_ms = None
            return
        self.alarmed_ms = self.alarmed_ms or now_ms
        if now_ms - self.alarmed_ms < self.person_ms:
            return
        site = Site.open(self.site.folder, clock=self.clock)
        root_key = site.folder / "ca" / "root.key"
        if self.root_key == "safe":
            self.safe.rename(root_key)
        site.renew_issuing(passphrase="", who="person")
        self.write_broker(site)
        if self.root_key == "safe":
            root_key.rename(self.safe)
        site.close()
        turn(self)

    def announce(self) -> None:
        standing = {name for name, _ in alarms(self)}
        now_ms = self.clock.now_ms()
        for name, end_ms in persons_ends(self):
            if end_ms <= now_ms and (name, end_ms) not in self.announced:
                continue  # has been looked at
            marks = self.announced.setdefault((name, end_ms), set())
            for before_ms in BEFORE:
                if end_ms - before_ms <= now_ms < end_ms and any(name in one for one in standing):
                    marks.add(before_ms)
            if now_ms >= end_ms:
                for before_ms in BEFORE:
                    self.check(before_ms in marks, f"{name} ended unannounced at {before_ms // DAY} days")
                del self.announced[name, end_ms]


def persons_ends(walk: Walk) -> Iterator[tuple[str, int]]:
    """What this walk has that only a person renews."""
    if walk.root_key == "safe":
        for one in x509.load_pem_x509_certificates((walk.site.folder / "ca" / "issuing.crt").read_bytes()):
            yield "issuing", round(one.not_valid_after_utc.timestamp() * 1_000)


def shown(server: RegistryServer | DeskServer) -> x509.Certificate:
    """The certificate that a client sees on a new connection."""
    config = server._server.config
    if not config.loaded:
        config.load()
    ours, theirs = ssl.MemoryBIO(), ssl.MemoryBIO()
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    client = trusting.wrap_bio(ours, theirs)
    ends = [client, config.ssl.wrap_bio(theirs, ours, server_side=True)]
    while ends:
        for one in list(ends):
            try:
                one.do_handshake()
                ends.remove(one)
            except ssl.SSLWantReadError:
                pass
    found = client.getpeercert(binary_form=True)
    assert found is not None
    return x509.load_der_x509_certificate(found)


def turn(walk: Walk) -> None:
    """One round of the registry's loop."""
    walk.upkeep.turn()


def alarms(walk: Walk) -> list[tuple[str, int]]:
    """What is announced now, as the desk reads it: name and urgency."""
    now_ms = walk.clock.now_ms()
    found = read_end_dates(walk.site.folder, now_ms=now_ms)
    return [(one.what, level) for one in found if (level := urgency(one, now_ms))]


SEEDS = [*range(2), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 12))]


@pytest.fixture(autouse=True)
def no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Days pass in milliseconds: nothing waits for the disk."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("root_key", ["folder", "safe"])
def test_400_days_without_a_restart(root_key: str, seed: int, tmp_path: Path) -> None:
    rng = random.Random(f"{root_key}{seed}")
    walk = Walk(tmp_path, rng, root_key=root_key, person_ms=rng.randint(0, 14) * DAY)
    begun = walk.clock.now_ms()
    while walk.clock.now_ms() - begun < DAYS * DAY:
        walk.step()
    walk.site.close()
    assert not +walk.failed, dict(walk.failed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS[:3])
def test_what_nobody_renews_is_announced(seed: int, tmp_path: Path) -> None:
    rng = random.Random(f"nobody {seed}")
    walk = Walk(tmp_path, rng, root_key="safe", person_ms=None)
    begun = walk.clock.now_ms()
    while walk.clock.now_ms() - begun < DAYS * DAY:
        walk.step()
    walk.site.close()
    told = {key: number for key, number in walk.failed.items() if "unannounced" in key and number}
    assert not told, told
