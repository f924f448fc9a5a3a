"""Calculations: what is computed of a file's rows, as `millstream.toml` declares it and `job.json` keeps it.

    [calculations.orders]
    match = "orders*.csv"
    id = "order_id"                                              # or a list of columns
    columns = { quantity = "BIGINT", price = "DECIMAL(18,2)" }   # the rest stay text
    nulls = ["", "NA"]                                           # in columns with a type; default [""]
    outputs = { total = "quantity * price" }                     # SQL expression per output column

A Python calculation has `python = "module:function"` and a `version`; its outputs are types, `{ total =
"DECIMAL(18,2)" }`.
"""

import difflib
import json
import re
from collections.abc import Iterable
from fnmatch import fnmatchcase
from functools import cached_property
from hashlib import blake2b
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from pipeline.dialect import DialectOverrides
from pipeline.errors import CalculationError
from pipeline.sql_text import fold
from pipeline.types import ColumnType

_FUNCTION = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


def _type(text: str) -> str:
    try:
        return ColumnType.parse(text).sql
    except CalculationError as error:
        raise ValueError(str(error)) from None


def _output(text: str, info: ValidationInfo) -> str:
    """An output is an expression, or a type where a Python function computes it."""
    if info.data.get("python") is not None:
        return _type(text)
    if not text.strip():
        raise ValueError('empty; write a SQL expression such as "quantity * price"')
    return text.strip()


def _listed(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


Name = Annotated[str, Field(min_length=1)]


class Calculation(BaseModel):
    """One calculation. Reading its JSON again gives the same; a value that can't be right is refused with
    what would be."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    label: str = ""
    match: str = Field(min_length=1, description="pattern of names, as a shell's; * and ? match a slash, too")
    id: Annotated[tuple[Name, ...], BeforeValidator(_listed), Field(min_length=1)]
    columns: dict[Name, Annotated[str, AfterValidator(_type)]] = Field(default_factory=dict)
    nulls: Annotated[tuple[str, ...], BeforeValidator(_listed)] = ("",)
    python: str | None = None
    version: str | None = Field(None, min_length=1)
    per_row: bool = False
    outputs: dict[Name, Annotated[str, AfterValidator(_output)]] = Field(min_length=1)
    dialect: DialectOverrides = Field(
        DialectOverrides(), description="how its files are written, where looking at them tells it wrong"
    )

    @field_validator("python")
    @classmethod
    def _is_a_function(cls, text: str | None) -> str | None:
        if text is not None and not _FUNCTION.fullmatch(text):
            raise ValueError('not a function; write "module:function"')
        return text

    @field_validator("id", "columns", "outputs")
    @classmethod
    def _no_name_twice(cls, names: Any, info: ValidationInfo) -> Any:
        """DuckDB takes names that differ in case only for the same."""
        seen: dict[str, str] = {}
        for name in names:
            if fold(name) in seen:
                raise ValueError(f"{seen[fold(name)]!r} and {name!r} are the same column; keep one")
            seen[fold(name)] = name
        if info.field_name == "outputs":
            for name in info.data.get("id", ()):
                if fold(name) in seen:
                    raise ValueError(
                        f"{seen[fold(name)]!r} is an id column already; call the output something else"
                    )
        return names

    @model_validator(mode="after")
    def _python_or_sql(self) -> Self:
        if self.python is not None and self.version is None:
            raise ValueError(
                'python needs a version, e.g. version = "1": change it whenever the function changes'
            )
        if self.python is None and self.version is not None:
            raise ValueError("version belongs to a Python function; an SQL calculation's version is its text")
        if self.python is None and self.per_row:
            raise ValueError("per_row belongs to a Python function; an SQL expression is one per row always")
        return self

    @cached_property
    def digest(self) -> str:
        """32 hex digits of BLAKE2b (16 bytes) over what can change a result: not the label, nor the pattern.

        The order of ids and outputs counts, since it is the order of the result's columns; that of columns
        and nulls doesn't.
        """
        parts = {
            "columns": sorted([fold(name), kind] for name, kind in self.columns.items()),
            "id": self.id,
            "nulls": sorted(self.null_texts),
            "outputs": list(self.outputs.items()),
            "per_row": self.per_row,
            "python": self.python,
            "version": self.version,
        }
        text = json.dumps(parts, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
        return blake2b(text.encode(), digest_size=16).hexdigest()

    @property
    def null_texts(self) -> tuple[str, ...]:
        """The cells that are null in a column with a type: empty ones always, and those of `nulls`."""
        return tuple(dict.fromkeys(("", *self.nulls)))

    @property
    def typed(self) -> dict[str, ColumnType]:
        """The columns with a type. One declared VARCHAR is text like those that aren't declared, its cells as
        they are."""
        types = {name: ColumnType.parse(kind) for name, kind in self.columns.items()}
        return {name: kind for name, kind in types.items() if kind.name != "VARCHAR"}


def choose(calculations: Iterable[Calculation], name: str) -> Calculation:
    """Return the first calculation, in the order of the file, whose pattern matches `name`.

    Raise CalculationError where none does, with what to write into `millstream.toml`.
    """
    declared = list(calculations)
    for calculation in declared:
        if fnmatchcase(name, calculation.match):
            return calculation
    raise CalculationError(_how_to_declare(declared, name))


def pattern_of(name: str) -> str:
    """Return a pattern that matches this very name."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)


def _how_to_declare(declared: list[Calculation], name: str) -> str:
    patterns = [calculation.match for calculation in declared]
    if not patterns:
        there = "there is none"
    else:
        there = f"there are patterns {', '.join(patterns)}"
        alike = [p for p in patterns if fnmatchcase(name.lower(), p.lower()) or fnmatchcase(name, f"*/{p}")]
        alike += difflib.get_close_matches(name, patterns, n=1, cutoff=0.7)
        if alike:
            there += (
                f"; {alike[0]} comes near (upper and lower case differ, and a folder is part of the name)"
            )
    label = re.sub(r"\W+", "-", name.rpartition("/")[2].split(".")[0], flags=re.ASCII).strip("-") or "mine"
    return f"""no calculation matches {name!r} ({there}). Write one into millstream.toml:

    [calculations.{label}]
    match = {json.dumps(pattern_of(name), ensure_ascii=False)}
    id = "a_column_that_names_the_row"
    columns = {{ a_number = "DECIMAL(18,2)" }}
    outputs = {{ a_result = "a_number * 2" }}

or let `millstream init FILE` write a first one from a file's own columns."""
