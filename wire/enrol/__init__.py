"""Enrolment: certificates, requests to the registry and their answers, signed documents, the wallet of a device."""
