"""What the stages agree on: events, jobs, calculations, settings, and the edges to Kafka, S3 and DuckDB.

Imports no stage; every stage imports it.
"""
