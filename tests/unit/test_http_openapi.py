"""What OpenAPI promises, held against the reader by somebody who knows nothing else of it: schemathesis."""

from itertools import count
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from sink.http_app import make_app
from tests.files import Files
from tests.http_client import settings as reader_settings

EXAMPLES = 15
"""Requests of each operation: a good hundred and a half in all."""

NAMES = ("orders.csv", "new/ü.csv", "failed.csv")
"""Three of four requests are about files that are there; the others about whatever comes to schemathesis' mind."""

CHECKS: list[Any] = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


def app(files: Files) -> Any:
    files.published("orders.csv")
    files.upload("new/ü.csv")
    files.upload("failed.csv")
    files.end(files.take_on("failed.csv", "failed.csv"), "failed")
    return make_app(reader_settings(), files.uploads, files.results)


SCHEMA = schemathesis.openapi.from_asgi("/openapi.json", app(Files()))
ALL: list[Any] = list(SCHEMA.get_all_operations())
OPERATIONS = {
    name: found.ok() for found in ALL if (name := found.ok().definition.raw["operationId"]) != "watch"
}
"""Without the stream that has no end: `test_pages.py` has that."""


@pytest.mark.parametrize("name", OPERATIONS)
def test_no_request_gets_a_fault_or_an_answer_that_is_not_promised(name: str) -> None:
    operation: Any = OPERATIONS[name]
    turn = count()

    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(operation.as_strategy())
    def holds(case: Any) -> None:
        chosen = (*NAMES, None)[next(turn) % 4]
        if "name" in case.path_parameters and chosen is not None:
            case.path_parameters["name"] = chosen
        if "wait" in (case.query or {}):
            case.query["wait"] = 0
        case.call_and_validate(checks=CHECKS)

    holds()
