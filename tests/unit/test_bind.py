"""Binding a calculation to a header, and the oracle that follows from it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from pipeline.bind import bind
from pipeline.bound import Bound
from pipeline.calculations import Calculation
from pipeline.dialect import malformed_name
from pipeline.duck import connect
from pipeline.errors import CalculationError, InputError
from pipeline.sql_text import fold

HEADER = ("order_id", "customer", "quantity", "price")


def calculation(**changes: Any) -> Calculation:
    return Calculation.model_validate(
        {
            "label": "orders",
            "match": "*",
            "id": "order_id",
            "columns": {"quantity": "BIGINT", "price": "DECIMAL(18,2)"},
            "outputs": {"total": "quantity * price"},
        }
        | changes
    )


def bound(outputs: dict[str, str], header: tuple[str, ...] = HEADER, **changes: Any) -> Bound:
    return bind(calculation(outputs=outputs, **changes), header)


def types(**outputs: str) -> list[str]:
    return [kind.sql for _, kind in bound(outputs).outputs]


def test_outputs_have_the_types_that_duckdb_derives() -> None:
    assert types(a="quantity * price", b="quantity + 1", c="price / quantity", d="upper(customer)") == [
        "DECIMAL(37,2)",
        "BIGINT",
        "DOUBLE",
        "VARCHAR",
    ]
    assert types(
        a="customer::DATE", b="customer::TIMESTAMPTZ", c="quantity > 1", d="1", e="customer::UUID"
    ) == [
        "DATE",
        "TIMESTAMPTZ",
        "BOOLEAN",
        "INTEGER",
        "UUID",
    ]


def test_only_the_columns_that_matter_are_read() -> None:
    assert bound({"c": "customer"}).inputs == ("customer", "quantity", "price")
    assert bound({"c": "customer"}, columns={}).inputs == ("customer",)


def test_names_are_taken_without_regard_to_case_and_spelt_as_in_the_header() -> None:
    found = bound({"t": "QUANTITY * Price"}, id="ORDER_ID", columns={"Quantity": "BIGINT", "PRICE": "DOUBLE"})
    assert found.ids == ("order_id",)
    assert [name for name, _ in found.typed] == ["quantity", "price"]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"id": "oder_id"},
            r'calculations.orders.id: there is no column "oder_id"; did you mean "order_id"\? the file has',
        ),
        (
            {"columns": {"prise": "DOUBLE"}},
            r'calculations.orders.columns: there is no column "prise"; did you mean "price"',
        ),
        ({"outputs": {"total": "prise"}}, r"calculations.orders.outputs.total: there is no column"),
        ({"outputs": {"total": "quantity *"}}, r"calculations.orders.outputs.total: syntax error"),
        ({"outputs": {"a": "1", "b": "a + 1"}}, r"outputs.b: a is an output, not a column of the file"),
        (
            {"outputs": {"x": "quantity::HUGEINT * 2"}},
            "outputs.x: is a HUGEINT, .* cast it to BIGINT or VARCHAR",
        ),
        ({"outputs": {"x": "list_sum([quantity])"}}, "cast it to BIGINT or VARCHAR"),
        ({"outputs": {"x": "[quantity]"}}, "cast it to VARCHAR"),
        ({"outputs": {"x": "{'a': quantity}"}}, "cast it to VARCHAR"),
        ({"outputs": {"x": "customer::BLOB"}}, "cast it to VARCHAR"),
        ({"outputs": {"x": "customer::DATE - INTERVAL 1 day - customer::TIMESTAMP"}}, "cast it to VARCHAR"),
        ({"outputs": {"x": "customer::JSON"}}, "cast it to VARCHAR"),
        ({"outputs": {"x": "NULL"}}, "always NULL"),
        ({"outputs": {"x": "customer * 2"}}, "customer|VARCHAR"),
        ({"outputs": {"x": "'abc'::INTEGER"}}, "Could not convert string 'abc'"),
        ({"outputs": {"x": "len(repeat('x', 3000000000))"}}, "allocate|Allocation|memory"),
        ({"outputs": {"x": "regexp_matches(customer, '(')"}}, r"missing \)"),
        ({"outputs": {"x": "strptime(customer, '%Q')"}}, "specifier|format"),
        ({"outputs": {"x": "list_aggregate([1], 'nosuch')"}}, "nosuch"),
        ({"outputs": {"x": "list_reverse(customer)"}}, "Slice with steps"),
        ({"outputs": {"x": "customer LIKE 'a!' ESCAPE '!'"}}, "escape"),
        (
            {"columns": {"price": "DATE"}, "outputs": {"x": "time_bucket(INTERVAL 0 days, price)"}},
            "Period must be greater than 0",
        ),
        ({"outputs": {"x": "customer::DATE AT TIME ZONE 'Nowhere'"}}, "Nowhere"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_settings_name(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(CalculationError, match=says):
        bind(calculation(**changes), HEADER)


@pytest.mark.parametrize("header", [("a", "b", "A"), ("a", ""), ("a", "b\0"), ()])
def test_a_header_that_cannot_be_worked_with_is_an_error_of_the_input(header: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match="header"):
        bind(calculation(id="a", columns={}, outputs={"x": "1"}), header)


def test_letters_outside_ascii_differ_by_case_as_they_do_in_duckdb() -> None:
    bound({"x": '"É" || "é"'}, ("order_id", "É", "é"), columns={})


def test_an_expression_that_fails_for_some_rows_only_is_bound() -> None:
    assert types(a="customer::INTEGER", b="CASE WHEN customer = 'b' THEN 'x'::INTEGER ELSE 1 END") == [
        "INTEGER",
        "INTEGER",
    ]


def test_a_python_calculation_is_bound_without_its_module() -> None:
    python = {"python": "no.such.module:function", "version": "1", "outputs": {"total": "numeric(18,2)"}}
    found = bind(calculation(**python), HEADER)
    assert [(name, kind.sql) for name, kind in found.outputs] == [("total", "DECIMAL(18,2)")]
    assert found.inputs == HEADER
    assert found.oracle_sql("x") is None


def computed(found: Bound, rows: Sequence[tuple[str, ...]], malformed: set[int], tmp_path: Path) -> bytes:
    """Return what the oracle's COPY writes for some rows."""
    con, flag = connect(), malformed_name(found.columns)
    names = ", ".join('"' + n.replace('"', '""') + '" VARCHAR' for n in found.columns)
    con.execute(f'CREATE TABLE file ({names}, "{flag}" BOOLEAN)')
    for index, row in enumerate(rows):
        con.execute(
            f"INSERT INTO file VALUES ({', '.join('?' * (len(row) + 1))})", [*row, index in malformed]
        )
    target = tmp_path / "oracle.csv"
    con.execute(f"COPY ({found.oracle_sql('(SELECT * FROM file)', flag)}) TO '{target}' (FORMAT csv, HEADER)")
    return target.read_bytes()


