"""The Kafka topics: create and inspect them, look at dead letters and send them again."""
