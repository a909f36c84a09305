"""What a clinician and an engineer see in Grafana: dashboards, alert rules and their queries, as code."""
