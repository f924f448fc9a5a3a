"""A calculation bound to a file's columns, and the SQL that computes its outputs.

The SQL is built in layers, each a subquery of the next: *cells* gives the columns their types, and keeps what
an id or a message needs; *checked* tells the rows all of whose cells could be cast; *computed* tries the
expressions. Names of our own begin with a prefix that no column of the file begins with.

`TRY([expression])` is NULL where the expression raised, and `[NULL]` where its value is NULL: so a vectorised
query tells one from the other.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.calculations import Calculation
from pipeline.sql_text import literal, quote
from pipeline.types import ColumnType


@dataclass(frozen=True)
class Bound:
    """A calculation and a header that it fits. Names are spelt as in the header.

    columns: the header; ids: the id columns; typed: the columns with a type; outputs: name and type of each
    calculated column; inputs: the columns that the outputs or the casts look at, in the header's order.
    """

    calculation: Calculation
    columns: tuple[str, ...]
    ids: tuple[str, ...]
    typed: tuple[tuple[str, ColumnType], ...]
    inputs: tuple[str, ...]
    outputs: tuple[tuple[str, ColumnType], ...]
    uses: tuple[frozenset[str], ...]
    prefix: str

    @property
    def ordinal(self) -> str:
        """The column beside the file's in which `batch_sql` expects a row's place in the batch (BIGINT)."""
        return f"{self.prefix}o"

    def batch_sql(self, relation: str) -> str:
        """SQL over a batch: ordinal, whether the row is good, and the text of each output (`<prefix>v0`,
        …)."""
        p = self.prefix
        tried = range(len(self.outputs))
        good = " AND ".join([f"{p}ok", *(f"{p}r{i} IS NOT NULL" for i in tried)])
        values = [f"{p}r{i}[1] AS {p}v{i}" for i in tried]
        return f"SELECT {', '.join([self.ordinal, f'{good} AS {p}good', *values])} FROM ({self._computed(relation)})"

    def why_sql(self, relation: str) -> str:
        """SQL over a batch: ordinal, then whether each typed cell (`<prefix>c0`, …) and output (`<prefix>e0`,
        …) is bad."""
        p = self.prefix
        flags = [f"NOT {p}k{i} AS {p}c{i}" for i in range(len(self.typed))]
        if self.calculation.python is not None:
            return (
                f"SELECT {', '.join([self.ordinal, *flags])} FROM ({self._checked(relation, [self.ordinal])})"
            )
        flags += [f"{p}r{i} IS NULL AS {p}e{i}" for i in range(len(self.outputs))]
        return f"SELECT {', '.join([self.ordinal, *flags])} FROM ({self._computed(relation)})"

    def output_sql(self, output: int, relation: str) -> str:
        """SQL over a batch: one output's text, which raises as DuckDB does."""
        return f"SELECT {self._text(output)} FROM ({self._checked(relation, [self.ordinal])})"

    def cells_sql(self, relation: str) -> str:
        """SQL over a batch of whole rows: ordinal, whether all cells could be cast, and all columns with
        their types."""
        p = self.prefix
        names = ", ".join(quote(name) for name in self.columns)
        checked = self._checked(relation, [self.ordinal])
        return f"SELECT {self.ordinal}, {p}ok AS {p}good, {names} FROM ({checked})"

    def _text(self, output: int) -> str:
        return f"CAST({self._expression(output)} AS VARCHAR)"

    def _expression(self, output: int) -> str:
        """Return an output's expression, which may end in a comment."""
        return f"(\n{self.calculation.outputs[self.outputs[output][0]]}\n)"

    def _computed(self, relation: str) -> str:
        p = self.prefix
        flags = [f"{p}ok", *(f"{p}k{i}" for i in range(len(self.typed)))]
        tried = [f"TRY([{self._text(i)}]) AS {p}r{i}" for i in range(len(self.outputs))]
        return f"SELECT {', '.join([self.ordinal, *flags, *tried])} FROM ({self._checked(relation, [self.ordinal])})"

    def _checked(self, relation: str, kept: Sequence[str]) -> str:
        p = self.prefix
        nulls = ", ".join(literal(text) for text in self.calculation.null_texts)
        flags = [
            f"({quote(name)} IS NOT NULL OR {p}t{i} IN ({nulls})) AS {p}k{i}"
            for i, (name, _) in enumerate(self.typed)
        ]
        good = " AND ".join([f"{p}k{i}" for i in range(len(self.typed))] or ["true"])
        names = [quote(name) for name in self.inputs]
        cells = f"SELECT {', '.join([*kept, *names, *flags])} FROM ({self._cells(relation, kept, names)})"
        kept = [*kept, *names, f"{good} AS {p}ok", *(f"{p}k{i}" for i in range(len(flags)))]
        return f"SELECT {', '.join(kept)} FROM ({cells})"

    def _cells(self, relation: str, kept: Sequence[str], names: Sequence[str]) -> str:
        p = self.prefix
        nulls = ", ".join(literal(text) for text in self.calculation.null_texts)
        types = {quote(name): kind.sql for name, kind in self.typed}
        cells = []
        for name in names:
            cell = f"{p}t.{name}"
            if name in types:
                cell = f"TRY_CAST(CASE WHEN {cell} IN ({nulls}) THEN NULL ELSE {cell} END AS {types[name]})"
            cells.append(f"{cell} AS {name}")
        texts = [f"{p}t.{quote(name)} AS {p}t{i}" for i, (name, _) in enumerate(self.typed)]
        return f"SELECT {', '.join([*(f'{p}t.{k}' for k in kept), *cells, *texts])} FROM {relation} AS {p}t"

    def oracle_sql(self, relation: str, malformed: str | None = None) -> str | None:
        """Return the SELECT that computes the result straight from a relation, or None for a Python
        calculation.

        `relation` is something to select from: the file's rows in order, its columns as VARCHAR, and a
        BOOLEAN column called `malformed`, if any row can be. Rows that Millstream rejects are left out.
        """
        if self.calculation.python is not None:
            return None
        p = self.prefix
        ids = [f"{p}i{i}" for i in range(len(self.ids))]
        rows = ", ".join(f"{quote(name)} AS {own}" for name, own in zip(self.ids, ids, strict=True))
        where = f" WHERE NOT {quote(malformed)}" if malformed else ""
        source = f"(SELECT *, {rows} FROM {relation}{where})"
        tried = [f"TRY([{self._expression(i)}]) AS {p}r{i}" for i in range(len(self.outputs))]
        computed = f"SELECT {', '.join([*ids, f'{p}ok', *tried])} FROM ({self._checked(source, ids)})"
        names = [f"{own} AS {quote(name)}" for name, own in zip(self.ids, ids, strict=True)]
        names += [f"{p}r{i}[1] AS {quote(name)}" for i, (name, _) in enumerate(self.outputs)]
        good = " AND ".join([f"{p}ok", *(f"{p}r{i} IS NOT NULL" for i in range(len(self.outputs)))])
        return f"SELECT {', '.join(names)} FROM ({computed}) WHERE {good}"
