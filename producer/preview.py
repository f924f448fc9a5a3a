"""What capture would publish, without a service and without a configuration."""

import itertools
import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from pipeline.dialect import DialectOverrides
from pipeline.events import ID_LENGTH, end_key, end_value, rows_per_partition
from pipeline.settings import Settings
from pipeline.states import counted
from producer.encode import encode
from producer.local import chunks
from producer.reader import read
from producer.sniff import sniff
from producer.spool import spool

NO_FILE_ID = "0" * ID_LENGTH
"""Stands for the file's id, which depends on its generation and its calculation."""


def preview(path: Path, told: DialectOverrides, explain: Callable[[str], None]) -> Iterator[bytes]:
    """Yield a line of JSON for each event, `{"key":…,"value":{…}}`: the rows, then the ends of the shares.

    Block size and partitions, which the ends depend on, and the limit of a message are the defaults. `told` has what is
    known of the dialect; `explain` gets what was found. Raises InputError where the file can't be read.
    """
    defaults = {name: field.default for name, field in Settings.model_fields.items()}
    block, partitions, limit = (int(defaults[name]) for name in ("block", "partitions", "message_bytes"))
    with spool(chunks(path), str(path), tempfile.gettempdir(), encoding=told.encoding) as file:
        dialect, columns = sniff(file.path, told, encoding=file.encoding)
        explain(f"{path}: {dialect.describe()}")
        explain(f"{len(columns)} columns: {', '.join(columns)}")
        rows = malformed = 0
        for each in read(file.path, dialect, columns, block=block):
            events = encode(each, NO_FILE_ID, limit)
            rows, malformed = rows + events.rows, malformed + events.malformed
            yield b"".join(itertools.starmap(_line, events.messages))
        for share in rows_per_partition(NO_FILE_ID, rows, block, partitions).values() or [0]:
            yield _line(end_key(NO_FILE_ID), end_value(share, 0))
        explain(f"{counted(rows, 'row')}, {malformed:,} of them malformed")


def _line(key: bytes, value: bytes) -> bytes:
    return b'{"key":%b,"value":%b}\n' % (json.dumps(key.decode()).encode(), value)
