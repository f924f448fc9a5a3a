"""scaling: the processor benchmark with 1, 2 and 4 workers on 4 partitions.

Workers start, share the partitions out, and are held (SIGSTOP) while the rows come to their topic; then all go on at once. So
neither starts nor rebalances nor capture are part of a figure. That needs a session of a minute.
"""

import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from bench.context import Context
from bench.measured import Measured, Participant
from bench.place import PARTITIONS, Place
from bench.processes import Broken
from bench.processor import finished

WORKERS = (1, 2, 4)


@contextmanager
def participants(context: Context) -> Iterator[dict[str, Participant]]:
    """Ours, with so many workers."""
    yield {
        f"{workers} worker{'s' if workers > 1 else ''}": partial(_run, context, workers)
        for workers in WORKERS
    }


def _run(context: Context, workers: int) -> Measured:
    with context.services.place() as here:
        names = [f"worker-{number}" for number in range(1, workers + 1)]
        for name in names:
            here.start(name, "-m", "processor", session_timeout="60")
        _wait_for_shares(here, names)
        here.processes.send(signal.SIGSTOP, names)
        total = context.capture(here, context.oracle().path, context.rows)
        observer = context.observer(here.settings.results_topic)
        observer.written()  # connected before they go on
        here.processes.send(signal.SIGCONT, names)
        return finished(context, here, names, observer, total)


def _wait_for_shares(here: Place, names: Sequence[str]) -> None:
    """Wait until every worker has partitions and no two have the same."""
    deadline = time.monotonic() + 120
    while True:
        said = [here.processes.last(name, "partitions assigned") for name in names]
        shares = [set(line["partitions"]) for line in said if line is not None]
        if len(shares) == len(names) and all(shares) and sum(map(len, shares)) == PARTITIONS:
            return
        here.processes.check("partitions were shared out")
        if time.monotonic() > deadline:
            raise Broken(f"{len(names)} workers have not shared the partitions out after 120 s")
        time.sleep(0.1)
