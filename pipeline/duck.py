"""The DuckDB edge: the only file that imports `duckdb`.

A connection works in UTC, on one thread unless told otherwise, and never loads an extension by itself. A
*locked* one, for SQL that somebody wrote into a calculation, has no files, no network and no Python variables
to read either, and its settings can't be changed any more.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import duckdb
import pyarrow as pa

from pipeline.errors import MillstreamError

Connection = duckdb.DuckDBPyConnection
Error = duckdb.Error
OutOfMemory = duckdb.OutOfMemoryException
Interrupted = duckdb.InterruptException

_OF_THE_DATABASE = (
    duckdb.ConnectionException,
    duckdb.FatalException,
    duckdb.InternalException,
    duckdb.CatalogException,
    duckdb.TransactionException,
)

# A small batch comes back quicker through execute(): sql() plans a query twice, which costs 0.7 ms, and the copy 0.01 ms.
warnings.filterwarnings("ignore", "Arrow output on a DB-API result", UserWarning)

MEMORY_LIMIT = "1GB"
FILE_MEMORY = 72
"""MB of the database that reads files. DuckDB keeps files' pages until its limit is reached, so that is low."""

TRIAL_MEMORY = "256MB"
"""The limit of the one database in which expressions are checked, and tried on a row."""

_LONGEST_MESSAGE = 300


def connect(
    *, memory_limit: str = MEMORY_LIMIT, threads: int = 1, temp_directory: Path | str | None = None
) -> Connection:
    """Open a database in memory, which spills to `temp_directory`, or nowhere without one."""
    con = duckdb.connect(config=_config(memory_limit, threads, temp_directory))
    con.execute("SET GLOBAL TimeZone = 'UTC'")
    return con


def shared() -> Connection:
    """Open a connection for reading files, with FILE_MEMORY MB.

    All of them share one database (opening one takes 25 ms of CPU, more than reading a small file), but no names.
    """
    return _shared_database().cursor()


@lru_cache(maxsize=1)
def _shared_database() -> Connection:
    return connect(memory_limit=f"{FILE_MEMORY}MB")


def locked(*, memory_limit: str = MEMORY_LIMIT) -> Connection:
    """Open a connection that can compute and nothing else.

    What was opened with the same limit shares one database (opening one takes 25 ms), but no names: relations
    and prepared statements belong to their connection. DuckDB's limit covers its buffers, not the strings and
    lists of an expression: see `pipeline.limits.memory_ceiling`.
    """
    return _locked_database(memory_limit).cursor()


def trial() -> Connection:
    """Open a locked connection for checking and trying expressions, with TRIAL_MEMORY."""
    return locked(memory_limit=TRIAL_MEMORY)


@lru_cache(maxsize=8)
def _locked_database(memory_limit: str) -> Connection:
    con = connect(memory_limit=memory_limit)
    for setting in ("enable_external_access", "python_enable_replacements", "allow_community_extensions"):
        con.execute(f"SET GLOBAL {setting} = false")
    con.execute("SET lock_configuration = true")
    return con


def _config(
    memory_limit: str, threads: int, temp_directory: Path | str | None
) -> dict[str, str | bool | int | float | list[str]]:
    return {
        "memory_limit": memory_limit,
        "threads": str(threads),
        "temp_directory": str(temp_directory or ""),
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
        "preserve_insertion_order": "true",
    }


def forget_locked() -> None:
    """Give up the locked databases: the next connection gets a new one. An internal error spoils a
    database."""
    _locked_database.cache_clear()


def is_of_the_rows(error: duckdb.Error) -> bool:
    """Return whether an error is about the data that a query was given, rather than about the database."""
    return not isinstance(error, _OF_THE_DATABASE)


def stream(con: Connection, query: str, rows: int, *, whole: bool = False) -> pa.RecordBatchReader:
    """Run a query and return its result as it is computed, in batches of `rows` rows.

    `con.execute(…)` computes the `whole` result first: 5 s and 1.7 GB on a file of 574 MB, against 0.16 s
    and 380 MB; 2 ms on one of 100 rows, against 3.
    """
    return (con.execute(query) if whole else con.sql(query)).to_arrow_reader(rows)


class Slot:
    """An Arrow table that a query reads by name, and that can be another one each time the query runs.

    A statement prepared on it stays prepared: a batch of 50 rows takes 1.0 ms of CPU so, and 3.4 ms when each
    batch is registered and its query parsed, bound and optimised anew. The schema has to stay the same.
    """

    def __init__(self, con: Connection, name: str, schema: pa.Schema) -> None:
        self._empty = schema.empty_table()
        self._table = self._empty
        con.register(name, self)

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """Hand the present table to DuckDB."""
        return self._table.__arrow_c_stream__(requested_schema)

    @contextmanager
    def holding(self, table: pa.Table) -> Iterator[None]:
        """Let queries read `table`; afterwards nothing of it is kept."""
        self._table = table
        try:
            yield
        finally:
            self._table = self._empty


def message(error: BaseException) -> str:
    """Return what a DuckDB error says, for a person: its first line, without the kind of error in front."""
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    kind, colon, rest = first.partition(" Error: ")
    text = rest if colon and len(kind) < 30 else first
    return text if len(text) <= _LONGEST_MESSAGE else text[:_LONGEST_MESSAGE] + "…"


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether memory was short; Arrow's readers raise OSError with DuckDB's message."""
    return str(error).startswith("Out of Memory")


@contextmanager
def errors(kind: type[MillstreamError], what: str) -> Iterator[None]:
    """Turn DuckDB's errors inside the block into `kind`, with `what` in front of the message."""
    try:
        yield
    except duckdb.Error as error:
        raise kind(f"{what}: {message(error)}") from error
