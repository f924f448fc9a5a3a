"""From an upload to a job, in an order in which any crash leaves something that the next one understands:

1. read the name's record, 2. look at the upload, 3. spool, sniff and bind it, 4. `job.json` (one that is there is used),
5. the open mark, 6. the name's record by compare-and-set.

Only then rows may flow. Losing the compare-and-set, or finding another upload than the one looked at, means: look again.
"""

import time
from contextlib import ExitStack
from dataclasses import dataclass

from pipeline import layout, records, traces
from pipeline.calculations import choose
from pipeline.errors import InputError, NotFound, Permanent, PreconditionFailed
from pipeline.jobs import End, Job, NameRecord
from pipeline.names import name_of
from pipeline.store import Head
from producer.content import Content, fetch
from producer.decide import Known, OtherKey, TakeOn, decide
from producer.ending import supersede
from producer.prepare import Prepared, make_job, prepare
from producer.spool import Spool
from producer.stage import Stage

LOOKS = 20
"""Times that a name is looked at while others keep changing it."""


@dataclass(frozen=True, slots=True)
class Upload:
    """An upload's job: how it ended where it has, whether it was taken on just now, and its content where it is at hand."""

    job: Job
    end: End | None = None
    new: bool = False
    file: Spool | None = None


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen of a name, its record with its ETag (None where there is none), and after that of its upload."""

    found: tuple[NameRecord, str] | None
    head: Head


def take_on(
    stage: Stage,
    key: str,
    contents: ExitStack,
    *,
    again: bool = False,
    seen: Head | None = None,
    look: Look | None = None,
    ready: tuple[Content, Prepared] | None = None,
) -> Upload:
    """Return the job of the upload at `key`, made now where its content is new to its name.

    What is spooled lives as long as `contents`. `again` makes a new generation of a known content. `seen` is what a listing
    says of the upload: it saves a call, and does no harm where it is out of date, since only a content that is there can be
    spooled. `look` was made a while ago: it serves where the compare-and-set of the record says that it still holds, and for
    nothing else. `ready` is used where it is the upload's content. Raises NotFound where the upload is gone; InputError,
    CalculationError and NameRefused where no job can be made of it.
    """
    name = name_of(key)
    began = time.time_ns()
    first: int | None = None
    ended_generation = 0
    for _ in range(LOOKS):
        here, end = (look, None) if look is not None else _look(stage, key, seen)
        earlier, look, seen = look is not None, None, None
        record, etag = here.found or (None, None)
        head = here.head
        present = record.generation if record is not None else 0
        first = present if first is None else first
        # Once the name has moved on, somebody has made the new generation that was asked for.
        decision = decide(record, head, end, again=again and present == first)
        if earlier and not isinstance(decision, TakeOn):
            continue  # no compare-and-set comes after that: it has to be looked at now
        if isinstance(decision, Known):
            job = records.read(stage.results, layout.job(decision.file_id), Job)
            if job is None:
                raise Permanent(f"{name}: its record names job {decision.file_id}, which isn't there")
            return Upload(job, end)
        generation = max(_generation(stage, key, decision, present), ended_generation + 1)
        try:
            content, prepared = _content(stage, name, head, ready, contents)
        except PreconditionFailed:
            continue
        with traces.span("take on", content.trace, began, file=name, generation=generation) as taking:
            job = make_job(stage, name, generation, content.source, prepared, taking.context)
        there = records.create(stage.results, layout.job(job.file_id), job)
        if there != job and records.read(stage.results, layout.end(job.file_id), End) is not None:
            # A job that ended before the name's record named it: it can't be what this upload becomes.
            ended_generation = generation
            continue
        records.mark(stage.results, layout.open_mark(job.file_id))
        owner = NameRecord(
            generation=generation, file_id=job.file_id, source=content.source, calculation=there.digest
        )
        if records.replace(stage.results, layout.name_record(name), owner, etag):
            if record is not None and record.file_id is not None:
                supersede(stage.results, record.file_id, generation)
            return Upload(there, None, there == job, content.file)
    raise Permanent(f"{name}: others keep changing it; try again later")


def _look(stage: Stage, key: str, seen: Head | None) -> tuple[Look, End | None]:
    """Return the name and the upload as they are, and how the record's job ended where the content is the same."""
    found = records.read_with_etag(stage.results, layout.name_record(name_of(key)), NameRecord)
    record = found[0] if found is not None else None
    head = seen or stage.uploads.head(key)
    if record is None or record.source is None or record.file_id is None or record.source.etag != head.etag:
        return Look(found, head), None
    end = records.read(stage.results, layout.end(record.file_id), End)
    if seen is not None and end is not None and end.state != "published":
        head = stage.uploads.head(key)  # a listing's times are of another precision
    return Look(found, head), end


def _generation(stage: Stage, key: str, decision: TakeOn | OtherKey, present: int) -> int:
    """Return the generation to take an upload on as; refuse it where its name belongs to another upload that is there."""
    if isinstance(decision, TakeOn):
        return decision.generation
    try:
        stage.uploads.head(decision.key)
    except NotFound:
        return present + 1
    name = name_of(key)
    raise InputError(
        f"{key}: the name {name} belongs to the upload {decision.key}; remove that one, or use another name"
    )


def _content(
    stage: Stage, name: str, head: Head, ready: tuple[Content, Prepared] | None, contents: ExitStack
) -> tuple[Content, Prepared]:
    if ready is not None and ready[0].source.etag == head.etag:
        return ready
    calculation = choose(stage.settings.calculations.values(), name)
    content = fetch(stage, head.key, head.etag, contents, calculation.dialect)
    return content, prepare(calculation, content.file, content.told)
