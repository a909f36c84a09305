"""What things cost, as ratios measured in one run. Each module: `python -m benchmarks.NAME [--json]`."""
