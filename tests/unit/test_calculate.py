"""Batches through a calculator: results, rejects, limits, and types at their edges."""

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.bind import bind
from pipeline.calculations import Calculation
from pipeline.dialect import malformed_name
from pipeline.duck import connect, locked
from pipeline.errors import Hold, Unreachable
from processor.calculate import Calculated, Calculator, Reject
from processor.functions import Functions
from processor.sql_outputs import MOST_EXPLAINED

HEADER = ("order_id", "quantity", "price", "note")
CON = connect()


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


def calculator(
    outputs: dict[str, str], header: Sequence[str] = HEADER, *, limits: Any = None, **changes: Any
) -> Calculator:
    return Calculator(bind(calculation(outputs=outputs, **changes), header), **(limits or {}))


def rows(
    *cells: tuple[str, ...], header: Sequence[str] = HEADER, kind: pa.DataType | None = None
) -> pa.Table:
    return pa.table(
        {name: pa.array([row[i] for row in cells], kind or pa.string()) for i, name in enumerate(header)}
    )


def orders(count: int) -> pa.Table:
    return pa.table(
        {
            "order_id": [f"{i:05}" for i in range(count)],
            "quantity": [str(i % 9) for i in range(count)],
            "price": [f"{i % 1000 / 8:.2f}" for i in range(count)],
            "note": [f"note {i}" for i in range(count)],
        }
    )


def columns(found: Calculated) -> dict[str, list[str | None]]:
    return found.outputs.to_pydict()  # type: ignore[no-any-return]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
def test_every_output_is_duckdbs_text_and_ids_are_the_files(kind: pa.DataType) -> None:
    found = calculator({"total": "quantity * price", "who": "upper(note)"}).run(
        rows(("007", "3", "9.99", "a"), ("008", "", "1", ""), kind=kind)
    )
    assert columns(found) == {"total": ["29.97", None], "who": ["A", ""]}
    assert found.ids.to_pydict() == {"order_id": ["007", "008"]}
    assert found.good.tolist() == [0, 1]
    assert found.rejects == []


def test_a_batch_without_rows_has_results_without_rows() -> None:
    found = calculator({"total": "quantity * price"}).run(orders(0))
    assert found.good.tolist() == []
    assert found.outputs.column_names == ["total"]
    assert found.ids.num_rows == 0


def test_outputs_of_no_column_are_computed_for_every_row() -> None:
    assert columns(calculator({"one": "1"}, columns={}).run(orders(3))) == {"one": ["1", "1", "1"]}


def test_a_cell_that_does_not_cast_rejects_its_row_and_no_other() -> None:
    found = calculator({"total": "quantity * price"}).run(
        rows(("1", "3", "9,99", ""), ("2", "1", "1", ""), ("3", "x", "y", ""))
    )
    assert found.good.tolist() == [1]
    assert found.rejects == [
        Reject(0, "price", "price: '9,99' is not DECIMAL(18,2)"),
        Reject(2, "quantity", "quantity: 'x' is not BIGINT; price: 'y' is not DECIMAL(18,2)"),
    ]
    assert columns(found) == {"total": ["1.00"]}
    assert found.ids.to_pydict() == {"order_id": ["2"]}


def test_a_column_with_a_type_is_checked_even_where_no_output_uses_it() -> None:
    found = calculator({"who": "note"}).run(rows(("1", "x", "1", "a")))
    assert [reject.error for reject in found.rejects] == ["quantity: 'x' is not BIGINT"]


def test_empty_cells_and_the_configured_ones_are_null_in_typed_columns_and_stay_in_text() -> None:
    found = calculator({"q": "quantity", "n": "note", "none": "note IS NULL"}, nulls=["NA", "null"]).run(
        rows(("1", "", "1", ""), ("2", "NA", "1", "NA"), ("3", "null", "1", "null"), ("4", "NULL", "1", "x"))
    )
    assert columns(found) == {"q": [None, None, None], "n": ["", "NA", "null"], "none": ["false"] * 3}
    assert [reject.error for reject in found.rejects] == ["quantity: 'NULL' is not BIGINT"]


