"""Ingest: opens sealed frames from edges, appends them to Kafka and signs for what is stored."""
