"""The agent beside the bed: opens, judges, keeps, forwards, and alarms alone when it must."""