def test_an_expression_that_fails_rejects_its_row_with_duckdbs_own_words() -> None:
    found = calculator({"next": "quantity + 1", "day": "note::DATE"}).run(
        rows(
            ("1", "9223372036854775807", "1", "2020-01-01"),
            ("2", "1", "1", "2020-02-30"),
            ("3", "1", "1", "2020-02-29"),
        )
    )
    assert columns(found) == {"next": ["2"], "day": ["2020-02-29"]}
    assert [(reject.index, reject.column) for reject in found.rejects] == [(0, "next"), (1, "day")]
    assert found.rejects[0].error == "next: Overflow in addition of INT64 (9223372036854775807 + 1)!"
    assert found.rejects[1].error.startswith("day: ")
    assert "2020-02-30" in found.rejects[1].error


def test_a_null_result_is_no_failure() -> None:
    found = calculator({"x": "TRY_CAST(note AS INTEGER)", "y": "nullif(quantity, 1)"}).run(
        rows(("1", "1", "1", "a"))
    )
    assert columns(found) == {"x": [None], "y": [None]}
    assert found.rejects == []


def test_many_failures_are_told_with_their_inputs_where_asking_duckdb_would_take_long() -> None:
    count = MOST_EXPLAINED + 10
    found = calculator({"n": "note::INTEGER"}, columns={}).run(
        rows(*((str(i), "1", "1", f"n{i}") for i in range(count)))
    )
    assert len(found.rejects) == count
    assert (
        found.rejects[0].error
        == "n: Could not convert string 'n0' to INT32 when casting from source column note"
    )
    assert found.rejects[-1].error == f"n: can't be computed for note = 'n{count - 1}'"


def test_the_same_failure_is_asked_about_once() -> None:
    found = calculator({"n": "note::INTEGER"}, columns={}).run(
        rows(*((str(i), "1", "1", "x") for i in range(1000)))
    )
    assert {reject.error for reject in found.rejects} == {
        "n: Could not convert string 'x' to INT32 when casting from source column note"
    }


def test_a_long_cell_is_cut_in_the_message() -> None:
    found = calculator({"q": "quantity"}).run(rows(("1", "x" * 5000, "1", "")))
    assert found.rejects[0].error == f"quantity: '{'x' * 100}…' is not BIGINT"


def test_rows_keep_the_files_order() -> None:
    count = 20_000
    table = orders(count)
    quantities = table.column("quantity").to_pylist()
    for bad in range(0, count, 7):
        quantities[bad] = "bad"
    found = calculator({"note": "note"}).run(table.set_column(1, "quantity", pa.array(quantities)))
    expected = [i for i in range(count) if i % 7]
    assert found.good.tolist() == expected
    assert found.ids.column("order_id").to_pylist() == [f"{i:05}" for i in expected]
    assert columns(found)["note"] == [f"note {i}" for i in expected]
    assert [reject.index for reject in found.rejects] == list(range(0, count, 7))


def test_a_batch_in_several_chunks_and_slices_is_the_same_batch() -> None:
    table = orders(3000)
    pieces = pa.concat_tables([table.slice(0, 7), table.slice(7, 2049), table.slice(2056)])
    same = calculator({"total": "quantity * price"})
    assert columns(same.run(pieces)) == columns(same.run(table))
    assert columns(same.run(table.slice(100, 50))) == {"total": columns(same.run(table))["total"][100:150]}


def test_nothing_of_a_batch_is_left_for_the_next() -> None:
    once = calculator({"total": "quantity * price", "day": "note::DATE"})
    first, second = rows(("1", "3", "x", "y")), rows(("2", "4", "2", "2020-01-01"))
    alone = calculator({"total": "quantity * price", "day": "note::DATE"}).run(second)
    for _ in range(2):
        assert len(once.run(first).rejects) == 1
        again = once.run(second)
        assert (columns(again), again.rejects) == (columns(alone), [])
    assert locked().execute("SELECT count(*) FROM duckdb_tables()").fetchall() == [(0,)]


