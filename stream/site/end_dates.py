"""Everything in the folder of a site that ends at a known time: authority, servers, services, lists, devices in use.

The registry writes what it has found to `end-dates.json`, as other processes of the site cannot read its keys.
"""

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

import msgspec

from runtime.config import load
from runtime.end_dates import DAY_MS, EndDate, Urgency
from runtime.errors import ConfigError, NotPrivate
from runtime.hardening import read_private, write_private
from stream.config import DeskConfig, IngestConfig, StoreConfig, WorkerConfig
from stream.errors import SiteUnusable
from stream.site.broker_files import SERVER_RENEWED, BrokerFolder
from stream.site.folder import Site
from stream.tls import certificates_in, end_ms, end_of_file, kafka_end_dates
from wire.enrol.authority import DEVICE_DAYS, LIST_DAYS, RENEW_AFTER_DAYS
from wire.enrol.wallet import Wallet
from wire.errors import NotEnrolled

FILE: Final = "end-dates.json"
REPORT_MS: Final = (LIST_DAYS - 1) * DAY_MS
"""How long after the registry has stopped the site works: then the revocation list may have expired."""

ISSUING_LEAD_MS: Final = DEVICE_DAYS * DAY_MS
"""What is issued ends with the issuing key, so its last month cuts the certificates of devices short."""
ROOT_LEAD_MS: Final = 3 * ISSUING_LEAD_MS
"""Every device has to enrol again, which takes people some time."""
ISSUING_DUE_MS: Final = 2 * ISSUING_LEAD_MS
"""Time left when the registry renews it, if it has the root key."""

_REGISTRY: Final = "the registry"
_PERSON: Final = "a person"
_CONFIGS: Final[tuple[tuple[str, type[IngestConfig | WorkerConfig | StoreConfig | DeskConfig]], ...]] = (
    ("ingest", IngestConfig),
    ("worker", WorkerConfig),
    ("store", StoreConfig),
    ("desk", DeskConfig),
)


class EndDatesFile(msgspec.Struct, kw_only=True):
    """Content of `end-dates.json`."""

    at_ms: int
    ends: list[EndDate]


def write_end_dates(folder: Path, ends: Iterable[EndDate], *, at_ms: int) -> None:
    """Raises OSError, NotPrivate."""
    content = msgspec.json.encode(EndDatesFile(at_ms=at_ms, ends=list(ends)))
    write_private(folder / FILE, msgspec.json.format(content, indent=1), durable=False)


def read_end_dates(folder: Path, *, now_ms: int) -> list[EndDate]:
    """What the registry has found, and the file itself, which ends when the registry stops to write it."""
    try:
        found = msgspec.json.decode(read_private(folder / FILE), type=EndDatesFile)
    except FileNotFoundError:
        return []  # the registry has not run yet
    except (OSError, NotPrivate, msgspec.DecodeError, UnicodeDecodeError) as error:
        written_ms = int((folder / FILE).lstat().st_mtime * 1_000)
        return [_report(folder, min(written_ms, now_ms), problem=str(error))]
    return [_report(folder, found.at_ms), *found.ends]


def _report(folder: Path, written_ms: int, *, problem: str = "") -> EndDate:
    return EndDate(
        what="the registry's daily renewal of certificates and lists",
        ends_ms=written_ms + REPORT_MS,
        due_ms=written_ms,
        renewed_by=_REGISTRY,
        fix=f"start it: vitalloom registry serve --site {folder}",
        problem=problem,
    )


def site_end_dates(site: Site, problems: Mapping[str, str] | None = None) -> list[EndDate]:
    """Read every file of the site that ends.

    Args:
        problems: why the last renewal of a thing failed, by `what`.
    """
    elsewhere = [*_ingest(site), *_configured(site), *_devices(site)]
    found = [
        *(*_authority(site), *_servers(site), *_lists(site)),
        # The registry works without them: their ends are announced, and make only their own processes unready.
        *(msgspec.structs.replace(one, most=min(one.most, Urgency.HIGH)) for one in elsewhere),
    ]
    told = problems or {}
    return [msgspec.structs.replace(one, problem=told[one.what]) if one.what in told else one for one in found]