def test_the_oracle_leaves_out_malformed_rows_and_rejects_and_keeps_the_order(tmp_path: Path) -> None:
    rows = [
        ("007", "a", "3", "9.99"),
        ("008", "b", "x", "1.00"),
        ("009", "c", "", "1.00"),
        ("010", "d", "9223372036854775807", "1.00"),
        ("011", "malformed", "1", "1.00"),
        ('0,"12', "", " 2 ", "1.005"),
    ]
    outputs = {
        "total": "quantity * price",
        "next": "quantity + 1 -- fails for the largest",
        "who": "customer",
    }
    assert computed(bound(outputs), rows, {4}, tmp_path).decode() == (
        'order_id,total,next,who\n007,29.97,4,a\n009,,,c\n"0,""12",2.02,3,""\n'
    )


@pytest.mark.parametrize(
    "name", ["_ms", "_msr0", "_MS_ok", "_malformed", "_ms__malformed", "x", "t", 'q"u', "a b", "file"]
)
def test_no_columns_name_is_in_the_way_of_the_oracles_own(name: str, tmp_path: Path) -> None:
    quoted = '"' + name.replace('"', '""') + '"'
    found = bound({"x_out": f"{quoted} + 1"}, ("order_id", name), columns={name: "INTEGER"})
    assert computed(found, [("1", "2"), ("3", "y")], set(), tmp_path) == b"order_id,x_out\n1,3\n"
    assert not any(fold(n).startswith(found.prefix) for n in found.columns)


def test_an_id_is_its_text_even_where_its_column_has_a_type(tmp_path: Path) -> None:
    found = bound({"next": "n + 1"}, ("n",), id="n", columns={"n": "INTEGER"})
    assert computed(found, [("007",), (" 8",)], set(), tmp_path) == b"n,next\n007,8\n 8,9\n"


def test_an_output_may_be_called_like_a_column_of_the_file(tmp_path: Path) -> None:
    found = bound({"price": "price * 2", "quantity": "price"})
    assert (
        computed(found, [("1", "", "5", "1.50")], set(), tmp_path)
        == b"order_id,price,quantity\n1,3.00,1.50\n"
    )
