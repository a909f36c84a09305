"""The kernel: judges vital signs and raises alarms. No I/O, no clock, no logging.

`__all__` lists the modules for other folders; the rest are parts of `monitor`.
"""

__all__ = [
    "alarm_load",
    "alarms",
    "errors",
    "escalation",
    "fhir",
    "freshness",
    "messages",
    "model_scores",
    "monitor",
    "news2",
    "orders",
    "outages",
    "patients",
    "plan",
    "quality",
    "risk",
    "rules",
    "scores",
    "signs",
    "view",
]
