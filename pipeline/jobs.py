"""What Millstream writes down about a file on S3: the name's record, the job, its account, its end, its receipt.

All are small JSON objects, written under the conditions that DESIGN's table of keys gives; times are UTC.
"""

from datetime import UTC, datetime
from typing import Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from pipeline.calculations import Calculation
from pipeline.dialect import Dialect
from pipeline.errors import Permanent
from pipeline.events import file_id, first_partition, partition_of, rows_per_partition
from pipeline.sql_text import fold
from pipeline.types import ColumnType

FORMAT = 1

NOBODY = "0" * 32
"""The file_id of a receipt that says that its name was deleted."""


def now() -> datetime:
    """Return the time, for people to read: nothing is decided by it."""
    return datetime.now(UTC)


class Record(BaseModel):
    """A JSON object on S3."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    def dump(self) -> bytes:
        """Return the object as it is stored."""
        return self.model_dump_json(indent=1).encode()

    @classmethod
    def load(cls, data: bytes) -> Self:
        """Read a stored object; raise Permanent where it isn't one."""
        try:
            return cls.model_validate_json(data)
        except ValidationError as error:
            raise Permanent(f"a stored {cls.__name__} can't be read: {error}") from error


class Source(Record):
    """The upload that a job was made of: key in the uploads bucket, ETag, bytes, and when it was last modified."""

    key: str
    etag: str
    size: int
    last_modified: datetime


class NameRecord(Record):
    """Who owns a name: its highest generation. Without a source, the name was deleted."""

    generation: int
    file_id: str | None = None
    source: Source | None = None
    calculation: str | None = None


class Output(Record):
    """A calculated column: its name and its type, as `pipeline.types` spells it."""

    name: str
    type: str

    @field_validator("type")
    @classmethod
    def _known(cls, text: str) -> str:
        return ColumnType.parse(text).sql


class Job(Record):
    """One generation of one name with one calculation; written before its first row event, and never changed."""

    format: Literal[1] = 1
    file_id: str
    name: str
    generation: int
    source: Source
    columns: tuple[str, ...]
    dialect: Dialect
    calculation: Calculation
    digest: str
    outputs: tuple[Output, ...]
    oracle: str | None
    partitions: int
    block: int
    created: datetime
    trace: str | None = None
    """A W3C traceparent: what the stages' spans for this job belong below."""

    @property
    def ids(self) -> tuple[str, ...]:
        """The id columns as the header spells them; the calculation may spell them in another case."""
        spelt = {fold(name): name for name in self.columns}
        return tuple(spelt[fold(name)] for name in self.calculation.id)

    def partition(self, row: int) -> int:
        """Return the partition that a row is dealt to."""
        return partition_of(self.file_id, row // self.block, self.partitions)

    def belongs(self, rows: npt.NDArray[np.int64], partition: int) -> npt.NDArray[np.bool_]:
        """Return which row numbers are dealt to a partition; -1, which is no row, belongs to any."""
        dealt = (first_partition(self.file_id, self.partitions) + rows // self.block) % self.partitions
        right: npt.NDArray[np.bool_] = (dealt == partition) | (rows < 0)
        return right

    def shares(self, rows: int) -> dict[int, int]:
        """Return how many of `rows` rows each partition carries."""
        return rows_per_partition(self.file_id, rows, self.block, self.partitions)

    def is_named_rightly(self) -> bool:
        """Whether the file_id is the one that its parts give."""
        return self.file_id == file_id(self.name, self.generation, self.source.etag, self.digest)


class Claim(Record):
    """Who captures a job (nobody: an empty nonce), and how far.

    The first `blocks` blocks are acknowledged: `rows` rows, `malformed` of them malformed. They are `bytes` of the file's
    `total` bytes as text, 0 until it is at hand. `beat` counts renewals.
    """

    nonce: str
    blocks: int = 0
    rows: int = 0
    malformed: int = 0
    bytes: int = 0
    total: int = 0
    beat: int = 0

    @property
    def share(self) -> float | None:
        """How much of the file is acknowledged, 0 to 1; None until that is known."""
        return min(1.0, self.bytes / self.total) if self.total else None


class Captured(Record):
    """The account of the input: counted and acknowledged. SHA-256 is of the upload as it came."""

    rows: int
    malformed: int
    shares: dict[int, int]
    sha256: str
    size: int
    started: datetime
    finished: datetime


class Stored(Record):
    """An object of a published job: key in the results bucket, bytes, SHA-256 of its content."""

    key: str
    size: int
    sha256: str


class End(Record):
    """How a job ended, for ever: decided by whoever writes it first."""

    state: Literal["published", "superseded", "cancelled", "deleted", "failed"]
    reason: str | None = None
    nonce: str
    receipt: "Receipt | None" = None
    ended: datetime

    @property
    def why(self) -> str | None:
        """The reason, where it says more than the state does."""
        return None if self.state == "deleted" else self.reason


class Receipt(Record):
    """The account of a finished job. rows = results + rejected; the reader serves what `output` names.

    `duplicates` counts rows that came again; `rounds` how often rows that the broker had lost were captured again.
    """

    state: Literal["published", "deleted"] = "published"
    name: str
    generation: int
    file_id: str
    rows: int = 0
    results: int = 0
    rejected: int = 0
    duplicates: int = 0
    rounds: int = 0
    source: Source | None = None
    input_sha256: str | None = None
    calculation: str | None = None
    digest: str | None = None
    output: Stored | None = None
    rejects: Stored | None = None
    captured: datetime | None = None
    published: datetime

    @property
    def balances(self) -> bool:
        """Whether rows in = rows out + rows rejected."""
        return self.rows == self.results + self.rejected


class Refusal(Record):
    """Why no job could be made of an upload; tried again when its ETag or the configuration changes."""

    etag: str
    configuration: str
    reason: str
    refused: datetime
