"""What every process needs and no patient appears in: configuration, logs, clocks."""
