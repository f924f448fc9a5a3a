"""Which of DuckDB's functions an expression may call: those whose result depends on their arguments alone.

DuckDB says of each function whether it is scalar and whether it is CONSISTENT; that is computed here from its
own catalogue, so that a function of a later release isn't allowed by mistake. Where the catalogue isn't the
whole truth, this file says so.
"""

import difflib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from pipeline.duck import trial
from pipeline.sql_text import fold

_CLOCK = "depends on when it is computed, not on the row alone"
_CHANCE = "another value each time it is computed"
_STATE = "keeps state from row to row"
_SURROUNDINGS = "depends on the database's settings or release, not on the row alone"
_SQL = "is about SQL statements, not about the row"
_AGGREGATE = "an aggregate: each row is computed by itself"
_WINDOW = "a window function: each row is computed by itself"
_TABLE = "makes rows; an output is one value per row"
_INNER = "is for DuckDB's own use"

_REASONS = {
    # Not CONSISTENT, or no function at all in this release: listed for what the message says.
    **dict.fromkeys(
        ["now", "today", "current_date", "current_time", "current_timestamp", "localtime", "localtimestamp"],
        _CLOCK,
    ),
    **dict.fromkeys(["get_current_time", "get_current_timestamp", "transaction_timestamp", "ago"], _CLOCK),
    **dict.fromkeys(["random", "setseed", "uuid", "gen_random_uuid", "uuidv4", "uuidv7"], _CHANCE),
    **dict.fromkeys(["nextval", "currval", "setval", "txid_current", "write_log"], _STATE),
    **dict.fromkeys(["getenv", "getvariable", "current_setting"], _SURROUNDINGS),
    **dict.fromkeys(
        ["user", "current_user", "session_user", "current_role", "current_catalog"], _SURROUNDINGS
    ),
    **dict.fromkeys(
        ["current_schema", "current_schemas", "current_database", "in_search_path"], _SURROUNDINGS
    ),
    **dict.fromkeys(["unnest", "unlist"], _TABLE),
    "error": "can't be told from a failure of DuckDB's own; a value that can't be computed rejects its row anyway",
    # CONSISTENT by the catalogue, and yet not of their arguments alone.
    **dict.fromkeys(["current_localtime", "current_localtimestamp"], _CLOCK),
    "version": _SURROUNDINGS,
    "alias": "depends on how the expression is written",
    "index_key": _SURROUNDINGS,
    # Nothing that a row needs, and more power than a row needs.
    **dict.fromkeys(["json_serialize_sql", "json_deserialize_sql", "json_serialize_plan"], _SQL),
    **dict.fromkeys(["make_type", "get_type", "cast_to_type", "replace_type"], _SQL),
    **dict.fromkeys(["to_aggregate_state", "combine", "finalize", "parse_duckdb_log_message"], _INNER),
}

_ARITHMETIC = {"+", "-", "*", "/", "//", "%"}
"""Operators that nearly every calculation has, of their arguments alone in any release: reading the catalogue takes 50 ms."""

AGGREGATING = {"list_aggregate", "list_aggr", "aggregate", "array_aggregate", "array_aggr"}
"""Functions that are given an aggregate by name, and apply it to a list of the row's."""

_CHANCY_AGGREGATES = {"reservoir_quantile"}
_REFUSED_IN_MACROS = {"SUBQUERY", "WINDOW", "STAR", "PARAMETER"}


@dataclass
class _Function:
    """What the catalogue says of all functions of one name."""

    kinds: set[str] = field(default_factory=set)
    stabilities: set[str] = field(default_factory=set)
    macros: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)
    takes_lambda: bool = False


@cache
def _catalogue() -> dict[str, _Function]:
    found: dict[str, _Function] = {}
    rows = trial().execute(
        "SELECT function_name, function_type, stability, macro_definition, parameters, parameter_types "
        "FROM duckdb_functions() WHERE internal"
    )
    for name, kind, stability, macro, parameters, types in rows.fetchall():
        function = found.setdefault(fold(name), _Function())
        function.kinds.add(kind)
        if kind == "scalar":
            function.stabilities.add(stability)
            function.takes_lambda |= "LAMBDA" in types
        elif kind == "macro":
            function.macros.append((macro, tuple(fold(parameter) for parameter in parameters)))
    return found


@cache
def _types() -> frozenset[str]:
    return frozenset(
        fold(name) for (name,) in trial().execute("SELECT type_name FROM duckdb_types()").fetchall()
    )


def is_type(name: str) -> bool:
    """Return whether DuckDB has such a type."""
    return fold(name) in _types()


def is_known(name: str) -> bool:
    """Return whether there is such a function, or it is refused by name."""
    return fold(name) in _catalogue() or fold(name) in _REASONS


def takes_lambda(name: str) -> bool:
    """Return whether an argument `x -> …` is a lambda to the function, rather than a member of JSON."""
    return fold(name) in _catalogue() and _catalogue()[fold(name)].takes_lambda


@cache
def reason(name: str, arguments: int | None = None) -> str | None:
    """Return why a function can't be called (with so many arguments), or None where it can."""
    name = fold(name)
    if name in _ARITHMETIC:
        return None
    if name in _REASONS:
        return _REASONS[name]
    if name.startswith("__"):
        return _INNER
    function = _catalogue().get(name)
    if function is None:
        near = difflib.get_close_matches(name, list(_catalogue()), n=1, cutoff=0.75)
        return "there is no such function" + (
            f"; did you mean {near[0]}?" if near and reason(near[0]) is None else ""
        )
    if "aggregate" in function.kinds:
        return _AGGREGATE
    if "window" in function.kinds:
        return _WINDOW
    if not function.kinds & {"scalar", "macro"}:
        return _TABLE
    if function.stabilities - {"CONSISTENT"}:
        return "its result depends on more than its arguments"
    if name == "age" and arguments == 1:
        return "with one argument " + _CLOCK
    return next((why for macro in function.macros if (why := _macro_reason(*macro)) is not None), None)


def aggregate_of(arguments: Sequence[dict[str, Any]]) -> str | None:
    """Return the aggregate that is named literally as the second argument, or None where none is, or a chancy
    one."""
    if len(arguments) < 2 or arguments[1].get("literal", {}).get("kind") != "STRING":
        return None
    name = fold(arguments[1]["literal"]["text"])
    return None if name in _CHANCY_AGGREGATES else name


def _macro_reason(definition: str, parameters: tuple[str, ...]) -> str | None:
    """Return why a macro of DuckDB's own can't be called: it may be made of what could be called itself."""
    answer = trial().execute("SELECT json_serialize_sql(?)", ["SELECT " + definition]).fetchall()[0][0]
    for node in _nodes(json.loads(answer)["statements"][0]["node"]["select_list"]):
        kind = node["class"]
        if kind in _REFUSED_IN_MACROS:
            return "reads more than its arguments"
        if kind == "COLUMN_REF" and fold(node["column_names"][0]) not in parameters:
            return _REASONS.get(fold(node["column_names"][0]), "reads more than its arguments")
        if kind == "FUNCTION" and (why := reason(node["function_name"], len(node["arguments"]))) is not None:
            return why
    return None


def _nodes(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        if "class" in value:
            yield value
        for part in value.values():
            yield from _nodes(part)
    elif isinstance(value, list):
        for part in value:
            yield from _nodes(part)
