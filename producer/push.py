"""Uploads files and captures them right here.

1. look at every file: is there a calculation, can it be read, do they fit? Until all do, no upload is completed
2. upload, under the name; the first file's begins beside step 1, if it is large
3. take on, and capture, unless `watch` was first: then wait for it and show how far it is
4. with `wait`: until the job has ended
"""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

from pipeline import layout, records, traces
from pipeline.dialect import DialectOverrides
from pipeline.errors import (
    CalculationError,
    InputError,
    JobEnded,
    MillstreamError,
    NotFound,
    PreconditionFailed,
    Unreachable,
    UsageError,
)
from pipeline.jobs import Captured, End, Job, NameRecord
from pipeline.kafka import Publisher
from pipeline.names import COMPRESSIONS, name_of
from pipeline.reject_list import of_result
from pipeline.settings import Settings
from pipeline.shell import shell, word
from pipeline.states import counted
from producer.capture import Capture
from producer.content import Content, merged, source_of, telling
from producer.ending import replaced_by_refused
from producer.first_look import calculation_for
from producer.heartbeat import ended
from producer.local import chunks
from producer.patience import Patience
from producer.prepare import Prepared, prepare
from producer.progress import Progress, Silent
from producer.refuse import Forgiving, configuration_digest, refuse
from producer.sending import LARGE, Sending
from producer.spool import Spool, spool
from producer.stage import Stage, open_stage, uploads_bucket
from producer.take_on import Look, Upload, take_on
from producer.verdict import MostRejects, too_many, verdict, where, where_all
from producer.wait import wait_for_end

FEW = 10
"""Files up to which it is said of each where its result is; of more it is said once."""

POLL = 0.5
"""Seconds between two looks at a job that another process captures."""


_Name = tuple[NameRecord, str] | None
"""A name's record with its ETag, None where it has none."""


@dataclass(frozen=True, slots=True)
class _File:
    """A file that can be pushed: everything about it was found right."""

    path: Path
    key: str
    name: str
    spooled: Spool
    prepared: Prepared
    sending: Sending | None = None
    """Its upload, where that is under way already."""


@dataclass(frozen=True, slots=True)
class _Push:
    """What all files of one call are pushed with."""

    stage: Stage
    told: DialectOverrides
    again: bool
    publisher: Publisher
    forgiving: Forgiving
    contents: ExitStack
    progress: Progress
    check: Callable[[], None] = lambda: None
    """Raises where the broker has gone away."""
    wait: bool = False
    done: list[Job] = field(default_factory=list)
    """Those that were published before."""
    otherwise: list[str] = field(default_factory=list)
    """What is to be said of results that are computed otherwise than they would be today."""


def push(
    paths: Sequence[Path],
    settings: Settings,
    *,
    name: str | None = None,
    wait: bool = False,
    again: bool = False,
    max_rejects: str | None = None,
    dialect: DialectOverrides | None = None,
    progress: Progress | None = None,
) -> None:
    """Upload and capture each file; with `wait`, return once all of their results are published.

    `name` is what a single file is to be called, else its own name; a suffix .gz or .zst stays on the key. `dialect` has what
    is known of how the files are written. `max_rejects` is how many rows of each file may be rejected, as `10` or `0.5%`.
    Raises UsageError, InputError, CalculationError before anything is uploaded; Unreachable; JobEnded, once all files are dealt
    with, where a job ended otherwise than published, has more rejects, or was computed otherwise than it would be today.
    """
    traces.configure(settings, "push")
    progress = progress or Silent()
    told = dialect or DialectOverrides()
    most = MostRejects.parse(max_rejects) if max_rejects is not None else None
    if most is not None and not wait:
        raise UsageError("--max-rejects: how many there are is known once the result is there; add --wait")
    if name is not None and len(paths) > 1:
        raise UsageError(f"--name {name}: it is for one file, and there are {len(paths)}")
    with ExitStack() as contents:
        try:
            files = [
                _look_at(path, settings, name, told, contents, progress, send=path is paths[0])
                for path in paths
            ]
        except MillstreamError as error:
            if len(paths) > 1:
                error.add_note(
                    "nothing was uploaded: all files are looked at first, and this one can't be taken"
                )
            raise
        twice = [name for name, count in Counter(file.name for file in files).items() if count > 1]
        if twice:
            raise UsageError(
                f"{', '.join(sorted(twice))}: several files of one name; push them one by one with --name"
            )
        stage = open_stage(settings, "push")
        contents.callback(stage.teller.close)
        names = [_name(stage, file) for file in files]
        forgiving = Forgiving(stage.results, [file.key for file in files])
        patience = Patience(settings.kafka, lambda: publisher.pending())  # noqa: PLW0108  # made in the next line
        publisher = Publisher(settings, patience.check)
        here = _Push(stage, told, again, publisher, forgiving, contents, progress, patience.check, wait)
        try:
            jobs = [_push(here, file, name) for file, name in zip(files, names, strict=True)]
        except BaseException:
            with suppress(MillstreamError):
                forgiving.finish()
            raise
        forgiving.finish()
    failed = list(dict.fromkeys(here.otherwise))
    if wait:
        failed += _wait(stage, [*here.done, *(job for job in jobs if job is not None)], progress, most)
    if failed:
        raise JobEnded("\n".join(failed))


