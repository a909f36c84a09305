"""A site: its authority and keys, the registry of devices and bindings, the broker's files, the audit log."""
