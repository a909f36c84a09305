"""The engine: judges the readings of the assigned Kafka partitions, under Faust or a plain event loop."""
