"""latency: a file of 1,000 rows, from `push` to the answer 200 with the CSV; one file after the other.

`ours` is the command: the clock starts before `millstream push FILE` does, whose process is a new one for each file. The other
clock leaves out the command's start: `push` is called in this process, where all is imported. Processor, sink and reader run in
theirs; the GET follows at once and waits (`?wait=30`), on a connection that is open already. One file goes first and isn't
counted. Each answer is compared with the oracle's CSV, byte by byte. Of 50 files p99 lies between the slowest and the one
before.
"""

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import httpx

from bench import usage
from bench.context import Context
from bench.data import Oracle, write_csv
from bench.measured import WITH_START, WITHOUT_START, Measured, Participant
from bench.place import Place
from bench.processes import Broken
from bench.usage import Usage
from millstream import ports
from producer.progress import Silent
from producer.push import push

FILES = 50
ROWS = 1_000

Push = Callable[[Place, Path], Usage]
"""Pushes a file, and returns what that used."""


@contextmanager
def participants(context: Context) -> Iterator[dict[str, Participant]]:
    """Ours by both clocks."""
    yield {
        "ours": partial(_ours, context, _by_command),
        f"ours{WITHOUT_START}": partial(_ours, context, _by_call),
    }


def _by_command(here: Place, path: Path) -> Usage:
    return here.run("push", path.name, timeout=60).used


def _by_call(here: Place, path: Path) -> Usage:
    before = usage.of_self()
    push([path], here.settings, progress=Silent())
    return usage.of_self().since(before)


def _ours(context: Context, send: Push) -> Measured:
    with context.services.place() as here:
        [port] = ports.choose(1)
        stages = {
            "processor": ("-m", "processor"),
            "sink": ("-m", "sink", "store"),
            "serve": ("-m", "sink", "serve"),
        }
        for name, arguments in stages.items():
            here.start(name, *arguments, http_port=str(port))
        for name in ("processor", "sink"):
            here.processes.said(name, "partitions assigned")
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            _until_it_answers(client, here)
            _one(here, client, send, 0)
            before = here.processes.usage()
            taken = [_one(here, client, send, number) for number in range(1, FILES + 1)]
            after = here.processes.usage()
            pushed = Usage(
                round(sum(used.cpu_s for _, used in taken), 2), max(used.peak_mb for _, used in taken)
            )
        seconds = [one for one, _ in taken]
        cuts = statistics.quantiles(seconds, n=100, method="inclusive")
        figures = {"p50_s": cuts[49], "p99_s": cuts[98], "max_s": max(seconds)}
        by_command = send is _by_command
        name = "push" if by_command else "push and bench"  # whose memory is that of both
        notes = {"checked": True, "files": FILES, "rows_per_file": ROWS, WITH_START: by_command}
        return Measured(figures, {name: pushed, **usage.between(before, after)}, notes)


def _one(here: Place, client: httpx.Client, send: Push, number: int) -> tuple[float, Usage]:
    """Push one file and fetch what becomes of it; return the seconds, and what the push used."""
    path = here.folder / f"orders-{number}.csv"
    write_csv(path, ROWS, first=number * ROWS)
    wanted = Oracle(path).csv
    start = time.perf_counter()
    pushed = send(here, path)
    answer = client.get(f"/results/{path.name}", params={"wait": "30"})
    seconds = time.perf_counter() - start
    if answer.status_code != 200 or answer.content != wanted:
        raise Broken(f"GET /results/{path.name} answered {answer.status_code}: {answer.text[:200]}")
    return seconds, pushed


def _until_it_answers(client: httpx.Client, here: Place) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            if client.get("/health/live").status_code == 200:
                return
        except httpx.TransportError:
            pass
        here.processes.check("the reader was started")
        if time.monotonic() > deadline:
            raise Broken("the reader does not answer after 60 s")
        time.sleep(0.1)
