"""The embedded engine: ingest, judgement and a SQLite store in one process, without Kafka."""
