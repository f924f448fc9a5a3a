"""processor: from rows on their topic to all results on theirs, and offsets committed; one process.

The clock is the broker's: how far the results topic is, asked from outside (`bench/progress.py`), for ours, the ceiling and the
peers alike. Afterwards the group's committed offsets are read: ours has to have committed all; of the others it is reported.
Results are compared with the oracle row by row: ours to the last digit, peers, which calculate in floating point because that
is faster for them, to nine digits.

The ceiling is `consume` and `produce_batch` with keys and no work between. Peers do the same work in environments of their
own; slow ones get fewer rows. Not run here: Redpanda Connect, which no Python package installs.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from bench import check, environments
from bench.context import Context
from bench.data import Oracle
from bench.measured import Measured, Participant
from bench.place import Place
from bench.processes import Broken
from bench.progress import Observer, Window
from pipeline.kafka import consumer_config, producer_config


@dataclass(frozen=True)
class Peer:
    """A peer: its script, its environment, how many rows it is given at most, and what else it is told."""

    script: str
    requirements: str
    most: int
    parser: str = ""


PEERS = {
    "plain loop, orjson": Peer("plain.py", "plain", 10**9, "orjson"),
    "plain loop, json": Peer("plain.py", "plain", 10**9, "json"),
    "bytewax": Peer("bytewax_flow.py", "bytewax", 400_000),
    "quixstreams": Peer("quix.py", "quixstreams", 400_000),
    "stock Faust": Peer("faust_stock.py", "faust", 30_000),
}


@contextmanager
def participants(context: Context) -> Iterator[dict[str, Participant]]:
    """Ours, the ceiling, the peers."""
    peers = {name: peer for name, peer in PEERS.items() if name in context.peers}
    sizes = {context.rows, *(min(context.rows, peer.most) for peer in peers.values())}
    with ExitStack() as topics:
        sources = {}
        for size in sorted(sizes):
            sources[size] = topics.enter_context(context.services.topic(f"rows-{size}"))
            context.produce(context.oracle(size), sources[size])
        runs: dict[str, Participant] = {
            "ours": partial(ours, context),
            "ceiling": partial(ceiling, context, sources[context.rows]),
        }
        for name, peer in peers.items():
            size = min(context.rows, peer.most)
            runs[name] = partial(_peer, context, peer, sources[size], context.oracle(size), size)
        yield runs


def ours(context: Context) -> Measured:
    """Capture the file, then have a worker of ours compute it."""
    with context.services.place() as here:
        total = context.capture(here, context.oracle().path, context.rows)
        here.start("processor", "-m", "processor")
        observer = context.observer(here.settings.results_topic)
        return finished(context, here, ["processor"], observer, total)


def finished(
    context: Context, here: Place, workers: Sequence[str], observer: Observer, total: int
) -> Measured:
    """Watch workers of ours write `total` messages; compare the results, and what is committed."""
    topic = here.settings.results_topic
    window = observer.watch(total, here.processes, timeout=context.timeout())
    group = f"{here.prefix}.processor"
    if not check.committed(here.settings, group, here.settings.rows_topic, total):
        raise Broken("the processor has not committed all offsets 15 s after its last result")
    here.processes.stop(*workers)
    twice = check.results_topic(here.settings, topic, context.oracle(), exact=True)
    return _measured(context.rows, window, committed=True, twice=twice)


def ceiling(context: Context, source: str) -> Measured:
    """Move the rows from one topic to another."""
    with context.services.place() as here, context.services.topic("moved") as target:
        here.start("relay", "-m", "bench.programs.relay", source, target, str(context.rows))
        window = context.observer(target).watch(context.rows, here.processes, timeout=context.timeout())
        here.processes.said("relay", "done")
        check.rows_topic(here.settings, target, context.oracle())
        return _measured(context.rows, window, committed=False, twice=0)


def _peer(context: Context, peer: Peer, source: str, oracle: Oracle, rows: int) -> Measured:
    python = environments.python(peer.requirements)
    with context.services.place() as here, context.services.topic("peer") as target:
        group = f"{target}.peer"
        task: dict[str, Any] = {
            "bootstrap": here.broker.bootstrap,
            "input": source,
            "output": target,
            "group": group,
            "parser": peer.parser,
            "producer": _plain(producer_config(here.settings)),
            "consumer": _plain(consumer_config(here.settings, group)),
        }
        script = str(environments.PEERS / peer.script)
        here.start("peer", script, json.dumps(task), python=python)
        window = context.observer(target).watch(rows, here.processes, timeout=context.timeout(rows))
        committed = check.committed(here.settings, group, source, rows)
        here.processes.stop("peer")
        twice = check.results_topic(here.settings, target, oracle, exact=False)
        return _measured(rows, window, committed=committed, twice=twice)


def _measured(rows: int, window: Window, *, committed: bool, twice: int) -> Measured:
    figures = {
        "rows_per_s": window.rows_per_s,
        "seconds": window.seconds,
        "rows_given": rows,
        "rows_counted": window.rows,
    }
    return Measured(figures, window.used, {"checked": True, "committed": committed, "twice": twice})


def _plain(config: dict[str, Any]) -> dict[str, Any]:
    """Return a client's configuration without what isn't text or a number."""
    return {key: value for key, value in config.items() if isinstance(value, str | int | float)}
