"""What every process needs and what knows nothing of patients: configuration, logs, clocks, health, metrics."""
