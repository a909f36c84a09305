"""The servers of a site as programs of this machine: Kafka by Java, InfluxDB built from its Go module, Mosquitto."""