def test_two_calculators_side_by_side_do_not_see_each_other() -> None:
    a, b = calculator({"x": "quantity"}), calculator({"x": "note", "y": "price"}, columns={})
    assert columns(a.run(orders(2))) == {"x": ["0", "1"]}
    assert columns(b.run(orders(1))) == {"x": ["note 0"], "y": ["0.00"]}
    assert columns(a.run(orders(2))) == {"x": ["0", "1"]}


@pytest.mark.parametrize("name", ["batch", "_mso", "_ms", "o", 'a"b', "a b", "x.y", "ß", "select"])
def test_no_columns_name_is_in_the_way(name: str) -> None:
    quoted = '"' + name.replace('"', '""') + '"'
    found = calculator({"next": f"{quoted} + 1"}, ("order_id", name), columns={name: "INTEGER"}).run(
        rows(("a", "1"), ("b", "x"), header=("order_id", name))
    )
    assert columns(found) == {"next": ["2"]}
    assert found.rejects == [Reject(1, name, f"{name}: 'x' is not INTEGER")]


def test_a_failure_that_try_does_not_catch_rejects_the_row_alone() -> None:
    """DuckDB calls this an internal error of its own, and fails the whole query: the batch is halved down to
    the row."""
    table = rows(*((str(i), "-9223372036853775808" if i == 7 else "3", "1", "") for i in range(20)))
    found = calculator({"t": "make_timestamp(quantity)"}).run(table)
    assert [reject.index for reject in found.rejects] == [7]
    assert set(columns(found)["t"]) == {"1970-01-01 00:00:00.000003"}


needs_linux = pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux keeps a limit of a process's data"
)


@needs_linux
def test_a_row_that_takes_too_much_memory_is_rejected_and_the_others_are_not() -> None:
    table = rows(*((str(i), "2000000000" if i == 1234 else "3", "1", "") for i in range(2000)))
    found = calculator({"n": "len(repeat('x', quantity))"}, limits={"memory_limit": "200MB"}).run(table)
    assert found.rejects == [Reject(1234, None, "the row takes more memory than the limit of 200MB")]
    assert len(found.good) == 1999
    assert set(columns(found)["n"]) == {"3"}


def test_a_row_that_takes_too_long_is_rejected_and_the_others_are_not() -> None:
    slow = "list_sum(list_transform(range(quantity), lambda x: x % 7))::BIGINT"
    table = rows(*((str(i), "20000000" if i == 3 else "3", "1", "") for i in range(5)))
    found = calculator({"n": slow}, limits={"seconds": 0.3}).run(table)
    assert [(reject.index, reject.error) for reject in found.rejects] == [
        (3, "the row takes longer than the limit of 0.0375 s")
    ]
    assert columns(found) == {"n": ["3"] * 4}


def test_a_calculator_outlives_its_database() -> None:
    """An internal error of DuckDB spoils a database for good; here it is closed."""
    found = calculator({"total": "quantity * price"})
    found._outputs._engine._con.close()
    assert columns(found.run(rows(("1", "2", "3", "")))) == {"total": ["6.00"]}


# Types at their edges

EDGES = [
    ("BOOLEAN", "true"),
    ("TINYINT", "-128"),
    ("BIGINT", "9223372036854775807"),
    ("BIGINT", "-9223372036854775808"),
    ("UBIGINT", "18446744073709551615"),
    ("DECIMAL(38,10)", "1234567890123456789012345678.0123456789"),
    ("DECIMAL(38,10)", "-0.0000000001"),
    ("DECIMAL(18,2)", "1.10"),
    ("FLOAT", "0.1"),
    ("FLOAT", "-3.4028235e+38"),
    ("DOUBLE", "-0.0"),
    ("DOUBLE", "1e-7"),
    ("DOUBLE", "1e300"),
    ("DOUBLE", "5e-324"),
    ("DOUBLE", "0.1"),
    ("DOUBLE", "NaN"),
    ("DOUBLE", "-nan"),
    ("DOUBLE", "Infinity"),
    ("DOUBLE", "-inf"),
    ("FLOAT", "nan"),
    ("DATE", "1969-12-31"),
    ("DATE", "10000-01-01"),
    ("DATE", "5881580-07-10"),
    ("DATE", "0044-03-15 (BC)"),
    ("DATE", "infinity"),
    ("TIME", "23:59:59.999999"),
    ("TIMESTAMP", "1969-12-31 23:59:59.999999"),
    ("TIMESTAMP", "12345-01-01 00:00:00.5"),
    ("TIMESTAMP", "0044-03-15 (BC) 12:00:00"),
    ("TIMESTAMPTZ", "2020-06-01 12:00:00+02"),
    ("TIMESTAMPTZ", "2020-06-01 12:00:00.123456-05:30"),
    ("TIMESTAMPTZ", "2020-06-01 12:00:00 Europe/Berlin"),
    ("UUID", "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11"),
    ("VARCHAR", "null"),
    ("VARCHAR", ""),
    ("VARCHAR", " "),
    ("VARCHAR", 'say "hi", then\r\nleave'),
    ("VARCHAR", "😀 é \t ' \\"),
    ("VARCHAR", "a\0b"),
]


