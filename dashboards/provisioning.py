"""Files from which Grafana makes its data source, folder, alert rules, contact point and policy when it starts.

The rules are a backstop: they ask the database alone and share no code with the worker that raises alarms. A rule
that finds no data, or fails, alarms. Grafana replaces what begins with a dollar in these files: only names of its
environment do.
"""

from typing import Any, Final

import yaml

from dashboards import flux
from dashboards.panels import NOT_A_DEVICE, SOURCE

FOLDER: Final = "vitalloom"
EXPRESSIONS: Final = "-100"
"""Grafana's own data source of expressions, by the name that every version from 8 on knows."""

TOKEN_FILE: Final = "/run/secrets/vitalloom-reader-token"  # noqa: S105 - where one lies
PEOPLE: Final = "vitalloom people"

_HEADERS: Final = {
    "datasources": "The database. VITALLOOM_INFLUX_URL and VITALLOOM_INFLUX_ORG are from the environment, the token"
    "\nfrom a file, for a secret has no place in an environment: `reader.token` of `vitalloom store init`.",
    "dashboards": "Dashboards from the folder that VITALLOOM_DASHBOARDS names.",
    "rules": "A backstop behind the alarms of the workers.",
    "people": "Whom the backstop tells: a webhook, whose address is VITALLOOM_BACKSTOP_WEBHOOK.",
}


def files(bucket: str = "vitals", token_file: str = TOKEN_FILE) -> dict[str, str]:
    """Every file, by its path below `provisioning/`.

    Args:
        bucket: whose alarms are watched; alert rules know no variables, so each tenant has rules of its own.
        token_file: where Grafana finds the token that reads.
    """
    return {
        "datasources/vitalloom.yaml": _text("datasources", datasource(bucket, token_file)),
        "dashboards/vitalloom.yaml": _text("dashboards", provider()),
        "alerting/rules.yaml": _text("rules", rules(bucket)),
        "alerting/people.yaml": _text("people", people()),
    }


def datasource(bucket: str, token_file: str) -> dict[str, Any]:
    """InfluxDB by Flux, with a token that reads."""
    return {
        "apiVersion": 1,
        "datasources": [
            {
                "name": "vitalloom",
                "uid": SOURCE.uid,
                "type": SOURCE.type_val,
                "access": "proxy",
                "url": "$__env{VITALLOOM_INFLUX_URL}",
                "editable": False,
                "jsonData": {
                    "version": "Flux",
                    "organization": "$__env{VITALLOOM_INFLUX_ORG}",
                    "defaultBucket": bucket,
                    "timeInterval": "10s",
                },
                "secureJsonData": {"token": f"$__file{{{token_file}}}"},
            }
        ],
    }


def provider() -> dict[str, Any]:
    """A folder of files."""
    return {
        "apiVersion": 1,
        "providers": [
            {
                "name": "vitalloom",
                "orgId": 1,
                "folder": FOLDER,
                "folderUid": FOLDER,
                "type": "file",
                "disableDeletion": True,
                "allowUiUpdates": False,
                "updateIntervalSeconds": 60,
                "options": {"path": "$__env{VITALLOOM_DASHBOARDS}"},
            }
        ],
    }


def rules(bucket: str) -> dict[str, Any]:
    """A red alarm that nobody answers, a patient without data, a pipeline that is silent."""
    return {
        "apiVersion": 1,
        "groups": [
            {
                "orgId": 1,
                "name": f"vitalloom backstop of {bucket}",
                "folder": FOLDER,
                "interval": "30s",
                "rules": [
                    _rule(
                        f"red-{bucket}", "Red alarm, unanswered", flux.rule_red_unanswered(bucket), lasts="2m",
                        says="Bed {{ .Labels.bed }}: a red alarm stands and nobody has acknowledged it.",
                        severity="red",
                    ),
                    _rule(
                        f"no-data-{bucket}", "Patient without data", flux.rule_no_data(bucket), lasts="1m",
                        says="Bed {{ .Labels.bed }}: no data for longer than this patient may be without.",
                        severity="red",
                    ),
                    _rule(
                        f"silent-{bucket}", "Pipeline silent", flux.rule_pipeline_silent(bucket), lasts="1m",
                        says="Nothing heard of {{ .Labels.hop }} for three minutes: alarms may not arrive. Look after "
                        "the patients directly.",
                        severity="red",
                    ),
                ],
            }
        ],
    }  # fmt: skip


def people() -> dict[str, Any]:
    """One contact point and the policy that leads there. Nothing red is put together with anything."""
    return {
        "apiVersion": 1,
        "contactPoints": [
            {
                "orgId": 1,
                "name": PEOPLE,
                "receivers": [
                    {
                        "uid": "vitalloom-people",
                        "type": "webhook",
                        "settings": {"url": "$VITALLOOM_BACKSTOP_WEBHOOK", "httpMethod": "POST"},
                        "disableResolveMessage": False,
                    }
                ],
            }
        ],
        "policies": [
            {
                "orgId": 1,
                "receiver": PEOPLE,
                "group_by": ["..."],
                "group_wait": "0s",
                "group_interval": "1m",
                "repeat_interval": "5m",
            }
        ],
    }


def _rule(uid: str, title: str, query: str, *, lasts: str, says: str, severity: str) -> dict[str, Any]:
    """One rule. The query gives a series for each patient or hop, of which the last value is not 0 if it is bad."""
    return {
        "uid": f"vitalloom-{uid}",
        "title": title,
        "condition": "B",
        "for": lasts,
        "noDataState": "Alerting",
        "execErrState": "Alerting",
        "annotations": {"summary": says, "description": NOT_A_DEVICE},
        "labels": {"severity": severity, "system": "vitalloom"},
        "data": [
            {
                "refId": "A",
                "relativeTimeRange": {"from": 3600, "to": 0},
                "datasourceUid": SOURCE.uid,
                "model": {
                    "refId": "A", "query": query, "intervalMs": 10_000, "maxDataPoints": 100,
                    "datasource": {"type": SOURCE.type_val, "uid": SOURCE.uid},
                },
            },
            {
                "refId": "B",
                "relativeTimeRange": {"from": 0, "to": 0},
                "datasourceUid": EXPRESSIONS,
                "model": {
                    "refId": "B", "type": "reduce", "expression": "A", "reducer": "last",
                    "datasource": {"type": "__expr__", "uid": EXPRESSIONS},
                },
            },
        ],
    }  # fmt: skip


class _Plain(yaml.SafeDumper):
    """Queries as blocks, so that a person can read them."""


def _block(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Plain.add_representer(str, _block)


def _text(kind: str, content: dict[str, Any]) -> str:
    head = "".join(f"# {line}\n" for line in f"Made by `vitalloom dashboards build`. {_HEADERS[kind]}".splitlines())
    body = yaml.dump(content, Dumper=_Plain, sort_keys=False, allow_unicode=True, width=110)
    return f"{head}# {NOT_A_DEVICE}\n{body}"
