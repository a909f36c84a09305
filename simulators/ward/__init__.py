"""The ward: wearables, broker, edge agents and data centre in one command, `vitalloom ward`."""
