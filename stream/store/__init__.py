"""The store: writes events from Kafka to InfluxDB, and reports to ingest which frames are stored."""
