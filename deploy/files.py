"""Configuration files of a site as text. Pure.

They have no addresses of other processes: these differ between native and container deployments, and are environment
variables.
"""

import json
from pathlib import PurePath
from typing import Final

_WRITTEN: Final = "# Created by `vitalloom site init`, which does not overwrite it: this file may be edited."


def kafka_properties(*, host: str, port: int, controller: int, data: PurePath, further: str = "") -> str:
    """Kafka with one node that is broker and controller. For high availability run three nodes and edit this file.

    Args:
        host, port, controller: listen addresses, unless the command line overrides them.
        further: lines to append; they override earlier ones.
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

# `vitalloom site prepare` creates the topics with their retention. No automatic creation of misspelt topics.
auto.create.topics.enable=false
# One node, so one replica.
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
# A new worker starts without delay.
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
{further}"""


def _toml(process: str, *lines: str) -> str:
    return "\n".join([_WRITTEN, f"# All keys with explanations: vitalloom {process} --sample-config", "", *lines, ""])


def ingest_toml() -> str:
    return _toml("ingest", 'log_level = "INFO"')


def worker_toml(*, time_zone: str) -> str:
    return _toml("worker", f"time_zone = {json.dumps(time_zone)}", 'log_level = "INFO"')


def desk_toml(folder: PurePath, *, site: str, time_zone: str, screen: str) -> str:
    data, addresses = json.dumps(str(folder / "data" / "desk")), json.dumps(str(folder / "people" / "addresses.toml"))
    roles = "\n".join(f'{role} = ["demo"]' for role in ("nurse", "second", "lead", "everyone"))
    return _toml(
        "desk",
        f"data = {data}",
        f"addresses = {addresses}",
        f"site = {json.dumps(str(folder))}",
        f"site_name = {json.dumps(site)}",
        f"time_zone = {json.dumps(time_zone)}",
        f"where = {json.dumps(screen)}",
        'log_level = "INFO"',
        "",
        "# Who is notified, by role: names from the file of addresses. Until you change this, only the demo's phone.",
        "[roles]",
        roles,
    )


def addresses_toml(*, phone: int) -> str:
    return f"""\
# Addresses for notifications: one table per person with one URL per channel, in the syntax of Apprise
# (https://github.com/caronc/apprise/wiki). Keep this file secret. `vitalloom desk try` sends a test message to all.
#
# [anna]
# push = "ntfys://ntfy.example/a-topic-that-is-hard-to-guess"
# sms = "twilio://sid:token@from/to"

# The phone of `--demo`. Replace it by people on a site for patients.
[demo]
push = "json://127.0.0.1:{phone}/"
"""


def grafana_url(host: str, port: int) -> str:
    """Address of Grafana for people, on the host of the site: `localhost` in a message opens nothing on a phone.

    >>> grafana_url("ward.example", 3000), grafana_url("fd00::7", 3000)
    ('http://ward.example:3000/', 'http://[fd00::7]:3000/')
    """
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"


def grafana_ini(folder: PurePath, *, root_url: str) -> str:
    password = folder / "secrets" / "grafana-admin.password"
    return f"""\
; Created by `vitalloom site init`, which does not overwrite it: this file may be edited.
; Users have to log in; the password of `admin` is in a file. Grafana speaks plain HTTP: put a TLS proxy in front of it.
; Its paths and its listen address are environment variables.
[server]
; Address in the links of messages: that of the TLS proxy, if there is one.
root_url = {root_url}

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

; No outgoing connections except to InfluxDB and the webhook for alerts.
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
        "store run",
        "retention_days = 90",
        "aggregate_retention_days = 3650",
        'log_level = "INFO"',
        "",
        "[influx]",
        'org = "vitalloom"',
        'bucket = "vitals"',
        f"token_file = {token}",
    )
