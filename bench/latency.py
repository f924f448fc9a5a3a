"""latency: a file of 1,000 rows, from the call of `push` to the answer 200 with the CSV; one file after the other.

`push` runs in this process, processor, sink and reader in theirs; the GET follows at once and waits (`?wait=30`). One file goes
first and isn't counted. Each answer is compared with the oracle's CSV, byte by byte. Of 50 files p99 lies between the slowest
and the one before.
"""

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import httpx

from bench import usage
from bench.context import Context
from bench.data import Oracle, write_csv
from bench.measured import Measured, Participant
from bench.place import Place
from bench.processes import Broken
from millstream import ports
from producer.progress import Silent
from producer.push import push

FILES = 50
ROWS = 1_000


@contextmanager
def participants(context: Context) -> Iterator[dict[str, Participant]]:
    """Ours."""
    yield {"ours": partial(_ours, context)}


def _ours(context: Context) -> Measured:
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
            _one(here, client, 0)
            before = here.processes.usage()
            seconds = [_one(here, client, number) for number in range(1, FILES + 1)]
            used = usage.between(before, here.processes.usage())
        cuts = statistics.quantiles(seconds, n=100, method="inclusive")
        figures = {"p50_s": cuts[49], "p99_s": cuts[98], "max_s": max(seconds)}
        return Measured(figures, used, {"checked": True, "files": FILES, "rows_per_file": ROWS})


def _one(here: Place, client: httpx.Client, number: int) -> float:
    path = here.folder / f"orders-{number}.csv"
    write_csv(path, ROWS, first=number * ROWS)
    wanted = Oracle(path).csv
    start = time.perf_counter()
    push([path], here.settings, progress=Silent())
    answer = client.get(f"/results/{path.name}", params={"wait": "30"})
    seconds = time.perf_counter() - start
    if answer.status_code != 200 or answer.content != wanted:
        raise Broken(f"GET /results/{path.name} answered {answer.status_code}: {answer.text[:200]}")
    return seconds


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
