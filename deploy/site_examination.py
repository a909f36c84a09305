"""The doctor looks at a site's folder: certificates, revocation list, registry and broker."""

import asyncio
import contextlib
import http.client
import shutil
import ssl
from collections.abc import Iterator
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from deploy.connections import ask, broker_finding
from deploy.findings import (
    Certificate,
    Finding,
    judge_certificate,
    judge_disk,
    judge_list,
    judge_offset,
    ok,
    wrong,
)
from runtime.clock import Clock
from stream.errors import SiteUnusable
from stream.site.broker_files import WARN_LIST_MS, BrokerFolder
from stream.site.folder import Site
from wire.enrol.wallet import Wallet
from wire.errors import NotEnrolled
from wire.lanes import tls_context


async def examine_site(folder: Path, clock: Clock) -> list[Finding]:
    """Everything that a site's folder says, and what it names."""
    try:
        site = Site.open(folder, clock=clock, to_read=True)
    except SiteUnusable as error:
        return [wrong(f"site {folder}", str(error), "name the folder that `vitalloom pki init` has made")]
    with contextlib.closing(site):
        parts = await asyncio.gather(
            asyncio.to_thread(_files, site, clock),
            asyncio.to_thread(_broker, site),
            asyncio.to_thread(_registry, site, clock),
        )
    return [one for part in parts for one in part]


def _files(site: Site, clock: Clock) -> list[Finding]:
    now_ms, folder = clock.now_ms(), site.folder
    found = [judge_certificate(one, now_ms=now_ms, cure=cure) for one, cure in _certificates(site)]
    broker = BrokerFolder(site.broker_folder)
    if broker.config_file.exists():
        cure = f"vitalloom broker write --site {folder}; and keep `vitalloom registry serve` running, which renews it"
        try:
            found.append(judge_list(broker.list_left_ms(now_ms), warn_ms=WARN_LIST_MS, cure=cure))
        except (SiteUnusable, OSError) as error:
            found.append(wrong("revocation list of the broker", str(error), cure))
    found.append(
        judge_disk(
            f"folder {folder}", free=shutil.disk_usage(folder).free, cure="make room: the registry writes here, too"
        )
    )
    return found


def _certificates(site: Site) -> Iterator[tuple[Certificate, str]]:
    folder = site.folder
    root = _load(site.root_file)[0]
    trusted = [root, *_load(site.bundle_file)]
    yield _fact("the authority", root, [root]), "begin a new site; every device has to enrol again"
    for one in _load(folder / "ca" / "issuing.crt"):
        yield _fact("the issuing key", one, [root]), f"vitalloom pki renew issuing --site {folder}"
    for one in _load(site.registry_tls)[:1]:
        cure = f"vitalloom pki renew registry --site {folder}, and start the registry again"
        yield _fact("the registry", one, trusted), cure
    broker = BrokerFolder(site.broker_folder).certificate()
    if broker is not None:
        cure = f"vitalloom broker write --site {folder}, and start the broker again"
        yield _fact("the MQTT broker", broker, trusted), cure
    for path in sorted((folder / "services").glob("*.pem")):
        for one in _load(path)[:1]:
            yield _fact(f"service {path.stem}", one, trusted), f"vitalloom pki renew {path.stem} --site {folder}"
    with contextlib.suppress(NotEnrolled):  # said where the broker is asked
        wallet = Wallet.load(site.ingest_folder)
        renewed = f"vitalloom pki renew {wallet.me.device_id.hex()} --site {folder}"
        cure = (
            f"let ingest and registry run, then it renews itself; else {renewed}, and enrol {site.ingest_folder} again"
        )
        yield _fact("the ingest", wallet.certificate, trusted), cure


def _broker(site: Site) -> list[Finding]:
    try:
        wallet = Wallet.load(site.ingest_folder)
    except NotEnrolled as error:
        return [wrong("identity of the ingest", str(error), "restore it from a backup of the site")]
    config = BrokerFolder(site.broker_folder).config_file
    here = f"vitalloom broker write --site {site.folder}, then mosquitto -c {config}"
    address = wallet.broker
    return [broker_finding("the ingest", address.host, address.port, tls_context(wallet.tls), here=here)]


def _registry(site: Site, clock: Clock) -> list[Finding]:
    about, url = f"registry at {site.facts.url}", f"{site.facts.url}/v1/root"
    context = ssl.create_default_context(cafile=site.root_file)
    try:
        reply = ask(url, now_ms=clock.now_ms, context=context)
    except ssl.SSLError as error:
        cure = "is it the registry of this site? vitalloom pki renew registry, and start it again"
        return [wrong(about, f"its certificate is not believed ({error.reason or error})", cure)]
    except (OSError, http.client.HTTPException) as error:
        cure = f"start it: vitalloom registry serve --site {site.folder}"
        return [wrong(about, f"does not answer ({error}): nobody can enrol or renew", cure)]
    found = [] if reply.offset_s is None else [judge_offset("the registry", reply.offset_s)]
    if reply.status != 200 or reply.body.strip() != site.root_file.read_bytes().strip():
        return [*found, wrong(about, "is that of another site", "correct registry_host and registry_port in site.json")]
    return [*found, ok(about, "answers, and is ours")]


def _fact(name: str, one: x509.Certificate, issuers: list[x509.Certificate]) -> Certificate:
    return Certificate(
        name,
        round(one.not_valid_before_utc.timestamp() * 1_000),
        round(one.not_valid_after_utc.timestamp() * 1_000),
        any(_issued(one, issuer) for issuer in issuers),
    )


def _issued(one: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        one.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _load(path: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())
    except (OSError, ValueError):
        return []