def _authority(site: Site) -> Iterator[EndDate]:
    ca = site.folder / "ca"
    for one in certificates_in(site.root_file):
        yield EndDate(
            what="certificate of the authority",
            ends_ms=end_ms(one),
            lead_ms=ROOT_LEAD_MS,
            renewed_by=_PERSON,
            fix="create a new site; every device has to enrol again",
        )
    itself = site.can_renew_issuing
    for one in certificates_in(ca / "issuing.crt"):
        yield EndDate(
            what="certificate of the issuing key",
            ends_ms=end_ms(one),
            lead_ms=ISSUING_LEAD_MS,
            due_ms=end_ms(one) - ISSUING_DUE_MS if itself else None,
            renewed_by=_REGISTRY if itself else _PERSON,
            fix=f"bring ca/root.key back from its safe; vitalloom pki renew issuing --site {site.folder}",
        )
    for path in sorted(ca.glob("retired-*.crt")):
        for one in certificates_in(path):
            yield EndDate(
                what="certificate of a retired issuing key",
                which=path.stem,
                ends_ms=end_ms(one),
                renewed_by=_REGISTRY,
                fix="nothing to do",
                is_superseded=True,
            )


def _servers(site: Site) -> Iterator[EndDate]:
    broker = BrokerFolder(site.broker_folder)
    files = [
        ("certificate of the registry", site.registry_tls, f"vitalloom pki renew registry --site {site.folder}"),
        ("certificate of the MQTT broker", broker.certificate_file, f"vitalloom broker write --site {site.folder}"),
        *(
            (f"certificate of service {path.stem}", path, f"vitalloom pki renew {path.stem} --site {site.folder}")
            for path in sorted((site.folder / "services").glob("*.pem"))
        ),
    ]
    for what, path, fix in files:
        for one in certificates_in(path)[:1]:
            yield EndDate(
                what=what,
                ends_ms=end_ms(one),
                due_ms=end_ms(one) - round(SERVER_RENEWED.total_seconds() * 1_000),
                renewed_by=_REGISTRY,
                fix=f"keep `vitalloom registry serve` running; {fix}",
            )


def _lists(site: Site) -> Iterator[EndDate]:
    broker = BrokerFolder(site.broker_folder)
    if not broker.config_file.exists():
        return
    with contextlib.suppress(SiteUnusable):  # no list at all is a problem of its own
        ends_ms = broker.list_left_ms(0)
        yield EndDate(
            what="revocation list of the MQTT broker",
            ends_ms=ends_ms,
            due_ms=ends_ms - broker.list_renewed_ms,
            renewed_by=_REGISTRY,
            fix=f"keep `vitalloom registry serve` running; vitalloom broker write --site {site.folder}",
        )


def _ingest(site: Site) -> Iterator[EndDate]:
    with contextlib.suppress(NotEnrolled):
        one = Wallet.load(site.ingest_folder).end_date
        yield msgspec.structs.replace(one, what="certificate of ingest", renewed_by="ingest")


def _devices(site: Site) -> Iterator[EndDate]:
    """The certificate that ends first of those devices that somebody relies on."""
    now_ms = site.wall_ms
    used: set[str] = set()
    for binding in site.registry.bindings():
        if binding.valid_from_ms <= now_ms < (binding.valid_to_ms or now_ms + 1):
            used |= {binding.wearable_id.hex(), binding.edge_id.hex()}
    found = [
        (one.not_after_ms, one.label or one.device_id[:8])
        for one in site.registry.devices()
        if one.device_id in used and one.revoked_ms is None and one.not_after_ms is not None
    ]
    if not found:
        return
    ends_ms, name = min(found)
    left_ms = (DEVICE_DAYS - RENEW_AFTER_DAYS) * DAY_MS
    late = sum(now_ms > end - left_ms + DAY_MS for end, _ in found)
    yield EndDate(
        what="certificate of a device in use",
        which=f"{name} and {late - 1} more" if late > 1 else name,
        ends_ms=ends_ms,
        due_ms=ends_ms - left_ms,
        renewed_by="the device itself",
        most=Urgency.MEDIUM,
        fix="switch it on where it reaches the registry; if it has expired: vitalloom registry invite, and enrol again",
    )


def _configured(site: Site) -> Iterator[EndDate]:
    """Certificates that the configuration files of the site name: of Kafka's clients, and of the alarm desk."""
    for name, kind in _CONFIGS:
        path = site.folder / "config" / f"{name}.toml"
        if not path.exists():
            continue
        with contextlib.suppress(ConfigError):  # the process itself reports it
            config = load(kind, path, env_prefix="VITALLOOM_NOT_FROM_THE_ENVIRONMENT")
            yield from kafka_end_dates(config.kafka, name)
            if isinstance(config, DeskConfig) and config.api.tls is not None:
                yield from end_of_file(
                    config.api.tls.certificate,
                    "certificate of the alarm desk",
                    renewed_by=_PERSON,
                    fix=f"replace {config.api.tls.certificate} and its key; no restart is needed",
                )
