"""A batch of result events to typed Arrow tables, one piece per job."""

import json
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import events
from pipeline.duck import Connection
from pipeline.events import Kind
from pipeline.jobs import Job
from pipeline.json_batch import decode_objects
from pipeline.kafka_batch import Batch
from pipeline.missing import ROUNDS
from pipeline.types import ColumnType
from sink.tables import take

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Piece:
    """Results of one job: `rows` are their row numbers, `table` the id columns (string) and the outputs, as decoded."""

    job: Job
    rows: Ints
    table: pa.Table


@dataclass(frozen=True, slots=True)
class Rejects:
    """Rejects of one job: row numbers, and each one's value as it came."""

    job: Job
    rows: list[int]
    values: list[bytes]


@dataclass(frozen=True, slots=True)
class ShareEnd:
    """The end of a share: everything before it on its partition has come through; `round` counts repairs."""

    job: Job
    round: int


@dataclass(slots=True)
class Results:
    """A batch, read. `ends` are ends of shares; `dropped` counts what is no event of an open job."""

    pieces: list[Piece] = field(default_factory=list)
    rejects: list[Rejects] = field(default_factory=list)
    ends: list[ShareEnd] = field(default_factory=list)
    dropped: int = 0

    @property
    def rows(self) -> int:
        """Return how many rows there are."""
        return sum(len(piece.rows) for piece in self.pieces) + sum(len(one.rows) for one in self.rejects)

    def drop(self, ended: Container[str]) -> None:
        """Drop what is of these jobs, by file_id."""
        before = self.rows
        self.pieces = [piece for piece in self.pieces if piece.job.file_id not in ended]
        self.rejects = [rejects for rejects in self.rejects if rejects.job.file_id not in ended]
        self.ends = [end for end in self.ends if end.job.file_id not in ended]
        self.dropped += before - self.rows


@dataclass(frozen=True, slots=True)
class Looked:
    """A batch whose keys were read: the job of each key's number, and what each event is, FOREIGN where it isn't wanted."""

    batch: Batch
    keys: events.Keys
    jobs: list[Job | None]
    kinds: npt.NDArray[np.int8]


def look(batch: Batch, find: Callable[[str], Job | None]) -> Looked:
    """Look at the keys of a batch of one partition; `find` gives the open job of a file_id, or None."""
    keys = events.parse_keys(batch.keys)
    jobs = [find(file_id) for file_id in keys.file_ids]
    kinds = keys.kinds.copy()
    for number, job in enumerate(jobs):
        mine = keys.jobs == number
        if job is None:
            kinds[mine] = Kind.FOREIGN
        else:
            kinds[mine & ~job.belongs(keys.rows, batch.partition)] = Kind.FOREIGN
    return Looked(batch, keys, jobs, kinds)


def schema_of(job: Job) -> pa.Schema:
    """Return the Arrow schema that the job's results decode to."""
    fields = [(name, pa.string()) for name in job.ids]
    return pa.schema(fields + [(output.name, ColumnType.parse(output.type).arrow) for output in job.outputs])


