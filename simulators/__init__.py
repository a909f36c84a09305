"""The ward that does not exist: patients, wearables, faults, recorded stays."""
