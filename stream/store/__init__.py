"""The store: writes the events that lie in Kafka to InfluxDB, and tells ingest what is stored."""
