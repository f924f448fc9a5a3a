"""capture: from a CSV on disk to its row events acknowledged, ends included; one process of ours.

The clock is inside the process, around the whole of `push`: read and hash the file, find its dialect, upload it to S3, take it
on, send every row and the ends. `events_rows_per_s` is the part in which rows are sent, seen from the broker.

The ceiling is `produce_batch` with keys, of messages made beforehand. No peer that can be installed here captures files.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from bench import check
from bench.context import Context, messages_of
from bench.measured import Measured, Participant
from bench.usage import Usage


@contextmanager
def participants(context: Context) -> Iterator[dict[str, Participant]]:
    """Ours and the ceiling."""
    oracle = context.oracle()

    def ours() -> Measured:
        with context.services.place() as here:
            topic = here.settings.rows_topic
            here.start("push", "-m", "bench.programs.push", str(oracle.path))
            window = context.observer(topic).watch(
                messages_of(here, context.rows), here.processes, timeout=context.timeout()
            )
            said = here.processes.said("push", "done")
            twice = check.rows_topic(here.settings, topic, oracle)
            seconds = said["end"] - said["start"]
            figures = {
                "rows_per_s": context.rows / seconds,
                "seconds": seconds,
                "rows_counted": context.rows,
                "events_rows_per_s": window.rows_per_s,
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
