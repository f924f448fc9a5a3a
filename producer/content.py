"""An upload's content, spooled: fetched with If-Match, so that it is of exactly the ETag that was looked at."""

import json
from contextlib import ExitStack
from dataclasses import dataclass

from pydantic import ValidationError

from pipeline import traces
from pipeline.dialect import DialectOverrides
from pipeline.jobs import Job, Source
from pipeline.store import Head
from producer.spool import Spool, spool
from producer.stage import Stage

DIALECT = "millstream-dialect"
"""Metadata of an upload: what `push` was told of how the file is written, for whoever takes it on first."""


@dataclass(frozen=True, slots=True)
class Content:
    """The spooled content of the upload `source`; `told` is what is known of its dialect without looking.

    `trace` is the trace that its metadata names.
    """

    source: Source
    file: Spool
    told: DialectOverrides
    trace: str | None = None


def fetch(stage: Stage, key: str, etag: str, contents: ExitStack, configured: DialectOverrides) -> Content:
    """Spool the upload at `key` if its ETag is this one; the file is removed with `contents`.

    `configured` is how it is written as far as the configuration says; what was said at the upload goes before
    that. Raises NotFound where the upload is gone, PreconditionFailed where it is another, InputError where it is
    no text.
    """
    with stage.uploads.open(key, if_match=etag) as body:
        told = merged(configured, told_of(body.head))
        found = spool(body.chunks, key, stage.settings.spool_folder, encoding=told.encoding)
        trace = body.head.metadata.get(traces.METADATA)
        return Content(source_of(body.head), contents.enter_context(found), told, trace)


def fetch_again(stage: Stage, job: Job, contents: ExitStack) -> Spool:
    """Spool a job's upload once more, as the job says it is written; raises as `fetch` does."""
    with stage.uploads.open(job.source.key, if_match=job.source.etag) as body:
        folder, encoding = stage.settings.spool_folder, job.dialect.encoding
        found = spool(body.chunks, job.source.key, folder, encoding=encoding)
        return contents.enter_context(found)


def source_of(head: Head) -> Source:
    """Return what a job keeps of its upload."""
    return Source(key=head.key, etag=head.etag, size=head.size, last_modified=head.last_modified)


def told_of(head: Head) -> DialectOverrides:
    """Return what an upload's metadata says of its dialect; nothing where that isn't an object of ours."""
    try:
        return DialectOverrides.model_validate_json(head.metadata.get(DIALECT, "{}"))
    except ValidationError:
        return DialectOverrides()


def merged(configured: DialectOverrides, told: DialectOverrides) -> DialectOverrides:
    """Return all that is known of a dialect; what was told goes before what was configured."""
    return configured.model_copy(update=told.model_dump(exclude_none=True))


def telling(told: DialectOverrides) -> dict[str, str]:
    """Return the metadata of an upload about whose dialect something was told."""
    given = told.model_dump(exclude_none=True)
    return {DIALECT: json.dumps(given)} if given else {}
