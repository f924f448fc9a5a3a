"""scaling: the processor benchmark with 1, 2 and 4 workers on 4 partitions.

Workers start together; the clock starts when each has its partitions, so that neither their starts nor the rebalances count.
What is computed before that isn't counted either: small files are over by then.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from bench.context import Context
from bench.measured import Measured, Participant
from bench.processor import ours

WORKERS = (1, 2, 4)


@contextmanager
def participants(context: Context) -> Iterator[dict[str, Participant]]:
    """Ours, with so many workers."""

    def run(workers: int) -> Measured:
        return ours(context, workers)

    yield {f"{workers} worker{'s' if workers > 1 else ''}": partial(run, workers) for workers in WORKERS}
