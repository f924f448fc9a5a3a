"""Captures a job: from the claim to the ends of its shares.

1. the claim, or wait while another has it
2. the upload's content, of exactly the ETag that the job names
3. rows, from the last acknowledged block on
4. `captured.json`, once the last row is acknowledged
5. the ends

Whatever is repeated after a crash does the same once more: keys, partitions and records follow from the job alone.
"""

import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass, field

from pipeline import crash, layout, metrics, records, traces
from pipeline.claims import Held, Observer
from pipeline.errors import ClaimLost, DeliveryFailed, InputError, JobEnded, NotFound
from pipeline.jobs import Captured, End, Job, now
from producer.content import fetch_again
from producer.encode import Events, encode
from producer.ending import fail
from producer.flow import Brake
from producer.heartbeat import Heartbeat
from producer.progress import Progress
from producer.publish import Position, Sender, publish_ends, publish_rows
from producer.reader import read
from producer.spool import Spool
from producer.stage import Stage


@dataclass(slots=True)
class Capture:
    """One job to be captured as soon as its claim can be had.

    `file` is the spooled upload where it is at hand; `fresh` says that nobody can have claimed the job yet.
    `check` is called after each block, and may raise, to stop; `now` counts seconds and never goes back. `ours` says
    afterwards that it was captured here.
    """

    stage: Stage
    job: Job
    file: Spool | None = None
    fresh: bool = False
    check: Callable[[], None] = lambda: None
    now: Callable[[], float] = time.monotonic
    ours: bool = field(default=False, init=False)
    observer: Observer = field(init=False)
    _unsent: bool = field(default=False, init=False)
    """Whether it was captured here, and its ends aren't known to be sent."""

    def __post_init__(self) -> None:
        self.observer = Observer(self.stage.results, layout.claim(self.job.file_id), now=self.now)

    def attempt(self, sender: Sender, progress: Progress) -> Captured | End | None:
        """Capture the job unless that is done or another does it: then None, and `observer.claim` says how far it is.

        Returns how it ended where it has. Raises PreconditionFailed where the upload is another by now (the name has to be
        looked at again), and what stands in the way otherwise; the claim is given back then.
        """
        captured: Captured | None = None
        held = self.observer.create() if self.fresh else None
        if held is None:
            end, captured = self._so_far()
            if end is not None:
                return end
            if captured is not None and not self._unsent:
                return captured
            if captured is None:
                held = self.observer.take()
                if held is None:
                    self.fresh = False
                    return None
        self.fresh = False
        try:
            with traces.span("capture", self.job.trace, job=self.job.file_id, file=self.job.name):
                if held is not None:
                    captured = _capture(self, held, sender, progress)
                assert captured is not None
                self._send_ends(captured, sender, progress)
            self.ours = True
            return captured
        except (InputError, DeliveryFailed) as error:
            return fail(self.stage.results, self.job, str(error))
        except NotFound:
            return fail(self.stage.results, self.job, f"the upload {self.job.source.key} is gone")
        except ClaimLost:
            return None
        except JobEnded:
            return self._so_far()[0]
        finally:
            sender.forget()

    def _send_ends(self, captured: Captured, sender: Sender, progress: Progress) -> None:
        self._unsent = True
        publish_ends(self.job, captured, sender, self.stage.settings.rows_topic)
        self._unsent = False
        crash.point("capture.ends_sent")
        progress.done(self.job.name)
        teller, rows = self.stage.teller, captured.rows
        teller.tell("capture", self.job, rows=rows, rejected=captured.malformed, total=rows, share=1.0)
        teller.over("capture", self.job)

    def _so_far(self) -> tuple[End | None, Captured | None]:
        end = records.read(self.stage.results, layout.end(self.job.file_id), End)
        return end, records.read(self.stage.results, layout.captured(self.job.file_id), Captured)


def _capture(work: Capture, held: Held, sender: Sender, progress: Progress) -> Captured:
    stage, job = work.stage, work.job
    topic = stage.settings.rows_topic
    if job.partitions > stage.partitions:
        raise DeliveryFailed(
            f"its rows are dealt to {job.partitions} partitions, and topic {topic} has {stage.partitions}; "
            "push it again with --again"
        )
    claim = held.claim
    start = Position(claim.blocks, claim.rows, claim.malformed, claim.bytes)
    started = now()
    with Heartbeat(stage, job, held, start) as heartbeat, ExitStack() as contents:
        file = work.file or fetch_again(stage, job, contents)
        heartbeat.expect(file.text_bytes)

        def check() -> None:
            heartbeat.check()
            work.check()

        def sent(events: Events, position: Position) -> None:
            check()
            share = events.end / file.text_bytes
            progress.captured(job.name, position.rows, share)
            stage.teller.count(events.rows)
            stage.teller.tell("capture", job, rows=position.rows, rejected=position.malformed, share=share)

        reading = read(file.path, job.dialect, job.columns, block=job.block, from_block=start.blocks)
        blocks = contents.enter_context(
            closing(reading)
        )  # its thread and its file end here, whatever happens
        limit = stage.settings.message_bytes
        events = (encode(block, job.file_id, limit) for block in blocks)
        brake = Brake(stage.flow, job.name, check, lambda why: progress.waits(job.name, why))
        reached = publish_rows(
            job,
            events,
            start,
            sender,
            topic,
            sent=sent,
            acknowledged=heartbeat.advance,
            brake=brake,
            now=work.now,
        )
        account = Captured(
            rows=reached.rows,
            malformed=reached.malformed,
            shares=job.shares(reached.rows),
            sha256=file.sha256,
            size=file.bytes,
            started=started,
            finished=now(),
        )
        # Within the claim: where this fails, it is given back, and whoever comes next has nothing left to send but the ends.
        captured = records.create(stage.results, layout.captured(job.file_id), account)
    if captured == account:  # else another process was here first, or this one earlier
        metrics.CAPTURED_ROWS.inc(captured.rows)
        metrics.FILES.labels("capture", "captured").inc()
    return captured