class Decoder:
    """Reads batches of the results topic. Holds a DuckDB connection, which checks the text of dates and the like."""

    def __init__(self, connection: Connection) -> None:
        """`connection` is one that `pipeline.duck.connect` returned."""
        self._connection = connection

    def decode(self, looked: Looked) -> Results:
        """Read a batch that was looked at."""
        batch, keys, jobs, kinds = looked.batch, looked.keys, looked.jobs, looked.kinds
        out = Results()
        kept = 0
        for numbers in _alike(jobs):
            kept += self._pieces(batch, keys, kinds, jobs, numbers, out)
        for number in np.unique(keys.jobs[kinds == Kind.REJECTED]):
            kept += self._rejects(
                batch,
                keys,
                jobs[number],
                np.flatnonzero((kinds == Kind.REJECTED) & (keys.jobs == number)),
                out,
            )
        for position in np.flatnonzero(kinds == Kind.END):
            found = _round(batch.values[position])
            if found is not None:
                out.ends.append(ShareEnd(_there(jobs[keys.jobs[position]]), found))
                kept += 1
        out.dropped = len(batch.keys) - kept
        return out

    def _pieces(
        self,
        batch: Batch,
        keys: events.Keys,
        kinds: npt.NDArray[np.int8],
        jobs: Sequence[Job | None],
        numbers: list[int],
        out: Results,
    ) -> int:
        """Decode the results of jobs with the same columns together, then part them; return how many were good."""
        here = np.flatnonzero((kinds == Kind.ROW) & np.isin(keys.jobs, numbers))
        if not len(here):
            return 0
        job = _there(jobs[numbers[0]])
        values = batch.values if len(here) == len(batch.values) else [batch.values[at] for at in here]
        decoded = decode_objects(values, schema_of(job))
        table, index = decoded.table.combine_chunks(), decoded.index
        good = self._good(job, table, values, index)
        if good is not None:
            table, index = table.filter(pa.array(good)), index[good]
        positions = here[index]
        owners = keys.jobs[positions]
        for number in numbers if len(numbers) > 1 else numbers[:1]:
            mine = np.flatnonzero(owners == number)
            if len(mine):
                out.pieces.append(Piece(_there(jobs[number]), keys.rows[positions[mine]], take(table, mine)))
        return len(positions)

    def _good(
        self, job: Job, table: pa.Table, values: Sequence[bytes | None], index: Ints
    ) -> npt.NDArray[np.bool_] | None:
        """Return which rows are results that our processor could have written, or None where all are."""
        good = np.ones(table.num_rows, bool)
        for name in job.ids:
            column = table.column(name)
            if column.null_count:
                good &= column.is_valid().to_numpy(zero_copy_only=False)
        for output in job.outputs:
            column = table.column(output.name)
            if column.null_count:
                # A member that is missing reads as null; ours are always written.
                at = np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))
                text = pa.array([values[index[position]] for position in at], pa.binary())
                null = json.dumps(output.name, ensure_ascii=False).encode() + b":null"
                good[at] &= pc.match_substring(text, null.decode()).to_numpy(zero_copy_only=False)
            kind = ColumnType.parse(output.type)
            if not kind.is_token and kind.sql != "VARCHAR":
                good &= self._casts(column, kind)
        return None if good.all() else good

    def _casts(self, column: pa.ChunkedArray, kind: ColumnType) -> npt.NDArray[np.bool_]:
        cells = pa.table({"cell": column})
        self._connection.register("cells", cells)
        sql = f"SELECT cell IS NULL OR TRY_CAST(cell AS {kind.sql}) IS NOT NULL AS good FROM cells"
        answer: pa.Table = self._connection.sql(sql).to_arrow_table()
        good: npt.NDArray[np.bool_] = answer.column("good").to_numpy()
        self._connection.unregister("cells")
        return good

    def _rejects(self, batch: Batch, keys: events.Keys, job: Job | None, at: Ints, out: Results) -> int:
        rows, values = [], []
        for position in at:
            value = batch.values[position]
            if value is not None and _is_reject(value):
                rows.append(int(keys.rows[position]))
                values.append(value)
        if rows:
            out.rejects.append(Rejects(_there(job), rows, values))
        return len(rows)


def _alike(jobs: Sequence[Job | None]) -> list[list[int]]:
    """Return the numbers of jobs whose results have the same columns, together."""
    sets: dict[tuple[str, tuple[str, ...]], list[int]] = {}
    for number, job in enumerate(jobs):
        if job is not None:
            sets.setdefault((job.digest, job.columns), []).append(number)
    return list(sets.values())


def _is_reject(value: bytes) -> bool:
    try:
        read = json.loads(value)
    except ValueError:
        return False
    return isinstance(read, dict) and isinstance(read.get("error"), str)


def _round(value: bytes | None) -> int | None:
    """Return the round of an end, None where it is none."""
    try:
        read = json.loads(value or b"")
    except ValueError:
        return None
    found = read.get("round") if isinstance(read, dict) else None
    return found if type(found) is int and 0 <= found <= ROUNDS else None


def _there(job: Job | None) -> Job:
    assert job is not None
    return job
