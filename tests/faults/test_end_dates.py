"""Months pass for real processes that are never restarted: registry, MQTT broker, alarm desk. Their clock is moved.

After each jump what is shown on the socket is valid, devices enrol, renew and connect, and a person can log in.
"""

import contextlib
import os
import pwd
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import pytest
from cryptography import x509

from runtime.clock import SystemClock
from runtime.hardening import write_private
from runtime.health import check
from simulators.broker import LOOPBACK, free_port
from stream.desk.users import Users
from stream.site.broker_files import BrokerFolder
from stream.site.folder import Site, SiteFacts
from stream.site.mosquitto_conf import BrokerSettings
from tests.patience import PATIENCE_S
from tests.services.faketime import FakeTime
from tests.services.mosquitto import mosquitto_binary
from wire.enrol.authority import Authority, key_pem, moment, new_tls_key, pem

pytestmark = pytest.mark.services

ROOT: Final = Path(__file__).parents[2]
USER, PASSWORD = "anna", "a long way from home"


class House:
    """A site with its three servers, each a process, and somebody who replaces the desk's certificate."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.time = folder, FakeTime(folder / "clock")
        self.environment = os.environ | self.time.environment | {"PYTHONPATH": str(ROOT)}
        facts = SiteFacts(
            name="test", tenant_id="ab" * 16, registry_host=LOOPBACK, registry_port=free_port(), broker_host=LOOPBACK,
            broker_port=free_port(),
        )  # fmt: skip
        self.site = Site.create(folder / "site", facts, clock=SystemClock(), who="tester")
        self.broker = BrokerFolder(self.site.broker_folder)
        settings = BrokerSettings(
            folder=self.broker.folder, user=pwd.getpwuid(os.getuid()).pw_name, host=LOOPBACK, port=facts.broker_port,
            log_dest=f"file {folder / 'mosquitto.log'}",
        )  # fmt: skip
        at = moment(SystemClock().now_ms())
        self.broker.write(self.site.registry, self.site.authority, settings, hosts=[LOOPBACK], at=at, who="t")
        self.hospital, _ = Authority.begin("hospital", at=at)
        self.hospital_root = folder / "hospital.crt"
        self.hospital_root.write_bytes(pem(self.hospital.root))
        self.registry_http, self.desk_http, self.desk_port = free_port(), free_port(), free_port()
        self.replace_desk_certificate(days=30)
        self.devices = 0
        self.running: list[subprocess.Popen[bytes]] = []

    def replace_desk_certificate(self, *, days: float) -> None:
        key, at = new_tls_key(), datetime.now(UTC) + timedelta(days=self.time.days)
        made = self.hospital.server(key.public_key(), hosts=[LOOPBACK], at=at, days=days)
        write_private(self.folder / "desk.key", key_pem(key))
        write_private(self.folder / "desk.crt", pem(made) + pem(self.hospital.issuing))

    # Processes

    def start(self) -> None:
        self._start(mosquitto_binary(), "-c", str(self.broker.config_file))
        self._start(
            sys.executable, "-m", "vitalloom", "registry", "serve", "--site", str(self.site.folder), "--host", LOOPBACK,
            "--http-listen", f"{LOOPBACK}:{self.registry_http}",
        )  # fmt: skip
        (self.folder / "addresses.toml").write_text("")
        (self.folder / "addresses.toml").chmod(0o600)
        (self.folder / "data").mkdir(mode=0o700)
        Users(self.folder / "data" / "users.json").put(USER, PASSWORD, now_ms=0)
        (self.folder / "desk.toml").write_text(
            f'data = "{self.folder}/data"\naddresses = "{self.folder}/addresses.toml"\nsite = "{self.site.folder}"\n'
            f'[kafka]\nbootstrap = "{LOOPBACK}:9"\n'  # not there: the list may be old, answers are taken all the same
            f'[api]\nlisten = "{LOOPBACK}:{self.desk_port}"\n'
            f'tls = {{ certificate = "{self.folder}/desk.crt", key = "{self.folder}/desk.key" }}\n'
            f'[http]\nlisten = "{LOOPBACK}:{self.desk_http}"\n'
        )
        self._start(sys.executable, "-m", "vitalloom", "desk", "--config", str(self.folder / "desk.toml"))
        for port in (self.site.facts.broker_port, self.site.facts.registry_port, self.desk_port):
            self.until(lambda port=port: bool(self.shown(port)), "the servers are up")  # type: ignore[misc]

    def _start(self, *command: str) -> None:
        with (self.folder / "processes.log").open("ab") as log:
            self.running.append(
                subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.environment, cwd=self.folder
                )
            )

    def end(self) -> None:
        for process in self.running:
            process.kill()
            process.wait(PATIENCE_S)
        self.site.close()

    def said(self) -> str:
        return (self.folder / "processes.log").read_text(encoding="utf-8", errors="replace")[-4_000:]

    # What is seen from outside

    def shown(self, port: int) -> x509.Certificate | None:
        """The certificate that a server shows on its socket now, to anybody."""
        trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
        with contextlib.suppress(OSError), socket.create_connection((LOOPBACK, port), timeout=PATIENCE_S) as plain:
            with trusting.wrap_socket(plain, server_hostname=LOOPBACK) as secured:
                found = secured.getpeercert(binary_form=True)
            return None if found is None else x509.load_der_x509_certificate(found)
        return None

    def is_valid(self, port: int) -> bool:
        found, now = self.shown(port), datetime.now(UTC) + timedelta(days=self.time.days)
        return found is not None and found.not_valid_before_utc <= now < found.not_valid_after_utc

    def until(self, holds: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not holds():
            assert time.monotonic() < deadline, (what, self.time.days, self.said())
            assert all(one.poll() is None for one in self.running), (what, self.said())
            time.sleep(0.1)

    def as_device(self, *arguments: str, clock: FakeTime | None = None) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "tests.faults.as_device", *arguments], capture_output=True, text=True,
            env=self.environment | ({} if clock is None else clock.environment), cwd=ROOT, timeout=4 * PATIENCE_S,
            check=False,
        )  # fmt: skip
        return done.stdout.strip() or done.stderr.strip()[-300:]

    def new_device(self, *, clock: FakeTime | None = None) -> str:
        """A wearable that enrols now; its folder."""
        invited = subprocess.run(
            [sys.executable, "-m", "vitalloom", "registry", "add", "wearable", "--quiet", "--site", self.site.folder],
            capture_output=True, text=True, env=self.environment, cwd=ROOT, check=True,
        )  # fmt: skip
        self.devices += 1
        folder = str(self.folder / f"device-{self.devices}")
        serial = self.as_device("enrol", invited.stdout.strip(), folder, clock=clock)
        assert len(serial) == 16, (serial, self.said())
        return folder

    def connects(self, folder: str, *, clock: FakeTime | None = None) -> bool:
        """The registry writes a new device into the broker's files within two seconds."""
        answer = ""
        for _ in range(5):
            answer = self.as_device("connect", folder, clock=clock)
            if answer == "connected":
                return True
            time.sleep(1)
        raise AssertionError((answer, self.time.days, (self.folder / "mosquitto.log").read_text()[-2_000:]))

    def log_in(self, command: str = "login") -> str:
        return self.as_device(command, f"https://{LOOPBACK}:{self.desk_port}", str(self.hospital_root), USER, PASSWORD)

    def go_to(self, days: float) -> None:
        """The clock is there, and the registry has done what it does every second."""
        self.time.set(days=days)
        ports = self.site.facts.registry_port, self.site.facts.broker_port
        self.until(lambda: all(map(self.is_valid, ports)), "valid certificates on both sockets")


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    try:
        made.start()
        yield made
    finally:
        made.end()


