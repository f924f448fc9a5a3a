"""Jobs made up for tests."""

from datetime import UTC, datetime

from pipeline.calculations import Calculation
from pipeline.dialect import Dialect
from pipeline.events import file_id
from pipeline.jobs import Captured, Job, Output, Source

WHEN = datetime(2026, 1, 2, tzinfo=UTC)


def make_job(
    name: str = "orders.csv",
    *,
    generation: int = 1,
    etag: str = "9b2cf535f27731c974343645a3985328",
    columns: tuple[str, ...] = ("order_id", "quantity", "price"),
    outputs: tuple[tuple[str, str], ...] = (("total", "DECIMAL(38,2)"),),
    partitions: int = 4,
    block: int = 4,
) -> Job:
    """Return a job as capture would write it; the calculation's expressions are of no importance here."""
    calculation = Calculation(
        label="orders",
        match="*.csv",
        id=columns[0],
        columns={"quantity": "BIGINT", "price": "DECIMAL(18,2)"} if "price" in columns else {},
        outputs={output: "quantity * price" if output == "total" else columns[0] for output, _ in outputs},
    )
    return Job(
        file_id=file_id(name, generation, etag, calculation.digest),
        name=name,
        generation=generation,
        source=Source(key=name, etag=etag, size=10, last_modified=WHEN),
        columns=columns,
        dialect=Dialect(),
        calculation=calculation,
        digest=calculation.digest,
        outputs=tuple(Output(name=output, type=kind) for output, kind in outputs),
        oracle=None,
        partitions=partitions,
        block=block,
        created=WHEN,
    )


def make_captured(job: Job, rows: int, malformed: int = 0) -> Captured:
    """Return the account of a file of `rows` rows."""
    return Captured(
        rows=rows,
        malformed=malformed,
        shares=job.shares(rows),
        sha256="0" * 64,
        size=10,
        started=WHEN,
        finished=WHEN,
    )
