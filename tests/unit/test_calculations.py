from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline.calculations import Calculation, choose
from pipeline.errors import CalculationError

ORDERS: dict[str, Any] = {
    "label": "orders",
    "match": "orders*.csv",
    "id": "order_id",
    "columns": {"quantity": "bigint", "price": "decimal(18, 2)"},
    "outputs": {"total": "quantity * price"},
}


def made(**changes: Any) -> Calculation:
    return Calculation.model_validate(ORDERS | changes)


def test_types_are_kept_in_one_spelling_and_an_id_is_always_a_list() -> None:
    calculation = made()
    assert calculation.columns == {"quantity": "BIGINT", "price": "DECIMAL(18,2)"}
    assert calculation.id == ("order_id",)
    assert calculation.nulls == ("",)


def test_json_gives_the_same_calculation_back() -> None:
    calculation = made(id=["order_id", "line"], nulls=["NA", "é"], outputs={"b": "1", "a": "'x'"})
    again = Calculation.model_validate_json(calculation.model_dump_json())
    assert again == calculation
    assert again.model_dump_json() == calculation.model_dump_json()
    assert again.digest == calculation.digest
    assert list(again.outputs) == ["b", "a"]


def test_the_digest_is_the_same_for_ever() -> None:
    """A changed way of counting would make every stored job look like another one."""
    assert made().digest == "1e66a545f7c852fdaf5ea2b2551e4230"


@pytest.mark.parametrize(
    "changes", [{"label": "x"}, {"match": "*"}, {"columns": {"price": "NUMERIC(18,2)", "quantity": "INT8"}}]
)
def test_what_cannot_change_a_result_is_not_in_the_digest(changes: dict[str, Any]) -> None:
    assert made(**changes).digest == made().digest


@pytest.mark.parametrize(
    "changes",
    [
        {"id": ["order_id", "line"]},
        {"columns": {"quantity": "INTEGER", "price": "DECIMAL(18,2)"}},
        {"nulls": ["NA"]},
        {"outputs": {"total": "quantity * price + 0"}},
        {"outputs": {"sum": "quantity * price"}},
        {"python": "a:b", "version": "1", "outputs": {"total": "DOUBLE"}},
    ],
)
def test_what_can_change_a_result_changes_the_digest(changes: dict[str, Any]) -> None:
    assert made(**changes).digest != made().digest


def test_a_python_calculations_version_and_mode_are_in_its_digest() -> None:
    python = {"python": "rates:total", "version": "1", "outputs": {"total": "double"}}
    digests = {
        made(**python).digest,
        made(**python | {"version": "2"}).digest,
        made(**python | {"per_row": True}).digest,
        made(**python | {"python": "rates:other"}).digest,
    }
    assert len(digests) == 4


@given(st.dictionaries(st.text(min_size=1), st.text(min_size=1).filter(str.strip), min_size=1, max_size=3))
def test_any_names_and_texts_survive_json(outputs: dict[str, str]) -> None:
    try:
        calculation = made(outputs=outputs)
    except ValidationError:
        return
    assert Calculation.model_validate_json(calculation.model_dump_json()) == calculation


@pytest.mark.parametrize(
    ("changes", "path", "says"),
    [
        ({"columns": {"price": "MONEY"}}, "columns.price", "cast it to VARCHAR"),
        ({"outputs": {"total": " "}}, "outputs.total", "write a SQL expression"),
        ({"outputs": {}}, "outputs", "at least 1"),
        ({"outputs": {"total": "1", "TOTAL": "2"}}, "outputs", "'total' and 'TOTAL' are the same column"),
        ({"outputs": {"Order_ID": "1"}}, "outputs", "is an id column already"),
        ({"id": []}, "id", "at least 1"),
        ({"id": ["a", "A"]}, "id", "are the same column"),
        ({"id": [""]}, "id.0", "at least 1 character"),
        ({"match": ""}, "match", "at least 1 character"),
        ({"output": {"total": "1"}}, "output", "not permitted"),
        ({"python": "rates.total", "version": "1"}, "python", 'write "module:function"'),
        ({"python": "rates:total", "outputs": {"total": "DOUBLE"}}, "", "needs a version"),
        ({"python": "rates:total", "version": "1"}, "outputs.total", "cast it to VARCHAR"),
        ({"version": "1"}, "", "belongs to a Python function"),
        ({"per_row": True}, "", "belongs to a Python function"),
    ],
)
def test_a_wrong_setting_is_named_with_what_would_be_right(
    changes: dict[str, Any], path: str, says: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        made(**changes)
    found = {".".join(map(str, e["loc"])): e["msg"] for e in caught.value.errors()}
    assert path in found
    assert says in found[path]


def test_empty_cells_are_null_whatever_nulls_says() -> None:
    assert made(nulls=["NA", "-"]).null_texts == ("", "NA", "-")


def test_a_column_declared_varchar_is_a_text_column() -> None:
    assert list(made(columns={"note": "TEXT", "price": "DOUBLE"}).typed) == ["price"]


def test_the_first_calculation_that_matches_is_taken() -> None:
    first, second = made(label="all", match="*"), made(label="orders")
    assert choose([first, second], "orders.csv") is first
    assert choose([second, first], "orders.csv") is second
    assert choose([second, first], "other.csv") is first


def test_a_pattern_matches_names_as_a_shell_does_and_a_star_crosses_slashes() -> None:
    assert choose([made(match="2024/*.csv")], "2024/07/orders.csv")
    with pytest.raises(CalculationError):
        choose([made(match="*.CSV")], "orders.csv")


def test_without_a_match_the_message_says_how_to_write_one() -> None:
    with pytest.raises(CalculationError) as caught:
        choose([], "a folder/sales-2024.csv")
    text = str(caught.value)
    assert "[calculations.sales-2024]" in text
    assert 'match = "a folder/sales-2024.csv"' in text
    assert "millstream init" in text


@pytest.mark.parametrize("name", ["Orders.csv", "2024/orders.csv", "order.csv"])
def test_a_pattern_that_nearly_matches_is_named(name: str) -> None:
    with pytest.raises(CalculationError, match=r"orders\*\.csv comes near"):
        choose([made(match="z"), made()], name)
