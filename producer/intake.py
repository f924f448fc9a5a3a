"""What `watch` knows of the uploads and the open jobs, and what it does about each.

An upload is taken on, refused or captured, unless another does it: then that one is waited for. A job that somebody left half
done is gone on with, and rows that were lost after they were captured are captured again.
"""

import threading
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from functools import partial

import structlog

from pipeline import layout, metrics, records
from pipeline.errors import (
    CalculationError,
    InputError,
    NameRefused,
    NotFound,
    PreconditionFailed,
    Transient,
)
from pipeline.jobs import Captured, End
from pipeline.kafka import Publisher
from pipeline.missing import lacks
from pipeline.settings import Settings
from pipeline.store import Head
from producer.capture import Capture
from producer.ending import replaced_by_refused
from producer.lanes import Lanes, Stopping
from producer.marks import send_ends_again, unfinished
from producer.progress import Silent
from producer.refuse import configuration_digest, forgive, is_refused, refuse, refused_keys
from producer.repair import Repair
from producer.stage import Stage
from producer.take_on import take_on

log = structlog.get_logger("watch")

_Content = tuple[str, object]  # ETag and when it was last modified


class Intake:
    """The uploads and the open jobs as far as they are dealt with. Public methods are for one thread."""

    def __init__(self, stage: Stage, lanes: Lanes) -> None:
        self._stage = stage
        self._lanes = lanes
        self._configuration = configuration_digest(stage.settings)
        self._dealt_with: dict[str, _Content] = {}
        self._refused = refused_keys(stage.results)
        self._lock = threading.Lock()
        self._busy: set[str] = set()
        self._waiting: dict[str, Capture] = {}
        self._marks: Mapping[str, Head] = {}
        self._known: set[str] = set()
        self._repairs: dict[str, Repair] = {}
        self._repairing: set[str] = set()
        self._repaired: dict[str, str] = {}

    def configure(self, settings: Settings) -> None:
        """Use the calculations of other settings from now on; what was refused is tried again."""
        self._stage = self._stage.configured(
            self._stage.settings.model_copy(update={"calculations": settings.calculations})
        )
        digest = configuration_digest(self._stage.settings)
        if digest != self._configuration:
            log.info("the calculations have changed", calculations=list(settings.calculations))
            self._configuration = digest
            for key in list(self._refused):
                self._dealt_with.pop(key, None)

    def look(self, uploads: Iterable[Head]) -> None:
        """Have everything looked at that is new or another than before."""
        found = {head.key: head for head in uploads if not head.key.endswith("/")}
        for key in self._dealt_with.keys() - found.keys():
            self._dealt_with.pop(key, None)
            self._lanes.forget(key)
        for key, head in found.items():
            with self._lock:
                if self._dealt_with.get(key) == _content(head) or key in self._busy:
                    continue
                self._busy.add(key)
            self._lanes.submit(head.size, key, partial(self._deal_with, head))

    def again(self) -> None:
        """Try again what others were capturing."""
        with self._lock:
            waiting, self._waiting = self._waiting, {}
        for work in waiting.values():
            self._submit(work)

    def look_at_marks(self, marks: Mapping[str, Head]) -> None:
        """Go on with jobs that nobody goes on with, and have lost rows captured again; `marks` are those of the open jobs.

        A job is gone on with where its mark was there at the last look too: it isn't just being taken on.
        """
        with self._lock:
            self._known &= marks.keys()
            for seen in (self._repairs, self._repaired):
                for file_id in seen.keys() - marks.keys():
                    del seen[file_id]
            left = marks.keys() & self._marks.keys() - self._known
            lacking = {
                file_id: mark.etag
                for file_id, mark in marks.items()
                if lacks(mark) and self._repaired.get(file_id) != mark.etag and file_id not in self._repairing
            }
        self._marks = marks
        for file_id in left:
            self._lanes.submit_for_open(file_id, partial(self._adopt, file_id))
        for file_id, etag in lacking.items():
            self._lanes.submit_for_open(file_id, partial(self._find_lost, file_id, etag))

    def resume(self, file_id: str) -> None:
        """Go on with a marked job whose rows or ends may have been lost with an earlier process, or an earlier topic.

        Its ends are sent again: the sink asks for rows that it lacks.
        """

        def task(publisher: Publisher) -> None:
            job = unfinished(self._stage, file_id)
            if job is None:
                return
            work = Capture(self._stage, job, check=self._lanes.check)
            log.info("going on with", job=job.file_id, name=job.name, generation=job.generation)
            self._send_ends(file_id, publisher)
            self._submit(work)

        self._lanes.submit_for_open(file_id, task)

    def remind(self, file_id: str) -> None:
        """Send a captured job's ends again."""
        self._lanes.submit_for_open(file_id, partial(self._send_ends, file_id))

    def _send_ends(self, file_id: str, publisher: Publisher) -> None:
        if send_ends_again(self._stage, file_id, publisher):
            self._find_lost(file_id, "", publisher)

    def _adopt(self, file_id: str, publisher: Publisher) -> None:
        """Go on with a marked job that no upload led to here: its capture died elsewhere, or its upload was known already."""
        job = unfinished(self._stage, file_id)
        if job is None:
            return
        captured = records.read(self._stage.results, layout.captured(file_id), Captured)
        with self._lock:
            if file_id in self._known:
                return
            self._known.add(file_id)  # only now: what failed until here is tried again
        if captured is None:
            self._submit(Capture(self._stage, job, check=self._lanes.check))

    def _find_lost(self, file_id: str, mark: str, publisher: Publisher) -> None:
        """Have a job's lost blocks captured again; `mark` is the ETag of the mark that told of them."""
        work = self._repairs.get(file_id)
        if work is None:
            captured = records.read(self._stage.results, layout.captured(file_id), Captured)
            job = unfinished(self._stage, file_id) if captured is not None else None
            if job is None or captured is None:
                return
            work = Repair(self._stage, job, captured, self._lanes.check)
            self._repairs[file_id] = work  # kept: it knows for how long another's claim has stood still
        job = work.job
        self._lanes.submit_for_open(job.name, partial(self._repair, work, mark))

    def _repair(self, work: Repair, mark: str, publisher: Publisher) -> None:
        file_id = work.job.file_id
        with self._lock:
            if file_id in self._repairing:
                return
            self._repairing.add(file_id)
        try:
            with self._lanes.turn(work.job.source.size, repair=True):
                if work.attempt(publisher):
                    self._repaired[file_id] = mark
        finally:
            self._repairing.discard(file_id)

    def _deal_with(self, head: Head, publisher: Publisher) -> None:
        key, stage = head.key, self._stage
        with ExitStack() as contents:
            try:
                if key in self._refused and is_refused(stage.results, key, head.etag, self._configuration):
                    self._settle(head)
                    return
                upload = take_on(stage, key, contents, seen=head)
            except NotFound:
                self._busy.discard(key)  # gone since it was listed
                return
            except NameRefused as error:
                log.warning("refused", key=key, reason=str(error))
                self._settle(head)
                return
            except (InputError, CalculationError) as error:
                log.warning("refused", key=key, reason=str(error))
                refuse(stage.results, key, head.etag, error, self._configuration)
                metrics.FILES.labels("capture", "refused").inc()
                self._refused.add(key)
                replaced_by_refused(stage.results, head, error)
                self._settle(head)
                return
            except (Transient, Stopping):
                raise
            except Exception:
                self._settle(head)  # until it changes, or we are started anew
                raise
            if key in self._refused:
                forgive(stage.results, key)
                self._refused.discard(key)
            self._settle(head)
            if upload.end is None:
                work = Capture(stage, upload.job, upload.file, fresh=upload.new, check=self._lanes.check)
                try:
                    self._capture(work, publisher)
                except Transient as error:
                    log.warning("capture broken off, trying again", name=upload.job.name, error=str(error))
                    metrics.RETRIES.labels("capture", "upload").inc()
                    work.file = None  # it is kept no longer than this call
                    self._submit(work)  # the same: it knows which claim is its own

    def _settle(self, head: Head) -> None:
        with self._lock:
            self._dealt_with[head.key] = _content(head)
            self._busy.discard(head.key)

    def _submit(self, work: Capture) -> None:
        self._lanes.submit(
            work.job.source.size, work.job.name, lambda publisher: self._capture(work, publisher)
        )

    def _capture(self, work: Capture, publisher: Publisher) -> None:
        job = work.job
        with self._lock:
            self._known.add(job.file_id)
        try:
            with self._lanes.turn(job.source.size):
                outcome = work.attempt(publisher, Silent())
        except PreconditionFailed:
            # Another content lies there by now, and supersedes this job once it is taken on.
            self._dealt_with.pop(job.source.key, None)
            return
        if outcome is None:
            if work.file is not None:
                log.info(
                    "captured by another process", job=job.file_id, name=job.name, generation=job.generation
                )
            work.file = None  # it is kept no longer than this call
            with self._lock:
                self._waiting.setdefault(job.file_id, work)
            return
        if isinstance(outcome, End):
            metrics.FILES.labels("capture", outcome.state).inc()
            log.info(
                outcome.state,
                job=job.file_id,
                name=job.name,
                generation=job.generation,
                reason=outcome.reason,
            )
        elif work.ours:
            _say_captured(work, outcome)


def _content(head: Head) -> _Content:
    return head.etag, head.last_modified


def _say_captured(work: Capture, captured: Captured) -> None:
    seconds = (captured.finished - captured.started).total_seconds()
    log.info(
        "captured",
        job=work.job.file_id,
        name=work.job.name,
        generation=work.job.generation,
        rows=captured.rows,
        malformed=captured.malformed,
        seconds=round(seconds, 1),
    )
