"""`cancel` ends a name's job; `delete` takes back all that there is of a name.

The steps of `delete`, each of which leaves something that the next one understands:

1. an open mark for each job that has something to be removed
2. the upload, If-Match: a newer one isn't touched
3. the name's record: the next generation, without a source. From here on the name is deleted
4. what is left is done by `Publisher.finish` for the marked jobs, by us or by any sink's sweeper: a `deleted` receipt of that
   generation, `<name>`, `end.json` where there is none, outputs, rejects and parts, and last the marks

Cut off before 3, nothing but the upload is gone, and `delete` can be called again.
"""

import secrets

from pipeline import layout, records
from pipeline.errors import NotFound, Permanent, PreconditionFailed, Refused
from pipeline.jobs import End, Job, NameRecord, Receipt, now
from pipeline.states import source_keys
from pipeline.store import Head, ObjectStore
from sink.publish import Publisher

LOOKS = 20
"""Times that a name's record is looked at while others keep changing it."""


def cancel(results: ObjectStore, name: str, by: str) -> End:
    """End the name's job without a result; return how it ended: cancelled, unless that was decided otherwise before.

    `by` says for people who wanted it. An older result stays. Raises NotFound where the name has no job.
    """
    record = records.read(results, layout.name_record(name), NameRecord)
    if record is None or record.file_id is None:
        raise NotFound(f"{name}: there is no job to cancel")
    wanted = End(state="cancelled", reason=f"cancelled by {by}", nonce=secrets.token_hex(8), ended=now())
    return records.create(results, layout.end(record.file_id), wanted)


def delete(uploads: ObjectStore, results: ObjectStore, name: str) -> int:
    """Remove a name's upload, result, rejects and receipt, and end its job; return the generation that says so.

    Called again it goes on where it was cut off. Raises NotFound where there is nothing of that name, PreconditionFailed where
    another upload came in meanwhile: that one stays, with all else.
    """
    record = records.read(results, layout.name_record(name), NameRecord)
    receipt = records.read(results, layout.receipt(name), Receipt)
    lying = [head for key in source_keys(name) if (head := _head(uploads, key)) is not None]
    if record is None and not lying:
        raise NotFound(f"{name}: there is no upload and no result of that name")
    jobs = {record.file_id if record else None, receipt.file_id if receipt and receipt.output else None}
    marked = [file_id for file_id in jobs if file_id is not None]
    for file_id in marked:
        _mark(results, file_id)
    for head in lying:
        _remove(uploads, head)
        results.delete(layout.refused(head.key))
    generation, last = _disown(uploads, results, name)
    if last is not None and last not in marked:
        marked.append(last)  # taken on meanwhile, and marked by whoever did
    publisher = Publisher(results)
    for file_id in marked:
        job = records.read(results, layout.job(file_id), Job)
        if job is not None:
            publisher.finish(job)
    return generation


def _head(uploads: ObjectStore, key: str) -> Head | None:
    try:
        return uploads.head(key)
    except NotFound:
        return None


def _mark(results: ObjectStore, file_id: str) -> None:
    try:
        results.put(layout.open_mark(file_id), b"", if_none_match=True)
    except PreconditionFailed:
        return  # it is open


def _remove(uploads: ObjectStore, head: Head) -> None:
    try:
        uploads.delete(head.key, if_match=head.etag)
    except (PreconditionFailed, NotFound):
        if _head(uploads, head.key) is not None:
            raise _came(head.key) from None  # and not an answer that was lost


def _disown(uploads: ObjectStore, results: ObjectStore, name: str) -> tuple[int, str | None]:
    """Set the record to a generation without a source; return that, and the job that was named last."""
    for _ in range(LOOKS):
        found = records.read_with_etag(results, layout.name_record(name), NameRecord)
        record, etag = found or (None, None)
        if record is not None and record.source is None:
            return record.generation, None
        for key in source_keys(name):
            if _head(uploads, key) is not None:
                raise _came(key)
        owner = NameRecord(generation=record.generation + 1 if record else 1)
        if records.replace(results, layout.name_record(name), owner, etag):
            return owner.generation, record.file_id if record else None
    raise Refused(f"{name}: others keep changing it; try again later")


def _came(key: str) -> Permanent:
    return PreconditionFailed(
        f"another upload {key} came in meanwhile; it is left alone: delete again if it is meant too"
    )
