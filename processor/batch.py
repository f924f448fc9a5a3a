"""What the processor does to a batch, without Faust and without Kafka: decode, calculate, encode."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

import numpy as np
import numpy.typing as npt

from pipeline.events import ID_LENGTH
from pipeline.jobs import Job
from pipeline.kafka import OVERHEAD
from pipeline.kafka_batch import Batch
from pipeline.types import ColumnType
from processor.calculators import Runs
from processor.decode import Group, decode
from processor.encode import oversized, reject, result_values


@dataclass(slots=True)
class Results:
    """What a batch of rows became.

    `keys` and `values` are the messages for the same partition of the results topic; `end_keys` and `end_values` are those
    to be sent once all of them are delivered.
    """

    keys: list[bytes] = field(default_factory=list)
    values: list[bytes] = field(default_factory=list)
    end_keys: list[bytes] = field(default_factory=list)
    end_values: list[bytes] = field(default_factory=list)
    results: int = 0
    rejected: int = 0
    dropped: int = 0
    highest: list[tuple[Job, int]] = field(default_factory=list)
    """See `processor.decode.Rows`."""
    reasons: Counter[str] = field(default_factory=Counter)
    """How many rejects there are of each class: malformed, cell, calculation, size."""


def process(
    batch: Batch, find: Callable[[str], Job | None], calculators: Callable[[Job], Runs], limit: int
) -> Results:
    """Turn a batch of row events into result events; `limit` is the largest message in bytes.

    `find` gives the open job of a file_id, `calculators` what computes a job's rows; both may raise Transient errors, which
    are to be waited out: S3 doesn't answer, a module isn't installed here.
    """
    rows = decode(batch, find)
    out = Results(dropped=rows.dropped, highest=rows.highest)
    for group in rows.groups:
        _calculate(batch, group, calculators(group.job), limit - OVERHEAD - ID_LENGTH - 32, out)
    for position in rows.malformed:
        _add(out, batch.keys[position], batch.values[position])
        out.rejected += 1
    out.reasons["malformed"] += len(rows.malformed)
    for position in rows.ends:
        out.end_keys.append(batch.keys[position] or b"")
        out.end_values.append(batch.values[position] or b"")
    return out


def _calculate(batch: Batch, group: Group, calculator: Runs, limit: int, out: Results) -> None:
    calculated = calculator.run(group.table)
    types = [ColumnType.parse(output.type) for output in group.job.outputs]
    values = result_values(calculated.ids, calculated.outputs, types) if len(calculated.good) else []
    positions = group.positions[calculated.good]
    keys = _keys(batch, positions)
    too_large = oversized(values, limit)
    failed = [(group.positions[bad.index], bad.error, bad.column) for bad in calculated.rejects]
    if len(too_large):
        failed += [
            (positions[at], f"the result has {len(values[at])} bytes, Kafka takes {limit}", None)
            for at in too_large
        ]
        kept = np.setdiff1d(np.arange(len(values)), too_large)
        keys, values = [keys[at] for at in kept], [values[at] for at in kept]
    out.keys += keys
    out.values += values
    out.results += len(values)
    for position, error, column in failed:
        _add(
            out,
            (batch.keys[position] or b"") + b":rejected",
            reject(batch.values[position], error, column, limit),
        )
    out.rejected += len(failed)
    typed = group.job.calculation.columns
    cells = sum(bad.column in typed for bad in calculated.rejects)
    out.reasons.update(cell=cells, calculation=len(calculated.rejects) - cells, size=len(too_large))


def _keys(batch: Batch, positions: npt.NDArray[np.int64]) -> list[bytes]:
    """Return the keys at rising positions; where that is all of them, and mostly it is, without a look at each."""
    found = batch.keys if len(positions) == len(batch.keys) else [batch.keys[at] for at in positions.tolist()]
    return cast(list[bytes], list(found))  # what has a position has a key


def _add(out: Results, key: bytes | None, value: bytes | None) -> None:
    out.keys.append(key or b"")
    out.values.append(value or b"")
