"""Every row of what was produced, compared with the oracle: a fast wrong answer is no answer."""

import time
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj
from confluent_kafka import Consumer, KafkaError, TopicPartition

from bench.data import Oracle
from bench.place import PARTITIONS, Place
from bench.processes import Broken
from pipeline.events import Kind, parse_keys
from pipeline.jobs import Receipt
from pipeline.kafka import consumer_config
from pipeline.settings import Settings

NEAR = 1e-9
"""Relative difference allowed to peers, which calculate in binary floating point; ours is held to the last digit."""


def rows_topic(settings: Settings, topic: str, oracle: Oracle) -> int:
    """Compare row events, byte by byte; return how many came twice."""
    count = Counted(len(oracle.messages))
    for rows, values in _read(settings, topic):
        found = pa.array(values, pa.large_binary())
        count.add(rows)
        _same(found, oracle.messages.take(pa.array(rows)).cast(pa.large_binary()), "row event", rows)
    return count.close()


def results_topic(settings: Settings, topic: str, oracle: Oracle, *, exact: bool) -> int:
    """Compare results; `exact` for decimals by digit and doubles by bit. Return how many came twice."""
    expected = oracle.results
    count = Counted(expected.num_rows)
    total = expected.schema.field("total").type if exact else pa.float64()
    schema = pa.schema([("order_id", pa.string()), ("total", total), ("net", pa.float64())])
    options = pj.ParseOptions(explicit_schema=schema, unexpected_field_behavior="error")
    for rows, values in _read(settings, topic):
        if bad := [value for value in values if not value.startswith(b"{")]:
            raise Broken(f"{topic}: {bad[0][:200]!r} is no result")
        text = b"\n".join(values)
        table = pj.read_json(pa.BufferReader(text), pj.ReadOptions(block_size=len(text) + 1), options)
        if table.num_rows != len(values):
            raise Broken(f"{topic}: {len(values)} messages hold {table.num_rows} results")
        count.add(rows)
        wanted = expected.take(pa.array(rows))
        for name in ("order_id", "total", "net"):
            found, right = table.column(name).combine_chunks(), wanted.column(name).combine_chunks()
            if exact or name == "order_id":
                _same(found, right.cast(found.type), f"{topic}: {name}", rows)
            else:
                _near(found, right.cast(pa.float64()), f"{topic}: {name}", rows)
    return count.close()


def output(here: Place, name: str, oracle: Oracle, rows: int) -> None:
    """Compare a published CSV byte by byte, and its receipt's count."""
    with_s3 = here.s3.client()
    try:
        body = with_s3.get_object(Bucket=here.s3.results, Key=f"_millstream/receipts/{name}.json")["Body"]
        receipt = Receipt.load(body.read())
        if (receipt.rows, receipt.results, receipt.rejected) != (rows, rows, 0) or receipt.output is None:
            raise Broken(f"the receipt of {name} says {receipt}")
        content: bytes = with_s3.get_object(Bucket=here.s3.results, Key=receipt.output.key)["Body"].read()
    finally:
        with_s3.close()
    if content != oracle.csv:
        raise Broken(
            f"the CSV of {name} is unlike the oracle's ({len(content):,} and {len(oracle.csv):,} bytes)"
        )


def committed(settings: Settings, group: str, topic: str, total: int, timeout: float = 15) -> bool:
    """Whether the group's committed offsets say within `timeout` seconds that all of the topic's messages are done."""
    client = Consumer(consumer_config(settings, group))
    deadline = time.monotonic() + timeout
    wanted = [TopicPartition(topic, partition) for partition in range(PARTITIONS)]
    try:
        while True:
            offsets = [answer.offset for answer in client.committed(wanted, timeout=10)]
            if sum(offset for offset in offsets if offset > 0) == total:
                return True
            if time.monotonic() > deadline:
                return False
            time.sleep(0.2)
    finally:
        client.close()


def messages(settings: Settings, topic: str) -> Iterator[tuple[list[bytes | None], list[bytes | None]]]:
    """Read a topic from its start to its end: keys and values, by the ten thousand."""
    client = Consumer(consumer_config(settings, f"{topic}.check") | {"enable.partition.eof": True})
    try:
        client.assign([TopicPartition(topic, partition, 0) for partition in range(PARTITIONS)])
        ended: set[int] = set()
        heard = time.monotonic()
        while len(ended) < PARTITIONS:
            keys, values = [], []
            for message in client.consume(50_000, 0.2):
                heard = time.monotonic()
                if (error := message.error()) is None:
                    keys.append(message.key())
                    values.append(message.value())
                elif error.code() == KafkaError._PARTITION_EOF:
                    ended.add(message.partition() or 0)
                else:
                    raise Broken(f"reading {topic}: {error.str()}")
            if keys:
                yield keys, values
            if time.monotonic() - heard > 30:
                raise Broken(f"reading {topic}: nothing for 30 s, and no end")
    finally:
        client.close()


class Counted:
    """Which rows of a file have come."""

    def __init__(self, rows: int) -> None:
        """None yet, of `rows`."""
        self._seen = np.zeros(rows, np.int32)

    def add(self, rows: np.ndarray[tuple[int], np.dtype[np.int64]]) -> None:
        """Count row numbers."""
        if len(rows) and int(rows.max()) >= len(self._seen):
            raise Broken(f"there is a row {rows.max():,}, and the file has {len(self._seen):,}")
        np.add.at(self._seen, rows, 1)

    def close(self) -> int:
        """Return how many came more than once; raise Broken where one is missing."""
        if missing := np.flatnonzero(self._seen == 0).tolist():
            raise Broken(f"{len(missing):,} rows are missing, the first is {missing[0]:,}")
        return int((self._seen - 1).sum())


def _read(
    settings: Settings, topic: str
) -> Iterator[tuple[np.ndarray[tuple[int], np.dtype[np.int64]], list[bytes]]]:
    """Read the rows of a topic: numbers and values. Ends are left out; anything else is wrong."""
    jobs: set[str] = set()
    for keys, values in messages(settings, topic):
        parsed = parse_keys(keys)
        jobs |= set(parsed.file_ids)
        if not np.isin(parsed.kinds, (Kind.ROW, Kind.END)).all() or len(jobs) > 1:
            raise Broken(f"{topic} has messages that are neither rows nor ends of one file")
        at = np.flatnonzero(parsed.kinds == Kind.ROW)
        yield parsed.rows[at], [values[position] or b"" for position in at]


def _same(found: pa.Array, right: pa.Array, what: str, rows: object) -> None:
    _all(pc.fill_null(pc.equal(found, right), False), found, right, what, rows)


def _near(found: pa.Array, right: pa.Array, what: str, rows: object) -> None:
    difference = pc.abs(pc.subtract(found, right))
    near = pc.less_equal(difference, pc.multiply(pc.abs(right), NEAR))
    _all(pc.fill_null(near, False), found, right, what, rows)


def _all(good: pa.Array, found: pa.Array, right: pa.Array, what: str, rows: object) -> None:
    wrong = np.flatnonzero(~good.to_numpy(zero_copy_only=False))
    if len(wrong):
        at = int(wrong[0])
        raise Broken(
            f"{what} of row {np.asarray(rows)[at]} is {found[at]}, not {right[at]}; {len(wrong):,} are wrong"
        )
