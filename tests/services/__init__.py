"""Real services for tests: Apache Kafka, the S3 server of `up`, and a real-world file.

The fixtures of `fixtures.py` are there in every test. A service that this machine can't have skips the tests
that need it, unless MILLSTREAM_REQUIRE names it (a list with commas: kafka, docker, browser, promtool, curl): then they fail.
"""
