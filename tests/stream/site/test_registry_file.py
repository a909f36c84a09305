"""The registry's file: one transaction and one audit line for each change, readers, no secrets."""

import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest

from stream.errors import EnrolmentRefused, FileUnusable, RegistryRefused
from stream.site.audit import AuditLog
from stream.site.enrolment import Enrolment
from stream.site.registry import Registry
from tests.stream.site.registries import FACTS, NOW, Desk, new_keys
from tests.stream.site.registry_requests import (
    ask_prekey,
    ask_renewal,
    change_signature,
    everything,
    lines,
    opened,
    refused,
    renewal,
    said,
)
from wire.enrol.client import prekey_request
from wire.enrol.requests import (
    token_hash,
)
from wire.enrol.wallet import Wallet


def test_each_change_is_a_line_in_the_audit_log(desk: Desk) -> None:
    before = len(lines(desk))
    edge, wearable = desk.enrol("edge"), desk.enrol()
    binding = desk.bind(wearable, edge)

    desk.registry.unbind(binding, who="tester")
    desk.renew(wearable)
    desk.registry.revoke(wearable.me.device_id, why="lost", who="tester")

    come = ["device added", "invited", "enrolled"]
    assert said(desk)[before:] == [*come, *come, "bound", "unbound", "renewed", "revoked"]
    assert lines(desk)[-1]["subject"] == wearable.me.device_id.hex()
    assert lines(desk)[-1]["detail"] == {"why": "lost"}
    assert desk.registry.file.meta("audit_head") == lines(desk)[-1]["hash"]


# Transactions


def changes(desk: Desk) -> dict[str, Callable[[], object]]:
    edge, wearable, loose = desk.enrol("edge"), desk.enrol(), desk.enrol()
    binding, registry, invitation = desk.bind(wearable, edge), desk.registry, desk.invite()
    return {
        "add": lambda: registry.add_device("edge", who="tester"),
        "invite": lambda: desk.again(loose.me.device_id),
        "enrol": lambda: desk.ask(desk.request(invitation)),
        "refuse": lambda: desk.ask(change_signature(desk.request(invitation), desk)),
        "renew": lambda: ask_renewal(desk, renewal(desk, wearable), desk.peer(wearable)),
        "prekey": lambda: ask_prekey(desk, prekey_request(edge, now_ms=NOW), desk.peer(edge)),
        "bind": lambda: desk.bind(loose, edge),
        "unbind": lambda: registry.unbind(binding, who="tester"),
        "revoke": lambda: registry.revoke(edge.me.device_id, why="lost", who="tester"),
        "revoke service": lambda: registry.certificates.revoke("monitor", who="tester"),
        "issue": lambda: desk.site.issue_service("monitor", who="tester"),
        "publish": lambda: registry.publish_all(who="tester"),
    }


@pytest.mark.parametrize(
    "name",
    [
        "add", "invite", "enrol", "refuse", "renew", "prekey", "bind", "unbind", "revoke", "revoke service", "issue",
        "publish",
    ],
)  # fmt: skip
def test_without_its_line_in_the_audit_log_nothing_has_happened(
    desk: Desk, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    change = changes(desk)[name]
    before = everything(desk)

    def full(*_: object, **__: object) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(AuditLog, "append", full)
        with pytest.raises(OSError, match="no space left"):
            change()
    assert everything(desk) == before

    with contextlib.suppress(EnrolmentRefused):
        change()
    assert everything(desk) != before


def test_a_change_that_breaks_in_the_middle_leaves_nothing(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    invitation = desk.invite()
    request, before = desk.request(invitation), everything(desk)

    with monkeypatch.context() as broken:
        broken.setattr(Enrolment, "_put_prekey", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            desk.ask(request)

    assert everything(desk) == before
    desk.ask(request)


# Secrets, readers, files


def test_neither_the_database_nor_the_log_holds_a_secret(desk: Desk) -> None:
    invitation = desk.invite("edge")
    keys, later = new_keys(), new_keys()
    request = desk.request(invitation, keys)
    wallet = Wallet.begin(desk.folder / "edge", desk.ask(request), keys, registry=FACTS.url, pin=invitation.pin)
    with refused(403):
        desk.ask(request)
    wallet.renewed(ask_renewal(desk, renewal(desk, wallet, later), desk.peer(wallet)), later)
    desk.bind(desk.enrol(), wallet)
    desk.registry.file.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    files = [*desk.registry.file.path.parent.glob("registry.sqlite*"), desk.registry.file.audit.path]
    kept = b"".join(one.read_bytes() for one in files)

    assert token_hash(invitation.token) in kept  # the search finds what is there
    secrets = [invitation.token, *(one.private_bytes_raw() for one in desk.site._control)]
    for one in (keys, later):
        number = one.tls.private_numbers().private_value
        secrets += [one.signing.private_bytes_raw(), one.prekey.private_bytes_raw(), number.to_bytes(32, "big")]
    for secret in secrets:
        assert secret not in kept
        assert secret.hex().encode() not in kept.lower()
    assert b"PRIVATE KEY" not in kept


def test_the_log_holds_no_pseudonym(desk: Desk) -> None:
    binding = desk.bind(desk.enrol(), desk.enrol("edge"), patient="PSEUDONYM-77", bed="BED-99")
    desk.registry.unbind(binding, who="tester")

    log = desk.registry.file.audit.path.read_text(encoding="utf-8")

    assert "PSEUDONYM-77" not in log
    assert "BED-99" not in log


def test_a_reader_sees_everything_and_changes_nothing(desk: Desk) -> None:
    wallet = desk.enrol()
    pending = desk.invite()
    reader = opened(desk, to_read=True)

    enrolment = Enrolment(reader, desk.site.authority, clock=desk.clock)

    with contextlib.closing(reader):
        assert reader.devices() == desk.registry.devices()
        before = everything(desk)
        with pytest.raises(RegistryRefused, match="opened for reading"):
            reader.revoke(wallet.me.device_id, why="", who="tester")
        with pytest.raises(RegistryRefused, match="opened for reading"):
            enrolment.enrol(desk.request(pending), server=desk.server, address="192.0.2.7", mono_ms=0)
        with pytest.raises(RegistryRefused, match="opened for reading"):
            enrolment.invite(wallet.me.device_id, url=FACTS.url, who="tester")

    assert everything(desk) == before


def test_the_version_changes_with_changes_of_others_and_with_own_ones(desk: Desk) -> None:
    reader = opened(desk, to_read=True)
    with contextlib.closing(reader):
        first = reader.file.version
        assert reader.file.version == first
        desk.enrol()
        second = reader.file.version
        reader.file.set_meta("note", "mine")
        third = reader.file.version

    assert len({first, second, third}) == 3


def test_only_the_owner_can_read_the_files(desk: Desk) -> None:
    desk.enrol()

    for one in (*desk.registry.file.path.parent.glob("registry.sqlite*"), desk.registry.file.audit.path):
        assert one.stat().st_mode & 0o077 == 0, one


def test_a_file_of_another_kind_is_refused(tmp_path: Path, desk: Desk) -> None:
    path = tmp_path / "other.sqlite"
    path.write_bytes(b"this is a letter, and a long one. " * 50)

    with pytest.raises(FileUnusable, match=r"other\.sqlite: is not a registry"):
        Registry(path, control=None, tenant_id=bytes(16), clock=desk.clock)
