"""chain: from a CSV on disk to the computed CSV on S3 with its receipt; producer, processor and sink at once.

`ours` is the command `millstream push FILE --wait`: its clock starts before the command does, and ends when that has ended. The
other clock of ours leaves out the command's start: it starts within the process, when `push` is called and all is imported, and
ends when the sink says that the job is published. Processor and sink run and have their partitions by then. The CSV is compared
with the oracle's, byte by byte.

The ceiling is the bare chain: the client's `produce_batch`, `consume` + `produce_batch`, and `consume`, in three processes at
once, without a file, without work and without S3; from the first message handed over to the last one read. Starts and imports
are no part of that, so it is compared with ours by the clock that leaves them out.
"""

import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial

from bench import check, usage
from bench.context import NAME, Context
from bench.measured import WITH_START, WITHOUT_START, Measured, Participant
from bench.place import Place
from bench.usage import Usage


@contextmanager
def participants(context: Context) -> Iterator[dict[str, Participant]]:
    """Ours by both clocks, and the bare chain."""
    yield {
        "ours": partial(ours, context),
        f"ours{WITHOUT_START}": partial(without_start, context),
        "ceiling": partial(bare, context),
    }


def ours(context: Context) -> Measured:
    """Run the command while processor and sink wait for work."""
    oracle = context.oracle()
    with context.services.place() as here:
        start_stages(here)
        before = here.processes.usage()
        ran = here.run("push", str(oracle.path), "--wait", timeout=context.timeout())
        used = {"push": ran.used, **usage.between(before, here.processes.usage())}
        check.output(here, NAME, oracle, context.rows)
        return _measured(context.rows, ran.seconds, used, {WITH_START: True})


def without_start(context: Context) -> Measured:
    """Run the three stages at once; the clock is within them."""
    oracle = context.oracle()
    with context.services.place() as here:
        start_stages(here)
        before = here.processes.usage()
        here.start("push", "-m", "bench.programs.push", str(oracle.path))
        end = here.processes.said("sink", "job published", timeout=context.timeout())["when"]
        after = here.processes.usage()
        said = here.processes.said("push", "done")
        check.output(here, NAME, oracle, context.rows)
        used = {"push": Usage(said["cpu_s"], said["peak_mb"]), **usage.between(before, after)}
        return _measured(context.rows, end - said["start"], used)


def start_stages(here: Place) -> None:
    """Start processor and sink; return when they have their partitions."""
    here.start("processor", "-m", "processor")
    here.start("sink", "-m", "sink", "store")
    for name in ("processor", "sink"):
        here.processes.said(name, "partitions assigned")


def bare(context: Context) -> Measured:
    """Run the three clients at once."""
    with context.services.place() as here:
        rows, source, target = str(context.rows), here.settings.rows_topic, here.settings.results_topic
        here.start("relay", "-m", "bench.programs.relay", source, target, rows)
        here.start("consume", "-m", "bench.programs.consume", target, rows, f"bare-{uuid.uuid4().hex[:8]}")
        for name in ("relay", "consume"):
            here.processes.said(name, "assigned")
        before = here.processes.usage()
        here.start("produce", "-m", "bench.programs.produce", str(context.oracle().path), source)
        names = ("produce", "relay", "consume")
        said = {name: here.processes.said(name, "done", timeout=context.timeout()) for name in names}
        servers = usage.between(before, here.processes.usage())
        check.rows_topic(here.settings, target, context.oracle())
        used = {name: Usage(said[name]["cpu_s"], said[name]["peak_mb"]) for name in names}
        used |= {name: servers[name] for name in usage.SERVERS if name in servers}
        return _measured(context.rows, said["consume"]["end"] - said["produce"]["start"], used)


def _measured(
    rows: int, seconds: float, used: dict[str, Usage], notes: Mapping[str, bool] | None = None
) -> Measured:
    figures = {"rows_per_s": rows / seconds, "seconds": seconds, "rows_counted": rows}
    return Measured(figures, used, {"checked": True, **(notes or {})})
