"""Files in every state they may be in, put on an object store step by step as capture and sink would."""

import gzip
import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal

from pipeline import layout
from pipeline.jobs import Captured, Claim, End, Job, NameRecord, Receipt, Record, Refusal, Source, Stored
from pipeline.store import MemoryStore, ObjectStore
from tests.jobs import make_captured, make_job

PUBLISHED = datetime(2026, 3, 4, 5, 6, 7, 890000, tzinfo=UTC)
"""When a file's first generation is published; each further one a day later."""


@dataclass
class Files:
    """Two buckets, and what the stages write into them."""

    uploads: ObjectStore = field(default_factory=MemoryStore)
    results: ObjectStore = field(default_factory=MemoryStore)

    def upload(
        self, key: str = "orders.csv", content: bytes = b"order_id,quantity,price\n007,3,9.99\n"
    ) -> str:
        """Put a file into the uploads bucket, and return its ETag."""
        return self.uploads.put(key, gzip.compress(content) if key.endswith(".gz") else content)

    def take_on(self, key: str = "orders.csv", name: str = "orders.csv", generation: int = 1) -> Job:
        """Make a job of the upload that lies there."""
        head = self.uploads.head(key)
        source = Source(key=key, etag=head.etag, size=head.size, last_modified=head.last_modified)
        job = make_job(name, generation=generation, etag=head.etag).model_copy(update={"source": source})
        self._write(layout.job(job.file_id), job)
        record = NameRecord(generation=generation, file_id=job.file_id, source=source, calculation=job.digest)
        self._write(layout.name_record(name), record)
        return job

    def claim(self, job: Job, blocks: int) -> None:
        """Somebody captures it."""
        claim = Claim(nonce="1", blocks=blocks, rows=blocks * job.block, malformed=1, bytes=61, total=100)
        self._write(layout.claim(job.file_id), claim)

    def capture(self, job: Job, rows: int) -> Captured:
        """All rows are acknowledged."""
        captured = make_captured(job, rows, malformed=1)
        self._write(layout.captured(job.file_id), captured)
        return captured

    def end(
        self, job: Job, state: Literal["published", "superseded", "cancelled", "deleted", "failed"]
    ) -> None:
        """Decide how it ended."""
        reason = None if state == "published" else f"because it was {state}"
        self._write(layout.end(job.file_id), End(state=state, reason=reason, nonce="1", ended=PUBLISHED))

    def publish(
        self, job: Job, output: bytes = b"order_id,total\n007,29.97\n", rejects: bytes | None = None
    ) -> Receipt:
        """Write output and receipt; the receipt is what is returned."""
        receipt = Receipt(
            name=job.name,
            generation=job.generation,
            file_id=job.file_id,
            rows=output.count(b"\n") - 1 + (rejects or b"\n").count(b"\n") - 1,
            results=output.count(b"\n") - 1,
            rejected=(rejects or b"\n").count(b"\n") - 1,
            source=job.source,
            calculation=job.calculation.label,
            digest=job.digest,
            output=self._store(layout.output(job.file_id, "1"), output),
            rejects=None if rejects is None else self._store(layout.rejects(job.file_id, "1"), rejects),
            captured=job.created,
            published=PUBLISHED + timedelta(days=job.generation - 1),
        )
        self.end(job, "published")
        self._write(layout.receipt(job.name), receipt)
        return receipt

    def published(self, name: str = "orders.csv", output: bytes = b"order_id,total\n007,29.97\n") -> Receipt:
        """All of it at once."""
        self.upload(name)
        return self.publish(self.take_on(name, name), output)

    def refuse(self, key: str, etag: str, reason: str = "no calculation matches") -> None:
        """Write down why no job could be made of an upload."""
        refusal = Refusal(etag=etag, configuration="1", reason=reason, refused=PUBLISHED)
        self._write(layout.refused(key), refusal)

    def delete(self, name: str, generation: int, key: str | None = None) -> None:
        """Take it all back."""
        self.uploads.delete(key or name)
        self._write(layout.name_record(name), NameRecord(generation=generation))
        deleted = Receipt(
            state="deleted", name=name, generation=generation, file_id="0" * 32, published=PUBLISHED
        )
        self._write(layout.receipt(name), deleted)

    def _write(self, key: str, record: Record) -> None:
        self.results.put(key, record.dump())

    def _store(self, key: str, content: bytes) -> Stored:
        self.results.upload(key, [content])
        return Stored(key=key, size=len(content), sha256=hashlib.sha256(content).hexdigest())
