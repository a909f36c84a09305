"""The devices of a ward, enrolled as real ones are: a site with an authority, a registry on loopback, invitations.

Ids follow from kind and number of a device, so that runs can be compared; keys are new in every run. Certificates are
checked against the machine's clock, credentials and bindings against the ward's.
"""

import asyncio
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from runtime.clock import Clock, SystemClock
from simulators.broker import LOOPBACK, free_port
from stream.site.enrolment import EnrolmentPolicy
from stream.site.folder import Site, SiteFacts
from stream.site.http import RegistryServer
from wire.enrol.authority import pem
from wire.enrol.client import enrol
from wire.enrol.wallet import Wallet
from wire.identity import NOTHING, About, BindingRecord, Role
from wire.stays import KnownStay, stays_of

POLICY: Final = EnrolmentPolicy(credential_days=400, tries_per_min=1e9)
"""Long validity and no rate limit: a ward's days pass in minutes, and all its devices share one address."""
_WHO: Final = "ward"


class Placement(NamedTuple):
    """Where a wearable is."""

    patient: int
    edge: int
    name: str  # what people call it; empty: it has no name


class EnrolledSite:
    """A site, its edges and its wearables, each wearable on a patient.

    Args:
        folder: for the site; the wallets go beside it.
        clock: the ward's.
    """

    def __init__(self, folder: Path, clock: Clock, *, broker_port: int) -> None:
        self._folder = folder
        facts = SiteFacts(
            name="ward",
            tenant_id=_id("tenant", 0).hex(),
            registry_host=LOOPBACK,
            registry_port=free_port(),
            broker_host=LOOPBACK,
            broker_port=broker_port,
        )
        self.site = Site.create(
            folder / "site",
            facts,
            clock=clock,
            wall=SystemClock(),
            policy=POLICY,
            who=_WHO,
            ingest_id=_id("ingest", 0),
        )
        self.ingest = Wallet.load(self.site.ingest_folder)
        self.edges: list[Wallet] = []
        self.wearables: list[Wallet] = []

    def close(self) -> None:
        self.site.close()

    @property
    def bindings(self) -> list[BindingRecord]:
        """One a wearable, in the order of `wearables`."""
        found = {one.wearable_id: one for one in self.site.registry.bindings()}
        return [found[one.me.device_id] for one in self.wearables]

    def stays(self) -> list[KnownStay]:
        """The stays of all patients."""
        return stays_of(self.site.registry.bindings())

    async def enrol(
        self,
        *,
        wearables: int,
        edges: int,
        now_ms: int,
        about: Callable[[int], About] | None = None,
        placed: Callable[[int], Placement] | None = None,
        on_enrolled: Callable[[], None] | None = None,
    ) -> None:
        """Enrol all devices over HTTPS.

        Args:
            about: facts about a patient, by number.
            placed: patient, edge and name of a wearable, by number, the devices of a patient in order; None: each is
                on a patient of its own, and they are assigned to the edges in turn.
            on_enrolled: called after each device.
        """
        site = self.site
        server = RegistryServer(
            site.enrolment,
            tls=site.registry_tls,
            root=pem(site.authority.root),
            clients=site.bundle_file,
            host=LOOPBACK,
            port=site.facts.registry_port,
        )
        async with server:
            for index in range(edges):
                self.edges.append(await self._enrol("edge", index))
                if on_enrolled is not None:
                    on_enrolled()
            for index in range(wearables):
                at = Placement(index, index % edges, "") if placed is None else placed(index)
                patient = f"P{at.patient + 1:04d}"
                device_id = site.registry.add_device(
                    "wearable", who=_WHO, device_id=_id("wearable", index), label=at.name and f"{patient} {at.name}"
                )
                site.registry.bind(
                    wearable_id=device_id,
                    edge_id=self.edges[at.edge].me.device_id,
                    patient=patient,
                    bed=f"{at.patient + 1}",
                    about=NOTHING if about is None else about(at.patient),
                    who=_WHO,
                    binding_id=_id("binding", index),
                    valid_from_ms=now_ms - 86_400_000,
                )
                self.wearables.append(await self._enrol("wearable", index))
                if on_enrolled is not None:
                    on_enrolled()

    async def _enrol(self, role: Role, index: int) -> Wallet:
        registry, device_id = self.site.registry, _id(role, index)
        if role == "edge":
            registry.add_device(role, who=_WHO, device_id=device_id)
            folder = self._folder / f"edge-{index + 1}" / "identity"
        else:
            folder = self._folder / "wearables" / f"{index + 1}"
        invitation = self.site.enrolment.invite(device_id, url=self.site.facts.url, who=_WHO)
        return await asyncio.to_thread(enrol, invitation, folder)


def _id(kind: str, index: int) -> bytes:
    return hashlib.sha256(f"ward/{kind}/{index}".encode()).digest()[:16]
