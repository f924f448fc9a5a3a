"""One benchmark's figures as rows of text: for the terminal and for RESULTS.md."""

from collections.abc import Sequence
from typing import Any

from bench import floors

Json = dict[str, Any]

HEADINGS = {
    "rows_per_s": "rows/s",
    "gb": "GB",
    "push_s": "s a push",
    "verify_s": "s to verify",
    "p50_s": "p50 s",
    "p99_s": "p99 s",
    "max_s": "slowest s",
    "files_per_s": "files/s",
    "cpu_s_per_million": "CPU s per 1M rows",
    "mb_per_s": "MB/s",
    "list_s": "list s",
    "reader_mb": "reader MB",
    "push_mb": "producer MB",
    "processor_mb": "processor MB",
    "sink_mb": "sink MB",
    "memory_mb": "MB in all",
    "broker_mb": "broker's disk MB",
    "s3_mb": "S3's disk MB",
}

_DIGITS = {
    "cpu_s_per_million": 1,
    "p50_s": 2,
    "p99_s": 2,
    "max_s": 2,
    "list_s": 2,
    "gb": 2,
    "push_s": 1,
    "verify_s": 1,
}


def figures(document: Json) -> list[list[str]]:
    """Return a heading and a row per participant: medians with the spread, CPU seconds, peak memory, remarks."""
    summary: Json = document["median"]
    columns = [name for name in HEADINGS if any(name in entry for entry in summary.values())]
    versus = any("ours_times" in entry for entry in summary.values())
    heading = ["", *(HEADINGS[name] for name in columns)]
    heading += ["ours is", "CPU s", "peak MB", ""] if versus else ["CPU s", "peak MB", ""]
    rows = [heading]
    for participant, entry in summary.items():
        if "failed" in entry:
            row = [participant, *("–" for _ in heading[2:]), entry["failed"].splitlines()[0][:120]]
        else:
            row = [participant, *(_spread(entry.get(name), name) for name in columns)]
            if versus:
                row.append(f"{entry['ours_times']:.2f} ×" if "ours_times" in entry else "")
            row += [
                _of_processes(entry, "cpu_s", 1),
                _of_processes(entry, "peak_mb", 0),
                _remarks(document, entry),
            ]
        rows.append(row)
    return rows


def verdicts(document: Json) -> list[list[str]]:
    """Return a heading and a row per floor: what, bound, figure, pass or miss. Only the heading where there is none."""
    rows = [["floor", "bound", "measured", ""]]
    for floor in floors.of(document["benchmark"]):
        verdict = floor.verdict(document["median"])
        rows.append([floor.what, *(verdict or ("", "not measured", ""))])
    return rows


def by_round(document: Json) -> list[list[str]]:
    """Return a heading and a row per round of a soak: time, memory, disks; CPU seconds and peak memory of each process."""
    ours = [repetition["ours"] for repetition in document["repetitions"]]
    columns = ("push_s", "memory_mb", "broker_mb", "s3_mb")
    processes = list(ours[0]["processes"])
    rows = [
        ["round", *(HEADINGS[name] for name in columns), *(f"{name} CPU s, MB" for name in processes), ""]
    ]
    for number, one in enumerate(ours, 1):
        figures = [f"{one[name]:,.{_DIGITS.get(name, 0)}f}" for name in columns]
        each = [one["processes"][name] for name in processes]
        rows.append(
            [str(number), *figures, *(f"{used['cpu_s']:,.1f}, {used['peak_mb']:,.0f}" for used in each), ""]
        )
    return rows


def plain(rows: Sequence[Sequence[str]]) -> str:
    """Return rows as aligned text."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if number == 0 else cell.rjust(width) if number < len(row) - 1 else cell
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """Return rows as a Markdown table."""
    heading, *rest = rows
    lines = [heading, ["---", *("---:" for _ in heading[1:-1]), "---"], *rest]
    return "\n".join("| " + " | ".join(row) + " |" for row in lines)


def _spread(value: Json | None, name: str) -> str:
    if value is None:
        return ""
    digits = _DIGITS.get(name, 0)
    text = f"{value['median']:,.{digits}f}"
    if value["min"] != value["max"]:
        text += f" ({value['min']:,.{digits}f}–{value['max']:,.{digits}f})"
    return text


def _of_processes(entry: Json, key: str, digits: int) -> str:
    return ", ".join(
        f"{name} {used[key]['median']:,.{digits}f}" for name, used in entry["processes"].items()
    ).replace("peer ", "")


def _remarks(document: Json, entry: Json) -> str:
    remarks = []
    rows = entry.get("rows_given", {}).get("median")
    if rows and rows != document["rows"]:
        remarks.append(f"{rows:,.0f} rows")
    if entry.get("committed") is False:
        remarks.append("commits nothing")
    if twice := entry.get("twice", {}).get("max"):
        remarks.append(f"up to {twice:,.0f} rows twice")
    if "events_rows_per_s" in entry:
        remarks.append(f"while rows are sent {entry['events_rows_per_s']['median']:,.0f} rows/s")
    return "; ".join(remarks)
