"""The files of a site's broker: their content, when they change, and the reload signal. No broker runs here."""

import os
import pwd
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from runtime.clock import ManualClock
from stream.errors import SiteUnusable
from stream.site import broker_files
from stream.site.broker_files import WARN_LIST_MS, BrokerFolder, BrokerUpdate
from stream.site.registry import Registry
from tests.patience import PATIENCE_S
from tests.stream.site.test_access_list import EDGE, WORN, WORN_2, sections
from tests.stream.site.test_mosquitto_conf import ME, settings
from wire.enrol.authority import Authority, Ca, moment, new_tls_key

NOW = 1_767_600_000_000
HOUR, DAY = 3_600_000, 86_400_000
HOSTS = ("broker.example", "192.0.2.7")


class Desk:
    """A registry with one bound edge, and the folder of its broker."""

    def __init__(self, folder: Path) -> None:
        self.clock = ManualClock(NOW)
        self.authority, self.root = Authority.begin("test", at=self.at)
        self.registry = Registry(
            folder / "registry.sqlite",
            control=(Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()),
            tenant_id=b"t" * 16,
            clock=self.clock,
        )
        self.folder = folder / "broker"
        self.broker = BrokerFolder(self.folder)
        for device, role in ((EDGE, "edge"), (WORN, "wearable"), (WORN_2, "wearable")):
            self.registry.add_device(role, who="test", device_id=device)  # type: ignore[arg-type]
        self.bind(WORN)

    @property
    def at(self) -> datetime:
        return moment(self.clock.now_ms())

    def bind(self, wearable: bytes) -> bytes:
        return self.registry.bind(wearable_id=wearable, edge_id=EDGE, patient="P0001", bed="1", who="test")

    def certify(self, name: str, device: bytes | None = None) -> x509.Certificate:
        made = self.authority.device(new_tls_key().public_key(), common_name=name, tenant=b"t" * 16, at=self.at)
        self.registry.certificates.record(made, name=name, device_id=None if device is None else device.hex())
        return made

    def write(self, user: str = ME, hosts: tuple[str, ...] = HOSTS) -> BrokerUpdate:
        return self.broker.write(
            self.registry, self.authority, settings(self.folder, user), hosts=hosts, at=self.at, who="test"
        )

    def refresh(self) -> BrokerUpdate:
        return self.broker.refresh(self.registry, self.authority, at=self.at, who="test")

    def revocations(self) -> x509.CertificateRevocationList:
        return x509.load_pem_x509_crl((self.folder / "revoked.crl").read_bytes())

    def certificate(self) -> x509.Certificate:
        return x509.load_pem_x509_certificate((self.folder / "broker.crt").read_bytes())

    def acl(self) -> dict[str, list[str]]:
        return sections((self.folder / "acl").read_text())


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.registry.close()


