"""Identities without enrolment: keys in memory, for benchmarks that need many and for tests that need few.

A ward enrols its devices as real ones are, see `simulators.enrolled`.
"""

import hashlib
import os
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from wire.identity import BindingRecord, DeviceIdentity, InMemoryDirectory, Provision, Role


class DemoSite:
    """An invented site: one ingest, some edges, some wearables, each on its own patient."""

    def __init__(self, *, ingest: Provision, edges: tuple[Provision, ...], wearables: tuple[Provision, ...]) -> None:
        self.ingest = ingest
        self.edges = edges
        self.wearables = wearables

    @property
    def bindings(self) -> tuple[BindingRecord, ...]:
        """One binding per wearable, in the order of `wearables`."""
        return self.ingest.directory.bindings()


_YEAR_MS: Final = 365 * 86_400_000


def demo_site(*, wearables: int, edges: int, now_ms: int, name: str = "demo") -> DemoSite:
    """Identities for a demonstration. Ids follow from `name`, so that runs can be compared; keys are random.

    Wearables are shared out to the edges in turn. Every binding is open from a day before `now_ms` on.
    """
    tenant = _id(name, "tenant", 0)

    def identity(role: Role, index: int) -> DeviceIdentity:
        return DeviceIdentity(
            device_id=_id(name, role, index),
            tenant_id=tenant,
            role=role,
            signing_key=Ed25519PrivateKey.generate(),
            credential_serial=os.urandom(8),
            prekeys={os.urandom(8): X25519PrivateKey.generate()},
            not_before_ms=now_ms - _YEAR_MS,
            not_after_ms=now_ms + _YEAR_MS,
        )

    cloud = identity("ingest", 0)
    edge_identities = [identity("edge", index) for index in range(edges)]
    wearable_identities = [identity("wearable", index) for index in range(wearables)]
    bindings = [
        BindingRecord(
            binding_id=_id(name, "binding", index),
            patient=f"P{index + 1:04d}",
            bed=f"{index + 1}",
            wearable_id=one.device_id,
            edge_id=edge_identities[index % edges].device_id,
            valid_from_ms=now_ms - 86_400_000,
        )
        for index, one in enumerate(wearable_identities)
    ]
    cloud_key = cloud.signing_key.public_key()
    provisions = []
    for index, edge in enumerate(edge_identities):
        own = slice(index, None, edges)
        directory = InMemoryDirectory([one.record() for one in wearable_identities[own]], bindings[own])
        provisions.append(
            Provision(me=edge, directory=directory, recipient=cloud.recipient(), recipient_keys=(cloud_key,))
        )
    return DemoSite(
        ingest=Provision(
            me=cloud,
            directory=InMemoryDirectory([one.record() for one in edge_identities], bindings),
            recipient=None,
        ),
        edges=tuple(provisions),
        wearables=tuple(
            Provision(
                me=one,
                directory=InMemoryDirectory([], [bindings[index]]),
                recipient=edge_identities[index % edges].recipient(),
                recipient_keys=(edge_identities[index % edges].signing_key.public_key(),),
            )
            for index, one in enumerate(wearable_identities)
        ),
    )


def _id(name: str, kind: str, index: int) -> bytes:
    return hashlib.sha256(f"{name}/{kind}/{index}".encode()).digest()[:16]
