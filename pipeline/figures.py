"""A file's figures: where it is by S3, and how fast by what the stages tell, for `status`, `top`, `/jobs` and the page."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from pipeline.picture import InstancePicture, JobPicture
from pipeline.states import State

PATIENT = 10.0
"""Seconds that nothing need happen before somebody is told what is waited for."""

_NEEDED = {"capture": ("watch", "push"), "compute": ("process",), "store": ("sink",)}
_CALLED = {"capture": "capture", "compute": "worker", "store": "sink"}


@dataclass(frozen=True, slots=True)
class Figures:
    """Rows by stage, None where nobody knows; `captured` >= `computed` >= `stored`, as far as they are rows of the job.

    `total`: rows of the file, None until all are captured; `expected` is an estimate of it until then. `rates`: rows/s by stage
    (capture, compute, store) now. `eta` and `age`: seconds until the result, and since the upload or the job. `waits_for`: what
    has to happen before it goes on; None while it moves.
    """

    total: int | None = None
    expected: int | None = None
    captured: int | None = None
    computed: int | None = None
    stored: int | None = None
    rejected: int | None = None
    rates: dict[str, float] = field(default_factory=dict)
    eta: float | None = None
    age: float | None = None
    waits_for: str | None = None

    def part(self, stage: str) -> float | None:
        """Return how much of a stage is done, 0 to 1, None where that isn't known."""
        done = {"capture": self.captured, "compute": self.computed, "store": self.stored}[stage]
        of = self.total if self.total is not None else self.expected
        if done is None or of is None:
            return None
        return min(1.0, done / of) if of else 1.0

    @property
    def overall(self) -> float | None:
        """Return how far the file is on its whole way, 0 to 1: each stage is a third of it."""
        parts = [self.part(stage) for stage in ("capture", "compute", "store")]
        return None if parts[0] is None else sum(part or 0.0 for part in parts) / 3


def figures(
    state: State, picture: JobPicture | None, processes: Sequence[InstancePicture], now: datetime
) -> Figures:
    """Return the figures of a file; `picture` is of its newest job, `processes` are all that are there."""
    since = state.job.created if state.job else state.upload.last_modified if state.upload else None
    age = max(0.0, (now - since).total_seconds()) if since is not None else None
    if state.state == "published" and state.served is not None:
        rows = state.served.rows
        return Figures(rows, rows, rows, rows, rows, state.served.rejected, age=age)
    if picture is None:
        found = Figures(
            captured=state.rows_captured, age=age, total=state.captured.rows if state.captured else None
        )
    else:
        found = told(picture, state.rows_captured, state.captured.rows if state.captured else None, age)
    if not state.pending:
        return _with(found, rates={}, eta=None)
    return _with(found, waits_for=waits_for(state.name, state.state, found, picture, processes, now))


def told(
    picture: JobPicture, captured: int | None = None, total: int | None = None, age: float | None = None
) -> Figures:
    """Return the figures that the stages tell of a job, and of `captured` and `total` rows that S3 knows of."""
    total = total if total is not None else picture.total
    rows = picture.rows
    stored = rows.get("store")
    computed = _most(rows.get("compute"), stored)
    done = total if total is not None else _most(rows.get("capture"), captured, computed)
    expected = total
    if expected is None and done and picture.share:
        expected = max(done, round(rows.get("capture", done) / picture.share))
    found = Figures(
        total=total,
        expected=expected,
        captured=done,
        computed=computed,
        stored=stored,
        rejected=picture.rejected,
        rates=picture.rates,
        age=age,
    )
    return _with(found, eta=_eta(found))


def _eta(found: Figures) -> float | None:
    """Return the time of the stage that takes longest, at its present rate."""
    if found.expected is None:
        return None
    left = {"capture": found.captured, "compute": found.computed, "store": found.stored}
    times = []
    for stage, done in left.items():
        rest = found.expected - (done or 0)
        if rest > 0:
            rate = found.rates.get(stage, 0.0)
            if rate <= 0:
                return None
            times.append(rest / rate)
    return max(times, default=0.0)


def waits_for(
    name: str,
    state: str,
    found: Figures,
    picture: JobPicture | None,
    processes: Sequence[InstancePicture],
    now: datetime,
) -> str | None:
    """Return what stands in the way of a file that isn't done: of its first stage that isn't, whoever does it."""
    if state in ("uploaded", "capturing"):
        stage = "capture"
    elif found.total is not None and (found.computed or 0) < found.total:
        stage = "compute"
    elif found.total is not None and (found.stored or 0) < found.total:
        stage = "store"
    else:
        return None
    if found.rates.get(stage):
        return None
    quiet = now.timestamp() - picture.at if picture is not None else found.age or 0.0
    there = [process for process in processes if process.stage in _NEEDED[stage]]
    for process in there:
        if waits := process.said.waits:
            own = (why for why in waits if why.startswith(f"{name}: "))
            return f"{process.stage} {process.instance}: {next(own, waits[0])}"
    if processes and not there:
        command = _NEEDED[stage][0]
        return f"no {_CALLED[stage]} is running: start one with  millstream {command}"
    if quiet < PATIENT:
        return None
    if stage == "capture":
        return f"nothing captured for {quiet:.0f} s"
    return f"nothing heard of its {_CALLED[stage]} for {quiet:.0f} s"


def _most(*numbers: int | None) -> int | None:
    known = [number for number in numbers if number is not None]
    return max(known) if known else None


def _with(found: Figures, **changes: object) -> Figures:
    return replace(found, **changes)  # type: ignore[arg-type]
