"""The dashboards, one module each, as builders of Grafana's JSON."""

from dashboards.boards import alarm_quality, patient, pipeline, ward

__all__ = ["alarm_quality", "patient", "pipeline", "ward"]
