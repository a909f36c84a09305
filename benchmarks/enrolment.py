"""How many devices a registry takes in a second over HTTPS, and what of that is the registry's own work.

`python -m benchmarks.enrolment [--json] [--quick]`

Wall time, because a visit waits: two handshakes, two commits that are fsynced. Both sides share the machine.
"""

import asyncio
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.progress import track

from benchmarks._timing import QUICK, report
from runtime.clock import SystemClock
from simulators.broker import LOOPBACK, free_port
from stream.site.enrolment import EnrolmentPolicy
from stream.site.folder import Site, SiteFacts
from stream.site.http import RegistryServer
from wire.enrol.authority import pem
from wire.enrol.client import ask_renewal, enrol, enrol_request
from wire.enrol.requests import Invitation
from wire.enrol.wallet import NewKeys, Wallet

ROUNDS: Final = 1 if QUICK else 5
DEVICES: Final = 5 if QUICK else 60  # a round
POLICY: Final = EnrolmentPolicy(tries_per_min=1e9)


class EnrolmentBench:
    """A site and what its devices do."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        facts = SiteFacts(
            name="bench", tenant_id="ab" * 16, registry_host=LOOPBACK, registry_port=free_port(),
            broker_host=LOOPBACK, broker_port=free_port(),
        )  # fmt: skip
        self.site = Site.create(folder / "site", facts, clock=SystemClock(), policy=POLICY, who="bench")
        self.server = self.site.server_certificate()
        self.count = 0

    def invited(self) -> Invitation:
        device_id = self.site.registry.add_device("wearable", who="bench")
        return self.site.enrolment.invite(device_id, url=self.site.facts.url, who="bench")

    def keys(self) -> None:
        """The device's part before it speaks: three keys, the signing request, the proof."""
        enrol_request(self.invitation, NewKeys.make(b"12345678"), self.server)

    def without_network(self) -> None:
        """The registry's part: check, sign, commit, audit."""
        self.site.enrolment.enrol(self.requests.pop(), server=self.server, address="192.0.2.1", mono_ms=0)

    async def over_https(self) -> None:
        self.count += 1
        self.wallets.append(await asyncio.to_thread(enrol, self.invitations.pop(), self.folder / str(self.count)))

    async def renewed(self) -> None:
        wallet = self.wallets[-1]
        reply, keys = await asyncio.to_thread(ask_renewal, wallet)
        wallet.renewed(reply, keys)

    async def measure(self) -> dict[str, float]:
        """Median milliseconds of each."""
        site, found = self.site, {name: list[float]() for name in ("keys", "registry", "enrol", "renew")}
        self.wallets: list[Wallet] = []
        server = RegistryServer(
            site.enrolment, tls=site.registry_tls, root=pem(site.authority.root), clients=site.bundle_file,
            host=LOOPBACK, port=site.facts.registry_port,
        )  # fmt: skip
        async with server:
            for _ in track(range(ROUNDS), description="rounds", console=Console(stderr=True), transient=True):
                self.invitation = self.invited()
                self.invitations = [self.invited() for _ in range(DEVICES)]
                self.requests = [
                    enrol_request(self.invited(), NewKeys.make(b"12345678"), self.server) for _ in range(DEVICES)
                ]
                found["keys"].append(_each(self.keys))
                found["registry"].append(_each(self.without_network))
                for name, visit in (("enrol", self.over_https), ("renew", self.renewed)):
                    began = time.perf_counter()
                    for _ in range(DEVICES):
                        await visit()
                    found[name].append((time.perf_counter() - began) / DEVICES * 1_000)
        site.close()
        return {name: statistics.median(values) for name, values in found.items()}


def _each(work: Callable[[], None]) -> float:
    began = time.perf_counter()
    for _ in range(DEVICES):
        work()
    return (time.perf_counter() - began) / DEVICES * 1_000


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        ms = asyncio.run(EnrolmentBench(Path(folder)).measure())
    rest = ms["enrol"] - ms["keys"] - ms["registry"]
    rows = [
        ("device: keys, signing request, proof", f"{ms['keys']:.2f}", f"{ms['keys'] / ms['enrol']:.0%}"),
        ("registry: checks, signatures, commit, audit", f"{ms['registry']:.2f}", f"{ms['registry'] / ms['enrol']:.0%}"),
        ("two TLS handshakes, HTTP, the wallet on disk", f"{rest:.2f}", f"{rest / ms['enrol']:.0%}"),
        ("one enrolment", f"{ms['enrol']:.2f}", f"{1_000 / ms['enrol']:.0f} a second"),
        ("one renewal", f"{ms['renew']:.2f}", f"{1_000 / ms['renew']:.0f} a second"),
    ]
    report(
        "enrolment",
        rows,
        ("", "ms", ""),
        {
            "enrolments_a_second": round(1_000 / ms["enrol"], 1),
            "renewals_a_second": round(1_000 / ms["renew"], 1),
            "to_registry_alone": round(ms["enrol"] / ms["registry"], 2),
            "ms": {name: round(one, 2) for name, one in ms.items()},
        },
    )


if __name__ == "__main__":
    main()
