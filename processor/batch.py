"""What the processor does to a batch, without Faust and without Kafka: decode, calculate, encode."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from pipeline.events import ID_LENGTH
from pipeline.jobs import Job
from pipeline.kafka_batch import Batch
from pipeline.messages import Messages, sizes
from pipeline.settings import OVERHEAD
from pipeline.types import ColumnType
from processor.calculators import Runs
from processor.decode import Group, decode
from processor.encode import reject, result_values


@dataclass(slots=True)
class Results:
    """What a batch of rows became.

    `messages` are for the same partition of the results topic; `end_keys` and `end_values` those to be sent once all of them
    are delivered.
    """

    messages: list[Messages] = field(default_factory=list)
    end_keys: list[bytes] = field(default_factory=list)
    end_values: list[bytes] = field(default_factory=list)
    results: int = 0
    rejected: int = 0
    dropped: int = 0
    highest: list[tuple[Job, int]] = field(default_factory=list)
    """See `processor.decode.Rows`."""
    reasons: Counter[str] = field(default_factory=Counter)
    """How many rejects there are of each class: malformed, cell, calculation, size."""

    def reject(self, messages: Sequence[tuple[bytes, bytes]], reason: str) -> None:
        """Add rejects of one class, keys and values."""
        if messages:
            self.messages.append(Messages.of(*zip(*messages, strict=True)))
        self.rejected += len(messages)
        self.reasons[reason] += len(messages)


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
        _calculate(batch, rows.keys, group, calculators(group.job), limit - OVERHEAD - ID_LENGTH - 32, out)
    out.reject(
        [(batch.keys[at] or b"", batch.values[at] or b"") for at in rows.malformed.tolist()], "malformed"
    )
    for position in rows.ends:
        out.end_keys.append(batch.keys[position] or b"")
        out.end_values.append(batch.values[position] or b"")
    return out


def _calculate(
    batch: Batch, keys: pa.Array, group: Group, calculator: Runs, limit: int, out: Results
) -> None:
    calculated = calculator.run(group.table)
    types = [ColumnType.parse(output.type) for output in group.job.outputs]
    typed = group.job.calculation.columns
    rejects: dict[str, list[tuple[bytes, bytes]]] = {"cell": [], "calculation": [], "size": []}

    def fail(reason: str, position: int, error: str, column: str | None = None) -> None:
        key = (batch.keys[position] or b"") + b":rejected"
        rejects[reason].append((key, reject(batch.values[position], error, column, limit)))

    if len(calculated.good):
        positions = group.positions[calculated.good]
        values = result_values(calculated.ids, calculated.outputs, types)
        results = Messages(keys if len(positions) == len(keys) else keys.take(pa.array(positions)), values)
        size = sizes(values)
        for at in np.flatnonzero(size > limit).tolist():
            fail("size", positions[at], f"the result has {size[at]} bytes, Kafka takes {limit}")
        if rejects["size"]:
            results = results.take(np.flatnonzero(size <= limit))
        out.messages.append(results)
        out.results += len(results)
    for bad in calculated.rejects:
        reason = "cell" if bad.column in typed else "calculation"
        fail(reason, group.positions[bad.index], bad.error, bad.column)
    for reason, messages in rejects.items():
        out.reject(messages, reason)
