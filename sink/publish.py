"""How a job ends, step by step, so that whoever finds it half done can go on.

    1. output and rejects, whole, under fresh names
    2. end.json, If-None-Match, naming them: it alone decides how the job ended
    3. a note in the job's folder of whose receipt it replaces; the receipt, by compare-and-set, only over a lower generation's
    4. <name>, a server-side copy, If-Match; then the receipt is read again, and if it names another job, that one's is copied
       (3 and 4: `sink/name.py`)
    5. parts, outputs that nobody names, those of the job that is noted, what was asked for again, and last the open mark are
       removed

Whoever finds a mark and an end.json goes on from 3, or from 5 where the end isn't "published" (`finish`). A name that was
deleted gets a receipt that says so, and <name> and outputs go (`sink/withdraw.py` begins that). An answer lost is no
answer: every step reads back what is there.
"""

import hashlib
import secrets
from collections.abc import Iterable, Iterator

import structlog

from pipeline import layout, records
from pipeline.duck import Connection
from pipeline.jobs import NOBODY, End, Job, NameRecord, Receipt, Stored, now
from pipeline.store import ObjectStore
from sink.complete import Complete
from sink.csv_writer import rejects_csv, results_csv
from sink.name import AtHand, set_receipt, settle_name

log = structlog.get_logger("sink")


AT_HAND = 1024 * 1024
"""Bytes up to which an output is kept until its job is published."""


class _Counted:
    """Bytes on their way to S3: counted and hashed, and kept as long as they are few."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = chunks
        self._kept: list[bytes] = []
        self.size = 0
        self._hash = hashlib.sha256()

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._chunks:
            self.size += len(chunk)
            self._hash.update(chunk)
            if self.size <= AT_HAND:
                self._kept.append(chunk)
            else:
                self._kept.clear()
            yield chunk

    @property
    def content(self) -> bytes | None:
        """All of it, where it is small."""
        return b"".join(self._kept) if self.size <= AT_HAND else None

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()


class Publisher:
    """Publishes jobs to the results bucket. For any thread; each brings its own DuckDB connection."""

    def __init__(self, results: ObjectStore) -> None:
        """`results` is the bucket."""
        self._store = results

    def publish(self, done: Complete, connection: Connection) -> End:
        """Write a complete job and end it; return how it ended, which may be otherwise than published.

        Raises Transient errors; what was done until then is found and used, or removed, by whoever tries again.
        """
        job = done.job
        record = self._outrun(job)
        if record is not None:
            return self.end(job, *_why(record))
        nonce = secrets.token_hex(8)
        chunks = results_csv(job, done.in_order(), connection)
        output, content = self._write(layout.output(job.file_id, nonce), chunks)
        rejects = None
        if done.rejected:
            chunks = rejects_csv(job, done.rejects_in_order(), connection)
            rejects, _ = self._write(layout.rejects(job.file_id, nonce), chunks)
        receipt = Receipt(
            name=job.name,
            generation=job.generation,
            file_id=job.file_id,
            rows=done.captured.rows,
            results=done.results,
            rejected=done.rejected,
            duplicates=done.duplicates,
            rounds=done.rounds,
            source=job.source,
            input_sha256=done.captured.sha256,
            calculation=job.calculation.label,
            digest=job.digest,
            output=output,
            rejects=rejects,
            captured=done.captured.finished,
            published=now(),
        )
        assert receipt.balances, "the collector says it is complete"
        end = End(state="published", nonce=nonce, receipt=receipt, ended=receipt.published)
        decided = records.create(self._store, layout.end(job.file_id), end)
        at_hand = AtHand(output.key, content) if content is not None else None
        self._finish(job, decided, in_parts=done.in_parts, at_hand=at_hand)
        return decided

    def end(self, job: Job, state: str, reason: str) -> End:
        """End a job without a result; return how it ended, which may have been decided before."""
        wanted = End.model_validate(
            {"state": state, "reason": reason, "nonce": secrets.token_hex(8), "ended": now()}
        )
        decided = records.create(self._store, layout.end(job.file_id), wanted)
        self._finish(job, decided)
        return decided

    def finish(self, job: Job) -> End | None:
        """Go on with a job that was found with its mark; return its end, or None where it has none yet."""
        decided = records.read(self._store, layout.end(job.file_id), End)
        record = self._outrun(job)
        if record is not None and record.file_id is None:
            deleted = Receipt(
                state="deleted",
                name=job.name,
                generation=record.generation,
                file_id=NOBODY,
                published=now(),
            )
            settle_name(self._store, set_receipt(self._store, deleted))
        if decided is not None:
            self._finish(job, decided)
        elif record is not None:
            decided = self.end(job, *_why(record))
        return decided

    def _outrun(self, job: Job) -> NameRecord | None:
        """Return the name's record where it names another job, or none, as the newer."""
        record = records.read(self._store, layout.name_record(job.name), NameRecord)
        if record is None:
            return None
        other = record.generation == job.generation and record.file_id != job.file_id
        return record if record.generation > job.generation or other else None

    def _write(self, key: str, chunks: Iterable[bytes]) -> tuple[Stored, bytes | None]:
        """Write an object; return what a receipt says of it, and its content where it is small."""
        counted = _Counted(chunks)
        self._store.upload(key, counted)
        return Stored(key=key, size=counted.size, sha256=counted.sha256), counted.content

    def _finish(self, job: Job, end: End, *, in_parts: bool = True, at_hand: AtHand | None = None) -> None:
        """Steps 3 to 5; without parts, where the job is known to have none."""
        current = None
        if end.receipt is not None:
            current = settle_name(self._store, set_receipt(self._store, end.receipt), at_hand)
        if in_parts:
            for head in list(self._store.list(layout.parts(job.file_id))):
                self._store.delete(head.key)
        self._clear(job, current)

    def _clear(self, job: Job, current: Receipt | None) -> None:
        """Step 5; `current` is the name's receipt. One listing says what there is to be removed: most jobs have a claim."""
        named: set[str] = set()
        if current is not None and current.file_id == job.file_id:
            named = {stored.key for stored in (current.output, current.rejects) if stored}
        noted = layout.replaces(job.file_id, "")
        passing = (
            noted,
            layout.missing_folder(job.file_id),
            layout.repair(job.file_id),
            layout.claim(job.file_id),
            layout.assembly(job.file_id),
        )
        for key in self._remove_outputs(job.file_id, named):
            if key.startswith(noted):
                # Noted before the receipt, which only goes up: nothing will ever name those outputs again.
                self._remove_outputs(key.removeprefix(noted), set())
            if key.startswith(passing):
                self._store.delete(key)
        self._store.delete(layout.open_mark(job.file_id))

    def _remove_outputs(self, file_id: str, named: set[str]) -> list[str]:
        """Remove the outputs and rejects of a job that aren't `named`; return what else lies in its folder."""
        left = []
        for head in list(self._store.list(f"{layout.JOBS}{file_id}/")):
            if not head.key.rpartition("/")[2].startswith(("out-", "rejects-")):
                left.append(head.key)
            elif head.key not in named:
                self._store.delete(head.key)
        return left


def _why(record: NameRecord) -> tuple[str, str]:
    """Return the end of a job whose name has this newer record, and the reason."""
    if record.file_id is None:
        return "deleted", "it was deleted"
    return "superseded", "a newer upload of the same name was taken on"
