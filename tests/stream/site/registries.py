"""A site in a folder, and devices that enrol at it without a network."""

import base64
import os
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from runtime.clock import Clock, ManualClock
from stream.site.enrolment import Enrolment, EnrolmentPolicy
from stream.site.folder import Site, SiteFacts
from wire.enrol.client import enrol_request, renew_request
from wire.enrol.documents import control_key_id
from wire.enrol.requests import EnrolReply, EnrolRequest, Invitation
from wire.enrol.wallet import NewKeys, Wallet
from wire.identity import Role

NOW = 1_767_600_000_000
SECOND, MINUTE, HOUR, DAY = 1_000, 60_000, 3_600_000, 86_400_000
FACTS = SiteFacts(
    name="test",
    tenant_id="ab" * 16,
    registry_host="127.0.0.1",
    registry_port=8_443,
    broker_host="127.0.0.1",
    broker_port=8_883,
)


class Desk:
    """A site, and what its administrator does.

    Args:
        wall: the machine's own clock where TLS checks certificates; otherwise the desk's.
    """

    def __init__(self, folder: Path, *, policy: EnrolmentPolicy | None = None, wall: Clock | None = None) -> None:
        self.folder = folder
        self.clock = ManualClock(NOW, mono_ms=1_000_000)
        self.site = Site.create(
            folder / "site",
            FACTS,
            clock=self.clock,
            wall=wall,
            who="tester",
            policy=policy or EnrolmentPolicy(tries_per_min=1e6),
        )
        self.registry = self.site.registry
        self.server = self.site.server_certificate()

    @property
    def enrolment(self) -> Enrolment:
        return self.site.enrolment

    def invite(self, role: Role = "wearable") -> Invitation:
        """A new device, invited."""
        device_id = self.registry.add_device(role, who="tester")
        return self.again(device_id)

    def again(self, device_id: bytes) -> Invitation:
        return self.enrolment.invite(device_id, url=FACTS.url, who="tester")

    def request(self, invitation: Invitation, keys: NewKeys | None = None) -> EnrolRequest:
        return enrol_request(invitation, keys or new_keys(), self.server)

    def ask(self, request: EnrolRequest, *, address: str = "192.0.2.7") -> EnrolReply:
        """What the registry answers. Raises EnrolmentRefused."""
        return self.enrolment.enrol(request, server=self.server, address=address, mono_ms=self.clock.mono_ms())

    def enrol(self, role: Role = "wearable", *, invitation: Invitation | None = None) -> Wallet:
        """A device with a wallet in a folder of its own."""
        invited = invitation or self.invite(role)
        keys = new_keys()
        reply = self.ask(self.request(invited, keys))
        folder = self.folder / invited.device_id.hex()
        return Wallet.begin(folder, reply, keys, registry=FACTS.url, pin=invited.pin)

    def renew(self, wallet: Wallet) -> None:
        keys = new_keys()
        reply = self.enrolment.renew(
            renew_request(wallet, keys, self.server),
            peer=self.peer(wallet),
            server=self.server,
            address="192.0.2.7",
            mono_ms=self.clock.mono_ms(),
        )
        wallet.renewed(reply, keys)

    def peer(self, wallet: Wallet) -> bytes:
        """The certificate that a device shows, DER."""
        return base64.b64decode(
            wallet.tls.client.read_text().split("-----BEGIN CERTIFICATE-----")[1].split("-----END")[0]
        )

    def bind(self, wearable: Wallet, edge: Wallet, *, patient: str = "P0001", bed: str = "1") -> bytes:
        return self.registry.bind(
            wearable_id=wearable.me.device_id, edge_id=edge.me.device_id, patient=patient, bed=bed, who="tester"
        )

    def registry_keys(self) -> dict[bytes, Ed25519PublicKey]:
        """The keys that documents are signed with, by id."""
        assert self.site.signers is not None
        keys = [one.public_key() for one in self.site.signers.control]
        return {control_key_id(one): one for one in keys}

    def deliver(self, wallet: Wallet) -> None:
        """Every document that a device has to know."""
        for frame in self.registry.documents.documents_for(wallet.me.device_id):
            wallet.take(frame)


def new_keys() -> NewKeys:
    return NewKeys.make(os.urandom(8))
