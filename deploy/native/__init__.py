"""The servers of a site as native programs: Kafka on Java, InfluxDB built from its Go module, Mosquitto."""
