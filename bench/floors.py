"""What has to be reached, and whether it is: the floors are written here once, for the tables."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bench.measured import WITHOUT_START

Json = dict[str, Any]
Figure = Callable[[Json], float | None]

SOAK_LATE, SOAK_TREND = 1.10, 0.10
SOAK_MEMORY_MB, SOAK_BROKER_MB = 1_800, 1_000


@dataclass(frozen=True)
class Floor:
    """A floor: what is compared, the bound, and whether the bound is the most (`at_most`) or the least."""

    what: str
    figure: Figure
    bound: float
    at_most: bool = False
    digits: int = 2

    def verdict(self, summary: Json) -> tuple[str, str, str] | None:
        """Return the bound, the figure and `pass` or `miss`; None where there is no figure in this document."""
        value = self.figure(summary)
        if value is None:
            return None
        good = value <= self.bound if self.at_most else value >= self.bound
        sign = "≤" if self.at_most else "≥"
        return (
            f"{sign} {self.bound:,g}",
            f"{value:,.{self.digits}f}",
            "pass" if good else "**miss**",
        )


def of(benchmark: str) -> list[Floor]:
    """Return the floors of a benchmark."""
    ratio = {"processor": 0.50, "capture": 0.60, "sink": 0.50, "chain": 0.55, "reader": 0.50}
    floors = []
    if benchmark in ratio:
        bare = "the bare chain" if benchmark == "chain" else "the ceiling"
        floors.append(Floor(f"of {bare}", _times("ceiling"), ratio[benchmark]))
    match benchmark:
        case "processor":
            floors.append(Floor("times the plain loop with orjson", _times("plain loop, orjson"), 1.3))
            floors.append(Floor("times stock Faust", _times("stock Faust"), 40, digits=1))
        case "chain":
            rows = _median(f"ours{WITHOUT_START}", "rows_per_s")
            floors.append(Floor(f"rows/s{WITHOUT_START}", rows, 100_000, digits=0))
        case "latency":
            floors += [
                Floor(
                    f"{name}, seconds{WITHOUT_START}",
                    _median(f"ours{WITHOUT_START}", f"{name}_s"),
                    most,
                    at_most=True,
                )
                for name, most in (("p50", 1.0), ("p99", 2.5))
            ]
        case "small":
            floors.append(
                Floor(f"of one file's rows/s{WITHOUT_START}", _times(f"one file{WITHOUT_START}"), 0.3)
            )
        case "reader":
            floors.append(
                Floor("a page of 10,000 files, seconds", _median("list", "list_s"), 0.2, at_most=True)
            )
            crowd = _median("crowd", "reader_mb")
            floors.append(Floor("1,000 clients, the reader's MB", crowd, 300, at_most=True, digits=0))
        case "memory":
            floors += [
                Floor(f"{name}, times with ten times the rows", _growth(name), 1.2, at_most=True)
                for name in ("push", "processor")
            ]
            floors += [
                Floor(f"{name}, MB", _largest(name), 400, at_most=True, digits=0)
                for name in ("push", "processor", "sink")
            ]
        case "soak" | "large":
            floors += _of_up(rounds=benchmark == "soak")
    return floors


def _of_up(*, rounds: bool) -> list[Floor]:
    """Return the floors of what runs on one `up`; with `rounds`, of how they change, too."""
    floors = []
    if rounds:
        late = "last five rounds, times the time of rounds 2 to 6"
        floors.append(Floor(late, _ours("late_times"), SOAK_LATE, at_most=True))
        grown = "memory from round 4 on, grown by a share of its mean"
        floors.append(Floor(grown, _ours("memory_trend"), SOAK_TREND, at_most=True))
    return [
        *floors,
        Floor("everything in memory, MB", _most("memory_mb"), SOAK_MEMORY_MB, at_most=True, digits=0),
        Floor("broker's disk, MB", _most("broker_mb"), SOAK_BROKER_MB, at_most=True, digits=0),
        Floor("processes that had to be started again", _most("restarts"), 0, at_most=True, digits=0),
    ]


def _ours(figure: str) -> Figure:
    return lambda summary: summary["ours"].get(figure)


def _most(figure: str) -> Figure:
    """Return the most of all rounds."""
    return lambda summary: summary["ours"].get(figure, {}).get("max")


def _times(other: str) -> Figure:
    return lambda summary: summary.get(other, {}).get("ours_times")


def _median(participant: str, figure: str) -> Figure:
    return lambda summary: summary.get(participant, {}).get(figure, {}).get("median")


def _peaks(summary: Json, process: str) -> list[float]:
    """Return the peaks of the runs with this process by number of rows, fewest first."""
    entries = [entry for entry in summary.values() if f"{process}_mb" in entry]
    entries.sort(key=lambda entry: entry["rows"]["median"])
    return [entry[f"{process}_mb"]["median"] for entry in entries]


def _growth(process: str) -> Figure:
    def figure(summary: Json) -> float | None:
        peaks = _peaks(summary, process)
        return peaks[-1] / peaks[0] if peaks[0] else None

    return figure


def _largest(process: str) -> Figure:
    return lambda summary: max(_peaks(summary, process))
