"""The Kafka topics: create and inspect them, list dead letters and send them again."""
