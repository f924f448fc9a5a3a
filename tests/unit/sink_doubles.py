"""Rows for the sink's unit tests, and the way from memory over parts to a CSV."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pyarrow as pa

from pipeline import duck, layout, records
from pipeline.jobs import Captured, Job, NameRecord
from pipeline.store import MemoryStore
from sink.collector import Collection
from sink.csv_writer import rejects_csv, results_csv
from sink.inventory import Inventory, seen_of
from sink.merge import Merge
from sink.parts import encode
from tests.jobs import make_captured

CONNECTION = duck.connect()

REJECT = b'{"error":"no"}'


def table(rows: Sequence[int], factor: int = 10) -> pa.Table:
    """Return results of rows, as the decoder gives them for `make_job`."""
    total = pa.array([row * factor for row in rows], pa.int64()).cast(pa.decimal128(38, 2))
    return pa.table({"order_id": pa.array([f"id{row}" for row in rows], pa.string()), "total": total})


def expected(rows: Iterable[int], factor: int = 10) -> bytes:
    """Return the output CSV of rows."""
    return ("order_id,total\n" + "".join(f"id{row},{row * factor}.00\n" for row in rows)).encode()


def add(collection: Collection, rows: Iterable[int], rejected: Mapping[int, bytes] | None = None) -> None:
    """Let rows come, in this order, over the partitions that they are dealt to."""
    for partition in range(collection.job.partitions):
        here = [row for row in rows if collection.job.partition(row) == partition]
        good = [row for row in here if row not in (rejected or {})]
        collection.add(partition, np.array(good, np.int64), table(good))
        bad = [row for row in here if rejected and row in rejected]
        values = [rejected[row] for row in bad] if rejected else []
        collection.reject(partition, np.array(bad, np.int64), values)


def spill(store: MemoryStore, collection: Collection) -> None:
    """Put on S3 what is held of a job."""
    for share in collection.shares.values():
        if share.size:
            part, content = encode(share.cut())
            store.put(part.key, content)


def merge(store: MemoryStore, job: Job, rows: int, width: float = 20.0) -> Merge:
    """Return the parts that lie there as a job of so many rows, which are said to have so many bytes each."""
    parts = Inventory(store).of_job(job.file_id)
    seen, _ = seen_of(job, rows, parts)
    return Merge(store, job, rows, [part.key for part in parts], seen, width, lambda: None)


def merged_csv(store: MemoryStore, job: Job, rows: int, width: float = 20.0) -> bytes:
    """Return the output CSV of the parts that lie there."""
    return b"".join(results_csv(job, merge(store, job, rows, width).results(), CONNECTION))


def merged_rejects(store: MemoryStore, job: Job, rows: int) -> bytes:
    """Return the rejects' CSV of the parts that lie there."""
    return b"".join(rejects_csv(job, merge(store, job, rows).rejects(), CONNECTION))


def open_job(store: MemoryStore, job: Job, rows: int | None = None) -> Captured | None:
    """Write down a job that is open, and its account if it has all its rows."""
    store.put(layout.job(job.file_id), job.dump())
    store.put(layout.open_mark(job.file_id), b"")
    record = NameRecord(
        generation=job.generation, file_id=job.file_id, source=job.source, calculation=job.digest
    )
    store.put(layout.name_record(job.name), record.dump())
    if rows is None:
        return None
    return records.create(store, layout.captured(job.file_id), make_captured(job, rows))
