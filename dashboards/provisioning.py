"""Provisioning files of Grafana: data source, dashboard folder, alert rules, contact point, notification policy.

The alert rules are a backstop: they query the database only and share no code with the workers that raise alarms. A
rule without data, or with an error, fires. Grafana replaces words that begin with `$`: only environment variables do.
"""

from typing import Any, Final

import yaml

from dashboards import flux
from dashboards.panels import NOT_A_DEVICE, SOURCE

FOLDER: Final = "vitalloom"
EXPRESSIONS: Final = "-100"
"""The uid of Grafana's built-in data source for expressions, since version 8."""

TOKEN_FILE: Final = "/run/secrets/vitalloom-reader-token"  # noqa: S105 - where one lies
CONTACT_POINT: Final = "vitalloom people"

_HEADERS: Final = {
    "datasources": "InfluxDB. VITALLOOM_INFLUX_URL and VITALLOOM_INFLUX_ORG are environment variables; the token is"
    "\nread from a file: `reader.token` of `vitalloom store init`.",
    "dashboards": "Reads dashboards from the folder in VITALLOOM_DASHBOARDS.",
    "rules": "Backstop alert rules, independent of the workers.",
    "people": "Contact point of the alert rules: the webhook in VITALLOOM_BACKSTOP_WEBHOOK.",
}


def files(bucket: str = "vitals", token_file: str = TOKEN_FILE) -> dict[str, str]:
    """Content of every file, by its path below `provisioning/`.

    Args:
        bucket: bucket of the alert rules. Rules have no variables, so each tenant needs its own.
        token_file: path of the read token on the Grafana host.
    """
    return {
        "datasources/vitalloom.yaml": _text("datasources", datasource(bucket, token_file)),
        "dashboards/vitalloom.yaml": _text("dashboards", provider()),
        "alerting/rules.yaml": _text("rules", rules(bucket)),
        "alerting/people.yaml": _text("people", people()),
    }


def datasource(bucket: str, token_file: str) -> dict[str, Any]:
    """InfluxDB with Flux and the read token."""
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
    """Dashboards from a folder of files."""
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
    """Alert rules: unacknowledged red alarm, patient without data, silent pipeline."""
    return {
        "apiVersion": 1,
        "groups": [
            {
                "orgId": 1,
                "name": f"vitalloom backstop for {bucket}",
                "folder": FOLDER,
                "interval": "30s",
                "rules": [
                    _rule(
                        f"red-{bucket}",
                        "Unacknowledged red alarm",
                        flux.alert_rules.red_unanswered(bucket),
                        pending="2m",
                        summary="Bed {{ .Labels.bed }}: a red alarm has not been acknowledged.",
                        severity="red",
                    ),
                    _rule(
                        f"no-data-{bucket}",
                        "Patient without data",
                        flux.alert_rules.no_data(bucket),
                        pending="1m",
                        summary="Bed {{ .Labels.bed }}: no data for longer than permitted for this patient.",
                        severity="red",
                    ),
                    _rule(
                        f"silent-{bucket}",
                        "Pipeline silent",
                        flux.alert_rules.pipeline_silent(bucket),
                        pending="1m",
                        summary="No data from {{ .Labels.stage }} for three minutes: alarms may not arrive. Check on "
                        "the patients directly.",
                        severity="red",
                    ),
                ],
            }
        ],
    }


def people() -> dict[str, Any]:
    """One contact point and a notification policy without grouping."""
    return {
        "apiVersion": 1,
        "contactPoints": [
            {
                "orgId": 1,
                "name": CONTACT_POINT,
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
                "receiver": CONTACT_POINT,
                "group_by": ["..."],
                "group_wait": "0s",
                "group_interval": "1m",
                "repeat_interval": "5m",
            }
        ],
    }


def _rule(uid: str, title: str, query: str, *, pending: str, summary: str, severity: str) -> dict[str, Any]:
    """One rule. Its query returns a series for each patient or stage; a last value other than 0 fires."""
    return {
        "uid": f"vitalloom-{uid}",
        "title": title,
        "condition": "B",
        "for": pending,
        "noDataState": "Alerting",
        "execErrState": "Alerting",
        "annotations": {"summary": summary, "description": NOT_A_DEVICE},
        "labels": {"severity": severity, "system": "vitalloom"},
        "data": [
            {
                "refId": "A",
                "relativeTimeRange": {"from": 3600, "to": 0},
                "datasourceUid": SOURCE.uid,
                "model": {
                    "refId": "A",
                    "query": query,
                    "intervalMs": 10_000,
                    "maxDataPoints": 100,
                    "datasource": {"type": SOURCE.type_val, "uid": SOURCE.uid},
                },
            },
            {
                "refId": "B",
                "relativeTimeRange": {"from": 0, "to": 0},
                "datasourceUid": EXPRESSIONS,
                "model": {
                    "refId": "B",
                    "type": "reduce",
                    "expression": "A",
                    "reducer": "last",
                    "datasource": {"type": "__expr__", "uid": EXPRESSIONS},
                },
            },
        ],
    }


class _Plain(yaml.SafeDumper):
    """Writes multi-line texts as blocks, so that queries are readable."""


def _block(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Plain.add_representer(str, _block)


def _text(kind: str, content: dict[str, Any]) -> str:
    head = "".join(
        f"# {line}\n" for line in f"Generated by `vitalloom dashboards build`. {_HEADERS[kind]}".splitlines()
    )
    body = yaml.dump(content, Dumper=_Plain, sort_keys=False, allow_unicode=True, width=110)
    return f"{head}# {NOT_A_DEVICE}\n{body}"
