"""Checks of an edge: identity, MQTT broker, disk space of the outbox, models."""

import asyncio
import shutil
from pathlib import Path

from deploy.checks import CheckResult, Severity, failure, judge_disk, judge_end_date, judge_offset, ok, warning
from deploy.probes import check_broker
from edge import config as edge_config
from edge import status as edge_status
from edge.config import EdgeConfig
from edge.errors import BadEdgeConfig
from edge.model_versions import ModelVersions
from edge.scoring import Scoring
from models.artifacts import RELEASED, load_all
from models.passport import RELEASE_KEYS
from runtime.clock import Clock
from runtime.errors import ConfigError
from wire.enrol.wallet import Wallet
from wire.errors import NotEnrolled
from wire.identity import NOTHING
from wire.lanes import tls_context


async def check_edge(path: Path, clock: Clock) -> list[CheckResult]:
    """Check everything that the configuration of an edge names."""
    try:
        config = edge_config.read(path)
    except (ConfigError, BadEdgeConfig) as error:
        return [failure(f"configuration {path}", str(error), "run vitalloom edge --sample-config to see every key")]
    parts = await asyncio.gather(
        asyncio.to_thread(_identity, config, clock),
        asyncio.to_thread(_disk, config),
        asyncio.to_thread(_models, config),
        asyncio.to_thread(_clock, config),
    )
    return [one for part in parts for one in part]


def _identity(config: EdgeConfig, clock: Clock) -> list[CheckResult]:
    subject = f"identity {config.identity}"
    try:
        wallet = Wallet.load(config.identity)
    except NotEnrolled as error:
        return [failure(subject, str(error), f"vitalloom enrol --dir {config.identity}")]
    problem = wallet.expiry(clock.now_ms())
    if wallet.me.role != "edge":
        found = [
            failure(
                subject,
                f"is the identity of a {wallet.me.role}",
                "enrol this machine as an edge: vitalloom registry add edge",
            )
        ]
    elif wallet.is_revoked:
        found = [
            failure(subject, "is revoked", f"enrol this edge as a new device: vitalloom enrol --dir {config.identity}")
        ]
    elif problem is not None:
        result, _, fix = problem.partition(": ")
        found = [(failure if "expired" in result else warning)(subject, result, fix)]
    elif (judged := judge_end_date(wallet.end_date, now_ms=clock.now_ms())).severity is not Severity.OK:
        found = [judged]
    else:
        found = [ok(subject, f"edge {wallet.me.device_id.hex()[:8]}, certificate valid")]
    host, port = config.broker.host or wallet.broker.host, config.broker.port or wallet.broker.port
    context = tls_context(wallet.tls) if config.broker.tls else None
    here = "check broker.host and broker.port here, and run `vitalloom doctor --site` at the site"
    return [*found, check_broker("this edge", host, port, context, here=here)]


def _disk(config: EdgeConfig) -> list[CheckResult]:
    outbox, budget = config.data_dir / "outbox.sqlite", config.outbox.budget_mb << 20
    used = outbox.stat().st_size if outbox.exists() else 0
    existing = next(one for one in (config.data_dir, *config.data_dir.parents) if one.exists())
    fix = "free disk space, or reduce outbox.budget_mb"
    found = [
        judge_disk(
            f"outbox in {config.data_dir}", free=shutil.disk_usage(existing).free, growth=max(0, budget - used), fix=fix
        )
    ]
    if used > 0.85 * budget:
        result = f"holds {used >> 20} of {config.outbox.budget_mb} MB: old readings are thinned out"
        found.append(
            warning(f"outbox in {config.data_dir}", result, "find out why the data centre does not confirm readings")
        )
    return found


def _clock(config: EdgeConfig) -> list[CheckResult]:
    """The edge's clock against the data centre's, as the agent has found it; nothing if no agent runs here."""
    try:
        status = edge_status.read(edge_status.places(config.data_dir, config.status_file))
    except OSError:
        return []
    if status is None or status.stopped or status.clock_ms is None:
        return []
    return [judge_offset("the data centre", status.clock_ms / 1_000)]


def _models(config: EdgeConfig) -> list[CheckResult]:
    folder = config.models or RELEASED
    accepted = ModelVersions(config.data_dir / "models.json")
    trusted = load_all(folder, trusted=(*RELEASE_KEYS, *config.model_keys), not_below=accepted.newest)
    scoring = Scoring(trusted, lambda _: NOTHING, {})
    fix = f"restore the released files: pip install --force-reinstall vitalloom, or copy them into {folder} again"
    found = [failure(f"model {name}", str(error), fix) for name, error in scoring.refused.items()]
    found += [ok(f"model {name} {version}", "files match the passport") for name, version in scoring.versions.items()]
    return found
