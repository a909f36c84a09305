"""The dashboards as the JSON that Grafana reads."""

import json
from collections.abc import Callable
from typing import Any, Final

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder

from dashboards import flux
from dashboards.boards import alarm_quality, patient, pipeline, ward

MAX_SCHEMA_VERSION: Final = 37
"""Grafana 9.3 reads dashboards up to this schema version."""

DASHBOARDS: Final[dict[str, Callable[[], dashboard.Dashboard]]] = {
    "ward": ward.build,
    "patient": patient.build,
    "pipeline": pipeline.build,
    "alarm-quality": alarm_quality.build,
}


def dashboard_json(name: str, time_zone: str = "") -> dict[str, Any]:
    """A dashboard as Grafana reads it.

    Args:
        time_zone: IANA name, in which it shows times; empty: that of the browser.
    """
    found: dict[str, Any] = json.loads(JSONEncoder(sort_keys=True).encode(DASHBOARDS[name]().build()))
    if time_zone:
        found["timezone"] = time_zone
    found["id"] = None  # a number that Grafana assigns; the uid identifies the dashboard
    for one in found["annotations"]["list"]:
        # The SDK supports only targets of Grafana's built-in annotations.
        one["target"] = {"refId": "Alarms", "query": flux.patient.alarm_annotations()}
    return found


def as_text(found: dict[str, Any]) -> str:
    """The content of the file, with sorted keys."""
    return json.dumps(found, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
