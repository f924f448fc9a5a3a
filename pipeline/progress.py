"""How far each job is, as events on the topic `<prefix>.progress`: for whoever watches, and for nobody else.

| key | who sends it | its figures |
| --- | --- | --- |
| `<file_id>:capture:0` | who captures | rows published from the start of the file, malformed ones, the share of the file |
| `<file_id>:compute:<partition>` | a processor | rows of the job's share on this partition up to the highest row computed |
| `<file_id>:store:<partition>` | a sink | the same of rows collected; rejects among what it holds |
| `<file_id>:publish:0` | the sink that assembles | how the job ended, when it has |
| `instance:<stage>:<host>-<pid>` | every process | partitions, lag by partition, rows since its start, what it waits for |

All figures are absolute, so that telling them twice changes nothing. A row's place in its share follows from its number alone,
and a partition carries a job's rows in order: the highest row number says how many came before it. So figures are right
after a replay, too. Approximate they are in three cases: while a repair fills a gap, the gap counts as filled; a sink's rejects
are those that it holds, until the receipt counts them all; and a job that is over within a second may never be told of.
Nothing is decided by any of this: losing the topic loses a picture and no data.
"""

import re
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from pipeline.events import ID_LENGTH, first_partition
from pipeline.jobs import Job

Stage = Literal["capture", "compute", "store", "publish"]
STAGES: tuple[Stage, ...] = ("capture", "compute", "store", "publish")

_KEY = re.compile(rf"([0-9a-f]{{{ID_LENGTH}}}):({'|'.join(STAGES)}):([\w.-]{{1,64}})")
_INSTANCE = re.compile(r"instance:(\w{1,16}):([\w.-]{1,128})")


class _Event(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    at: float
    """Seconds since 1970, by the clock of whoever tells."""

    @classmethod
    def load(cls, value: bytes) -> Self | None:
        """Return an event as it was sent; None for what can't be one."""
        try:
            return cls.model_validate_json(value)
        except ValidationError:
            return None

    def dump(self) -> bytes:
        """Return the event as it is sent."""
        return self.model_dump_json(exclude_none=True).encode()


class JobEvent(_Event):
    """How far one part of one stage of a job is.

    `rows` of `total` (None: not known yet) are done, `rejected` of them without a result; `share` is that of the file in
    bytes, 0 to 1; `state` says how the job ended.
    """

    name: str
    generation: int
    rows: int = 0
    rejected: int | None = None
    total: int | None = None
    share: float | None = None
    state: str | None = None


class InstanceEvent(_Event):
    """A running process: its partitions with their lag in messages, rows done since its start, and what it waits for."""

    started: float
    rows: int = 0
    partitions: list[int] = []
    lag: dict[int, int] = {}
    waits: list[str] = []


def job_key(file_id: str, stage: Stage, part: int | str = 0) -> str:
    """Return the key of a job's event."""
    return f"{file_id}:{stage}:{part}"


def instance_key(stage: str, instance: str) -> str:
    """Return the key of a process's event."""
    return f"instance:{stage}:{instance}"


def parse_job_key(key: str) -> tuple[str, str, str] | None:
    """Return file_id, stage and part of a job's event, None for other keys."""
    found = _KEY.fullmatch(key)
    return (found[1], found[2], found[3]) if found else None


def parse_instance_key(key: str) -> tuple[str, str] | None:
    """Return stage and instance of a process's event, None for other keys."""
    found = _INSTANCE.fullmatch(key)
    return (found[1], found[2]) if found else None


def rows_up_to(job: Job, partition: int, row: int) -> int:
    """Return how many of a job's rows 0 to `row` its share on a partition has; -1 is before the first."""
    rows, dealt = row + 1, job.partitions
    whole, rest = divmod(rows, job.block)
    place = (partition - first_partition(job.file_id, dealt)) % dealt  # the first block that is dealt to it
    blocks = (whole - place + dealt - 1) // dealt if whole > place else 0
    return blocks * job.block + (rest if whole % dealt == place else 0)
