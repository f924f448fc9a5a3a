"""An expression is one scalar expression over the row: every way around that is tried here."""

import duckdb
import pytest

from pipeline import functions
from pipeline.duck import OutOfMemory, locked
from pipeline.errors import CalculationError
from pipeline.expressions import check

COLUMNS = ("order_id", "quantity", "price", "note", "Unit Price", 'we"ird', "a.b")

ALLOWED = [
    "quantity * price",
    "1",
    "NULL",
    'QUANTITY + "quantity"',
    '"Unit Price" || "we""ird" || "a.b"',
    "upper(note)",
    "CASE WHEN quantity > 5 THEN 'many' WHEN quantity IS NULL THEN 'none' ELSE 'few' END",
    "CAST(price AS DOUBLE)",
    "price::DECIMAL(18,4)",
    "TRY_CAST(note AS DATE)",
    "TRY(note::INTEGER)",
    "coalesce(nullif(note, ''), 'n/a')",
    "quantity BETWEEN 1 AND 10 AND NOT (price IN (1, 2))",
    "note LIKE 'a%' OR note ILIKE 'b_' ESCAPE '!' OR note SIMILAR TO 'c' OR note GLOB 'd*' OR note ~ 'e'",
    "extract(year FROM note::DATE)",
    "date_trunc('month', note::TIMESTAMP)",
    "note::TIMESTAMP AT TIME ZONE 'Europe/Berlin'",
    "time_bucket(INTERVAL 15 minutes, note::TIMESTAMP)",
    "note::DATE + INTERVAL 1 day",
    "age(note::TIMESTAMP, TIMESTAMP '2000-01-01')::VARCHAR",
    "list_sum([quantity, price])",
    "list_transform([1, 2], lambda x: x * quantity)",
    "list_transform([1, 2], lambda x, i: x + i)",
    "list_transform([quantity], x -> x + 1)",
    "list_reduce([1, 2], lambda a, b: a + b)",
    "list_transform([{'a': 1}], lambda s: s.a)",
    "[x + 1 for x in [quantity] if x > 1][1]",
    "note -> '$.a'",
    "note ->> '$.a'",
    "json_extract_string(note, '$.a')",
    "{'a': quantity}.a",
    "note[1:3]",
    "split_part(note, ',', 1)",
    "array_to_string([note], ',')",
    "md5(note)",
    "if(quantity > 1, 'a', 'b')",
    "greatest(quantity, price)",
    "list_aggregate([1, 2], 'median')",
    "strftime(note::TIMESTAMPTZ, '%Z')",
    "note COLLATE NOCASE = 'x'",
    "@quantity",
    "position('a' IN note) + round(price, 2) + quantity // 2 + quantity % 2 + quantity ** 2",
    "regexp_replace(note, 'a', 'b', 'g')",
    "row(quantity, price)::VARCHAR",
    "1 -- a comment",
    "/* a comment */ quantity",
    "$$now()$$",
    "'read_csv(''/etc/passwd'')'",
]


@pytest.mark.parametrize("expression", ALLOWED)
def test_what_depends_on_the_row_alone_is_allowed(expression: str) -> None:
    check(expression, COLUMNS)


def test_the_columns_that_are_used_are_told_as_the_header_spells_them() -> None:
    assert check('QUANTITY * "unit price" + len([x for x in [1]])', COLUMNS) == {"quantity", "Unit Price"}


