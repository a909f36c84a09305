"""Provisioning files of Grafana: data source, dashboard folder, alert rules, contact point, notification policy.

The alert rules are a backstop: they query the database only and share no code with the workers that raise alarms. A
rule without data, or with an error, fires and says that the database does not answer. Grafana replaces words that begin
with `$`: only environment variables do.
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
QUERY_TIMEOUT_S: Final = 15

# Templates of Grafana. Without the label, the series is that of an error or of no data.
_PATIENT: Final = (
    '{{ if index .Labels "bed" }}Bed {{ .Labels.bed }}, patient {{ .Labels.patient }}: '
    '{{ if gt .Values.B.Value 0.0 }}a red alarm has had no answer for {{ printf "%.0f" .Values.B.Value }} minutes.'
    '{{ else }}no data for {{ slice (printf "%.0f" .Values.B.Value) 1 }} minutes. Check on the patient.{{ end }}'
    "{{ else }}The database does not answer, or has no patients: red alarms without an answer and patients without "
    "data are not noticed here. Check on the patients directly.{{ end }}"
)
_STAGE: Final = (
    '{{ if index .Labels "stage" }}For more than three minutes there has been no data of the stage '
    '"{{ slice .Labels.stage 2 }}" of the pipeline: alarms may not arrive. Check on the patients directly.'
    "{{ else }}The database does not answer: whether alarms arrive is not known here. Check on the patients directly."
    "{{ end }}"
)
_TITLE: Final = "{{ range .Alerts.Firing }}{{ .Annotations.summary }} {{ end }}"

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
                    "timeout": QUERY_TIMEOUT_S,
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
    """Alert rules: one for patients (red alarm without an answer, or no data), one for the pipeline."""
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
                        f"patient-{bucket}",
                        "Patient not attended to",
                        flux.alert_rules.patient_unattended(bucket),
                        summary=_PATIENT,
                    ),
                    _rule(
                        f"silent-{bucket}",
                        "Pipeline silent",
                        flux.alert_rules.pipeline_silent(bucket),
                        summary=_STAGE,
                    ),
                ],
            }
        ],
    }


def people() -> dict[str, Any]:
    """One contact point, and a notification policy with one message per stay and one for everything else.

    No messages say that something is resolved: Grafana also says so when the database hangs and an alert has no series.
    """
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
                        "settings": {
                            "url": "$VITALLOOM_BACKSTOP_WEBHOOK",
                            "httpMethod": "POST",
                            "title": _TITLE,
                            "message": _TITLE,
                        },
                        "disableResolveMessage": True,
                    }
                ],
            }
        ],
        "policies": [
            {
                "orgId": 1,
                "receiver": CONTACT_POINT,
                "group_by": ["stay"],
                # Both rules find within this time that the database does not answer.
                "group_wait": "10s",
                "group_interval": "1m",
                "repeat_interval": "5m",
            }
        ],
    }


def _rule(uid: str, title: str, query: str, *, summary: str) -> dict[str, Any]:
    """One rule. Its query returns a series for each stay or stage; a last value other than 0 fires."""
    return {
        "uid": f"vitalloom-{uid}",
        "title": title,
        "condition": "B",
        "for": "1m",
        "noDataState": "Alerting",
        "execErrState": "Alerting",
        "annotations": {"summary": summary, "description": NOT_A_DEVICE},
        "labels": {"severity": "red", "system": "vitalloom"},
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
