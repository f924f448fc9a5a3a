"""All metrics of all stages: a closed list, updated per batch and never per row.

Labels have few values: `stage` is capture, process, store or serve; `route` is a route's template, never an address.

| metric | type, labels | what |
| --- | --- | --- |
| `millstream_rows_total` | counter, stage | rows the stage is done with: published, computed, assembled |
| `millstream_rejects_total` | counter, stage | those that have no result: malformed, or rejected later |
| `millstream_batches_total` | counter, stage | batches of those |
| `millstream_batch_seconds` | histogram, stage | time that one batch took |
| `millstream_dropped_total` | counter, stage and reason | messages that belong to no job, or can't be read |
| `millstream_duplicates_total` | counter, stage | rows that came again and changed nothing |
| `millstream_files_total` | counter, stage and outcome | files that ended, and how: as in `end.json`, or refused |
| `millstream_file_seconds` | histogram | from taking a file on to its publication |
| `millstream_retries_total` | counter, stage and reason | calls made again: s3, kafka |
| `millstream_http_requests_total` | counter, method, route and status | answers of the reader |
| `millstream_http_request_seconds` | histogram, method and route | from a request's head to its answer's last byte |
| `millstream_http_in_flight` | gauge | requests that the reader is answering |
| `millstream_http_sent_bytes_total` | counter, route | bytes of bodies that the reader sent |
| `millstream_http_received_bytes_total` | counter, route | bytes of bodies that the reader took |
"""

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

disable_created_metrics()  # type: ignore[no-untyped-call]  # else each counter has a second series, which says when it was made

REGISTRY = CollectorRegistry()
"""Ours, and the process's own: CPU seconds, memory, open files, start."""

_FAST = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_SLOW = (1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 4 * 3600, 24 * 3600)

ROWS = Counter("millstream_rows_total", "Rows that a stage is done with.", ["stage"], registry=REGISTRY)
REJECTS = Counter("millstream_rejects_total", "Rows without a result.", ["stage"], registry=REGISTRY)
BATCHES = Counter("millstream_batches_total", "Batches of rows.", ["stage"], registry=REGISTRY)
BATCH_SECONDS = Histogram(
    "millstream_batch_seconds", "Time that one batch took.", ["stage"], buckets=_FAST, registry=REGISTRY
)
DROPPED = Counter(
    "millstream_dropped_total",
    "Messages that are no job's, or unreadable.",
    ["stage", "reason"],
    registry=REGISTRY,
)
DUPLICATES = Counter("millstream_duplicates_total", "Rows that came again.", ["stage"], registry=REGISTRY)
FILES = Counter("millstream_files_total", "Files that ended.", ["stage", "outcome"], registry=REGISTRY)
FILE_SECONDS = Histogram(
    "millstream_file_seconds", "From taking a file on to its publication.", buckets=_SLOW, registry=REGISTRY
)
RETRIES = Counter("millstream_retries_total", "Calls made again.", ["stage", "reason"], registry=REGISTRY)
HTTP_REQUESTS = Counter(
    "millstream_http_requests_total",
    "Answers of the reader.",
    ["method", "route", "status"],
    registry=REGISTRY,
)
HTTP_SECONDS = Histogram(
    "millstream_http_request_seconds",
    "From a request's head to the last byte of its answer.",
    ["method", "route"],
    buckets=_FAST,
    registry=REGISTRY,
)
HTTP_IN_FLIGHT = Gauge("millstream_http_in_flight", "Requests being answered.", registry=REGISTRY)
HTTP_SENT = Counter("millstream_http_sent_bytes_total", "Bytes of bodies sent.", ["route"], registry=REGISTRY)
HTTP_RECEIVED = Counter(
    "millstream_http_received_bytes_total", "Bytes of bodies received.", ["route"], registry=REGISTRY
)

ProcessCollector(registry=REGISTRY)
PlatformCollector(registry=REGISTRY)

CONTENT_TYPE = CONTENT_TYPE_LATEST


def exposition() -> bytes:
    """Return all figures in Prometheus's text format."""
    return generate_latest(REGISTRY)