class TestFiles:
    def test_all_that_a_broker_needs_lies_in_its_folder_for_one_user_only(self, desk: Desk) -> None:
        written = desk.write()

        assert written.changed == ("mosquitto.conf", "clients.crt", "acl", "revoked.crl", "broker.key", "broker.crt")
        assert written.needs_restart
        assert written.notes == ("no broker is running",)
        for path in (desk.folder, *desk.folder.iterdir()):
            wanted = 0o700 if path.is_dir() else 0o600
            assert stat.S_IMODE(path.stat().st_mode) == wanted

    def test_writing_again_changes_nothing(self, desk: Desk) -> None:
        desk.write()

        assert desk.write().changed == ()
        assert desk.refresh().changed == ()

    def test_the_chain_holds_from_the_broker_to_the_root(self, desk: Desk) -> None:
        desk.write()

        leaf, issuing = x509.load_pem_x509_certificates((desk.folder / "broker.crt").read_bytes())
        leaf.verify_directly_issued_by(issuing)
        issuing.verify_directly_issued_by(desk.authority.root)
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert tuple(str(name.value) for name in names) == HOSTS

    def test_a_new_binding_changes_the_access_list_alone(self, desk: Desk) -> None:
        desk.write()
        desk.bind(WORN_2)

        written = desk.refresh()

        assert written.changed == ("acl",)
        assert not written.needs_restart
        assert f"read vl/v1/w/{WORN_2.hex()}/up/+" in desk.acl()[EDGE.hex()]

    def test_an_ended_binding_is_heard_for_a_fortnight(self, desk: Desk) -> None:
        desk.write()
        binding = desk.registry.bindings()[0].binding_id
        desk.registry.unbind(binding, who="test")

        desk.clock.advance(14 * DAY - 1)
        desk.refresh()
        assert f"read vl/v1/w/{WORN.hex()}/up/+" in desk.acl()[EDGE.hex()]

        desk.clock.advance(2)
        desk.refresh()
        assert f"read vl/v1/w/{WORN.hex()}/up/+" not in desk.acl()[EDGE.hex()]

    def test_a_revoked_device_is_in_both_lists(self, desk: Desk) -> None:
        certificate = desk.certify(WORN.hex(), WORN)
        desk.write()
        desk.registry.revoke(WORN, why="lost", who="test")

        assert desk.refresh().changed == ("acl", "revoked.crl")
        assert desk.acl()[WORN.hex()] == ["deny #"]
        assert [one.serial_number for one in desk.revocations()] == [certificate.serial_number]

    def test_a_service_is_let_in_as_long_as_it_has_a_good_certificate(self, desk: Desk) -> None:
        desk.write()
        assert "monitor" not in desk.acl()

        desk.certify("monitor")
        desk.refresh()
        assert desk.acl()["monitor"] == ["read $SYS/#"]

        desk.registry.certificates.revoke("monitor", who="test")
        desk.refresh()
        assert "monitor" not in desk.acl()

    def test_settings_of_another_folder_are_a_mistake(self, desk: Desk) -> None:
        with pytest.raises(SiteUnusable, match="another folder"):
            desk.broker.write(
                desk.registry, desk.authority, settings(desk.folder / "x"), hosts=HOSTS, at=desk.at, who="test"
            )

    def test_refreshing_what_was_never_written_says_what_to_do(self, desk: Desk) -> None:
        with pytest.raises(SiteUnusable, match="vitalloom broker write"):
            desk.refresh()

    def test_a_folder_that_others_can_enter_gets_no_key(self, desk: Desk) -> None:
        desk.folder.mkdir(mode=0o755)

        with pytest.raises(SiteUnusable, match="chmod 700"):
            desk.write()


