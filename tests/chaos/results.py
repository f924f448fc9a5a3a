"""Every run as a line of JSON, and the table that is made of all of them."""

import json
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.plan import (
    Again,
    BrokerDies,
    Crash,
    DiskFull,
    Event,
    Freeze,
    Join,
    Kill,
    NodeDies,
    Plan,
    Point,
    S3Fails,
    Skew,
    TopicAnew,
)
from tests.chaos.run import Outcome

HERE = Path(__file__).parent
RUNS = HERE / "runs.jsonl"
TABLE = HERE / "RESULTS.md"


def label(event: Event) -> str:
    """Return what a fault is called in the table."""
    match event:
        case Kill(target):
            return f"kill -9: {_kind(target)}"
        case Crash(step, _, when):
            return f"kill -9 {when} {step}"
        case Point(_, point, _, how):
            return f"{'kill -9' if how == 'kill' else 'SIGSTOP'} at {point}"
        case Freeze(target):
            return f"SIGSTOP past the session: {_kind(target)}"
        case Join(target, _, seconds):
            return f"a further {_kind(target)} comes" + (" and leaves" if seconds else "")
        case BrokerDies(_, _, wiped):
            return f"the broker is killed and comes back{' without its data' if wiped else ''}"
        case NodeDies(_, seconds):
            return "one of three brokers dies" + (" and comes back" if seconds else "")
        case TopicAnew():
            return "topics deleted and made anew"
        case Again(topic):
            return f"{topic} sent again, in another order"
        case S3Fails(fault):
            return f"S3: {fault.kind}"
        case DiskFull():
            return "S3: the disk is full"
        case Skew(_, hours):
            return f"a clock is an hour {'ahead' if hours > 0 else 'behind'}"


def _kind(target: str) -> str:
    return target.partition("-")[0]


def labels(plan: Plan) -> list[str]:
    """Return what goes wrong in a run, in the table's words."""
    found = [label(event) for event in plan.events]
    if len({upload.name for upload in plan.uploads}) < len(plan.uploads):
        found.append("a newer upload in mid-job")
    if len(plan.uploads) > 1:
        found.append("several files at once")
    return found


def record(plan: Plan, outcome: Outcome) -> None:
    """Add a run."""
    line = {
        "broker": plan.broker,
        "seed": plan.seed,
        "commit": _commit(),
        "faults": labels(plan),
        "right": not outcome.wrong,
        "lost": outcome.lost,
        "doubled": outcome.doubled,
        "seconds": outcome.seconds,
        "recovery": outcome.recovery,
    }
    with RUNS.open("a") as file:
        file.write(json.dumps(line) + "\n")


@dataclass(slots=True)
class _Row:
    runs: int = 0
    wrong: int = 0
    lost: int = 0
    doubled: int = 0
    slowest: float = 0.0

    def add(self, line: dict[str, object]) -> None:
        self.runs += 1
        self.wrong += not line["right"]
        self.lost += int(str(line["lost"]))
        self.doubled += int(str(line["doubled"]))
        self.slowest = max(self.slowest, float(str(line["recovery"])))

    def cells(self) -> str:
        return f"{self.runs} | {self.wrong} | {self.lost} | {self.doubled} | {self.slowest:.1f} s"


def write_table() -> None:
    """Write RESULTS.md from all runs; where a seed was run several times on a broker, from the last."""
    lines = [json.loads(text) for text in RUNS.read_text().splitlines()]
    last = {(line["broker"], line["seed"]): line for line in lines}
    text = [_HEAD]
    for broker, title in (("up", "The broker of `up`"), ("cluster", "A cluster of three")):
        chosen = [line for (name, _), line in last.items() if name == broker]
        if chosen:
            earlier = [line for line in lines if line["broker"] == broker and not line["right"]]
            text += [f"\n## {title}: {len(chosen)} runs\n", *_table(chosen), _mended(earlier, last)]
    text += [] if lines else ["\nNo runs yet."]
    TABLE.write_text("\n".join(text) + "\n")


_HEAD = """# What the chaos suite found

Written by `python -m tests.chaos --record` (`make chaos`) from `runs.jsonl`. A run starts the stages as processes, uploads one
to three files, has one to three things go wrong, and compares: the output with DuckDB's own on the file, byte for byte; the
receipt's counts; nothing left under `parts/` and `open/`, no multipart upload left open, both groups' offsets at the end.
A run counts in the row of each fault that it had. *Slowest*: from the last thing that went wrong (or restart of a process)
until all of this was so; a dead capturer's claim goes stale after 30 s, so that is the least where capture died."""


def _table(lines: Iterable[dict[str, object]]) -> Iterable[str]:
    rows: dict[str, _Row] = {}
    total = _Row()
    commits = set()
    for line in lines:
        total.add(line)
        commits.add(str(line["commit"]))
        faults = line["faults"]
        assert isinstance(faults, list)
        for fault in set(faults):
            rows.setdefault(fault, _Row()).add(line)
    yield f"At {', '.join(sorted(commits))}.\n"
    yield "| fault | runs | wrong | rows lost | rows doubled | slowest |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for fault in sorted(rows):
        yield f"| {fault} | {rows[fault].cells()} |"
    yield f"| **all** | {total.cells()} |"


def _mended(wrong: list[dict[str, object]], last: dict[tuple[str, int], dict[str, object]]) -> str:
    """Say which seeds went wrong before they went right."""
    seeds = sorted(
        {
            int(str(line["seed"]))
            for line in wrong
            if last[str(line["broker"]), int(str(line["seed"]))]["right"]
        }
    )
    lost = sum(int(str(line["lost"])) for line in wrong)
    return (
        "\nSeeds that went wrong before, and were run again once what they showed was mended, here or in the product: "
        f"{', '.join(map(str, seeds)) or 'none'}; rows of outputs that were not there when their time was up: {lost:,}."
    )


def _commit() -> str:
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=HERE, capture_output=True, text=True
    )
    return done.stdout.strip() or "unknown"
