"""The doctor looks at an edge: its identity, its broker, its outbox's disk, its models."""

import asyncio
import shutil
from pathlib import Path

from deploy.connections import broker_finding
from deploy.findings import Finding, judge_disk, ok, warning, wrong
from edge import config as edge_config
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


async def examine_edge(path: Path, clock: Clock) -> list[Finding]:
    """Everything that an edge's configuration names."""
    try:
        config = edge_config.read(path)
    except (ConfigError, BadEdgeConfig) as error:
        return [wrong(f"configuration {path}", str(error), "vitalloom edge --sample-config shows every key")]
    parts = await asyncio.gather(
        asyncio.to_thread(_identity, config, clock),
        asyncio.to_thread(_disk, config),
        asyncio.to_thread(_models, config),
    )
    return [one for part in parts for one in part]


def _identity(config: EdgeConfig, clock: Clock) -> list[Finding]:
    about = f"identity {config.identity}"
    try:
        wallet = Wallet.load(config.identity)
    except NotEnrolled as error:
        return [wrong(about, str(error), f"vitalloom enrol --dir {config.identity}")]
    problem = wallet.expiry(clock.now_ms())
    if wallet.me.role != "edge":
        found = [wrong(about, f"is that of a {wallet.me.role}", "enrol this machine as an edge: registry add edge")]
    elif wallet.is_revoked:
        found = [wrong(about, "is revoked", f"enrol this edge as a new one: vitalloom enrol --dir {config.identity}")]
    elif problem is not None:
        what, _, cure = problem.partition(": ")
        found = [(wrong if "expired" in what else warning)(about, what, cure)]
    else:
        found = [ok(about, f"edge {wallet.me.device_id.hex()[:8]}, certificate in order")]
    host, port = config.broker.host or wallet.broker.host, config.broker.port or wallet.broker.port
    context = tls_context(wallet.tls) if config.broker.tls else None
    here = "see broker.host and broker.port here, and `vitalloom doctor --site` at the site"
    return [*found, broker_finding("this edge", host, port, context, here=here)]


def _disk(config: EdgeConfig) -> list[Finding]:
    outbox, budget = config.data_dir / "outbox.sqlite", config.outbox.budget_mb << 20
    used = outbox.stat().st_size if outbox.exists() else 0
    there = next(one for one in (config.data_dir, *config.data_dir.parents) if one.exists())
    cure = "make room, or give the outbox less: outbox.budget_mb"
    found = [
        judge_disk(
            f"outbox in {config.data_dir}", free=shutil.disk_usage(there).free, growth=max(0, budget - used), cure=cure
        )
    ]
    if used > 0.85 * budget:
        what = f"holds {used >> 20} of {config.outbox.budget_mb} MB: old readings are being thinned"
        found.append(warning(f"outbox in {config.data_dir}", what, "why does the data centre sign for nothing?"))
    return found


def _models(config: EdgeConfig) -> list[Finding]:
    folder = config.models or RELEASED
    accepted = ModelVersions(config.data_dir / "models.json")
    believed = load_all(folder, trusted=(*RELEASE_KEYS, *config.model_keys), not_below=accepted.newest)
    scoring = Scoring(believed, lambda _: NOTHING, {})
    cure = f"put it back as it was released: pip install --force-reinstall vitalloom, or copy it into {folder} anew"
    found = [wrong(f"model {name}", str(error), cure) for name, error in scoring.refused.items()]
    found += [ok(f"model {name} {version}", "passport and files fit") for name, version in scoring.versions.items()]
    return found
