"""The file that is measured with, what it has to become, and the calculation.

Order lines of about 52 bytes as CSV and 121 as JSON. The oracle is DuckDB, computing from the same file without any code of
ours.
"""

from functools import cached_property
from pathlib import Path

import duckdb
import pyarrow as pa

CONFIGURATION = """
[calculations.orders]
match = "*.csv"
id = "order_id"
columns = { quantity = "BIGINT", price = "DECIMAL(18,2)", discount = "DOUBLE" }
outputs = { total = "quantity * price", net = "quantity * price * (1 - discount)" }
"""

_ROWS = """
SELECT printf('%08d', i) AS order_id,
    printf('c%06d', hash(i) % 1000000) AS customer,
    1 + hash(i + 1) % 24 AS quantity,
    printf('%d.%02d', 1 + hash(i + 2) % 999, hash(i + 3) % 100) AS price,
    printf('0.%02d', hash(i + 4) % 40) AS discount,
    strftime(TIMESTAMP '2026-01-01' + to_seconds(CAST(i AS BIGINT)), '%Y-%m-%dT%H:%M:%S') AS ts
FROM range({first}, {last}) AS rows(i)
"""

_COLUMNS = ("order_id", "customer", "quantity", "price", "discount", "ts")


def write_csv(path: Path, rows: int, first: int = 0) -> None:
    """Write orders `first` to `first + rows - 1`; the same numbers give the same file everywhere."""
    with _connect() as con:
        con.execute(f"COPY ({_ROWS.format(first=first, last=first + rows)}) TO '{path}' (FORMAT csv, HEADER)")


class Oracle:
    """What a file of `write_csv` has to become, as DuckDB computes it. Computed when first asked for."""

    def __init__(self, path: Path) -> None:
        """`path` is the CSV."""
        self.path = path

    @cached_property
    def results(self) -> pa.Table:
        """order_id (string), total (decimal), net (double); one row per row of the file, in its order."""
        with _connect() as con:
            return con.sql(self._computed()).to_arrow_table().combine_chunks()

    @cached_property
    def messages(self) -> pa.Array:
        """The value of each row's event (large_string), in the file's order."""
        pieces = " || ',' || ".join(f"""'"{name}":"' || "{name}" || '"'""" for name in _COLUMNS)
        types = ", ".join(f"'{name}': 'VARCHAR'" for name in _COLUMNS)
        with _connect() as con:
            table = con.sql(
                f"SELECT '{{' || {pieces} || '}}' AS value FROM read_csv('{self.path}', columns = {{{types}}}, header = true)"
            ).to_arrow_table()
        return pa.concat_arrays([chunk.cast(pa.large_string()) for chunk in table.column(0).chunks])

    @cached_property
    def csv(self) -> bytes:
        """The output, byte for byte."""
        out = self.path.with_suffix(".oracle")
        with _connect() as con:
            con.execute(f"COPY ({self._computed()}) TO '{out}' (FORMAT csv, HEADER)")
        content = out.read_bytes()
        out.unlink()
        return content

    def _computed(self) -> str:
        return f"""
            SELECT order_id, quantity * price AS total, quantity * price * (1 - discount) AS net
            FROM read_csv('{self.path}', header = true, columns = {{'order_id': 'VARCHAR', 'customer': 'VARCHAR',
                'quantity': 'BIGINT', 'price': 'DECIMAL(18,2)', 'discount': 'DOUBLE', 'ts': 'VARCHAR'}})
        """


def _connect() -> duckdb.DuckDBPyConnection:
    con = duckdb.connect()
    con.execute("SET preserve_insertion_order = true")
    return con
