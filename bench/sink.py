"""sink: from results on their topic to the CSV and its receipt on S3; one process.

The clock starts with the assignment of the partitions and ends when the sink says that the job is published, by the times of
its log: decoding, deduplication, order, CSV, upload, receipt and the copy to the name lie between. The CSV is compared with the
oracle's, byte by byte.

The ceiling is `consume` of the same topic, from the assignment to the last message. No peer: none writes one object per file,
in order, without duplicates.
"""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from bench import check, usage
from bench.context import NAME, Context
from bench.measured import Measured, Participant
from bench.place import Place
from bench.usage import Usage


@contextmanager
def participants(context: Context) -> Iterator[dict[str, Participant]]:
    """Ours and the ceiling."""
    with context.services.place() as computed:
        total = _compute(context, computed)

        def ours() -> Measured:
            with context.services.place() as here:
                _compute(context, here)
                here.start("sink", "-m", "sink", "store")
                start = here.processes.said("sink", "partitions assigned")["when"]
                before = here.processes.usage()
                end = here.processes.said("sink", "job published", timeout=context.timeout())["when"]
                used = usage.between(before, here.processes.usage())
                check.output(here, NAME, context.oracle(), context.rows)
                return _measured(context.rows, end - start, used)

        def ceiling() -> Measured:
            with context.services.place() as here:
                group = f"ceiling-{uuid.uuid4().hex[:8]}"
                topic = computed.settings.results_topic
                here.start("consume", "-m", "bench.programs.consume", topic, str(total), group)
                said = here.processes.said("consume", "done", timeout=context.timeout())
                used = Usage(said["cpu_s"], said["peak_mb"])
                return _measured(context.rows, said["end"] - said["start"], {"consume": used})

        yield {"ours": ours, "ceiling": ceiling}


def _compute(context: Context, here: Place) -> int:
    """Fill the results topic with what the processor makes of the file; return how many messages there are."""
    total = context.capture(here, context.oracle().path, context.rows)
    here.start("processor", "-m", "processor")
    context.observer(here.settings.results_topic).watch(total, here.processes, timeout=context.timeout())
    here.processes.stop("processor")
    check.results_topic(here.settings, here.settings.results_topic, context.oracle(), exact=True)
    return total


def _measured(rows: int, seconds: float, used: dict[str, Usage]) -> Measured:
    figures = {"rows_per_s": rows / seconds, "seconds": seconds, "rows_counted": rows}
    return Measured(figures, used, {"checked": True})
