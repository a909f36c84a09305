"""Communication between processes: bytes, topics, sealing, and the MQTT session."""
