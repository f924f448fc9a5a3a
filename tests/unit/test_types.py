import json

import pyarrow as pa
import pyarrow.json
import pytest

from pipeline.duck import connect
from pipeline.errors import CalculationError
from pipeline.types import ColumnType


@pytest.mark.parametrize(
    ("written", "sql"),
    [
        ("decimal( 18 , 2 )", "DECIMAL(18,2)"),
        ("DECIMAL", "DECIMAL(18,3)"),
        ("numeric(9)", "DECIMAL(9,0)"),
        ("decimal(38,38)", "DECIMAL(38,38)"),
        ("int", "INTEGER"),
        ("Integer", "INTEGER"),
        ("bigint", "BIGINT"),
        ("bool", "BOOLEAN"),
        ("text", "VARCHAR"),
        ("String", "VARCHAR"),
        ("varchar(20)", "VARCHAR"),
        ("real", "FLOAT"),
        ("double precision", "DOUBLE"),
        (" timestamp  with\ttime zone ", "TIMESTAMPTZ"),
        ("timestamptz", "TIMESTAMPTZ"),
        ("datetime", "TIMESTAMP"),
        ("uuid", "UUID"),
        ("ubigint", "UBIGINT"),
        ("utinyint", "UTINYINT"),
    ],
)
def test_a_type_is_spelt_one_way_however_it_was_written(written: str, sql: str) -> None:
    assert ColumnType.parse(written).sql == sql
    assert ColumnType.parse(sql).sql == sql


@pytest.mark.parametrize(
    "written", ["decimal", "numeric(9)", "int", "text", "real", "datetime", "dec(5,1)", "int8"]
)
def test_an_alias_means_what_duckdb_takes_it_for(written: str) -> None:
    described = connect().sql(f"DESCRIBE SELECT NULL::{written} AS x").fetchall()[0][1]
    assert ColumnType.parse(described) == ColumnType.parse(written)


@pytest.mark.parametrize(
    "written",
    [
        "HUGEINT",
        "UHUGEINT",
        "INTERVAL",
        "BLOB",
        "JSON",
        "INTEGER[]",
        "STRUCT(a INTEGER)",
        '"NULL"',
        "TIMETZ",
        "",
        "; DROP",
    ],
)
def test_a_type_outside_the_list_says_to_cast_it_to_varchar(written: str) -> None:
    with pytest.raises(CalculationError, match="cast it to VARCHAR"):
        ColumnType.parse(written)


@pytest.mark.parametrize("written", ["DECIMAL(39,2)", "DECIMAL(0,0)", "DECIMAL(5,6)"])
def test_a_decimal_that_cannot_be_is_refused(written: str) -> None:
    with pytest.raises(CalculationError, match="1 to 38 digits"):
        ColumnType.parse(written)


def test_a_length_on_a_type_that_has_none_is_refused() -> None:
    with pytest.raises(CalculationError, match="write BIGINT"):
        ColumnType.parse("BIGINT(5)")


@pytest.mark.parametrize(
    ("written", "literal"),
    [
        ("BOOLEAN", "true"),
        ("TINYINT", "-128"),
        ("BIGINT", "9223372036854775807"),
        ("BIGINT", "-9223372036854775808"),
        ("UBIGINT", "18446744073709551615"),
        ("DECIMAL(38,10)", "-1234567890123456789012345678.0123456789"),
        ("DECIMAL(4,2)", "0.10"),
        ("FLOAT", "0.1"),
        ("FLOAT", "3.4028235e38"),
        ("DOUBLE", "-0.0"),
        ("DOUBLE", "1e-7"),
        ("DOUBLE", "1e300"),
        ("DOUBLE", "5e-324"),
        ("DATE", "0044-03-15 (BC)"),
        ("DATE", "10000-01-01"),
        ("TIME", "23:59:59.999999"),
        ("TIMESTAMP", "1969-12-31 23:59:59.999999"),
        ("TIMESTAMPTZ", "2020-06-01 12:00:00+02"),
        ("UUID", "00000000-0000-0000-0000-00000000000f"),
        ("VARCHAR", 'null "quoted"\nline\t😀'),
    ],
)
def test_text_on_the_wire_comes_back_as_the_same_value(written: str, literal: str) -> None:
    """DuckDB's text as JSON, decoded by Arrow, cast by DuckDB: the same text again."""
    con, column = connect(), ColumnType.parse(written)
    text = con.execute(f"SELECT CAST(CAST(? AS {column.sql}) AS VARCHAR)", [literal]).fetchall()[0][0]
    token = text if column.is_token else json.dumps(text)
    read = pa.json.read_json(
        pa.BufferReader(f'{{"x":{token}}}\n'.encode()),
        parse_options=pa.json.ParseOptions(explicit_schema=pa.schema([("x", column.arrow)])),
    )
    con.register("decoded", read)
    assert con.sql(f"SELECT CAST(CAST(x AS {column.sql}) AS VARCHAR) FROM decoded").fetchall() == [(text,)]
