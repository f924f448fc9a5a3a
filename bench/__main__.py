"""The command: `python -m bench [NAME…] [--rows N] [--json FILE] [--repeat 3]`.

    python -m bench                     all but reader, memory, scaling and soak, 200,000 rows: a quarter of an hour
    python -m bench processor --rows 1000000 --json processor.json
    python -m bench all --rows 1000000 --json bench/results/all.json
    python -m bench soak --rounds 20 --json bench/results/soak.json          1M rows, again and again, on one `up`
    python -m bench soak --size 2GB --json bench/results/large.json          one large file instead
    python -m bench report bench/results/*.json     writes bench/RESULTS.md and bench/chart.svg

Each NAME is a module here, whose docstring says what is measured and where its clock starts and ends. With one NAME the JSON
is one document, with several a list of them.
"""

import argparse
import json
import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaException

from bench import large, latency, reader, report, soak, table
from bench.context import Context
from bench.measured import document, repeat
from bench.place import NotHere, services
from bench.processes import Broken
from bench.processor import PEERS
from pipeline.errors import MillstreamError

BENCHMARKS = (
    "processor",
    "capture",
    "sink",
    "chain",
    "latency",
    "small",
    "reader",
    "memory",
    "scaling",
    "soak",
)
BY_DEFAULT = BENCHMARKS[:-4]
DEFAULT_ROWS = 200_000
BUSY = 1.0
DEFAULT_SMALL_ROWS = 20_000
MOST_SMALL_ROWS = 200_000  # 2,000 files of 100


def main(arguments: list[str]) -> int:
    """Measure, or write the report; return the exit code."""
    given = _parse(arguments)
    if given.names[:1] == ["report"]:
        files = [Path(name) for name in given.names[1:]]
        if not files:
            print("bench report: name the JSON files of the measurements", file=sys.stderr)
            return 2
        report.write(files, given.output, given.chart)
        return 0
    unknown = set(given.names) - {*BENCHMARKS, "all"}
    if unknown:
        names = ", ".join([*BENCHMARKS, "all", "report"])
        print(f"bench: there is no {', '.join(sorted(unknown))}; there are {names}", file=sys.stderr)
        return 2
    chosen = list(BENCHMARKS) if "all" in given.names else given.names or list(BY_DEFAULT)
    documents: list[dict[str, Any]] = []
    failed = False
    for name in chosen:
        try:
            found = _measured(name, given, arguments)
        except NotHere as error:
            print(f"bench: {name}: {error}", file=sys.stderr)
            failed = failed or "all" not in given.names
            continue
        except (Broken, MillstreamError, KafkaException) as error:
            print(f"bench: {name} failed: {error}", file=sys.stderr)
            failed = True
            continue
        documents.append(found)
        if given.json:
            # After each: hours of measuring aren't lost to what fails last.
            given.json.parent.mkdir(parents=True, exist_ok=True)
            written = documents if len(chosen) > 1 else found
            given.json.write_text(json.dumps(written, indent=1, ensure_ascii=False) + "\n")
    return int(failed)


def _measured(name: str, given: argparse.Namespace, arguments: list[str]) -> dict[str, Any]:
    """Run one benchmark, print its tables, return its document."""
    load = os.getloadavg()[0]
    if load > BUSY:
        _tell(f"the load is {load:.1f}: something else runs here, and the figures will be poor")
    rows = _rows(name, given.rows)
    if name == "soak":
        found = _soak(rows, given.rounds, given.size, arguments, load)
    else:
        found = measure(name, rows, given.repeat, given.peers, arguments, load)
    print(table.plain(table.figures(found)))
    if len(verdicts := table.verdicts(found)) > 1:
        print(table.plain(verdicts).replace("*", ""))
    print(flush=True)
    return found


def _soak(rows: int, rounds: int, size: int | None, arguments: list[str], load: float) -> dict[str, Any]:
    """Push files to an `up` of its own: so many rounds of so many rows, or one file of a size in bytes."""
    if size is not None:
        _tell(f"== soak, one file of {size / 1e9:g} GB")
        rows, repetitions = large.push(size, _tell)
        return document("large", rows, repetitions, arguments, load)
    _tell(f"== soak, {rounds} rounds of {rows:,} rows")
    repetitions = soak.rounds(rows, rounds, _tell)
    found = document("soak", rows, repetitions, arguments, load)
    found["median"]["ours"] |= soak.trends(repetitions)
    return found


def measure(
    name: str,
    rows: int,
    times: int,
    peers: frozenset[str],
    arguments: list[str],
    load: float,
) -> dict[str, Any]:
    """Run one benchmark on services of its own, return its document."""
    _tell(f"== {name}, {rows:,} rows")
    with services() as running:
        context = Context(running, rows, peers, _tell)
        running.warm_up()
        with import_module(f"bench.{name}").participants(context) as participants:
            repetitions = repeat(participants, times, _tell)
    return document(name, rows, repetitions, arguments, load)


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"{', '.join(BENCHMARKS)}; all; report FILE…"
    )
    parser.add_argument("--rows", type=int, help=f"rows of the file; {DEFAULT_ROWS:,} unless told")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    parser.add_argument("--repeat", type=int, default=3, metavar="N", help="repetitions; 3 unless told")
    parser.add_argument(
        "--peers", type=_peers, default=frozenset(PEERS), help=f"all, none, or of {list(PEERS)}"
    )
    parser.add_argument(
        "--rounds", type=int, default=soak.ROUNDS, metavar="N", help=f"of soak; {soak.ROUNDS} unless told"
    )
    parser.add_argument(
        "--size",
        type=large.parsed_size,
        metavar="2GB",
        help="of soak: one file of this size instead of rounds",
    )
    here = Path(__file__).parent
    parser.add_argument("--output", type=Path, default=here / "RESULTS.md", help="of report")
    parser.add_argument("--chart", type=Path, default=here / "chart.svg", help="of report")
    return parser.parse_args(arguments)


def _peers(text: str) -> frozenset[str]:
    if text in {"all", "none"}:
        return frozenset(PEERS if text == "all" else ())
    chosen = frozenset(name.strip() for name in text.split(";"))
    if unknown := chosen - PEERS.keys():
        raise argparse.ArgumentTypeError(f"there is no {sorted(unknown)}; write them with semicolons between")
    return chosen


def _rows(name: str, given: int | None) -> int:
    """Return the rows of a benchmark: `small` has 2,000 files of 100 at most, and 200 where nothing is said."""
    if name == "small":
        return min(given, MOST_SMALL_ROWS) if given else DEFAULT_SMALL_ROWS
    if name == "reader":
        return given or reader.ROWS
    if name == "soak":
        return given or soak.ROWS
    return latency.ROWS if name == "latency" else given or DEFAULT_ROWS


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
