"""soak: files of 1M rows pushed one after the other on one `up`, `--rounds` times; or with `--size` one large file instead.

`up` is the command, started once, in a folder of its own. Each round `millstream push FILE --wait` is run with a file of
another name and other rows: the clock starts before the command is started and ends when it has ended with exit code 0. Then
the result is fetched from the reader and compared with the oracle's, byte by byte, and the file pushed is removed; `up` keeps
what it has stored.

Beside the time stand the peaks of the round, sampled twice a second, pauses included: of resident memory of everything that
`up` started, itself included, summed up; of disk below the broker's directory and the S3 server's. CPU seconds are of the push
alone.
"""

import statistics
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx

from bench.command import Ran
from bench.data import Oracle, write_csv
from bench.footprint import Footprint, Lap
from bench.measured import WITH_START, Measured
from bench.processes import Broken
from bench.running import Up, up
from bench.usage import Usage

ROUNDS = 20
ROWS = 1_000_000

EARLY = slice(1, 6)  # rounds 2 to 6: the first finds everything cold
LATE = slice(-5, None)
SETTLED = 3
"""After so many rounds memory is expected to have found its size."""

Json = dict[str, Any]
Tell = Callable[[str], None]


def rounds(rows: int, count: int, tell: Tell) -> list[Json]:
    """Push `count` files of so many rows; return what each round measured."""
    measured: list[Measured] = []
    with (
        tempfile.TemporaryDirectory(prefix="millstream-soak-") as folder,
        up(Path(folder)) as running,
        Footprint(running) as footprint,
    ):
        for number in range(count):
            measured.append(_round(running, footprint, number, rows))
            tell(f"{number + 1}/{count} {told(measured[-1])}")
        restarts = footprint.restarts
    return dumped(measured, restarts)


def _round(running: Up, footprint: Footprint, number: int, rows: int) -> Measured:
    path = running.folder / f"orders-{number + 1:04}.csv"
    write_csv(path, rows, first=number * rows)
    before = footprint.lap()
    ran = running.run("push", path.name, "--wait", timeout=120 + rows / 2_000)
    lap = footprint.lap()
    compare(running, path)
    path.unlink()
    lap.peaks(before)
    lap.peaks(footprint.lap())
    return of_push(rows, ran, lap)


def compare(running: Up, path: Path) -> None:
    """Compare the result that the reader gives with the oracle's; raise Broken where they differ."""
    url = f"{running.record['http']}/results/{path.name}"
    answer = httpx.get(url, headers={"Accept-Encoding": "identity"}, timeout=120)
    if answer.status_code != 200 or answer.content != Oracle(path).csv:
        raise Broken(
            f"GET {url} answered {answer.status_code} with {len(answer.content):,} bytes unlike the oracle's"
        )


def of_push(rows: int, ran: Ran, lap: Lap) -> Measured:
    """Return the figures of a push and of what `up` took for it."""
    figures = {
        "rows_per_s": rows / ran.seconds,
        "push_s": ran.seconds,
        "memory_mb": lap.memory_mb,
        "broker_mb": lap.broker_mb,
        "s3_mb": lap.s3_mb,
    }
    used = {name: Usage(cpu_s, round(lap.each_mb.get(name, 0.0), 1)) for name, cpu_s in lap.cpu_s.items()}
    return Measured(figures, {"push": ran.used, **used}, {"checked": True, WITH_START: True})


def dumped(measured: Sequence[Measured], restarts: int) -> list[Json]:
    """Return rounds as repetitions of ours, each with the same processes."""
    names = dict.fromkeys(name for one in measured for name in one.processes)
    for one in measured:
        one.processes = {name: one.processes.get(name, Usage(0.0, 0.0)) for name in names}
        one.notes["restarts"] = restarts
    return [{"ours": one.dump()} for one in measured]


def told(one: Measured) -> str:
    """Return a round as a line for who waits."""
    figures = one.figures
    return (
        f"{figures['push_s']:.1f} s, {figures['memory_mb']:,.0f} MB in all, disk: broker "
        f"{figures['broker_mb']:,.0f} MB, S3 {figures['s3_mb']:,.0f} MB"
    )


def trends(repetitions: Sequence[Json]) -> Json:
    """Return how rounds changed, as far as there are enough of them.

    `late_times`: the last five rounds' median time, as a multiple of that of rounds 2 to 6; not where these overlap.
    `memory_trend`: how much memory grew from round 4 on, by a line fitted through the rounds, as a share of its mean.
    """
    found: Json = {}
    seconds = [repetition["ours"]["push_s"] for repetition in repetitions]
    if len(seconds) >= EARLY.stop - LATE.start:
        early, late = statistics.median(seconds[EARLY]), statistics.median(seconds[LATE])
        found["late_times"] = round(late / early, 3)
    memory = [repetition["ours"]["memory_mb"] for repetition in repetitions[SETTLED:]]
    if len(memory) >= 5:
        slope = statistics.linear_regression(range(len(memory)), memory).slope
        found["memory_trend"] = round(slope * len(memory) / statistics.mean(memory), 3)
    return found
