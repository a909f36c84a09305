"""Requests of devices to a desk's registry, and what tests look up in it afterwards."""

import contextlib
import sqlite3
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from stream.errors import EnrolmentRefused
from stream.site.registry import Registry
from tests.stream.site.registries import Desk, new_keys
from wire.enrol.client import renew_request
from wire.enrol.documents import Document, DocumentType, control_key_id, open_document
from wire.enrol.requests import (
    EnrolReply,
    EnrolRequest,
    PrekeyRequest,
    RenewRequest,
)
from wire.enrol.wallet import NewKeys, Wallet


class Refusal:
    """A refusal: status and text of the answer."""

    status = 0
    problem = ""


@contextlib.contextmanager
def refused(status: int) -> Iterator[Refusal]:
    refusal = Refusal()
    with pytest.raises(EnrolmentRefused) as caught:
        yield refusal
    refusal.status, refusal.problem = caught.value.status, str(caught.value)
    assert refusal.status == status, refusal.problem


def opened(desk: Desk, *, to_read: bool = False) -> Registry:
    """The desk's registry as another process opens it."""
    path, control = desk.registry.file.path, None if to_read else desk.site._control
    return Registry(path, control=control, tenant_id=desk.registry.tenant_id, clock=desk.clock)


def lines(desk: Desk) -> list[dict[str, Any]]:
    return [msgspec.json.decode(line) for line in desk.registry.file.audit.path.read_bytes().splitlines()]


def said(desk: Desk) -> list[str]:
    return [line["what"] for line in lines(desk)]


def everything(desk: Desk) -> list[str]:
    """The whole database but for the head of the audit log."""
    with contextlib.closing(sqlite3.connect(desk.registry.file.path)) as db:
        return [line for line in db.iterdump() if "audit_head" not in line]


def documents(desk: Desk, device_id: bytes) -> dict[tuple[DocumentType, bytes], Document]:
    keys = {control_key_id(one.public_key()): one.public_key() for one in desk.site._control}
    found = {}
    for frame in desk.registry.documents.documents_for(device_id):
        with contextlib.suppress(Exception):  # sealed ones are opened by whom they are for
            document = open_document(frame, keys)
            found[document.type, document.subject] = document
    return found


def own_document(desk: Desk, device_id: bytes) -> Document:
    return documents(desk, device_id)[DocumentType.DEVICE, device_id]


def renewal(desk: Desk, wallet: Wallet, keys: NewKeys | None = None) -> RenewRequest:
    return renew_request(wallet, keys or new_keys(), desk.server)


def ask_renewal(desk: Desk, request: RenewRequest, peer: bytes | None) -> EnrolReply:
    return desk.enrolment.renew(
        request, peer=peer, server=desk.server, address="192.0.2.7", mono_ms=desk.clock.mono_ms()
    )


def ask_prekey(desk: Desk, request: PrekeyRequest, peer: bytes | None) -> None:
    desk.enrolment.new_prekey(request, peer=peer, address="192.0.2.7", mono_ms=desk.clock.mono_ms())


def change_signature(request: EnrolRequest, desk: Desk) -> EnrolRequest:
    return replace(request, proof="00" * 64)