def csv_of(select: str, register: dict[str, pa.Table], target: Path) -> bytes:
    for name, table in register.items():
        CON.register(name, table)
    CON.execute(f"COPY ({select}) TO '{target}' (FORMAT csv, HEADER)")
    return target.read_bytes()


@pytest.mark.parametrize(("kind", "cell"), EDGES)
def test_an_outputs_text_is_the_value_to_the_last_digit(kind: str, cell: str, tmp_path: Path) -> None:
    """Text cast back gives the CSV that DuckDB writes for the typed value itself, and that the oracle
    writes."""
    bound = bind(calculation(columns={"note": kind}, outputs={"x": "note"}), ("order_id", "note"))
    table = rows(("1", cell), ("2", ""), header=("order_id", "note"))
    found = Calculator(bound).run(table)
    assert found.rejects == []
    sql = bound.outputs[0][1].sql
    back = csv_of(f"SELECT CAST(x AS {sql}) AS x FROM t", {"t": found.outputs}, tmp_path / "back.csv")
    null = "''" if kind == "VARCHAR" else "NULL"
    direct = (
        f"SELECT CAST(note AS {sql}) AS x FROM t WHERE order_id = '1' UNION ALL SELECT CAST({null} AS {sql})"
    )
    assert back == csv_of(direct, {"t": table}, tmp_path / "direct.csv")
    if bound.outputs[0][1].is_token and found.outputs.column("x")[0].as_py().strip("-") not in {"nan", "inf"}:
        json.loads(found.outputs.column("x")[0].as_py())
    flag = malformed_name(bound.columns)
    marked = table.append_column(flag, pa.array([False, False]))
    oracle = csv_of(str(bound.oracle_sql("t", flag)), {"t": marked}, tmp_path / "oracle.csv")
    ours = found.ids.append_column("x", found.outputs.column("x"))
    assert oracle == csv_of(
        f"SELECT order_id, CAST(x AS {sql}) AS x FROM t", {"t": ours}, tmp_path / "ours.csv"
    )


def test_times_are_utc_whatever_the_machines_zone_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    found = calculator({"t": "note::TIMESTAMPTZ", "h": "hour(note::TIMESTAMPTZ)"}, columns={}).run(
        rows(("1", "", "", "2020-06-01 12:00:00+02"), ("2", "", "", "2020-06-01 12:00:00"))
    )
    assert columns(found) == {"t": ["2020-06-01 10:00:00+00", "2020-06-01 12:00:00+00"], "h": ["10", "12"]}


CELLS = st.sampled_from(
    ["", "0", "1", "-3", "9223372036854775807", "1.5", "1e3", "x", " 7 ", "NA", "99999999999999999999"]
)

