"""What goes wrong in one run, as data: drawn from a seed, printable, and the same again from the same seed."""

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Literal

from tests.services.s3_faults import KINDS, Fault

BrokerKind = Literal["up", "cluster"]
"""One node, as `up` has it, or three, of which any two carry on."""


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that comes `at` so many seconds: `rows` data rows, their content from `seed`; by `push`, HTTP or straight to S3.

    Rows are rejected where their price is no number (one in `bad`), and malformed where a field is missing (one in `torn`).
    """

    name: str
    seed: int
    rows: int
    bad: int
    torn: int
    at: float
    via: Literal["push", "http", "s3"]


@dataclass(frozen=True, slots=True)
class Kill:
    """kill -9 of a process at a moment; it is started again after `back` seconds."""

    target: str
    at: float
    back: float


@dataclass(frozen=True, slots=True)
class Crash:
    """kill -9 of whoever makes the `count`-th S3 call that matches, before or after its effect.

    `step` says in words where that is.
    """

    step: str
    pattern: str
    when: Literal["before", "after"]
    count: int
    back: float


@dataclass(frozen=True, slots=True)
class Point:
    """A process ends, or is stopped for `seconds`, at a named point of its own code (pipeline/crash.py)."""

    target: str
    point: str
    count: int
    how: Literal["kill", "stop"]
    seconds: float


@dataclass(frozen=True, slots=True)
class Freeze:
    """SIGSTOP, longer than the session timeout, then SIGCONT."""

    target: str
    at: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Join:
    """A further worker or sink comes, and leaves as it is told to (SIGTERM) after `seconds`; never where that is 0."""

    target: str
    at: float
    seconds: float


@dataclass(frozen=True, slots=True)
class BrokerDies:
    """The one broker is killed, and started again after so many seconds, with its data or `wiped`."""

    at: float
    seconds: float
    wiped: bool = False


@dataclass(frozen=True, slots=True)
class NodeDies:
    """One of three nodes is killed, and started again after so many seconds; 0: once the run is over."""

    at: float
    seconds: float


@dataclass(frozen=True, slots=True)
class TopicAnew:
    """Both topics are deleted and made anew."""

    at: float


@dataclass(frozen=True, slots=True)
class Again:
    """What lies on a topic is sent again, blocks in another order."""

    topic: Literal["rows", "results"]
    at: float


@dataclass(frozen=True, slots=True)
class S3Fails:
    """The S3 server fails from `at` on for so many seconds, for all stages."""

    fault: Fault
    at: float
    seconds: float


@dataclass(frozen=True, slots=True)
class DiskFull:
    """The S3 server's disk takes no byte more for so many seconds."""

    at: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Skew:
    """A process believes that it is so many hours later."""

    target: str
    hours: float


Event = (
    Kill
    | Crash
    | Point
    | Freeze
    | Join
    | BrokerDies
    | NodeDies
    | TopicAnew
    | Again
    | S3Fails
    | DiskFull
    | Skew
)


@dataclass(frozen=True, slots=True)
class Plan:
    """One run: what is uploaded, which stages there are, what goes wrong."""

    seed: int
    broker: BrokerKind
    block: int
    uploads: tuple[Upload, ...]
    stages: tuple[str, ...]
    events: tuple[Event, ...]
    settings: dict[str, str] = field(default_factory=dict)

    def describe(self) -> str:
        """Return the plan as lines."""
        lines = [f"seed {self.seed} on {self.broker}: {' '.join(self.stages)}, blocks of {self.block}"]
        lines += [f"  {item}" for item in (*self.uploads, *self.events)]
        return "\n".join(lines)


_PUT = r"^PUT /results-[^/]*/_millstream/"
STEPS: dict[str, str] = {
    "taking on: job.json": _PUT + r"jobs/[^/]*/job\.json",
    "taking on: the open mark": _PUT + "open/",
    "taking on: the name's record": _PUT + "names/",
    "taking on: the claim": _PUT + r"jobs/[^/]*/claim\.json",
    "captured.json": _PUT + r"jobs/[^/]*/captured\.json",
    "publishing: the output": _PUT + r"jobs/[^/]*/out-",
    "publishing: the rejects": _PUT + r"jobs/[^/]*/rejects-",
    "publishing: end.json": _PUT + r"jobs/[^/]*/end\.json",
    "publishing: the receipt": _PUT + "receipts/",
    "publishing: the copy is begun": r"^POST /results-[^/]*/[^_][^?]*\?uploads",
    "publishing: the copy's part": r"^PUT /results-[^/]*/[^_][^?]*\?.*partNumber",
    "publishing: the copy is completed": r"^POST /results-[^/]*/[^_][^?]*\?uploadId",
    "publishing: something is cleared away": r"^DELETE /results-[^/]*/_millstream/jobs/",
    "publishing: the open mark goes": r"^DELETE /results-[^/]*/_millstream/open/",
}
"""The steps of a job that are an S3 call, and what the call looks like."""


_SEEDED: dict[BrokerKind, str] = {"up": "up", "cluster": "kafka"}
"""What a seed is drawn with: the cluster's plans are those that were once drawn for any Apache Kafka."""


def draw(seed: int, broker: BrokerKind) -> Plan:
    """Return the plan of a seed."""
    random = Random(f"{seed} {_SEEDED[broker]}")
    uploads = _uploads(random)
    stages = ["watch", "process", "sink"]
    stages += ["serve"] if random.random() < 0.3 or any(upload.via == "http" for upload in uploads) else []
    stages += ["process-2"] if random.random() < 0.3 else []
    stages += ["sink-2"] if random.random() < 0.3 else []
    last = max(upload.at for upload in uploads)
    events: list[Event] = []
    kinds = [kind for kind, brokers, _ in _DRAWN if broker in brokers]
    weights = [weight for _, brokers, weight in _DRAWN if broker in brokers]
    for kind in random.choices(kinds, weights, k=random.choice((1, 1, 2, 2, 3))):
        event = kind(random, stages, last)
        if not any(_excludes(event, other) for other in events):
            events.append(event)
    block = random.choice((256, 512, 1000, 4096))
    return Plan(seed, broker, block, tuple(uploads), tuple(stages), tuple(events))