REFUSED = {
    # files, network, settings, statements
    "read_csv('/etc/passwd')": "makes rows",
    "(SELECT 1)": "subquery",
    "(SELECT content FROM read_text('/etc/passwd'))": "subquery",
    "(FROM '/etc/passwd')": "subquery",
    "EXISTS (SELECT 1)": "subquery",
    "quantity IN (SELECT 1)": "subquery",
    "quantity = ANY (SELECT 1)": "subquery",
    "ARRAY(SELECT 1)": "subquery",
    "read_text('/etc/passwd')": "makes rows",
    "read_blob('/etc/passwd')": "makes rows",
    "read_parquet('x')": "makes rows",
    "read_json('x')": "makes rows",
    "glob('/etc/*')": "makes rows",
    "query('SELECT 1')": "makes rows",
    "query_table('x')": "makes rows",
    "ATTACH 'x.db'": "no type",
    "COPY (SELECT 1) TO '/tmp/x'": "",
    "INSTALL httpfs": "",
    "LOAD httpfs": "",
    "SET threads = 4": "",
    "PRAGMA version": "",
    "pragma_version()": "makes rows",
    "CREATE TEMP TABLE t AS SELECT 1": "",
    "1; CREATE TEMP TABLE t AS SELECT 1": "statement",
    "1; DROP TABLE x": "statement",
    "1; SELECT 2": "2 statements",
    "1;": "syntax error",
    "; 1": "",
    "getenv('HOME')": "settings",
    "current_setting('threads')": "settings",
    "getvariable('x')": "settings",
    "json_serialize_plan('SELECT 1')": "SQL statements",
    "json_execute_serialized_sql('x')": "makes rows",
    "pg_get_viewdef(1)": "reads more",
    "get_block_size('memory')": "reads more",
    # not the row alone
    "random()": "another value",
    "uuid()": "another value",
    "gen_random_uuid()": "another value",
    "uuidv7()": "another value",
    "setseed(0.5)": "another value",
    "now()": "when it is computed",
    "now()::VARCHAR": "when it is computed",
    '"now"()': "when it is computed",
    "today()": "when it is computed",
    "current_date": "when it is computed",
    "CURRENT_TIMESTAMP": "when it is computed",
    "current_date()": "when it is computed",
    "localtime": "when it is computed",
    "localtimestamp": "when it is computed",
    "current_localtimestamp()": "when it is computed",
    "transaction_timestamp()": "when it is computed",
    "age(note::TIMESTAMP)": "when it is computed",
    "ago(INTERVAL 1 day)": "when it is computed",
    "pg_postmaster_start_time()": "when it is computed",
    "timezone('Europe/Berlin', '12:00:00+00'::TIMETZ)": "today's offset",
    "json_transform(note, '\"TIMETZ\"') AT TIME ZONE 'Europe/Berlin'": "today's offset",
    "nextval('s')": "state",
    "currval('s')": "state",
    "txid_current()": "state",
    "write_log('x')": "state",
    "version()": "settings",
    "user": "settings",
    "current_user": "settings",
    "current_schema()": "settings",
    "current_database()": "settings",
    "current_query()": "more than its arguments",
    "pg_sleep(1)": "more than its arguments",
    "sleep_ms(1)": "more than its arguments",
    "stats(quantity)": "more than its arguments",
    "vector_type(quantity)": "more than its arguments",
    "alias(quantity)": "how the expression is written",
    "error('x')": "rejects its row",
    "list_aggregate([1], 'reservoir_quantile', 0.5)": "literal name",
    "list_aggregate([1], 'reservoir' || '_quantile', 0.5)": "literal name",
    "__internal_compress_integral_utinyint(quantity, 1)": "own use",
    "main.upper(note)": "nothing in front",
    "system.main.now()": "nothing in front",
    "note.upper()": "nothing in front",
    "[1].list_transform(lambda now: now)": "parameter",
    "list_transform([1], lambda current_date: current_date)": "parameter",
    "list_transform([1], lambda x: random())": "another value",
    "CASE WHEN quantity > 1 THEN random() END": "another value",
    "CAST(now() AS DATE)": "when it is computed",
    "quantity BETWEEN 1 AND random()": "another value",
    "note COLLATE NOCASE || uuid()": "another value",
    "[random()][1]": "another value",
    "{'a': random()}.a": "another value",
    "note[random()::INT]": "another value",
    "TRY(random())": "another value",
    "random() -> '$'": "another value",
    # not one value per row
    "sum(quantity)": "aggregate",
    "count(*)": "aggregate",
    "count(DISTINCT quantity)": "DISTINCT",
    "list(quantity ORDER BY price)": "ORDER BY",
    "sum(quantity) FILTER (WHERE true)": "FILTER",
    "row_number() OVER ()": "window",
    "sum(quantity) OVER ()": "window",
    "lag(quantity) OVER (ORDER BY order_id)": "window",
    "row_number()": "window",
    "geomean(quantity)": "aggregate",
    "unnest([1, 2])": "makes rows",
    "generate_subscripts([1], 1)": "makes rows",
    "grouping(quantity)": "each row",
    "*": "name the columns",
    "COLUMNS(*)": "name the columns",
    "COLUMNS('q.*')": "name the columns",
    "*COLUMNS(*)": "name the columns",
    "coalesce(*COLUMNS(*))": "name the columns",
    "?": "parameter",
    "$1": "parameter",
    "$x": "parameter",
    "#1": "by number",
    "DEFAULT": "DEFAULT",
    "lambda x: x": "lambda",
    # out of the expression
    "": "",
    "   ": "",
    "--": "",
    "/*": "unterminated",
    "1 /*": "unterminated",
    "1) , (2": "syntax error",
    "1) + (2": "syntax error",
    "1, 2": "2 expressions",
    "quantity, price": "2 expressions",
    "1 AS b": "a name",
    "1 AS b, 2": "2 expressions",
    "quantity b": "a name",
    "b: 1": "a name",
    "quantity FROM t --": "more than an expression",
    "quantity FROM (SELECT 1 AS quantity)": "more than an expression",
    "quantity WHERE true": "more than an expression",
    "quantity ORDER BY 1": "more than an expression",
    "quantity LIMIT 1": "more than an expression",
    "quantity GROUP BY 1": "more than an expression",
    "quantity HAVING true": "more than an expression",
    "quantity QUALIFY true": "more than an expression",
    "quantity USING SAMPLE 1": "more than an expression",
    "quantity UNION SELECT 1": "query of its own",
    "quantity EXCEPT SELECT 1": "query of its own",
    "DISTINCT quantity": "more than an expression",
    "ALL quantity": "syntax error",
    "quantity INTO x": "",
    "chr(0) || '\0'": "NUL",
    # what doesn't fit
    "nosuch(quantity)": "no such function",
    "uper(note)": "did you mean upper",
    "t.quantity": "no table",
    "main.t.quantity": "no table",
    "rowid": "no column",
    "filename": "no column",
    "note AT TIME ZONE note": "written out",
    "make_timestamptz(2020, 1, 1, 1, 1, 1, note)": "written out",
    "note LIKE note ESCAPE '!'": "written out",
    "array_length([1], quantity)": "written out",
    "note::TIMESTAMP AT TIME ZONE 'Nowhere/Land'": "Nowhere/Land",
    "time_bucket(to_days(quantity), note::DATE)": "written out",
    "note::pg_catalog.int4": "type's name alone",
    "(" * 2000 + "1" + ")" * 2000: "depth",
    "[" * 900 + "]" * 900: "nested too deeply",
    "1" + " + 1" * 10_000: "characters",
}


