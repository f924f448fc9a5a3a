"""The column types that a calculation may use: a closed list, spelt as DuckDB spells it.

On the wire a value is DuckDB's text of it. Numbers and booleans stand there as JSON tokens, all else as
strings; so do the floating point values that JSON has no token for: "nan", "-nan", "inf" and "-inf".

| type | JSON | Arrow reads it as |
| --- | --- | --- |
| BOOLEAN | token | bool |
| TINYINT, SMALLINT, INTEGER, BIGINT and their unsigned kin | token | int8 … int64, uint8 … uint64 |
| DECIMAL(p,s) | token, with all digits of its scale | decimal128(p, s) |
| FLOAT, DOUBLE | token, or one of the four strings | float32, float64 |
| VARCHAR, DATE, TIME, TIMESTAMP, TIMESTAMPTZ, UUID | string | string |

An Arrow reader refuses a string where it expects a number, so whoever decodes reads a batch with one of the
four strings value by value. Dates and times stay text until DuckDB casts them: theirs go from 290309 BC to
the year 294247.
"""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from pipeline.errors import CalculationError

if TYPE_CHECKING:
    import pyarrow as pa

_ARROW: dict[str, str] = {
    "BOOLEAN": "bool_",
    "TINYINT": "int8",
    "SMALLINT": "int16",
    "INTEGER": "int32",
    "BIGINT": "int64",
    "UTINYINT": "uint8",
    "USMALLINT": "uint16",
    "UINTEGER": "uint32",
    "UBIGINT": "uint64",
    "FLOAT": "float32",
    "DOUBLE": "float64",
    "VARCHAR": "string",
    "DATE": "string",
    "TIME": "string",
    "TIMESTAMP": "string",
    "TIMESTAMPTZ": "string",
    "UUID": "string",
}

_ALIASES = {
    "BOOL": "BOOLEAN",
    "LOGICAL": "BOOLEAN",
    "INT1": "TINYINT",
    "INT2": "SMALLINT",
    "SHORT": "SMALLINT",
    "INT16": "SMALLINT",
    "INT": "INTEGER",
    "INT4": "INTEGER",
    "INT32": "INTEGER",
    "SIGNED": "INTEGER",
    "LONG": "BIGINT",
    "INT8": "BIGINT",
    "INT64": "BIGINT",
    "UINT8": "UTINYINT",
    "UINT16": "USMALLINT",
    "UINT32": "UINTEGER",
    "UINT64": "UBIGINT",
    "DEC": "DECIMAL",
    "NUMERIC": "DECIMAL",
    "REAL": "FLOAT",
    "FLOAT4": "FLOAT",
    "FLOAT8": "DOUBLE",
    "DOUBLE PRECISION": "DOUBLE",
    "TEXT": "VARCHAR",
    "STRING": "VARCHAR",
    "CHAR": "VARCHAR",
    "BPCHAR": "VARCHAR",
    "CHARACTER VARYING": "VARCHAR",
    "DATETIME": "TIMESTAMP",
    "TIMESTAMP WITHOUT TIME ZONE": "TIMESTAMP",
    "TIME WITHOUT TIME ZONE": "TIME",
    "TIMESTAMP WITH TIME ZONE": "TIMESTAMPTZ",
    "GUID": "UUID",
}

_SHAPE = re.compile(r"([A-Z][A-Z0-9 ]*?) ?(?:\( ?(\d{1,9}) ?(?:, ?(\d{1,9}) ?)?\))?")
_FLOATING = {"FLOAT", "DOUBLE"}
_WIDEST_DECIMAL = 38


@dataclass(frozen=True, slots=True)
class ColumnType:
    """One of the types; `precision` and `scale` are a DECIMAL's."""

    name: str
    precision: int | None = None
    scale: int | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a type as a person or DuckDB writes it; raise CalculationError where it isn't in the list."""
        found = _SHAPE.fullmatch(" ".join(text.upper().split()))
        name = _ALIASES.get(found[1], found[1]) if found else ""
        if found is None or name not in {*_ARROW, "DECIMAL"}:
            raise CalculationError(_refusal(text))
        if name == "DECIMAL":
            return cls(name, *_decimal(text, found[2], found[3]))
        if found[2] is not None and not (name == "VARCHAR" and found[3] is None):
            raise CalculationError(
                f"type {text.strip()!r}: {name} takes no length or precision; write {name}"
            )
        return cls(name)

    @property
    def sql(self) -> str:
        """The type as SQL, always spelt the same."""
        return f"DECIMAL({self.precision},{self.scale})" if self.name == "DECIMAL" else self.name

    @property
    def is_token(self) -> bool:
        """Whether finite values are JSON tokens (numbers and booleans) rather than strings."""
        return self.name == "DECIMAL" or _ARROW[self.name] != "string"

    @property
    def is_floating(self) -> bool:
        """Whether values may be "nan", "-nan", "inf" or "-inf", which are strings in JSON."""
        return self.name in _FLOATING

    @property
    def arrow(self) -> "pa.DataType":
        """The Arrow type that the JSON value is decoded as; text for what DuckDB casts afterwards."""
        import pyarrow as pa  # noqa: PLC0415 - here, so that settings are read without it

        if self.name == "DECIMAL":
            return pa.decimal128(self.precision, self.scale)
        return getattr(pa, _ARROW[self.name])()

    def __str__(self) -> str:
        return self.sql


def _decimal(text: str, precision: str | None, scale: str | None) -> tuple[int, int]:
    """Return precision and scale; DuckDB takes DECIMAL for DECIMAL(18,3), and DECIMAL(9) for DECIMAL(9,0)."""
    digits = 18 if precision is None else int(precision)
    places = 3 if precision is None else int(scale or 0)
    if not 1 <= digits <= _WIDEST_DECIMAL or places > digits:
        raise CalculationError(
            f"type {text.strip()!r}: a DECIMAL has 1 to {_WIDEST_DECIMAL} digits, scale included"
        )
    return digits, places


def _refusal(text: str) -> str:
    known = ", ".join([*_ARROW, "DECIMAL(p,s)"])
    return f"type {text.strip()!r} can't be a column's; cast it to VARCHAR, or to one of {known}"
