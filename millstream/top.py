"""What runs, as a table in the terminal or as JSON: what `millstream top` and `status NAME` show."""

from datetime import UTC, datetime
from typing import Any

from rich.console import Group
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from millstream.watching import Running
from pipeline.figures import Figures
from pipeline.printable import flat
from pipeline.states import State

_STAGES = (("capture", "captured"), ("compute", "computed"), ("store", "stored"))


def as_json(running: Running) -> dict[str, Any]:
    """Return what runs for scripts; figures that nobody knows are null."""
    return {
        "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "open_jobs": running.open,
        "jobs": [
            {
                "name": state.name,
                "file_id": state.file_id,
                "state": state.state,
                "rows_total": found.total,
                "rows_captured": found.captured,
                "rows_computed": found.computed,
                "rows_stored": found.stored,
                "rows_rejected": found.rejected,
                "rows_per_second": {stage: round(found.rates.get(stage, 0.0), 1) for stage, _ in _STAGES},
                "eta_seconds": found.eta,
                "age_seconds": found.age,
                "waits_for": found.waits_for,
            }
            for state, found in running.files
        ],
        "processes": [
            {
                "stage": process.stage,
                "instance": process.instance,
                "partitions": process.said.partitions,
                "lag": {str(number): lag for number, lag in sorted(process.said.lag.items())},
                "rows": process.said.rows,
                "rows_per_second": round(process.rate, 1),
                "waits": process.said.waits,
            }
            for process in running.processes
        ],
        "errors": running.errors,
    }


def as_tables(running: Running) -> Group:
    """Return what runs for people."""
    head = Text.assemble(
        ("Millstream ", "bold"),
        f"{datetime.now().strftime('%H:%M:%S')}  ",
        _counted(running.open, "open job"),
        ", ",
        _counted(len(running.processes), "process", "processes"),
        "\n",
    )
    parts: list[Any] = [head, _jobs(running), Text(), _processes(running)]
    if running.errors:
        parts += [
            Text("\nWhat is in the way", "bold"),
            *(Text(f"  {flat(error)}", "red") for error in running.errors),
        ]
    return Group(*parts)


def bars(found: Figures) -> Table:
    """Return a file's stages as bars, each with its rows and rate."""
    table = Table.grid(padding=(0, 2))
    of = found.total if found.total is not None else found.expected
    for stage, title in _STAGES:
        done = {"capture": found.captured, "compute": found.computed, "store": found.stored}[stage]
        rate = found.rates.get(stage, 0.0)
        total = "" if of is None else f" of {'about ' if found.total is None else ''}{of:,}"
        table.add_row(
            Text(title, "dim"),
            _bar(found.part(stage), 30),
            Text(f"{done:,}{total} rows" if done is not None else "not known"),
            Text(f"{rate:,.0f} rows/s" if rate else "", "dim"),
        )
    return table


def _jobs(running: Running) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim", expand=False)
    for title in ("file", "state", "progress"):
        table.add_column(title, no_wrap=True)
    for title in ("rows", "captured/s", "computed/s", "stored/s", "rejected", "age", "left"):
        table.add_column(title, justify="right", no_wrap=True)
    if not running.files:
        table.add_row(Text("nothing runs: push a file, or drop one on the page", "dim"))
    for state, found in running.files:
        rows = found.total if found.total is not None else found.captured
        table.add_row(
            Text(_short(state.name, 36), "bold"),
            Text(state.state, "yellow" if found.waits_for else "cyan"),
            _bar(found.overall, 16),
            _number(rows),
            *(_number(found.rates.get(stage) or None) for stage, _ in _STAGES),
            Text(_number(found.rejected), "red" if found.rejected else ""),
            _time(found.age),
            _time(found.eta),
        )
        if found.waits_for:
            table.add_row(Text(f"  {flat(found.waits_for)}", "yellow"))
    return table


def _processes(running: Running) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for title in ("process", "where"):
        table.add_column(title, no_wrap=True)
    for title in ("rows/s", "rows", "lag"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("lag by partition")
    if not running.processes:
        table.add_row(Text("no process tells of itself", "dim"))
    for process in running.processes:
        said = process.said
        lags = "  ".join(f"{number}:{said.lag.get(number, 0):,}" for number in said.partitions)
        table.add_row(
            Text(flat(process.stage), "yellow" if said.waits else "green"),
            Text(_short(process.instance, 36)),
            _number(process.rate or None),
            _number(said.rows),
            _number(process.lag) if said.partitions else "",
            Text(lags, "dim"),
        )
    return table


def _bar(part: float | None, width: int) -> ProgressBar:
    return ProgressBar(1.0, part or 0.0, width=width, complete_style="cyan", finished_style="green")


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}"


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _short(text: str, width: int) -> str:
    """Return a name as one line, its end kept where it is too long."""
    line = flat(text)
    return line if len(line) <= width else "…" + line[1 - width :]


def _counted(number: int, noun: str, nouns: str | None = None) -> str:
    return f"{number:,} {noun if number == 1 else nouns or noun + 's'}"


def left(state: State, found: Figures) -> str:
    """Return what is to be said below the bars: how long it will take, or what it waits for."""
    said = []
    if found.rejected:
        said.append(f"{_counted(found.rejected, 'row')} rejected so far")
    if found.eta is not None and state.pending:
        said.append(f"{_time(found.eta)} left")
    if found.waits_for:
        said.append(f"it waits: {flat(found.waits_for)}")
    return "; ".join(said)