def _look_at(
    path: Path,
    settings: Settings,
    name: str | None,
    told: DialectOverrides,
    contents: ExitStack,
    progress: Progress,
    *,
    send: bool = False,
) -> _File:
    """Find out all that has to be right about a file; with `send`, its upload begins meanwhile if it is large."""
    suffix = next((suffix for suffix in COMPRESSIONS if path.name.endswith(suffix)), "")
    name = name_of(name if name is not None else path.name)
    calculation = calculation_for(path, name, settings.calculations.values(), told.encoding)
    known = merged(calculation.dialect, told)
    size, sending = path.stat().st_size, None
    if send and size >= LARGE:
        sending = Sending(lambda: uploads_bucket(settings), path, name + suffix, size, telling(told))
        contents.callback(sending.take_back)
    spooled = contents.enter_context(
        spool(chunks(path), str(path), settings.spool_folder, encoding=known.encoding)
    )
    prepared = prepare(calculation, spooled, known)
    progress.say(f"{path}: {prepared.dialect.describe()}; {counted(len(prepared.columns), 'column')}")
    return _File(path, name + suffix, name, spooled, prepared, sending)


def _name(stage: Stage, file: _File) -> _Name:
    """Return the name's record with its ETag, None where there is none.

    Raises InputError where the name belongs to an upload at another key: better now than after an upload.
    """
    found = records.read_with_etag(stage.results, layout.name_record(file.name), NameRecord)
    source = found[0].source if found is not None else None
    if source is None or source.key == file.key:
        return found
    try:
        stage.uploads.head(source.key)
    except NotFound:
        return found
    raise InputError(
        f"{file.path}: the name {file.name} belongs to the upload {source.key}; remove that one, or use --name"
    )


def _push(here: _Push, file: _File, name: _Name) -> Job | None:
    """Upload and capture a file; return its job, None where that has been published before. `name` is as it was before."""
    stage, spooled = here.stage, file.spooled
    sending = file.sending or Sending(
        lambda: stage.uploads, file.path, file.key, spooled.bytes, telling(here.told)
    )
    here.contents.callback(sending.take_back)
    etag, crc32 = sending.complete()
    head = stage.uploads.head(file.key)
    same = head.etag == etag and crc32 == spooled.crc32
    content = Content(source_of(head), spooled, here.told, sending.trace)
    ready = (content, file.prepared) if same else None
    look: Look | None = Look(name, head)
    while True:
        try:
            upload = take_on(stage, file.key, here.contents, again=here.again, look=look, ready=ready)
        except (InputError, CalculationError) as error:
            refuse(stage.results, file.key, head.etag, error, configuration_digest(stage.settings))
            replaced_by_refused(stage.results, head, error)
            raise
        look = None
        here.forgiving.taken_on(file.key)
        if upload.end is not None:
            _known(here, file, upload.job, upload.end)
            return None
        if not upload.new and (difference := _difference(upload.job, file.prepared)):
            here.otherwise.append(
                f"{upload.job.name}: its result (generation {upload.job.generation}), which is on its way already, is computed "
                f"{difference}; to compute it anew:  {_anew(here, file)}"
            )
        try:
            captured = _capture(here, upload)
        except PreconditionFailed:
            continue  # another content lies there by now: look again
        ours = upload.job.source.etag == etag or (
            same and captured is not None and captured.sha256 == spooled.sha256
        )
        if captured is not None and not ours:
            raise JobEnded(
                f"{file.path}: another upload called {file.name} took its place before its rows were captured"
            )
        return upload.job


