"""The texts of a site's configuration files. Pure: facts in, text out.

They hold no addresses of other processes, which differ between a machine and containers and come by the environment.
"""

import json
from pathlib import PurePath
from typing import Final

_WRITTEN: Final = "# Written by `vitalloom site init`, which does not write it again: it may be edited."


def kafka_properties(*, host: str, port: int, controller: int, data: PurePath, further: str = "") -> str:
    """One node that is broker and controller. A site that cannot be without it runs three, and edits this.

    Args:
        host, port, controller: where it listens if its command line says nothing else.
        further: lines after it; the last word on a key counts.
    """
    return f"""\
{_WRITTEN}
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller}
advertised.listeners=PLAINTEXT://{host}:{port}
controller.listener.names=CONTROLLER
log.dirs={data}

# Topics are made by `vitalloom site prepare`, with their retention; one that is misspelt shall not come to be.
auto.create.topics.enable=false
# One node, one copy.
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
# A worker that comes begins at once.
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
{further}"""


def _toml(process: str, *lines: str) -> str:
    return "\n".join([_WRITTEN, f"# Every key and what it means: vitalloom {process} --sample-config", "", *lines, ""])


def ingest_toml() -> str:
    return _toml("ingest", 'log_level = "INFO"')


def worker_toml() -> str:
    return _toml("worker", 'log_level = "INFO"')


def store_toml(folder: PurePath) -> str:
    token = json.dumps(str(folder / "secrets" / "writer.token"))
    return _toml(
        "store run", "retention_days = 90", "aggregate_retention_days = 3650", 'log_level = "INFO"', "",
        "[influx]", 'org = "vitalloom"', 'bucket = "vitals"', f"token_file = {token}",
    )  # fmt: skip
