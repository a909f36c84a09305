"""Checks of a site's folder: certificates, revocation list, disk, registry and MQTT broker."""

import asyncio
import contextlib
import http.client
import shutil
import ssl
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding

from deploy.checks import (
    CertificateFacts,
    CheckResult,
    failure,
    judge_certificate,
    judge_disk,
    judge_offset,
    judge_revocation_list,
    judge_time_zone,
    judge_urgent_ladder,
    ok,
    warning,
    with_end_dates,
)
from deploy.probes import check_broker, http_request, shown_certificate
from runtime.clock import Clock
from runtime.config import load
from runtime.errors import ConfigError
from stream.config import DeskConfig
from stream.errors import SiteUnusable
from stream.site.broker_files import WARN_LIST_MS, BrokerFolder
from stream.site.edges_without_orders import read_edges_without_orders
from stream.site.end_dates import site_end_dates
from stream.site.folder import Site
from vitals.errors import BadPlan
from vitals.escalation import NEWS2_RULE
from vitals.messages import Priority
from vitals.patient_group import PatientGroup, group_of
from wire.enrol.wallet import Wallet
from wire.errors import NotEnrolled
from wire.lanes import tls_context


async def check_site(folder: Path, clock: Clock) -> list[CheckResult]:
    """Check the folder of a site and the servers that it names."""
    try:
        site = Site.open(folder, clock=clock, to_read=True)
    except SiteUnusable as error:
        return [failure(f"site {folder}", str(error), "give the folder that `vitalloom pki init` created")]
    with contextlib.closing(site):
        parts = await asyncio.gather(
            asyncio.to_thread(_files, site, clock),
            asyncio.to_thread(_broker, site),
            asyncio.to_thread(_registry, site, clock),
            asyncio.to_thread(check_desk, folder),
        )
    return [one for part in parts for one in part]


def _files(site: Site, clock: Clock) -> list[CheckResult]:
    now_ms, folder = clock.now_ms(), site.folder
    found = [judge_certificate(one, now_ms=now_ms, fix=fix) for one, fix in _certificates(site)]
    broker = BrokerFolder(site.broker_folder)
    if broker.config_file.exists():
        fix = f"vitalloom broker write --site {folder}; keep `vitalloom registry serve` running, which renews it"
        try:
            found.append(judge_revocation_list(broker.list_left_ms(now_ms), warn_ms=WARN_LIST_MS, fix=fix))
        except (SiteUnusable, OSError) as error:
            found.append(failure("revocation list of the MQTT broker", str(error), fix))
    found.append(
        judge_disk(
            f"folder {folder}",
            free=shutil.disk_usage(folder).free,
            fix="free disk space: the registry writes to this folder",
        )
    )
    found += _unstated(site)
    found += _without_orders(site)
    found += _stays(site)
    return with_end_dates(found, site_end_dates(site), now_ms=now_ms)


def _unstated(site: Site) -> list[CheckResult]:
    """Patients of whom it was not stated whether adult scores apply: of earlier versions, and unknown ones."""
    open_ones = site.registry.stays.open()
    beds = sorted({one.bed for one in open_ones if group_of(one.about) is PatientGroup.UNSTATED})
    subject = "age and pregnancy of patients"
    if not open_ones:
        return []
    more = " and more" if len(beds) > 20 else ""
    if not beds:
        return [ok(subject, "stated for all")]
    return [
        warning(
            subject,
            f"not stated for bed {', '.join(beds[:20])}{more}: scored as adults",
            "under 16 or pregnant: vitalloom registry facts PATIENT --age AGE, --pregnant or --not-pregnant",
        )
    ]


def _stays(site: Site) -> list[CheckResult]:
    """Patients with two open stays, each of which has half of what is known; and patients without a device."""
    open_ones = site.registry.stays.open()
    count = Counter(one.patient for one in open_ones)
    found: list[CheckResult] = []
    twice = [f"{one.stay_id.hex()[:12]} (bed {one.bed})" for one in open_ones if count[one.patient] > 1]
    if twice:
        found.append(
            warning(
                "stays of patients",
                f"a patient has more than one open stay: {', '.join(twice[:20])}; each is scored by itself",
                "vitalloom registry discharge STAY for the one that is not true, then bind its devices again",
            )
        )
    without = [one.bed for one in open_ones if not site.registry.open_bindings_of(one.stay_id)]
    if without:
        found.append(
            warning(
                "devices of patients",
                f"monitored without a device: bed {', '.join(sorted(without)[:20])}",
                "vitalloom registry bind, or vitalloom registry discharge PATIENT",
            )
        )
    return found