class TestRevocationList:
    #  day   0        1        2
    #        |--------|--------|------ ... 7
    #        list     |        a list is made a day after the last one, or at once if there is something to say
    @pytest.mark.parametrize(("after_ms", "is_new"), [(DAY - 1_000, False), (DAY + 1_000, True), (8 * DAY, True)])
    def test_a_new_list_comes_every_day(self, after_ms: int, is_new: bool, desk: Desk) -> None:
        desk.write()

        desk.clock.advance(after_ms)

        assert ("revoked.crl" in desk.refresh().changed) is is_new
        assert desk.broker.list_left_ms(desk.clock.now_ms()) == (7 * DAY if is_new else 7 * DAY - after_ms)

    def test_a_person_can_be_warned_two_days_before_the_list_expires(self, desk: Desk) -> None:
        desk.write()

        assert desk.broker.list_left_ms(NOW + 5 * DAY) == WARN_LIST_MS == 48 * HOUR
        assert desk.broker.list_left_ms(NOW + 8 * DAY) == -DAY

    def test_number_and_date_rise_within_one_second(self, desk: Desk) -> None:
        desk.write()
        lists = [desk.revocations()]
        for device in (WORN, WORN_2, EDGE):
            desk.certify(device.hex(), device)
            desk.registry.revoke(device, why="lost", who="test")
            desk.refresh()
            lists.append(desk.revocations())

        numbers = [one.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number for one in lists]
        assert numbers == [NOW // 1_000 + n for n in range(4)]
        assert [one.last_update_utc - lists[0].last_update_utc for one in lists] == [
            timedelta(seconds=n) for n in range(4)
        ]

    def test_a_clock_that_was_ahead_dates_no_list_into_the_future(self, desk: Desk) -> None:
        desk.clock.set_wall(NOW + 30 * DAY)
        desk.write()
        desk.clock.set_wall(NOW)
        desk.certify(WORN.hex(), WORN)
        desk.registry.revoke(WORN, why="lost", who="test")

        desk.refresh()

        assert desk.revocations().last_update_utc < desk.at
        number = desk.revocations().extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
        assert number == (NOW + 30 * DAY) // 1_000 + 1

    @pytest.mark.parametrize("damage", [None, b"", b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n"])
    def test_a_damaged_list_is_an_error_and_the_next_refresh_makes_a_new_one(
        self, damage: bytes | None, desk: Desk
    ) -> None:
        desk.write()
        if damage is None:
            (desk.folder / "revoked.crl").unlink()
        else:
            (desk.folder / "revoked.crl").write_bytes(damage)

        with pytest.raises(SiteUnusable, match="no client can connect"):
            desk.broker.list_left_ms(NOW)

        assert desk.refresh().changed == ("revoked.crl",)

    def test_after_a_change_of_the_issuing_key_both_issuers_have_a_list(self, desk: Desk) -> None:
        desk.write()
        old = desk.authority
        desk.authority = Authority(root=old.root, issuing=Authority.issuing_from(Ca(*desk.root), "test", at=desk.at))

        written = desk.broker.write(
            desk.registry, desk.authority, settings(desk.folder), hosts=HOSTS, at=desk.at, who="test", retired=(old,)
        )

        assert written.changed == ("clients.crt", "revoked.crl", "broker.key", "broker.crt")
        text = (desk.folder / "revoked.crl").read_bytes()
        parts = [part + b"-----END X509 CRL-----\n" for part in text.split(b"-----END X509 CRL-----\n") if part]
        by_new, by_old = (x509.load_pem_x509_crl(part) for part in parts)
        assert by_new.is_signature_valid(desk.authority.issuing_key.public_key())
        assert by_old.is_signature_valid(old.issuing_key.public_key())
        assert desk.broker.refresh(desk.registry, desk.authority, at=desk.at, who="test", retired=(old,)).changed == ()


class TestServerCertificate:
    @pytest.mark.parametrize(("after_days", "is_new"), [(59, False), (61, True), (100, True)])
    def test_it_is_renewed_in_its_last_month(self, after_days: int, is_new: bool, desk: Desk) -> None:
        desk.write()
        before = desk.certificate()

        desk.clock.advance(after_days * DAY)
        written = desk.refresh()

        assert ("broker.crt" in written.changed) is is_new
        assert (desk.certificate() != before) is is_new
        assert len([one for one in desk.registry.certificates.all() if one.name == "broker"]) == 1 + is_new

    def test_other_names_need_another_one(self, desk: Desk) -> None:
        desk.write()

        assert desk.write(hosts=("elsewhere.example",)).changed == ("broker.key", "broker.crt")

    def test_a_power_cut_between_key_and_certificate_is_made_good(self, desk: Desk) -> None:
        desk.write()
        key = (desk.folder / "broker.key").read_bytes()
        desk.write(hosts=("elsewhere.example",))
        (desk.folder / "broker.key").write_bytes(key)

        assert desk.refresh().changed == ("broker.key", "broker.crt")


@pytest.fixture
def another_program() -> Iterator[subprocess.Popen[bytes]]:
    """A program that is no Mosquitto and would die of a SIGHUP."""
    with subprocess.Popen(["/bin/sleep", "600"]) as process:
        yield process
        process.kill()


@pytest.fixture
def a_mosquitto(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A program that is called mosquitto and dies of the first SIGHUP."""
    binary = tmp_path / "mosquitto"
    binary.symlink_to("/bin/sleep")
    # `nohup make test` has SIGHUP ignored, and programs inherit that.
    with subprocess.Popen(["env", "--default-signal=HUP", binary, "600"]) as process:
        deadline = time.monotonic() + PATIENCE_S
        while Path(f"/proc/{process.pid}/comm").read_text() != "mosquitto\n":
            assert time.monotonic() < deadline
            time.sleep(0.01)
        yield process
        process.kill()


class TestReload:
    @pytest.mark.services
    def test_a_running_broker_reloads_changed_files(self, desk: Desk, a_mosquitto: subprocess.Popen[bytes]) -> None:
        desk.write()
        (desk.folder / "data" / "mosquitto.pid").write_text(f"{a_mosquitto.pid}\n")
        desk.bind(WORN_2)

        written = desk.refresh()

        assert (written.reloaded, written.notes) == (True, ())
        assert a_mosquitto.wait(PATIENCE_S) == -signal.SIGHUP

    def test_it_is_signalled_once(self, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
        calls: list[Path] = []
        monkeypatch.setattr(broker_files, "_reload", calls.append)
        desk.write()
        desk.refresh()
        desk.bind(WORN_2)
        desk.refresh()
        desk.refresh()

        assert len(calls) == 2

    def test_a_failed_reload_is_tried_again_the_next_time(self, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
        answers: list[str | None] = ["away", None, None]
        monkeypatch.setattr(broker_files, "_reload", lambda _: answers.pop(0))
        desk.write()

        assert desk.refresh() == BrokerUpdate((), reloaded=True, notes=())
        assert desk.refresh() == BrokerUpdate((), reloaded=False, notes=())

    @pytest.mark.services
    def test_an_old_number_of_another_program_is_left_alone(
        self, desk: Desk, another_program: subprocess.Popen[bytes]
    ) -> None:
        desk.write()
        (desk.folder / "data" / "mosquitto.pid").write_text(f"{another_program.pid}\n")

        written = desk.refresh()

        assert not written.reloaded
        assert "is outdated" in written.notes[0]
        assert another_program.poll() is None

    @pytest.mark.parametrize("text", ["0", "-1", "1", "999999999", "", "many"])
    def test_a_malformed_process_id_signals_no_process(
        self, text: str, desk: Desk, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        killed: list[int] = []
        monkeypatch.setattr(os, "kill", lambda pid, _: killed.append(pid))
        desk.write()
        (desk.folder / "data" / "mosquitto.pid").write_text(text)

        assert not desk.refresh().reloaded
        assert killed == []


@pytest.fixture
def open_desk() -> Iterator[Desk]:
    """A desk in a folder that every user may pass."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o711)
        made = Desk(Path(folder))
        yield made
        made.registry.close()


AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")


class TestOwner:
    @AS_ROOT
    def test_the_broker_s_user_owns_what_it_has_to_read_now_and_after_a_refresh(self, open_desk: Desk) -> None:
        open_desk.write(user="nobody")
        open_desk.bind(WORN_2)
        assert open_desk.refresh().changed == ("acl",)
        assert open_desk.write(user="nobody").changed == ()

        nobody = pwd.getpwnam("nobody").pw_uid
        for name in ("", "mosquitto.conf", "clients.crt", "acl", "revoked.crl", "broker.key", "broker.crt", "data"):
            assert (open_desk.folder / name).stat().st_uid == nobody

    @AS_ROOT
    def test_a_folder_that_the_broker_cannot_reach_is_refused_before_anything_is_written(self, open_desk: Desk) -> None:
        open_desk.folder.parent.chmod(0o700)

        with pytest.raises(SiteUnusable, match="cannot enter"):
            open_desk.write(user="nobody")

        assert not open_desk.folder.exists()

    @AS_ROOT
    def test_a_broker_that_could_not_read_again_is_not_told_to(self, open_desk: Desk) -> None:
        open_desk.write(user="nobody")
        open_desk.folder.parent.chmod(0o700)

        with pytest.raises(SiteUnusable, match="cannot enter"):
            open_desk.refresh()

    def test_who_is_not_root_writes_for_itself_alone(self, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "geteuid", lambda: 54_321)

        with pytest.raises(SiteUnusable, match=f"run this as root or as {ME}"):
            desk.write()

    def test_a_user_that_does_not_exist_is_named(self, desk: Desk) -> None:
        with pytest.raises(SiteUnusable, match="no such user"):
            desk.write(user="no-such-user")
