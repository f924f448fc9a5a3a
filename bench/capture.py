"""capture: from a CSV on disk to its row events acknowledged, ends included; one process of ours.

The clock is inside the process, around the whole of `push`: read and hash the file, find its dialect, upload it to S3, take it
on, send every row and the ends. `events_rows_per_s` is the part in which rows are read and sent until all are acknowledged, by
the job's own account. Nobody asks the broker meanwhile how far it is, of ours as little as of the ceiling.

The ceiling is `produce_batch` with keys, of messages made beforehand. No peer that can be installed here captures files.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from bench import check
from bench.context import Context
from bench.measured import Measured, Participant
from bench.place import Place
from bench.usage import Usage
from pipeline import layout, records
from pipeline.jobs import Captured
from pipeline.s3 import S3Store


@contextmanager
def participants(context: Context) -> Iterator[dict[str, Participant]]:
    """Ours and the ceiling."""
    oracle = context.oracle()

    def ours() -> Measured:
        with context.services.place() as here:
            topic = here.settings.rows_topic
            here.start("push", "-m", "bench.programs.push", str(oracle.path))
            said = here.processes.said("push", "done", timeout=context.timeout())
            twice = check.rows_topic(here.settings, topic, oracle)
            seconds = said["end"] - said["start"]
            figures = {
                "rows_per_s": context.rows / seconds,
                "seconds": seconds,
                "rows_counted": context.rows,
                "events_rows_per_s": context.rows / _sending(here),
            }
            return Measured(
                figures, {"push": Usage(said["cpu_s"], said["peak_mb"])}, {"checked": True, "twice": twice}
            )

    def ceiling() -> Measured:
        with context.services.place() as here:
            topic = here.settings.rows_topic
            here.start("produce", "-m", "bench.programs.produce", str(oracle.path), topic)
            said = here.processes.said("produce", "done", timeout=context.timeout())
            twice = check.rows_topic(here.settings, topic, oracle)
            seconds = said["end"] - said["start"]
            used = {"produce": Usage(said["cpu_s"], said["peak_mb"])}
            figures = {"rows_per_s": context.rows / seconds, "seconds": seconds, "rows_counted": context.rows}
            return Measured(figures, used, {"checked": True, "twice": twice})

    yield {"ours": ours, "ceiling": ceiling}


def _sending(here: Place) -> float:
    """Return how many seconds the only job's rows took, by its account."""
    results = S3Store(here.s3.client(), here.s3.results)
    [key] = [head.key for head in results.list(layout.JOBS) if head.key.endswith("/captured.json")]
    account = records.read(results, key, Captured)
    assert account is not None
    return (account.finished - account.started).total_seconds()
