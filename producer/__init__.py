"""Capture: an upload is read once, split into rows and published, one Kafka message per row."""
