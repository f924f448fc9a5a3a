"""From a spooled file to a job: how the file is written, and whether the calculation fits it."""

import threading
from collections import OrderedDict
from dataclasses import dataclass

from pipeline.bind import bind
from pipeline.bound import Bound
from pipeline.calculations import Calculation
from pipeline.dialect import Dialect, DialectOverrides, malformed_name, read_csv_sql
from pipeline.events import file_id
from pipeline.jobs import Job, Output, Source, now
from producer.sniff import sniff
from producer.spool import Spool
from producer.stage import Stage

_MOST_KEPT = 1000


@dataclass(frozen=True, slots=True)
class Prepared:
    """A file's dialect and columns, and its calculation bound to them."""

    dialect: Dialect
    columns: tuple[str, ...]
    bound: Bound


def prepare(calculation: Calculation, file: Spool, told: DialectOverrides) -> Prepared:
    """Look at how the file is written, and bind the calculation to its columns.

    `told` has what is known of the dialect. Raises CalculationError or InputError where no job can be made of it.
    """
    dialect, columns = sniff(file.path, told, encoding=file.encoding)
    return Prepared(dialect, columns, _bound(calculation, columns))


_lock = threading.Lock()
_kept: OrderedDict[tuple[str, str, tuple[str, ...]], Bound] = OrderedDict()


def _bound(calculation: Calculation, columns: tuple[str, ...]) -> Bound:
    """Bind once for many files of the same columns: it takes longer than to read a small file."""
    key = (calculation.label, calculation.digest, columns)
    with _lock:
        bound = _kept.get(key)
        if bound is None:
            bound = _kept[key] = bind(calculation, columns)
            if len(_kept) > _MOST_KEPT:
                _kept.popitem(last=False)
    return bound


def make_job(
    stage: Stage, name: str, generation: int, source: Source, prepared: Prepared, trace: str | None = None
) -> Job:
    """Return the job; everything in it but the time follows from what it is given."""
    bound, calculation = prepared.bound, prepared.bound.calculation
    read = read_csv_sql(source.key, prepared.dialect, prepared.columns)
    return Job(
        file_id=file_id(name, generation, source.etag, calculation.digest),
        name=name,
        generation=generation,
        source=source,
        columns=prepared.columns,
        dialect=prepared.dialect,
        calculation=calculation,
        digest=calculation.digest,
        outputs=tuple(Output(name=output, type=kind.sql) for output, kind in bound.outputs),
        oracle=bound.oracle_sql(f"({read})", malformed_name(prepared.columns)),
        partitions=stage.partitions,
        block=stage.settings.block,
        created=now(),
        trace=trace,
    )