def _without_orders(site: Site) -> list[CheckResult]:
    """Edges that judge patients by the defaults although something is ordered for them."""
    labels = {one.device_id: one.label for one in site.registry.devices()}
    return [
        warning(
            f"edge {labels.get(one.edge) or one.edge}",
            f"does not accept orders (program {one.program or 'not known'}): {one.stays} of its patients are judged by "
            "the default limits at the bedside",
            "update the program of this edge",
        )
        for one in read_edges_without_orders(site.ingest_folder)
    ]


def _certificates(site: Site) -> Iterator[tuple[CertificateFacts, str]]:
    folder = site.folder
    root = _load(site.root_file)[0]
    trusted = [root, *_load(site.bundle_file)]
    yield _fact("the authority", root, [root]), "create a new site; every device has to enrol again"
    for one in _load(folder / "ca" / "issuing.crt"):
        yield _fact("the issuing key", one, [root]), f"vitalloom pki renew issuing --site {folder}"
    for one in _load(site.registry_tls)[:1]:
        fix = f"vitalloom pki renew registry --site {folder}"
        yield _fact("the registry", one, trusted), fix
    broker = BrokerFolder(site.broker_folder).certificate()
    if broker is not None:
        fix = f"vitalloom broker write --site {folder}"
        yield _fact("the MQTT broker", broker, trusted), fix
    for path in sorted((folder / "services").glob("*.pem")):
        for one in _load(path)[:1]:
            yield _fact(f"service {path.stem}", one, trusted), f"vitalloom pki renew {path.stem} --site {folder}"
    with contextlib.suppress(NotEnrolled):  # reported by the check of the broker
        wallet = Wallet.load(site.ingest_folder)
        renewed = f"vitalloom pki renew {wallet.me.device_id.hex()} --site {folder}"
        fix = (
            f"run ingest and registry, then it renews itself; otherwise {renewed}, and enrol {site.ingest_folder} again"
        )
        yield _fact("ingest", wallet.certificate, trusted), fix


def _broker(site: Site) -> list[CheckResult]:
    try:
        wallet = Wallet.load(site.ingest_folder)
    except NotEnrolled as error:
        return [failure("identity of ingest", str(error), "restore it from a backup of the site")]
    config = BrokerFolder(site.broker_folder).config_file
    here = f"vitalloom broker write --site {site.folder}, then mosquitto -c {config}"
    address, context = wallet.broker, tls_context(wallet.tls)
    found = [check_broker("ingest", address.host, address.port, context, here=here)]
    shown, on_disk = shown_certificate(address.host, address.port, context), BrokerFolder(site.broker_folder)
    certificate = on_disk.certificate()
    if shown and certificate is not None and shown != certificate.public_bytes(Encoding.DER):
        fix = "reload the broker: systemctl reload mosquitto, or restart it"
        found.append(warning("MQTT broker", "shows another certificate than the one in its folder", fix))
    return found


def _registry(site: Site, clock: Clock) -> list[CheckResult]:
    subject, url = f"registry at {site.facts.url}", f"{site.facts.url}/v1/root"
    context = ssl.create_default_context(cafile=site.root_file)
    try:
        reply = http_request(url, now_ms=clock.now_ms, context=context)
    except ssl.SSLError as error:
        fix = "make sure it is the registry of this site; vitalloom pki renew registry, and restart it"
        return [failure(subject, f"its certificate is not trusted ({error.reason or error})", fix)]
    except (OSError, http.client.HTTPException) as error:
        fix = f"start it: vitalloom registry serve --site {site.folder}"
        return [failure(subject, f"does not answer ({error}): devices cannot enrol or renew", fix)]
    found = [] if reply.offset_s is None else [judge_offset("the registry", reply.offset_s)]
    if reply.status != 200 or reply.body.strip() != site.root_file.read_bytes().strip():
        return [
            *found,
            failure(subject, "belongs to another site", "correct registry_host and registry_port in site.json"),
        ]
    return [*found, ok(subject, "answers and belongs to this site")]


def check_desk(folder: Path) -> list[CheckResult]:
    """Check the ladders of the alarm desk, if its configuration is in the folder of the site."""
    path = folder / "config" / "desk.toml"
    if not path.exists():
        return []
    try:
        config = load(DeskConfig, path, env_prefix="VITALLOOM_DESK")
        config.policy.check()
    except (ConfigError, BadPlan) as error:
        return [failure(f"configuration {path}", str(error), "run vitalloom desk --sample-config to see every key")]
    waits_ms = config.policy.ladder(Priority.MEDIUM, NEWS2_RULE).waits_ms
    return [
        judge_urgent_ladder(waits_ms, source=str(path)),
        judge_time_zone(config.time_zone, source=str(path)),
    ]


def _fact(name: str, one: x509.Certificate, issuers: list[x509.Certificate]) -> CertificateFacts:
    return CertificateFacts(
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