OUTPUTS = {"a": "quantity + 1", "b": "quantity * price", "c": "note || '!'", "d": "price / quantity"}
BOUND = bind(calculation(outputs=OUTPUTS, nulls=["NA"]), HEADER)
SAME = Calculator(BOUND)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(CELLS, CELLS, st.text(max_size=5).filter(lambda t: "\0" not in t)), max_size=12))
def test_results_and_rejects_are_the_oracles(cells: list[tuple[str, str, str]]) -> None:
    """Good rows and their values are those that the oracle gives, and every other row is a reject."""
    table = rows(*((str(i), *row) for i, row in enumerate(cells)))
    found = SAME.run(table)
    CON.register("file", table)
    texts = ", ".join(f"CAST({name} AS VARCHAR)" for name in ("order_id", "a", "b", "c", "d"))
    expected = CON.sql(f"SELECT {texts} FROM ({BOUND.oracle_sql('file')})").fetchall()
    values = list(
        zip(
            found.ids.column("order_id").to_pylist(),
            *(c.to_pylist() for c in found.outputs.columns),
            strict=True,
        )
    )
    assert values == expected
    assert sorted([*found.good.tolist(), *(reject.index for reject in found.rejects)]) == list(
        range(len(cells))
    )


# Python functions

MODULE = """
import pyarrow as pa
import pyarrow.compute as pc
from pipeline.errors import Unreachable

calls = []

def table(rows):
    calls.append(rows.num_rows)
    return pa.table({"total": pc.multiply(rows["quantity"], 2), "who": pc.utf8_upper(rows["note"])})

def fails_on_three(rows):
    if 3 in rows["quantity"].to_pylist():
        raise ValueError("three is too many")
    return table(rows)

def wrong_names(rows):
    return pa.table({"sum": rows["quantity"]})

def too_short(rows):
    return table(rows).slice(1)

def no_table(rows):
    return rows.to_pylist()

def away(rows):
    raise Unreachable("rates.example does not answer")

def leaves(rows):
    raise SystemExit(3)

def row(cells):
    if cells["quantity"] is None:
        return {"total": None, "who": ""}
    if cells["quantity"] == 3:
        raise ValueError("three\\nis too many")
    return {"who": cells["note"].upper(), "total": cells["quantity"] * cells["price"]}

def kinds(cells):
    return {"total": str(sorted((k, type(v).__name__) for k, v in cells.items())), "who": True}

def not_a_dict(cells):
    return [1]

def odd_value(cells):
    return {"total": [1], "who": None}

def text_for_number(rows):
    return pa.table({"total": rows["note"], "who": rows["note"]})

state = 7
"""


@pytest.fixture
def module(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "rates_for_tests.py").write_text(MODULE)
    before = list(sys.path)
    yield tmp_path
    sys.path[:] = before
    sys.modules.pop("rates_for_tests", None)


def python(function: str, folder: Path, *, per_row: bool = False, total: str = "BIGINT") -> Calculator:
    chosen = calculation(
        python=f"rates_for_tests:{function}",
        version="1",
        per_row=per_row,
        outputs={"total": total, "who": "VARCHAR"},
    )
    return Calculator(bind(chosen, HEADER), Functions([chosen], folder))


def test_a_table_function_gets_typed_columns_and_its_values_are_cast_to_what_is_declared(
    module: Path,
) -> None:
    found = python("table", module, total="DECIMAL(18,2)").run(rows(("1", "3", "1", "a"), ("2", "", "1", "")))
    assert columns(found) == {"total": ["6.00", None], "who": ["A", ""]}
    assert found.ids.to_pydict() == {"order_id": ["1", "2"]}


def test_a_table_function_sees_no_row_whose_cells_do_not_cast(module: Path) -> None:
    found = python("table", module).run(rows(("1", "x", "1", "a"), ("2", "4", "1", "b")))
    assert columns(found) == {"total": ["8"], "who": ["B"]}
    assert found.rejects == [Reject(0, "quantity", "quantity: 'x' is not BIGINT")]


def test_only_the_rows_at_which_a_table_function_fails_are_rejected(module: Path) -> None:
    table = rows(*((str(i), "3" if i in {5, 40} else "1", "1", f"n{i}") for i in range(50)))
    found = python("fails_on_three", module).run(table)
    assert found.rejects == [Reject(i, None, "ValueError: three is too many") for i in (5, 40)]
    assert found.good.tolist() == [i for i in range(50) if i not in {5, 40}]
    assert columns(found)["who"] == [f"N{i}" for i in found.good]


