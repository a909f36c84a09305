"""Flux queries of all panels, variables and alert rules, as text. Pure.

All ages are relative to the end of the time range, not to the current time, so that yesterday can be shown as it was. A
value expires by its own age: a processor that has stopped cannot keep a value current.
"""

from dashboards.flux import alarm_quality, alert_rules, patient, pipeline, variables, ward

__all__ = ["alarm_quality", "alert_rules", "patient", "pipeline", "variables", "ward"]