def test_a_site_lives_through_the_end_of_each_certificate_without_a_restart(house: House) -> None:
    began = {one: house.shown(one) for one in (house.site.facts.registry_port, house.site.facts.broker_port)}
    device = house.new_device()
    serials = []
    assert house.connects(device)
    for days in (13, 26, 39, 52, 65, 78, 91):
        house.go_to(days)
        serials.append(house.as_device("renew", device))
        assert house.connects(device)

    # Day 91: what was shown at first has ended, and the device is at its fourth certificate.
    assert all(house.shown(port) != before for port, before in began.items())
    assert all(len(one) == 16 for one in serials), serials
    assert len(set(serials)) == 4, serials
    assert house.connects(house.new_device())
    assert "ok" in check(f"{LOOPBACK}:{house.registry_http}").text

    # The issuing key is renewed two months before its end, and the broker accepts what it issues.
    house.go_to(310)
    issuing = x509.load_pem_x509_certificate((house.site.folder / "ca" / "issuing.crt").read_bytes())
    assert issuing.not_valid_after_utc > datetime.now(UTC) + timedelta(days=600)
    assert house.connects(house.new_device())

    # And a site that is looked at again after the end of the first one.
    house.go_to(400)
    assert house.connects(house.new_device())


def test_somebody_logs_in_at_the_desk_after_its_certificate_was_replaced(house: House) -> None:
    assert house.log_in() == USER
    house.time.set(days=31)
    assert "certificate has expired" in house.log_in()
    assert not house.is_valid(house.desk_port)

    house.replace_desk_certificate(days=90)

    assert house.log_in() == USER
    assert house.is_valid(house.desk_port)


def test_a_device_that_boots_in_1970_enrols_and_connects_and_one_that_knows_better_refuses(house: House) -> None:
    in_1970 = FakeTime(house.folder / "clock-of-the-device")
    in_1970.set(days=-20_000)

    device = house.new_device(clock=in_1970)
    assert house.connects(device, clock=in_1970)

    # A server whose certificate had expired when the device got its own is refused, whatever the clock.
    house.time.set(days=100)
    house.until(lambda: house.is_valid(house.site.facts.registry_port), "the registry's certificate is renewed")
    later = house.new_device()
    for process in (house.running.pop(0), house.running.pop(0)):  # the broker, and the registry, which would renew it
        process.kill()
        process.wait(PATIENCE_S)
    expired = house.site.authority.server(
        (key := new_tls_key()).public_key(), hosts=[LOOPBACK], at=moment(SystemClock().now_ms()), days=90
    )
    write_private(house.broker.folder / "broker.key", key_pem(key))
    write_private(house.broker.folder / "broker.crt", pem(expired) + pem(house.site.authority.issuing))
    house._start(mosquitto_binary(), "-c", str(house.broker.config_file))
    house.until(lambda: bool(house.shown(house.site.facts.broker_port)), "the broker is back")

    assert "expired" in house.as_device("connect", later, clock=in_1970)


def test_what_nobody_renews_is_an_alarm_at_the_desk_until_a_person_renews_it(house: House) -> None:
    root_key, safe = house.site.folder / "ca" / "root.key", house.folder / "root.key"
    root_key.rename(safe)
    house.go_to(340)
    house.replace_desk_certificate(days=90)
    wanted = "medium the site: certificate of the issuing key expires in "
    house.until(lambda: wanted in house.log_in("alarms"), "the alarm is on the list")
    assert "certificate of the issuing key expires in " in check(f"{LOOPBACK}:{house.registry_http}").text

    safe.rename(root_key)
    house.go_to(341)  # the registry looks at once when the clock is set, otherwise once a minute
    house.until(lambda: "issuing key" not in house.log_in("alarms"), "the alarm is over")
