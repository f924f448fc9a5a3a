"""What an SQL expression of a calculation may be: one scalar expression over the row, the same each time it
is computed.

The check looks at DuckDB's own parse tree, never at the text, and allows what is listed: kinds of nodes here,
functions in `pipeline.functions`. What it lets through runs on a locked connection, which could do nothing
else anyway.
"""

import difflib
import json
from collections.abc import Collection, Sequence
from typing import Any

from pipeline import functions
from pipeline.duck import Error, message, trial
from pipeline.errors import CalculationError
from pipeline.sql_text import fold

LONGEST = 20_000
"""Characters of an expression: beyond it somebody generates code, and parsing takes seconds."""

_BARE, _WRAPPED = ("SELECT ", ""), ("SELECT (\n", "\n)")
_PLACES = {"query_location", "query_location_length"}

_PLAIN = {
    "CONSTANT",
    "COLUMN_REF",
    "FUNCTION",
    "OPERATOR",
    "CASE",
    "CAST",
    "COMPARISON",
    "CONJUNCTION",
    "BETWEEN",
    "COLLATE",
    "TYPE",
    "LAMBDA",
}
_REFUSED_NODES = {
    "SUBQUERY": "a subquery: only the row's own columns can be used",
    "WINDOW": "a window function: each row is computed by itself",
    "STAR": "* or COLUMNS(…): name the columns",
    "PARAMETER": "a parameter: write the value",
    "POSITIONAL_REFERENCE": "a column by number: name it",
    "DEFAULT": "DEFAULT: write the value",
}
_REFUSED_OPERATORS = {
    "OPERATOR_UNPACK": "* or COLUMNS(…): name the columns",
    "GROUPING_FUNCTION": "grouping(): each row is computed by itself",
}
_WITHOUT_COLUMNS = {
    "timezone": ((0,), "a time zone has to be written out, such as 'Europe/Berlin'"),
    "make_timestamptz": ((6,), "a time zone has to be written out, such as 'Europe/Berlin'"),
    "time_bucket": ((0, 2), "its width, and its origin or zone, have to be written out"),
    "array_length": ((1,), "the dimension has to be written out"),
    **{
        f"{negated}{like}_escape": ((1, 2), "with ESCAPE, the pattern has to be written out")
        for negated in ("", "not_")
        for like in ("like", "ilike")
    },
}
"""Arguments that fail in a way that TRY doesn't catch. If one row's could, the oracle would fail for the
whole file."""

_TIME_OF_ZONE = ("timetz", "time with time zone")

Node = dict[str, Any]


def check(expression: str, columns: Sequence[str], *, outputs: Collection[str] = ()) -> frozenset[str]:
    """Check an expression over `columns` (the file's header); return the columns that it uses, as the header
    spells them.

    `outputs` are the names of the calculation's outputs, for a better message where one is used like a
    column. Raise CalculationError with what isn't allowed, and why, or with the place of a syntax error.
    """
    if len(expression) > LONGEST:
        raise CalculationError(
            f"an expression of {len(expression)} characters; the longest allowed has {LONGEST}"
        )
    if "\0" in expression:
        raise CalculationError("a NUL character in an expression; write chr(0)")
    try:
        walk = _Walk(columns, outputs)
        walk.visit(_parse(expression), frozenset())
    except RecursionError:
        raise CalculationError("an expression that is nested too deeply; split it up") from None
    walk.check_zones()
    return frozenset(walk.used)


def _parse(expression: str) -> Node:
    """Return the parse tree of exactly one expression.

    It is parsed as it is and in parentheses, and both have to give the same: `1) + (2` parses in parentheses
    only, and `a FROM t` only without. All else that a SELECT can have must be as it is in `SELECT 1`.
    """
    bare = _statement(expression, *_BARE)
    if _rest(bare) != _rest(_statement("1", *_BARE)):
        raise CalculationError(
            "more than an expression: FROM, WHERE, ORDER BY, LIMIT, DISTINCT and the like aren't allowed"
        )
    if len(bare["select_list"]) != 1:
        raise CalculationError(f"{len(bare['select_list'])} expressions; one output is one expression")
    found: Node = bare["select_list"][0]
    if found["alias"]:
        raise CalculationError(
            f"a name ({found['alias']}) in the expression; the output is called as its key says"
        )
    wrapped = _statement(expression, *_WRAPPED)
    if _rest(wrapped) != _rest(bare) or _bared(wrapped["select_list"]) != _bared(bare["select_list"]):
        raise CalculationError(
            "more than an expression: it means something else when it stands in parentheses"
        )
    return found


