"""All metrics of all stages: a closed list, updated per batch and never per row.

Labels have few values: `stage` is capture, process, store or serve; `topic` is rows or results; `route` is a route's template,
never an address.

| metric | type, labels | what |
| --- | --- | --- |
| `millstream_rows_total` | counter, stage | rows handled, each time they are: sent, computed, taken in |
| `millstream_bytes_total` | counter, stage | bytes of those: of the file's text; in process and store of values |
| `millstream_batches_total` | counter, stage | batches of those |
| `millstream_batch_seconds` | histogram, stage | time that one batch took |
| `millstream_rejects_total` | counter, stage and reason | rows without a result: malformed, cell, calculation, size |
| `millstream_dropped_total` | counter, stage and reason | messages that belong to no job, or can't be read |
| `millstream_duplicates_total` | counter, stage | rows of published files that came again and changed nothing |
| `millstream_captured_rows_total` | counter | rows of files, each counted once: when the last of a file's is acknowledged |
| `millstream_published_rows_total` | counter, fate | rows of published files, each counted once: result or rejected |
| `millstream_spilled_bytes_total` | counter | bytes of parts that sinks have put on S3 |
| `millstream_repairs_total` | counter | rounds of repair that were asked for: one per share and round |
| `millstream_files_total` | counter, stage and outcome | files ended, as in `end.json`; refused; captured; given up |
| `millstream_file_seconds` | histogram | from taking a file on to its publication |
| `millstream_consumer_lag_messages` | gauge, stage and partition | messages not done yet, of those known of |
| `millstream_partitions` | gauge, stage | partitions that are the process's |
| `millstream_held_rows` | gauge, stage | rows in flight: read, and neither done with nor on S3 |
| `millstream_held_bytes` | gauge, stage | bytes of memory that those take, about |
| `millstream_unacknowledged_messages` | gauge | messages that were sent and aren't acknowledged by the broker yet |
| `millstream_in_flight_bytes` | gauge, topic | bytes on a topic that its group hasn't committed, as capture saw last |
| `millstream_capture_waiting_seconds` | gauge, topic | since when capture waits for room there; 0 where it doesn't |
| `millstream_purged_messages_total` | counter, topic | messages removed from the topics, as all groups had committed them |
| `millstream_rebalances_total` | counter, stage and kind | partitions assigned, revoked, lost, or replaced with their topic |
| `millstream_stalls_total` | counter, stage | times that a partition stood still for `stall_after`, with work waiting |
| `millstream_stalled_seconds` | gauge, stage and partition | since when such a partition stands still; 0 where it moves |
| `millstream_retries_total` | counter, stage and reason | work tried again: s3, kafka, upload (its capture), publish |
| `millstream_s3_calls_total` | counter, operation and outcome | each try of a call: ok, not_found, throttled, … |
| `millstream_s3_call_seconds` | histogram, operation | from a try of a call to the head of its answer |
| `millstream_http_requests_total` | counter, method, route and status | answers of the reader |
| `millstream_http_request_seconds` | histogram, method and route | from a request's head to its answer's last byte |
| `millstream_http_in_flight` | gauge | requests that the reader is answering |
| `millstream_http_sent_bytes_total` | counter, route | bytes of bodies that the reader sent |
| `millstream_http_received_bytes_total` | counter, route | bytes of bodies that the reader took |

Beside them stand the process's own: `process_resident_memory_bytes`, `process_cpu_seconds_total` and their like.

Reasons of rejects: the row is `malformed`, a `cell` doesn't cast, its `calculation` fails, its message is over a `size`.

What balances: a row that comes again after a kill is computed and counted again in `millstream_rows_total`, so that computed is
captured or more. Two counters count each row once. Over a run in which every file that `watch` captured was published,

    sum(millstream_captured_rows_total) = sum(millstream_published_rows_total)

whichever worker was killed in between. Rows of files that ended otherwise are in the left sum alone (`millstream_files_total`
says whether there were any); those that `push` captures are in the right one alone, since nobody can scrape a command.
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

ROWS = Counter("millstream_rows_total", "Rows that a stage has handled.", ["stage"], registry=REGISTRY)
BYTES = Counter("millstream_bytes_total", "Bytes that a stage has handled.", ["stage"], registry=REGISTRY)
BATCHES = Counter("millstream_batches_total", "Batches of rows.", ["stage"], registry=REGISTRY)
BATCH_SECONDS = Histogram(
    "millstream_batch_seconds", "Time that one batch took.", ["stage"], buckets=_FAST, registry=REGISTRY
)
REJECTS = Counter(
    "millstream_rejects_total", "Rows without a result.", ["stage", "reason"], registry=REGISTRY
)
DROPPED = Counter(
    "millstream_dropped_total",
    "Messages that are no job's, or unreadable.",
    ["stage", "reason"],
    registry=REGISTRY,
)
DUPLICATES = Counter("millstream_duplicates_total", "Rows that came again.", ["stage"], registry=REGISTRY)
CAPTURED_ROWS = Counter(
    "millstream_captured_rows_total", "Rows of captured files, each once.", registry=REGISTRY
)
PUBLISHED_ROWS = Counter(
    "millstream_published_rows_total", "Rows of published files, each once.", ["fate"], registry=REGISTRY
)
SPILLED = Counter("millstream_spilled_bytes_total", "Bytes of parts put on S3.", registry=REGISTRY)
REPAIRS = Counter("millstream_repairs_total", "Rounds of repair asked for.", registry=REGISTRY)
FILES = Counter("millstream_files_total", "Files that ended.", ["stage", "outcome"], registry=REGISTRY)
FILE_SECONDS = Histogram(
    "millstream_file_seconds", "From taking a file on to its publication.", buckets=_SLOW, registry=REGISTRY
)
LAG = Gauge(
    "millstream_consumer_lag_messages",
    "Messages that the stage isn't done with.",
    ["stage", "partition"],
    registry=REGISTRY,
)
PARTITIONS = Gauge(
    "millstream_partitions", "Partitions that are the process's.", ["stage"], registry=REGISTRY
)
HELD_ROWS = Gauge(
    "millstream_held_rows", "Rows read, and neither done with nor on S3.", ["stage"], registry=REGISTRY
)
HELD_BYTES = Gauge(
    "millstream_held_bytes", "Bytes of memory that held rows take.", ["stage"], registry=REGISTRY
)
UNACKNOWLEDGED = Gauge(
    "millstream_unacknowledged_messages", "Messages sent and not acknowledged yet.", registry=REGISTRY
)
IN_FLIGHT = Gauge(
    "millstream_in_flight_bytes",
    "Bytes on a topic that its group hasn't committed.",
    ["topic"],
    registry=REGISTRY,
)
CAPTURE_WAITING = Gauge(
    "millstream_capture_waiting_seconds",
    "Since when capture waits for room on a topic.",
    ["topic"],
    registry=REGISTRY,
)
PURGED = Counter(
    "millstream_purged_messages_total",
    "Messages removed from the topics, as all groups had committed them.",
    ["topic"],
    registry=REGISTRY,
)
REBALANCES = Counter(
    "millstream_rebalances_total", "Times that partitions came or went.", ["stage", "kind"], registry=REGISTRY
)
STALLS = Counter(
    "millstream_stalls_total", "Times that a partition stood still.", ["stage"], registry=REGISTRY
)
STALLED_SECONDS = Gauge(
    "millstream_stalled_seconds",
    "Since when a partition stands still with work waiting.",
    ["stage", "partition"],
    registry=REGISTRY,
)
RETRIES = Counter("millstream_retries_total", "Work tried again.", ["stage", "reason"], registry=REGISTRY)
S3_CALLS = Counter(
    "millstream_s3_calls_total", "Calls of S3, each try.", ["operation", "outcome"], registry=REGISTRY
)
S3_SECONDS = Histogram(
    "millstream_s3_call_seconds",
    "Time until the head of an answer of S3.",
    ["operation"],
    buckets=_FAST,
    registry=REGISTRY,
)
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
