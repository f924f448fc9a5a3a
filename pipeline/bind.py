"""Bind a calculation to a file's real columns: does it fit, and of what types are its outputs?"""

import difflib
from collections.abc import Iterable, Mapping, Sequence

from pipeline.bound import Bound
from pipeline.calculations import Calculation
from pipeline.duck import TRIAL_MEMORY, Error, message, trial
from pipeline.errors import CalculationError, InputError
from pipeline.expressions import check
from pipeline.limits import memory_ceiling, size_in_bytes, time_limit
from pipeline.sql_text import fold, free_prefix, literal, quote
from pipeline.types import ColumnType

_SECONDS = 5.0
"""What an expression may take when it is tried on one row, with TRIAL_MEMORY."""

_EXAMPLES = {
    "DATE": "2000-01-01",
    "TIME": "12:00:00",
    "TIMESTAMP": "2000-01-01 12:00:00",
    "TIMESTAMPTZ": "2000-01-01 12:00:00+00",
    "UUID": "00000000-0000-4000-8000-000000000000",
    "VARCHAR": "a",
}
"""A cell of each type, where it can't be 1."""


def bind(calculation: Calculation, columns: Sequence[str]) -> Bound:
    """Bind a calculation to a file's header.

    A Python calculation's outputs have the types that it declares, and its module isn't imported. Raise
    InputError where the header itself can't be worked with, CalculationError where the calculation doesn't
    fit it.
    """
    spelt = _header(columns)
    path = f"calculations.{calculation.label}" if calculation.label else "the calculation"
    ids = tuple(_find(name, spelt, f"{path}.id") for name in calculation.id)
    for name in calculation.columns:
        _find(name, spelt, f"{path}.columns")
    kinds = {fold(name): kind for name, kind in calculation.typed.items()}
    typed = tuple((name, kinds[key]) for key, name in spelt.items() if key in kinds)
    prefix = free_prefix(columns)
    if calculation.python is not None:
        declared = tuple((name, ColumnType.parse(kind)) for name, kind in calculation.outputs.items())
        every = tuple(frozenset(columns) for _ in declared)
        return Bound(calculation, tuple(columns), ids, typed, tuple(columns), declared, every, prefix)
    outputs: list[tuple[str, ColumnType]] = []
    uses: list[frozenset[str]] = []
    for name, expression in calculation.outputs.items():
        where = f"{path}.outputs.{name}"
        try:
            uses.append(check(expression, columns, outputs=calculation.outputs))
            outputs.append((name, _type_of(expression, dict(typed), uses[-1])))
        except CalculationError as error:
            raise CalculationError(f"{where}: {error}") from None
    used = frozenset(name for name, _ in typed).union(*uses)
    inputs = tuple(name for name in columns if name in used)
    return Bound(calculation, tuple(columns), ids, typed, inputs, tuple(outputs), tuple(uses), prefix)


def _header(columns: Sequence[str]) -> dict[str, str]:
    """Return the header's names by what DuckDB compares them by."""
    if not columns:
        raise InputError("the header has no columns")
    spelt: dict[str, str] = {}
    for place, name in enumerate(columns, 1):
        if not name or "\0" in name:
            raise InputError(f"column {place} of the header has no usable name ({name!r})")
        if fold(name) in spelt:
            raise InputError(
                f"the header names {spelt[fold(name)]!r} and {name!r}, which are the same column; rename one"
            )
        spelt[fold(name)] = name
    return spelt


def _find(name: str, spelt: dict[str, str], path: str) -> str:
    if fold(name) in spelt:
        return spelt[fold(name)]
    near = difflib.get_close_matches(fold(name), list(spelt), n=1, cutoff=0.5)
    hint = f' did you mean "{spelt[near[0]]}"?' if near else ""
    raise CalculationError(
        f'{path}: there is no column "{name}";{hint} the file has {", ".join(spelt.values())}'
    )


def _type_of(expression: str, kinds: Mapping[str, ColumnType], used: Iterable[str]) -> ColumnType:
    """Return the type that DuckDB derives.

    The expression is tried on one made-up row, to find out at once where it fails for every row: one that
    uses no column must not fail at all, and others may fail only as TRY allows.
    """
    types = {name: kinds[name].sql if name in kinds else "VARCHAR" for name in sorted(used)}
    cells = [
        f"CAST({literal(_EXAMPLES.get(kind, '1'))} AS {kind}) AS {quote(name)}"
        for name, kind in types.items()
    ]
    source = f" FROM (SELECT {', '.join(cells)})" if cells else ""
    text = f"CAST((\n{expression}\n) AS VARCHAR)"
    con = trial()
    try:
        with memory_ceiling(size_in_bytes(TRIAL_MEMORY)), time_limit(con, _SECONDS):
            described = con.execute(f"DESCRIBE SELECT (\n{expression}\n) AS x{source}").fetchall()[0][1]
            con.execute(f"SELECT TRY([{text}]){source}" if cells else f"SELECT {text}").fetchall()
    except Error as error:
        raise CalculationError(message(error)) from None
    if described == '"NULL"':
        raise CalculationError("always NULL, of no type; cast it: NULL::VARCHAR")
    if described in {"HUGEINT", "UHUGEINT"}:
        raise CalculationError(f"is a {described}, wider than 64 bits; cast it to BIGINT or VARCHAR")
    return ColumnType.parse(described)
