"""What has to be reached, and whether it is: the floors are written here once, for the tables."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]
Figure = Callable[[Json], float | None]


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
            floors.append(Floor("rows/s", _median("ours", "rows_per_s"), 100_000, digits=0))
        case "latency":
            floors.append(Floor("p50, seconds", _median("ours", "p50_s"), 1.0, at_most=True))
            floors.append(Floor("p99, seconds", _median("ours", "p99_s"), 2.5, at_most=True))
        case "small":
            floors.append(Floor("of one file's rows/s", _times("one file"), 0.3))
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
    return floors


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
