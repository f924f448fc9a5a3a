"""memory: the peak of producer and processor, with a file of N rows and with one of ten times as many.

Both at once, on a fresh process each time. The sink isn't run: it holds a job in memory until it spills.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from bench import check
from bench.context import Context, messages_of
from bench.measured import Measured, Participant
from bench.usage import Usage

TIMES = 10


@contextmanager
def participants(context: Context) -> Iterator[dict[str, Participant]]:
    """Ours, twice."""
    yield {f"{rows:,} rows": partial(_ours, context, rows) for rows in (context.rows, TIMES * context.rows)}


def _ours(context: Context, rows: int) -> Measured:
    oracle = context.oracle(rows)
    with context.services.place() as here:
        here.start("processor", "-m", "processor")
        here.processes.said("processor", "partitions assigned")
        here.start("push", "-m", "bench.programs.push", str(oracle.path))
        said = here.processes.said("push", "done", timeout=context.timeout(rows))
        total = messages_of(here, rows)
        topic = here.settings.results_topic
        context.observer(topic).watch(total, here.processes, timeout=context.timeout(rows))
        used = {
            "push": Usage(said["cpu_s"], said["peak_mb"]),
            "processor": here.processes.usage()["processor"],
        }
        here.processes.stop("processor")
        twice = check.results_topic(here.settings, topic, oracle, exact=True)
        figures = {f"{name}_mb": usage.peak_mb for name, usage in used.items()}
        return Measured({"rows": rows, **figures}, used, {"checked": True, "twice": twice})
