"""What is uploaded, and what DuckDB by itself makes of it."""

import csv
import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from random import Random

import duckdb

from tests.chaos.plan import Upload

CONFIGURATION = """
[calculations.orders]
match = "*.csv"
id = "order_id"
columns = { quantity = "BIGINT", price = "DECIMAL(18,2)" }
outputs = { total = "quantity * price", label = "upper(note) || '-' || (quantity % 7)" }
"""

ORACLE = """
COPY (
    SELECT order_id, CAST(quantity AS BIGINT) * CAST(price AS DECIMAL(18,2)) AS total,
        upper(note) || '-' || (CAST(quantity AS BIGINT) % 7) AS label
    FROM read_csv('{source}', all_varchar = true, header = true, delim = ',', quote = '"', escape = '"', nullstr = '\\0',
        strict_mode = true, ignore_errors = true, parallel = false,
        columns = {{'order_id': 'VARCHAR', 'quantity': 'VARCHAR', 'price': 'VARCHAR', 'note': 'VARCHAR'}}, auto_detect = false)
    WHERE TRY_CAST(price AS DECIMAL(18,2)) IS NOT NULL
) TO '{target}' (FORMAT csv, HEADER)
"""


@dataclass(frozen=True, slots=True)
class Content:
    """A file, its ETag on S3, and the CSV that has to come out of it."""

    source: bytes
    etag: str
    result: bytes
    rows: int
    results: int


def write(upload: Upload, folder: Path) -> tuple[Path, Content]:
    """Write an upload's file below `folder`, under its name, and compute its result."""
    place = folder / f"upload-{upload.seed}"
    place.mkdir()
    random = Random(upload.seed)
    lines = ["order_id,quantity,price,note\n"]
    results = 0
    for row in range(upload.rows):
        torn = upload.torn and row % upload.torn == upload.torn - 1
        bad = upload.bad and row % upload.bad == upload.bad - 1
        price = "n/a" if bad else f"{random.randrange(100_000) / 100:.2f}"
        note = random.choice(("plain", '"a, b"', '"two\nlines"', "ümlaut", '"say ""so"""', '""'))
        lines.append(f"{row:07}\n" if torn else f"{row:07},{random.randrange(1000)},{price},{note}\n")
        results += not (torn or bad)
    source = place / upload.name
    source.write_text("".join(lines), encoding="utf-8", newline="")
    target = place / "oracle"
    with duckdb.connect() as oracle:
        oracle.execute(ORACLE.format(source=source, target=target))
    data, result = source.read_bytes(), target.read_bytes()
    found = len(ids(result))
    assert found == results, f"the oracle has {found} rows for {results}"
    return source, Content(data, hashlib.md5(data).hexdigest(), result, upload.rows, results)


def ids(result: bytes) -> list[str]:
    """Return the ids of a result's rows, in order."""
    return [row[0] for row in csv.reader(io.StringIO(result.decode(), newline=""))][1:]