def _uploads(random: Random) -> list[Upload]:
    count = random.choice((1, 1, 1, 2, 3))
    uploads: list[Upload] = []
    for number in range(count):
        # Now and then a newer upload of the same name comes in mid-job.
        newer = bool(uploads) and random.random() < 0.5
        uploads.append(
            Upload(
                name=uploads[-1].name if newer else f"orders-{number}.csv",
                seed=random.randrange(1 << 30),
                rows=random.choice((0, 1, 300, 3000, 10_000, 20_000, 40_000)),
                bad=random.choice((0, 0, 7, 100)),
                torn=random.choice((0, 0, 0, 50)),
                at=round(random.uniform(0, 1.5) + (uploads[-1].at if newer else 0), 2),
                via=random.choice(("push", "push", "s3", "s3", "http")),
            )
        )
    return sorted(uploads, key=lambda upload: upload.at)


def _moment(random: Random, last: float) -> float:
    return round(random.uniform(0, last + 2), 2)


def _kill(random: Random, stages: list[str], last: float) -> Event:
    target = random.choice([*stages, "push"])
    return Kill(target, _moment(random, last), round(random.uniform(0, 3), 2))


def _crash(random: Random, _: list[str], last: float) -> Event:
    step = random.choice(list(STEPS))
    count = random.choice((1, 1, 1, 2))
    return Crash(step, STEPS[step], random.choice(("before", "after")), count, round(random.uniform(0, 2), 2))


def _point(random: Random, stages: list[str], last: float) -> Event:
    target, point = random.choice(POINTS)
    hows: tuple[Literal["kill", "stop"], ...] = ("kill", "kill", "stop")
    how = random.choice(hows)
    return Point(target, point, random.choice((1, 1, 2, 3)), how, round(random.uniform(7, 10), 1))


def _freeze(random: Random, stages: list[str], last: float) -> Event:
    target = random.choice([stage for stage in stages if stage != "serve"])
    return Freeze(target, _moment(random, last), round(random.uniform(7, 10), 1))


def _join(random: Random, _: list[str], last: float) -> Event:
    target = random.choice(("process-3", "process-4", "sink-3", "watch-2"))
    return Join(target, _moment(random, last), random.choice((0, 1, 3, 5)))


def _broker(random: Random, _: list[str], last: float) -> Event:
    return BrokerDies(_moment(random, last), round(random.uniform(0, 5), 1))


def _wiped(random: Random, _: list[str], last: float) -> Event:
    return BrokerDies(_moment(random, last), round(random.uniform(0, 5), 1), wiped=True)


def _node(random: Random, _: list[str], last: float) -> Event:
    """Half of them stay away; the others come back before or after their leaders have moved, which takes nine seconds."""
    at, drawn = _moment(random, last), random.random()
    return NodeDies(at, 0 if drawn > 0.5 else round(1 + 28 * drawn, 1))


def _topic(random: Random, _: list[str], last: float) -> Event:
    return TopicAnew(_moment(random, last))


def _again(random: Random, _: list[str], last: float) -> Event:
    return Again(random.choice(("rows", "results")), round(_moment(random, last) + 0.5, 2))


def _s3(random: Random, _: list[str], last: float) -> Event:
    kind = random.choice(KINDS)
    rate = {"twice": 1.0, "refuse": 1.0, "slow": 0.5}.get(kind, random.choice((0.05, 0.2, 0.5)))
    return S3Fails(Fault(kind, rate), _moment(random, last), random.choice((3.0, 10.0)))


def _disk(random: Random, _: list[str], last: float) -> Event:
    return DiskFull(_moment(random, last), round(random.uniform(2, 8), 1))


def _skew(random: Random, stages: list[str], _: float) -> Event:
    return Skew(random.choice(stages), random.choice((-1.0, 1.0)))


_BOTH = ("up", "cluster")
_Draw = Callable[[Random, list[str], float], Event]
_DRAWN: tuple[tuple[_Draw, tuple[str, ...], float], ...] = (
    (_kill, _BOTH, 5),
    (_crash, _BOTH, 6),
    (_point, _BOTH, 3),
    (_freeze, _BOTH, 2),
    (_join, _BOTH, 2),
    (_broker, ("up",), 1.5),
    (_wiped, ("up",), 1.5),
    (_node, ("cluster",), 1.8),
    (_topic, _BOTH, 1),
    (_again, _BOTH, 1.5),
    (_s3, _BOTH, 5),
    (_disk, _BOTH, 0.7),
    (_skew, _BOTH, 1.5),
)


POINTS: tuple[tuple[str, str], ...] = (
    ("watch", "capture.sent"),
    ("watch", "capture.acknowledged"),
    ("watch", "capture.ends_sent"),
    ("process", "process.sent"),
    ("process", "process.delivered"),
    ("process", "process.committed"),
    ("sink", "sink.published"),
    ("sink", "sink.committing"),
    ("sink", "sink.committed"),
)
"""Points in the stages' own code where Kafka, not S3, is what is between: whose they are, and their names."""


def _excludes(event: Event, other: Event) -> bool:
    """Whether two events don't go together: a skewed clock and a point are ways to start one process."""
    return isinstance(event, Skew | Point | BrokerDies | NodeDies | TopicAnew) and type(event) is type(other)
