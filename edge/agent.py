"""The agent beside the bed: opens, judges, keeps, forwards, and alarms alone when the cloud is silent."""
