"""How processes talk: bytes, topics, seals, and the one MQTT session."""
