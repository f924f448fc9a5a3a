"""memory: the peak of each stage, with a file of N rows and one of ten times as many; of the sink with 200 files at once too.

All stages at once, on a fresh process each time; the output is compared with the oracle's byte by byte. The 200 files are of
N / 200 rows and computed one after the other; then their results come to the sink some rows of each in turn, and the ends last.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from bench import check, small
from bench.context import NAME, Context, messages_of
from bench.measured import Measured, Participant
from bench.usage import Usage

TIMES = 10
FILES = 200


@contextmanager
def participants(context: Context) -> Iterator[dict[str, Participant]]:
    """Ours: one file, one of ten times the rows, many files."""
    yield {
        **{f"{rows:,} rows": partial(_ours, context, rows) for rows in (context.rows, TIMES * context.rows)},
        f"{FILES} files at once": partial(_many, context),
    }


def _ours(context: Context, rows: int) -> Measured:
    oracle = context.oracle(rows)
    with context.services.place() as here:
        for name, arguments in (("processor", ["-m", "processor"]), ("sink", ["-m", "sink", "store"])):
            here.start(name, *arguments)
            here.processes.said(name, "partitions assigned")
        here.start("push", "-m", "bench.programs.push", str(oracle.path))
        said = here.processes.said("push", "done", timeout=context.timeout(rows))
        total = messages_of(here, rows)
        topic = here.settings.results_topic
        context.observer(topic).watch(total, here.processes, timeout=context.timeout(rows))
        here.processes.said("sink", "job published", timeout=context.timeout(rows))
        peaks = here.processes.usage()
        used = {
            "push": Usage(said["cpu_s"], said["peak_mb"]),
            "processor": peaks["processor"],
            "sink": peaks["sink"],
        }
        here.processes.stop("processor", "sink")
        twice = check.results_topic(here.settings, topic, oracle, exact=True)
        check.output(here, NAME, oracle, rows)
        figures = {f"{name}_mb": usage.peak_mb for name, usage in used.items()}
        return Measured({"rows": rows, **figures}, used, {"checked": True, "twice": twice})


def _many(context: Context) -> Measured:
    rows = context.rows // FILES
    with context.services.place() as here:
        prefix = f"{here.prefix}-many"
        topics = [f"{prefix}.{name}" for name in ("rows", "results", "progress")]
        try:
            here.start("sink", "-m", "sink", "store", topic_prefix=prefix)
            here.start("processor", "-m", "processor")
            files = small.cut(here, context.oracle(), rows)
            here.start("push", "-m", "bench.programs.push", str(files))
            here.processes.said("push", "done", timeout=context.timeout())
            total = FILES * messages_of(here, rows)
            topic = here.settings.results_topic
            context.observer(topic).watch(total, here.processes, timeout=context.timeout())
            here.processes.said("sink", "partitions assigned")
            here.start("interleave", "-m", "bench.programs.interleave", topic, topics[1], str(total))
            here.processes.said("interleave", "done", timeout=context.timeout())
            here.processes.said("sink", "job published", FILES, timeout=context.timeout())
            used = {"sink": here.processes.usage()["sink"]}
            small.compare(here, context.oracle(), rows)
        finally:
            here.processes.stop_all()
            context.services.remove(topics)
        figures = {"rows": context.rows, "sink_mb": used["sink"].peak_mb}
        return Measured(figures, used, {"checked": True, "files": FILES})