@pytest.mark.parametrize(
    ("function", "says"),
    [
        ("wrong_names", "ValueError: the function returned sum, not total, who"),
        ("too_short", "ValueError: the function returned 0 rows for 1"),
        ("no_table", "TypeError: the function returned a list, not a pyarrow.Table"),
        ("leaves", "SystemExit: 3"),
    ],
)
def test_a_function_that_returns_something_else_rejects_its_rows_and_says_what(
    function: str, says: str, module: Path
) -> None:
    found = python(function, module).run(rows(("1", "1", "1", "a"), ("2", "1", "1", "b")))
    assert [reject.error for reject in found.rejects] == [says, says]
    assert found.outputs.num_rows == 0


def test_a_value_that_is_not_of_the_declared_type_is_a_reject(module: Path) -> None:
    found = python("text_for_number", module).run(rows(("1", "1", "1", "12"), ("2", "1", "1", "twelve")))
    assert columns(found) == {"total": ["12"], "who": ["12"]}
    assert found.rejects == [Reject(1, "total", "total: 'twelve' is not BIGINT")]


def test_a_function_that_misses_its_surroundings_rejects_nothing(module: Path) -> None:
    with pytest.raises(Unreachable):
        python("away", module).run(rows(("1", "1", "1", "a")))


def test_a_function_per_row_gets_a_dict_and_fails_by_itself(module: Path) -> None:
    found = python("row", module, per_row=True, total="DECIMAL(18,2)").run(
        rows(("1", "2", "1.25", "a"), ("2", "3", "1", "b"), ("3", "", "1", "c"))
    )
    assert columns(found) == {"total": ["2.50", None], "who": ["A", ""]}
    assert found.rejects == [Reject(1, None, "ValueError: three is too many")]


def test_a_function_per_row_gets_python_values_of_the_types(module: Path) -> None:
    found = python("kinds", module, per_row=True, total="VARCHAR").run(rows(("1", "2", "1.25", "a")))
    assert columns(found)["who"] == ["true"]
    assert columns(found)["total"] == [
        "[('note', 'str'), ('order_id', 'str'), ('price', 'Decimal'), ('quantity', 'int')]"
    ]


@pytest.mark.parametrize(
    ("function", "says"),
    [
        ("not_a_dict", "TypeError: the function returned a list, not a dict of its outputs"),
        (
            "odd_value",
            "TypeError: total: a list is no value of a cell; return text, a number, a date or a time",
        ),
    ],
)
def test_what_a_function_per_row_may_not_return_is_said(function: str, says: str, module: Path) -> None:
    found = python(function, module, per_row=True).run(rows(("1", "1", "1", "a")))
    assert [reject.error for reject in found.rejects] == [says]


@pytest.mark.parametrize(
    "missing", ["no_such_module:f", "rates_for_tests:no_such_function", "rates_for_tests:state"]
)
def test_a_function_that_cannot_be_loaded_is_waited_for(missing: str, module: Path) -> None:
    chosen = calculation(python=missing, version="1", outputs={"total": "BIGINT"})
    with pytest.raises(Hold, match="orders"):
        Calculator(bind(chosen, HEADER), Functions([chosen], module))


def test_a_worker_runs_no_function_that_its_own_configuration_does_not_name(module: Path) -> None:
    own = calculation(python="rates_for_tests:table", version="1", outputs={"total": "BIGINT"})
    foreign = own.model_copy(update={"python": "os:system"})
    newer = own.model_copy(update={"version": "2"})
    for other in (foreign, newer):
        with pytest.raises(Hold, match="not a calculation of this worker's configuration"):
            Functions([own], module).load(other)
    with pytest.raises(Hold):
        Calculator(bind(own, HEADER))
    same = own.model_copy(update={"label": "elsewhere", "match": "x"})
    assert callable(Functions([own], module).load(same))


def test_a_module_that_is_installed_later_is_found(tmp_path: Path) -> None:
    chosen = calculation(python="installed_later:f", version="1", outputs={"total": "BIGINT"})
    functions = Functions([chosen], tmp_path)
    with pytest.raises(Hold):
        functions.load(chosen)
    (tmp_path / "installed_later.py").write_text("def f(rows):\n    return rows\n")
    try:
        assert callable(functions.load(chosen))
    finally:
        sys.path.remove(str(tmp_path))
        sys.modules.pop("installed_later", None)
