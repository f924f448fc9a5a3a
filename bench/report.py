"""RESULTS.md and the chart, from the JSON of measurements and nothing else."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench import chart, soak_chart, table

Json = dict[str, Any]

ORDER = (
    *("processor", "capture", "sink", "chain", "latency", "small", "reader", "memory", "scaling"),
    *("soak", "large"),
)
SOAK_CHART = "soak.svg"

WHAT = {
    "processor": "Rows on their topic to all results on theirs, offsets committed; one process.",
    "capture": "CSV on disk to row events acknowledged, ends included, the upload to S3 too; one process.",
    "sink": "Results on their topic to one CSV on S3, deduplicated, in order, with its receipt; one process.",
    "chain": "CSV on disk to CSV on S3 with its receipt: producer, processor and sink at once, in three processes. "
    "*Ours* is the command `millstream push FILE --wait`; the ceiling, whose clients start before its clock does, is compared "
    "with the figure without the command's start.",
    "latency": "A file of 1,000 rows, from `push` to the answer 200 with its CSV; 50 files, one after the other. *Ours* is the "
    "command `millstream push FILE` and then the GET.",
    "small": "Files of 100 rows, from disk to published, against one file with all of their rows. *Ours* is one command "
    "`millstream push FILE… --wait`, *one file* too; *by watch* starts its clock when `watch` runs, and is compared with the "
    "figure without the command's start.",
    "reader": "A result of 100 MB through the reader, beside the S3 server's own answer for the same object; 1,000 clients at "
    "a time, 50 of them slow, each comparing every byte; a page of the list of 10,000 files that was asked for before.",
    "memory": "Peak of each stage, with a file of N and of ten times N rows; of the sink also with 200 files at once.",
    "scaling": "The processor with 1, 2 and 4 workers; broker and workers share the cores.",
    "soak": "Files pushed one after the other on one `millstream up`, each with other rows: the command `millstream push FILE "
    "--wait`, from before its start to its end. Memory is the sum of what is resident of `up` and all that it started (shared "
    "pages count once for each process), disk what is allocated, both at their peak in a round. S3's disk grows by design: "
    "what was pushed and what became of it is kept until somebody deletes it.",
    "large": "One large CSV by `millstream push FILE --wait` on a fresh `millstream up`; checked by its receipt's counts and "
    "by `millstream verify`. Memory and disk as in the soak.",
}

NOT_RUN = {
    "processor": "Not run here: Redpanda Connect (no Python package installs it).",
    "capture": "Peers: none that can be installed here captures files. Not run here: Redpanda Connect.",
    "sink": "Peers: none writes one object per file, in order and without duplicates. Not run here: Redpanda Connect.",
    "chain": "Not run here: Redpanda Connect.",
}


def write(files: Sequence[Path], output: Path, chart_file: Path) -> None:
    """Read measurements, each file one document or a list; of two of one benchmark the later counts."""
    documents: dict[str, Json] = {}
    for file in files:
        found = json.loads(file.read_text())
        for document in found if isinstance(found, list) else [found]:
            key = document["benchmark"]
            if key not in documents or documents[key]["date"] <= document["date"]:
                documents[key] = document
    ordered = sorted(documents.values(), key=lambda found: ORDER.index(found["benchmark"]))
    output.write_text(_page(ordered, chart_file.name))
    chart_file.write_text(chart.draw(ordered))
    for document in ordered:
        if document["benchmark"] == "soak":
            chart_file.with_name(SOAK_CHART).write_text(soak_chart.draw(document))


def _page(documents: Sequence[Json], chart_name: str) -> str:
    parts = [_INTRODUCTION.format(chart=chart_name)]
    for name in ORDER:
        mine = [document for document in documents if document["benchmark"] == name]
        if mine:
            parts.append(f"## {name}\n\n{WHAT[name]}")
            parts += [_section(document) for document in mine]
            if name in NOT_RUN:
                parts.append(NOT_RUN[name])
    parts.append(_surroundings(documents))
    return "\n\n".join(parts) + "\n"


def _section(document: Json) -> str:
    times = len(document["repetitions"])
    soak = document["benchmark"] == "soak"
    text = (
        f"{document['rows']:,} rows, "
        f"{times} {'round' if soak else 'repetition'}{'s' if times > 1 else ''}, {document['date'][:10]}, "
        f"load before {document['machine']['load_before']}\n\n" + table.markdown(table.figures(document))
    )
    if len(verdicts := table.verdicts(document)) > 1:
        text += "\n\n" + table.markdown(verdicts)
    if soak:
        text += f"\n\n![each round's time, memory and broker's disk]({SOAK_CHART})"
        text += "\n\n" + table.markdown(table.by_round(document))
    return text


def _surroundings(documents: Sequence[Json]) -> str:
    """Tell machine, versions and commands, each thing once."""
    machines = [
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gb']} GB, {machine['kernel']}"
        for machine in (document["machine"] for document in documents)
    ]
    libraries = [
        ", ".join(f"{name} {value}" for name, value in document["versions"].items() if name not in _APART)
        for document in documents
    ]
    lines = ["## Machine, versions, commands", ""]
    for what, found in (
        ("Machine", machines),
        ("Millstream", [document["versions"]["millstream"] for document in documents]),
        ("Broker", [document["versions"]["broker"] for document in documents]),
        ("Libraries", libraries),
        ("Peers' environments", [document["versions"]["peers"] for document in documents]),
    ):
        lines += [f"- {what}: {'; '.join(dict.fromkeys(found))}"]
    commands = dict.fromkeys(document["command"] for document in documents)
    return "\n".join([*lines, "", "```", *commands, "```"])


_APART = {"millstream", "broker", "peers"}

_INTRODUCTION = """# Measurements

Written by `python -m bench report` from the JSON of measurements; nothing in here is written by hand.

![rows per second: ours, the ceiling and peers]({chart})

- *Ceiling*: the Kafka client with no work between, same broker, same client settings, in the same run; for the chain all three
  clients at once.
- Participants take turns (ours, ceiling, peers, ours, …). Figures are medians, with the least and the most in parentheses.
- Every row of what was produced was compared with what DuckDB computes from the same CSV; a run with a wrong or missing row
  gives no figure.
- The clock of a command (*ours* in `chain`, `latency`, `small`; `soak`, `large`) is its user's: it starts before the command
  does, so that its start and imports are in the figure. *Without the command's start* it starts within the process, when all
  is imported; so do the clocks of `capture` and of every ceiling and peer, and ours are compared with theirs by that clock.
  Services (processor, sink, reader, broker) run and have joined their groups before any clock starts. For `processor` the
  clock is the broker's: how far the results topic is, asked from outside, the same for ours, the ceiling and peers. CPU
  seconds are those within the measured time (of peers that end by themselves: of their work); the peak is of the process's
  whole life.
- Rows: order_id, customer, quantity, price, discount, ts; about 52 bytes as CSV, 121 as JSON. Calculation:
  `total = quantity * price` (DECIMAL), `net = quantity * price * (1 - discount)` (DOUBLE).
- Peers calculate in binary floating point, faster for them, and are compared to nine digits; ours is exact to the last.
  Slow peers get fewer rows, as the tables say. The last commit comes after the measured time; that all offsets were committed
  is checked for ours, and told of the others.
- The ceiling's messages are made before its clock starts.
- Processes run without pandas, as `pip install` leaves them: a test's data brings it, and pyarrow imports it wherever it is.
- "ours is" says how many times a participant's rows/s ours are.

To reproduce: `make bench` for a moderate set, or the commands at the end of this page. Take the ratios,
not the absolute numbers."""
