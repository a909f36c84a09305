"""Grafana dashboards, alert rules and their InfluxDB queries, as code."""