def _statement(expression: str, before: str, after: str) -> Node:
    """Return the node of the one SELECT that the text is."""
    text = before + expression + after
    try:
        answer = trial().execute("SELECT json_serialize_sql(?)", [text]).fetchall()[0][0]
    except Error as error:
        raise CalculationError(f"can't be parsed: {message(error)}") from None
    tree = json.loads(answer)
    if tree["error"]:
        if tree["error_type"] != "parser":
            raise CalculationError("a statement; only an expression over the row's columns is allowed")
        raise CalculationError(_syntax_error(tree, expression, len(before)))
    if len(tree["statements"]) != 1:
        raise CalculationError(f"{len(tree['statements'])} statements; only one expression is allowed")
    node: Node = tree["statements"][0]["node"]
    if node["type"] != "SELECT_NODE":
        raise CalculationError(
            "a query of its own (UNION, EXCEPT, …); only an expression over the row's columns is allowed"
        )
    return node


def _syntax_error(tree: Node, expression: str, offset: int) -> str:
    text = str(tree["error_message"])
    if "position" not in tree:
        return text
    place = max(int(tree["position"]) - offset, 0)  # in bytes
    before = expression.encode()[:place].decode(errors="ignore")
    return f"{text}, at character {min(len(before), len(expression)) + 1} of {expression!r}"


def _rest(node: Node) -> Node:
    return {key: value for key, value in node.items() if key != "select_list"}


def _bared(value: Any) -> Any:
    """Return a tree without the places in the text."""
    if isinstance(value, dict):
        return {key: _bared(part) for key, part in value.items() if key not in _PLACES}
    return [_bared(part) for part in value] if isinstance(value, list) else value


