"""Which judges are at work at the edge: rules always, models when an artifact is there."""
