"""Captures once more what a broker lost between here and the sink; `pipeline.missing` says who asks for it, and how.

1. what is asked for of all shares, and not captured again yet
2. the claim on the repair, or wait while another has it
3. the upload's content, of exactly the ETag that the job names; without it the job fails
4. the rows of those blocks, in one pass over the file
5. each request is marked, once all rows are acknowledged
6. the ends of those rounds
"""

from collections.abc import Callable, Iterable
from contextlib import ExitStack, closing
from dataclasses import dataclass, field

import structlog

from pipeline import layout
from pipeline.claims import Held, Observer
from pipeline.errors import ClaimLost, DeliveryFailed, InputError, JobEnded, NotFound, PreconditionFailed
from pipeline.jobs import Captured, Job
from pipeline.missing import Missing, described, requested, settle
from producer.content import fetch_again
from producer.encode import Events, encode
from producer.ending import fail
from producer.heartbeat import Heartbeat
from producer.publish import Position, Sender, publish_ends, publish_rows, shares_of
from producer.reader import Block, read
from producer.stage import Stage

log = structlog.get_logger("watch")

Requests = dict[int, tuple[Missing, str]]


@dataclass(slots=True)
class Repair:
    """A captured job that lacks rows; `check` is called after each block, and may raise, to stop."""

    stage: Stage
    job: Job
    captured: Captured
    check: Callable[[], None] = lambda: None
    observer: Observer = field(init=False)
    _unsent: dict[int, int] = field(default_factory=dict, init=False)
    """Rounds by partition that are captured again, and of which the end isn't known to be sent."""

    def __post_init__(self) -> None:
        self.observer = Observer(self.stage.results, layout.repair(self.job.file_id))

    def attempt(self, sender: Sender) -> bool:
        """Capture again what is asked for, or end the job where that can't be; return whether there is nothing left to do.

        False: another process is at it. Raises what stands in the way otherwise; the claim is given back then.
        """
        asked = requested(self.stage.results, self.job.file_id)
        shares = shares_of(self.job, self.captured)
        wanted = {share: found for share, found in asked.items() if share in shares and not found[0].captured}
        if not wanted:
            try:
                self._send_ends(sender)
            finally:
                sender.forget()
            return True
        held = self.observer.take()
        if held is None:
            return False
        try:
            return self._repair(wanted, held, sender)
        except (NotFound, PreconditionFailed, InputError, DeliveryFailed) as error:
            self._fail(wanted, error)
            return True
        except ClaimLost:
            return False
        except JobEnded:
            return True
        finally:
            sender.forget()

    def _repair(self, wanted: Requests, held: Held, sender: Sender) -> bool:
        stage, job = self.stage, self.job
        topic = stage.settings.rows_topic
        blocks = sorted({block for missing, _ in wanted.values() for block in missing.blocks})
        log.warning("rows were lost, and are captured again", name=job.name, blocks=len(blocks))
        with Heartbeat(stage, job, held, Position()) as heartbeat, ExitStack() as contents:
            file = fetch_again(stage, job, contents)

            def sent(_events: Events, _position: Position) -> None:
                heartbeat.check()
                self.check()

            reading = read(
                file.path, job.dialect, job.columns, block=job.block, from_block=min(blocks, default=0)
            )
            found = contents.enter_context(closing(reading))
            limit = stage.settings.message_bytes
            events = (encode(block, job.file_id, limit) for block in _only(found, blocks))
            publish_rows(job, events, Position(), sender, topic, sent=sent, acknowledged=heartbeat.advance)
        still = {
            partition: missing.round
            for partition, (missing, etag) in wanted.items()
            if settle(stage.results, job.file_id, partition, missing, etag)
        }
        self._unsent |= still
        held.release()
        self._send_ends(sender)
        return len(still) == len(wanted)

    def _send_ends(self, sender: Sender) -> None:
        if self._unsent:
            topic = self.stage.settings.rows_topic
            publish_ends(self.job, self.captured, sender, topic, self._unsent)
            self._unsent = {}

    def _fail(self, wanted: Requests, error: Exception) -> None:
        lost = [block for missing, _ in wanted.values() for block in missing.blocks]
        rows = described(self.job, self.captured.rows, lost)
        match error:
            case NotFound():
                why = f"the upload {self.job.source.key} is gone"
            case PreconditionFailed():
                why = f"the upload {self.job.source.key} is another by now"
            case _:
                why = str(error)
        fail(self.stage.results, self.job, f"{rows} were lost on the way and can't be captured again: {why}")


def _only(blocks: Iterable[Block], wanted: list[int]) -> Iterable[Block]:
    """Yield the wanted blocks, and read no further than the last."""
    left = set(wanted)
    for block in blocks:
        if block.number in left:
            left.discard(block.number)
            yield block
        if not left:
            return