def _known(here: _Push, file: _File, job: Job, end: End) -> None:
    """Say what became of a content that is known; raise JobEnded where it isn't published."""
    if end.state != "published":
        raise JobEnded(f"{ended(job, end)}; to compute it anew:  {_anew(here, file)}")
    if difference := _difference(job, file.prepared):
        here.otherwise.append(
            f"{job.name}: nothing was done: the same content was computed before (generation {job.generation}), {difference}; "
            f"to compute it anew:  {_anew(here, file)}"
        )
        return
    here.progress.say(
        f"{job.name}: already done (generation {job.generation}); to compute it anew:  {_anew(here, file)}"
    )
    here.done.append(job)


def _difference(job: Job, today: Prepared) -> str | None:
    """Say how a job's result is computed otherwise than it would be today; None where it isn't."""
    calculation = today.bound.calculation
    if job.digest != calculation.digest:
        return f"by another calculation than [calculations.{calculation.label}] is today"
    if job.dialect != today.dialect:
        return f"from the file read as {job.dialect.describe()}, and today it is {today.dialect.describe()}"
    return None


def _anew(here: _Push, file: _File) -> str:
    """Return the command that computes a file anew, as it can be copied into a shell."""
    words = ["millstream push --again"]
    words += ["--wait"] if here.wait else []
    words += [f"--name={word(file.name)}"] if name_of(file.path.name) != file.name else []
    words += [
        f"--{flag}={word(str(value))}" for flag, value in here.told.model_dump(exclude_none=True).items()
    ]
    return shell(" ".join(words), file.path)


def _capture(here: _Push, upload: Upload) -> Captured | None:
    """Capture a job, or wait for who does; return its account, None where it is published already."""
    job, progress = upload.job, here.progress
    work = Capture(here.stage, job, upload.file, fresh=upload.new, check=here.check)
    waiting = False
    try:
        while (outcome := work.attempt(here.publisher, progress)) is None:
            if not waiting:
                progress.say(f"{job.name}: another process captures it; waiting for that")
                waiting = True
            claim = work.observer.claim
            rows, share = (claim.rows, claim.share) if claim is not None else (0, None)
            progress.captured(job.name, rows, share)
            time.sleep(POLL)
    except KeyboardInterrupt as stop:
        stop.add_note(
            f"{job.name} is uploaded and captured in part; watch goes on with it, and so does pushing it again"
        )
        raise
    except Unreachable as error:
        error.add_note(f"{job.name}: what was captured is kept, and watch goes on when it is back")
        raise
    finally:
        progress.done(job.name)
    if isinstance(outcome, End):
        if outcome.state != "published":
            raise JobEnded(ended(job, outcome))
        return None
    bad = f", {outcome.malformed:,} of them malformed" if outcome.malformed else ""
    already = "" if upload.new else " (already running)"
    progress.say(f"{job.name}: {counted(outcome.rows, 'row')} captured{bad}{already}")
    return outcome


def _wait(stage: Stage, jobs: Sequence[Job], progress: Progress, most: MostRejects | None) -> list[str]:
    """Wait until all jobs have ended, and say what became of them; return what went wrong, a sentence each."""
    failed = []
    for job in jobs:
        try:
            receipt = wait_for_end(stage.results, job)
        except JobEnded as error:
            failed.append(str(error))
            continue
        if receipt is None:
            progress.say(f"{job.name}: published, and by now replaced by a newer upload's result")
            continue
        progress.say(verdict(receipt))
        for line in of_result(stage.results, receipt):
            progress.say(line)
        if len(jobs) <= FEW:
            for line in where(receipt, stage.settings.http):
                progress.say(line)
        if most is not None and most.exceeded(receipt):
            failed.append(too_many(receipt, most))
    if len(jobs) > FEW:
        progress.say(where_all(stage.settings.http))
    return failed
