"""Looking after the jobs that somebody left half done: every so often, every open mark and every part is looked at.

Multipart uploads are listed first, then parts, then marks. A job's mark is there before and after all of its writing, so what
was seen of a job without a mark is left over.

A mark that wasn't there at the look before is of a job that has just been taken on: it is passed over once, as most of them are
gone by the next look, and each costs three calls. Not at the first look, and not where something is to be done or judged: there
are parts of it, lost rows, or multipart uploads that may be its own.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from collections.abc import Collection as Keys
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

import structlog

from pipeline import layout, missing, records
from pipeline.errors import MillstreamError, Transient
from pipeline.jobs import Captured, End, Job
from pipeline.names import OURS
from pipeline.pace import rest
from pipeline.store import ObjectStore, Unfinished
from sink.inventory import Inventory, seen_of
from sink.parts import Part
from sink.publish import Publisher
from sink.repair import Doubt, repair

log = structlog.get_logger("sink")

EVERY = 5.0
"""Seconds between two looks."""

FAILURES = 3
"""Jobs that S3 may fail with until a look is given up."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is known before a look, and what is to be found out.

    `busy` jobs are left alone; of `held` ones it is wanted whether they ended elsewhere, of `waiting` ones the account;
    `doubts` are shares that seem to have lost rows.
    """

    busy: Keys[str] = frozenset()
    held: Keys[str] = frozenset()
    waiting: Keys[str] = frozenset()
    doubts: tuple[Doubt, ...] = ()


@dataclass(slots=True)
class Found:
    """What a look has found.

    `ended` are jobs that have ended; `captured` accounts that were asked for; `parts` those of open jobs; `ready` open jobs
    whose rows are all in parts; `repaired` those of which rows were asked for again.
    """

    ended: list[str] = field(default_factory=list)
    captured: dict[str, Captured] = field(default_factory=dict)
    parts: dict[str, list[Part]] = field(default_factory=dict)
    ready: list[tuple[Job, Captured]] = field(default_factory=list)
    repaired: set[str] = field(default_factory=set)


class Sweeper:
    """Looks on a thread of its own."""

    def __init__(self, results: ObjectStore, publisher: Publisher, inventory: Inventory) -> None:
        """`results` is the bucket."""
        self._store = results
        self._publisher = publisher
        self._inventory = inventory
        self._pool = ThreadPoolExecutor(1, "sweep")
        self._running: Future[Found] | None = None
        self._jobs: dict[str, Job] = {}
        self._accounts: dict[str, Captured] = {}
        self._marked: Keys[str] | None = None
        self._unreadable: set[str] = set()
        self._failing: set[str] = set()
        self._failed: set[str] = set()
        self._given_up = False
        self._due = 0.0
        self._least = 0.0

    def hurry(self) -> None:
        """Look at the next opportunity, unless looks take long."""
        self._due = self._least

    def start_if_due(self, wanted: Callable[[], Wanted]) -> None:
        """Begin a look if it is time."""
        if self._running is None and time.monotonic() >= self._due:
            self._due = time.monotonic() + EVERY
            self._running = self._pool.submit(self._timed, wanted())

    def take(self) -> Found | None:
        """Return what a look has found; None while it goes on, and where there was none since the last call."""
        if self._running is None or not self._running.done():
            return None
        done, self._running = self._running, None
        try:
            found = done.result()
        except MillstreamError as error:
            if not self._given_up:
                log.warning("could not look at the open jobs, will be tried again", why=str(error))
            self._given_up = True
            return None
        self._given_up = False
        return found

    def close(self) -> None:
        """Finish."""
        self._pool.shutdown(cancel_futures=True)

    def _timed(self, wanted: Wanted) -> Found:
        started = time.monotonic()
        found = self.look(wanted)
        done = time.monotonic()
        self._least = done + rest(0.0, done - started)
        self._due = max(self._due, self._least)
        return found

    def look(self, wanted: Wanted) -> Found:
        """Look at everything once; finish what has ended, remove what is left over, ask for what is lost.

        Raises Transient errors of the listings, and where S3 fails with several jobs.
        """
        found = Found()
        self._failing, self._failed = set(), self._failing
        uploads = list(self._store.unfinished())
        parts = self._inventory.of_all()
        marks = {head.key.removeprefix(layout.OPEN): head for head in self._store.list(layout.OPEN)}
        fresh = marks.keys() - self._marked if self._marked is not None and not uploads else frozenset()
        self._marked = marks.keys()
        self._jobs = {file_id: job for file_id, job in self._jobs.items() if file_id in marks}
        self._accounts = {
            file_id: captured for file_id, captured in self._accounts.items() if file_id in marks
        }
        for file_id in frozenset(wanted.held) - frozenset(wanted.busy) - marks.keys():
            with self._only(file_id):
                if self._end(file_id) is not None:
                    found.ended.append(file_id)
        for file_id, mark in marks.items():
            if missing.lacks(mark):
                found.repaired.add(file_id)
            elif file_id in fresh and file_id not in parts:
                continue
            with self._only(file_id):
                self._look_at(file_id, wanted, parts.get(file_id, []), found)
        for file_id in wanted.waiting:
            with self._only(file_id):
                captured = self._account(file_id)
                if captured is not None:
                    found.captured[file_id] = captured
        for doubt in wanted.doubts:
            with self._only(doubt.job.file_id):
                self._look_into(doubt, marks.keys(), parts.get(doubt.job.file_id, []), found)
        for file_id, left in parts.items():
            if file_id not in marks:
                with self._only(file_id):
                    self._remove_parts(file_id, left)
        self._abort(uploads, marks.keys())
        return found

    @contextmanager
    def _only(self, file_id: str) -> Iterator[None]:
        """Let what fails with one job stop no look at the others; it is said once.

        An S3 server may refuse to write one key for long, and take all others. Where it fails with FAILURES jobs, it is the
        server, and each further call would only cost its time.
        """
        try:
            yield
        except Transient as error:
            self._failing.add(file_id)
            if len(self._failing) >= FAILURES:
                raise
            if file_id not in self._failed:
                log.warning("could not look at a job, will be tried again", job=file_id, why=str(error))
        except MillstreamError as error:
            if file_id not in self._unreadable:
                log.warning("what is there of a job can't be read", job=file_id, why=str(error))
                self._unreadable.add(file_id)

    def _look_at(self, file_id: str, wanted: Wanted, parts: list[Part], found: Found) -> None:
        """Look at a marked job: finish it where it has ended; see whether its rows are all in parts."""
        job = self._jobs.get(file_id)
        if job is None:
            job = records.read(self._store, layout.job(file_id), Job)
            if job is None:
                self._store.delete(layout.open_mark(file_id))  # of a job that is no more
                return
            self._jobs[file_id] = job
        if file_id in wanted.busy:
            return
        if self._publisher.finish(job) is not None:
            found.ended.append(file_id)
            return
        if not parts:
            return
        found.parts[file_id] = parts
        captured = self._account(file_id)
        if captured is None or sum(part.rows for part in parts) < captured.rows:
            return
        if seen_of(job, captured.rows, parts)[0].rows == captured.rows:
            found.ready.append((job, captured))

    def _look_into(self, doubt: Doubt, marks: Keys[str], parts: list[Part], found: Found) -> None:
        """Ask for lost rows, but for a share of which parts have turned up that weren't known."""
        file_id = doubt.job.file_id
        there = {part.key for part in parts if part.partition == doubt.partition}
        if file_id not in marks or file_id in found.ended or not there <= doubt.parts:
            return
        if repair(self._store, self._publisher, doubt, told=file_id in found.repaired):
            found.repaired.add(file_id)

    def _account(self, file_id: str) -> Captured | None:
        captured = self._accounts.get(file_id)
        if captured is None:
            captured = records.read(self._store, layout.captured(file_id), Captured)
            if captured is not None:
                self._accounts[file_id] = captured
        return captured

    def _end(self, file_id: str) -> End | None:
        return records.read(self._store, layout.end(file_id), End)

    def _remove_parts(self, file_id: str, parts: list[Part]) -> None:
        """Remove parts of a job that has ended, or that nobody knows: written by somebody who learned of it too late."""
        if self._end(file_id) is not None or records.read(self._store, layout.job(file_id), Job) is None:
            for part in parts:
                self._store.delete(part.key)

    def _abort(self, uploads: Iterable[Unfinished], marks: Keys[str]) -> None:
        """Abort multipart uploads of outputs, and copies to names, that no open job can be about."""
        if self._jobs.keys() != frozenset(marks):
            return  # a job that can't be read may be at any name
        names = {job.name for job in self._jobs.values()}
        for upload in uploads:
            file_id = upload.key.removeprefix(layout.JOBS).partition("/")[0]
            in_use = file_id in marks if upload.key.startswith(OURS) else upload.key in names
            if not in_use:
                log.info("removing an upload that was broken off", key=upload.key)
                self._store.abort(upload)
