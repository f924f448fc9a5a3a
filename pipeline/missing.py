"""Repair: which blocks of a share were lost between capture and the sink, asked for by the sink and sent again by capture.

    sink       the end of the share's current round has come through, and no new row of it for a while: `request` the next round
    capture    finds it (`requested`), publishes those blocks again, marks it `captured`, sends the share's end of that round

One record per share, `missing/<partition>.json`; its round only goes up. The open mark, empty at first, is written anew with
each request: so that whoever watches learns of it from one listing of the marks, and not by asking for each job.
"""

from collections.abc import Collection, Sequence
from datetime import datetime

from pipeline import layout, records
from pipeline.errors import NotFound, PreconditionFailed
from pipeline.jobs import Job, Record, now
from pipeline.store import Head, ObjectStore

ROUNDS = 5
"""Rounds of repair; a share that lacks rows after the last can't be had."""

QUIET = 30.0
"""Seconds without a new row of a share, after the end of its current round, until its rows are taken for lost."""

_NAMED = 5


class Missing(Record):
    """What one share lacks: the blocks to capture again in this round (1, 2, …), ascending.

    `captured` once all of them are acknowledged by the broker: then only the end of this round is to be sent (again).
    """

    round: int
    blocks: tuple[int, ...]
    requested: datetime
    captured: bool = False


def current(results: ObjectStore, file_id: str, partition: int) -> Missing | None:
    """Return the share's current round of repair; None in round 0."""
    return records.read(results, layout.missing(file_id, partition), Missing)


def request(results: ObjectStore, file_id: str, partition: int, round: int, blocks: Sequence[int]) -> Missing:
    """Ask for blocks of a share in this round; return what is asked for afterwards: this, or what was by others.

    A round that was asked for already, or a higher one, stays as it is.
    """
    key = layout.missing(file_id, partition)
    wanted = Missing(round=round, blocks=tuple(sorted(blocks)), requested=now())
    while True:
        found = records.read_with_etag(results, key, Missing)
        there, etag = found or (None, None)
        if there is not None and there.round >= round:
            wanted = there
        elif not records.replace(results, key, wanted, etag):
            continue
        _tell(results, file_id, partition, wanted)
        return wanted


def requested(results: ObjectStore, file_id: str) -> dict[int, tuple[Missing, str]]:
    """Return what is asked for by partition, with the ETag that `settle` needs."""
    found = {}
    for head in results.list(layout.missing_folder(file_id)):
        share = records.read_with_etag(results, head.key, Missing)
        if share is not None:
            found[layout.missing_partition(head.key)] = share
    return found


def settle(results: ObjectStore, file_id: str, partition: int, missing: Missing, etag: str) -> bool:
    """Note that all blocks of a round are acknowledged; return whether it is still the current one."""
    done = missing.model_copy(update={"captured": True})
    return records.replace(results, layout.missing(file_id, partition), done, etag)


def described(job: Job, rows: int, blocks: Collection[int]) -> str:
    """Return the rows of these blocks of a job of `rows` rows, for people: `rows 0 to 8,191 and 16,384 to 19,999`."""
    runs: list[list[int]] = []
    for block in sorted(set(blocks)):
        if runs and runs[-1][1] == block - 1:
            runs[-1][1] = block
        else:
            runs.append([block, block])
    names = [f"{first * job.block:,} to {min((last + 1) * job.block, rows) - 1:,}" for first, last in runs]
    if len(names) > _NAMED:
        names[_NAMED:] = [f"{len(names) - _NAMED} more stretches"]
    *most, last = names or ["none"]
    return f"rows {', '.join(most)} and {last}" if most else f"rows {last}"


def lacks(mark: Head) -> bool:
    """Whether an open mark, as a listing shows it, says that blocks are asked for; another ETag means another request."""
    return mark.size > 0


def _tell(results: ObjectStore, file_id: str, partition: int, missing: Missing) -> None:
    """Have the open mark say so; one that was removed, with its job, isn't made anew."""
    key = layout.open_mark(file_id)
    news = f"partition {partition} round {missing.round}\n".encode()
    while True:
        try:
            results.put(key, news, if_match=results.head(key).etag)
        except NotFound:
            return
        except PreconditionFailed:
            continue  # another share's, or the mark was removed: the next look tells
        return
