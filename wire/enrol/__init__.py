"""Enrolment: certificates, what a device asks the registry and what comes back, signed documents, the wallet."""
