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


def desk_toml(folder: PurePath, *, site: str, port_of_people: int) -> str:
    data, addresses = json.dumps(str(folder / "data" / "desk")), json.dumps(str(folder / "people" / "addresses.toml"))
    everybody = "\n".join(f'{role} = ["demo"]' for role in ("nurse", "second", "lead", "everyone"))
    return _toml(
        "desk", f"data = {data}", f"addresses = {addresses}", f"site = {json.dumps(str(folder))}",
        f"site_name = {json.dumps(site)}", f'where = "http://127.0.0.1:{port_of_people}"', 'log_level = "INFO"', "",
        "# Who is called tonight: names of the file of addresses. Until somebody stands here, it is the demo's phone.",
        "[roles]", everybody,
    )  # fmt: skip


def addresses_toml(*, phone: int) -> str:
    return f"""\
# Whom the alarm desk can call, and how: a table for each person, in it a URL for each channel, as Apprise wants it
# (https://github.com/caronc/apprise/wiki). It is secret. `vitalloom desk try` sends everybody a test message.
#
# [anna]
# push = "ntfys://ntfy.example/a-topic-nobody-guesses"
# sms = "twilio://sid:token@from/to"

# The phone of `--demo`. A site for patients has people in its place.
[demo]
push = "json://127.0.0.1:{phone}/"
"""


def grafana_ini(folder: PurePath) -> str:
    password = folder / "secrets" / "grafana-admin.password"
    return f"""\
; Written by `vitalloom site init`, which does not write it again: it may be edited.
; Nobody looks in without a login; the password of `admin` is in a file. It speaks plain HTTP: put a proxy before it.
; Where its files are comes by the environment, as where it listens.
[security]
admin_user = admin
admin_password = $__file{{{password}}}
disable_gravatar = true
cookie_samesite = strict

[users]
allow_sign_up = false

[auth.anonymous]
enabled = false

[dashboards]
default_home_dashboard_path = {folder / "config" / "grafana" / "grafana" / "ward.json"}

; It calls nobody but the database and the backstop's webhook.
[analytics]
reporting_enabled = false
check_for_updates = false
check_for_plugin_updates = false

[news]
news_feed_enabled = false

[plugins]
preinstall_disabled = true

[snapshots]
external_enabled = false

[log]
mode = console
level = warn
"""


def store_toml(folder: PurePath) -> str:
    token = json.dumps(str(folder / "secrets" / "writer.token"))
    return _toml(
        "store run", "retention_days = 90", "aggregate_retention_days = 3650", 'log_level = "INFO"', "",
        "[influx]", 'org = "vitalloom"', 'bucket = "vitals"', f"token_file = {token}",
    )  # fmt: skip