class _Walk:
    """One walk over a tree: which columns it uses, and what it does with time zones."""

    def __init__(self, columns: Sequence[str], outputs: Collection[str]) -> None:
        self.columns = {fold(name): name for name in columns}
        self.outputs = {fold(name) for name in outputs}
        self.used: set[str] = set()
        self.zones: list[str] = []
        self.texts: list[str] = []

    def visit(self, node: Node, bound: frozenset[str]) -> None:
        """Check a node and all below it; `bound` are the parameters of the lambdas around it."""
        kind = node["class"]
        if kind not in _PLAIN:
            raise CalculationError(
                _REFUSED_NODES.get(kind, f"{kind.lower().replace('_', ' ')} in an expression")
            )
        if kind == "COLUMN_REF":
            self._column(node["column_names"], bound)
        elif kind == "FUNCTION":
            self._function(node, bound)
        elif kind == "LAMBDA":
            self._arrow(node, bound)
        else:
            if kind == "OPERATOR" and node["type"] in _REFUSED_OPERATORS:
                raise CalculationError(_REFUSED_OPERATORS[node["type"]])
            if kind == "TYPE":
                self._type(node)
            elif kind == "CONSTANT":
                self.texts.append(str(node["literal"].get("text", "")))
            self._below(node, bound)

    def _below(self, value: Any, bound: frozenset[str]) -> None:
        parts = value.values() if isinstance(value, dict) else value
        for part in parts:
            if isinstance(part, dict) and "class" in part:
                self.visit(part, bound)
            elif isinstance(part, dict | list):
                self._below(part, bound)

    def _column(self, names: list[str], bound: frozenset[str]) -> None:
        if fold(names[0]) in bound:
            return
        if len(names) > 1:
            raise CalculationError(
                f"{'.'.join(names)}: a column has no table or field in front of it or after it; "
                f'if the dot is in its name, quote it: "{".".join(names)}"'
            )
        found = self.columns.get(fold(names[0]))
        if found is None:
            raise CalculationError(self._unknown(names[0]))
        self.used.add(found)

    def _unknown(self, name: str) -> str:
        if fold(name) in self.outputs:
            return f"{name} is an output, not a column of the file; write its expression out"
        refused = functions.reason(name)
        if refused is not None and functions.is_known(name):
            return f"{name}: {refused}"
        near = difflib.get_close_matches(fold(name), list(self.columns), n=1, cutoff=0.5)
        hint = f'; did you mean "{self.columns[near[0]]}"?' if near else ";"
        return f'there is no column "{name}"{hint} the file has {", ".join(self.columns.values())}'

    def _function(self, node: Node, bound: frozenset[str]) -> None:
        name = fold(node["function_name"])
        if len(node["qualified_name"]["path"]) > 1:
            path = ".".join(node["qualified_name"]["path"])
            raise CalculationError(f"{path}(): a function has nothing in front of it; write {name}(…)")
        if node["filter"] or node["order_bys"]["orders"] or node["distinct"] or node["export_state"]:
            raise CalculationError(
                f"{name}() with FILTER, ORDER BY or DISTINCT: each row is computed by itself"
            )
        arguments = [argument["expression"] for argument in node["arguments"]]
        refused = functions.reason(name, len(arguments))
        if refused is not None:
            raise CalculationError(f"{name}(): {refused}")
        if name in functions.AGGREGATING and functions.aggregate_of(arguments) is None:
            raise CalculationError(
                f"{name}(): its second argument has to be the literal name of an aggregate"
            )
        self._without_columns(name, arguments)
        for argument in arguments:
            if argument["class"] == "LAMBDA" and functions.takes_lambda(name):
                self._lambda(argument, bound)
            else:
                self.visit(argument, bound)

    def _without_columns(self, name: str, arguments: list[Node]) -> None:
        if len(arguments) < 2:
            return
        places, why = _WITHOUT_COLUMNS.get(name, ((), ""))
        for place in places:
            if place < len(arguments) and _uses_columns(arguments[place]):
                raise CalculationError(f"{name}(): {why}")
        if name == "timezone":
            self.zones.append(str(arguments[0].get("literal", {}).get("text", "")))

    def _lambda(self, node: Node, bound: frozenset[str]) -> None:
        lhs = node["lhs"]
        parts = [lhs] if lhs["class"] == "COLUMN_REF" else [a["expression"] for a in lhs.get("arguments", ())]
        if not all(part["class"] == "COLUMN_REF" and len(part["column_names"]) == 1 for part in parts):
            self._arrow(node, bound)
            return
        names = {fold(part["column_names"][0]) for part in parts}
        for name in names:
            if functions.is_known(name) and functions.reason(name) is not None:
                raise CalculationError(f"{name} as a lambda's parameter: call it something else")
        self.visit(node["expr"], bound | names)

    def _arrow(self, node: Node, bound: frozenset[str]) -> None:
        """`a -> 'x'` outside a list function takes a member out of JSON."""
        if node["syntax_type"] != "SINGLE_ARROW":
            raise CalculationError("a lambda that no function of lists is given")
        self.visit(node["lhs"], bound)
        self.visit(node["expr"], bound)

    def _type(self, node: Node) -> None:
        if len(node["qualified_name"]["path"]) > 1:
            raise CalculationError(
                f"type {'.'.join(node['qualified_name']['path'])}: write the type's name alone"
            )
        name = str(node["type_name"])
        if not functions.is_type(name):
            raise CalculationError(f"there is no type {name}")
        self.texts.append(name)

    def check_zones(self) -> None:
        """Refuse unknown time zones, and what moves a TIMETZ to another zone: it takes today's offset for
        that."""
        if not self.zones:
            return
        if any(word in text.lower() for word in _TIME_OF_ZONE for text in self.texts):
            raise CalculationError("AT TIME ZONE on a TIMETZ takes today's offset; use a TIMESTAMPTZ")
        for zone in self.zones:
            try:
                trial().execute("SELECT timezone(?, TIMESTAMP '2000-01-01')", [zone]).fetchall()
            except Error as error:
                raise CalculationError(message(error)) from None


def _uses_columns(value: Any) -> bool:
    if isinstance(value, dict):
        return value.get("class") == "COLUMN_REF" or any(_uses_columns(part) for part in value.values())
    return isinstance(value, list) and any(_uses_columns(part) for part in value)