@pytest.mark.parametrize("expression", REFUSED)
def test_all_else_is_refused_and_the_message_says_why(expression: str) -> None:
    with pytest.raises(CalculationError) as caught:
        check(expression, COLUMNS)
    assert REFUSED[expression] in str(caught.value)


def test_an_unknown_column_names_the_nearest_and_all_there_are() -> None:
    with pytest.raises(
        CalculationError, match=r'no column "prise"; did you mean "price"\? the file has order_id, quantity'
    ):
        check("prise * 2", COLUMNS)


def test_another_output_is_no_column() -> None:
    with pytest.raises(CalculationError, match="total is an output"):
        check("total * 2", COLUMNS, outputs=["total"])


def test_a_syntax_error_says_where() -> None:
    with pytest.raises(CalculationError, match="at character 13 of"):
        check("'é' || note ]", COLUMNS)


def test_a_column_may_be_called_like_a_keyword() -> None:
    """The file's own column is meant, and not the clock."""
    assert check("current_date", ["current_date"]) == {"current_date"}
    assert locked().execute("SELECT current_date FROM (SELECT 1 AS current_date)").fetchall() == [(1,)]


def test_a_function_that_the_catalogue_calls_volatile_is_never_allowed() -> None:
    rows = locked().execute(
        "SELECT DISTINCT function_name FROM duckdb_functions() WHERE stability <> 'CONSISTENT'"
    )
    allowed = [name for (name,) in rows.fetchall() if functions.reason(name) is None]
    assert allowed == []


def test_table_functions_and_aggregates_are_never_allowed() -> None:
    rows = locked().execute(
        "SELECT function_name FROM duckdb_functions() GROUP BY 1 "
        "HAVING NOT bool_or(function_type IN ('scalar', 'macro')) OR bool_or(function_type IN ('aggregate', 'window'))"
    )
    assert [name for (name,) in rows.fetchall() if functions.reason(name) is None] == []


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM glob('/etc/*')",
        "SELECT * FROM read_csv('http://127.0.0.1:9/x.csv')",
        "SELECT * FROM sniff_csv('/etc/passwd')",
        "ATTACH '/tmp/x.db'",
        "COPY (SELECT 1) TO '/tmp/x.csv'",
        "EXPORT DATABASE '/tmp/x'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET threads = 4",
        "SET GLOBAL TimeZone = 'Europe/Berlin'",
        "SET TimeZone = 'Europe/Berlin'",
        "RESET memory_limit",
        "SET enable_external_access = true",
        "SET lock_configuration = false",
        "PRAGMA memory_limit = '100GB'",
        "CALL enable_logging()",
        "SELECT getenv('HOME')",
        "SELECT * FROM a_python_variable",
    ],
)
def test_a_locked_connection_refuses_files_network_and_settings_by_itself(statement: str) -> None:
    """Even SQL that no check has seen gets at nothing."""
    a_python_variable = [1]
    assert a_python_variable
    with pytest.raises((duckdb.Error, OutOfMemory)):
        locked().execute(statement).fetchall()
