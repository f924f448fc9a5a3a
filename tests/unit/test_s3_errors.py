"""What boto3 raises becomes one of our errors, and says what to look at."""

import pytest
from botocore.exceptions import (
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    IncompleteReadError,
    ParamValidationError,
    ReadTimeoutError,
    ResponseStreamingError,
)

from pipeline.errors import (
    MillstreamError,
    NotFound,
    Permanent,
    PreconditionFailed,
    Refused,
    Throttled,
    Transient,
    Unreachable,
)
from pipeline.s3 import translate

ENDPOINT = "http://127.0.0.1:9000"


def answer(status: int, code: str) -> ClientError:
    return ClientError(
        {"Error": {"Code": code, "Message": "no"}, "ResponseMetadata": {"HTTPStatusCode": status}}, "Call"
    )


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (404, "NoSuchKey", NotFound),
        (404, "404", NotFound),  # the answer to HEAD has no body, and so no better code
        (412, "PreconditionFailed", PreconditionFailed),
        (409, "ConditionalRequestConflict", PreconditionFailed),
        (403, "AccessDenied", Refused),
        (403, "SignatureDoesNotMatch", Refused),
        (401, "Unauthorized", Refused),
        (404, "NoSuchBucket", Refused),
        (404, "NoSuchUpload", Transient),  # asked again after a lost answer: nobody knows how it went
        (503, "SlowDown", Throttled),
        (500, "InternalError", Throttled),
        (429, "TooManyRequests", Throttled),
        (400, "InvalidArgument", Permanent),
    ],
)
def test_an_answer_of_the_server_becomes_an_error_of_ours(
    status: int, code: str, expected: type[MillstreamError]
) -> None:
    error = translate(answer(status, code), "results/orders.csv", ENDPOINT)
    assert type(error) is expected
    assert ENDPOINT in str(error)


@pytest.mark.parametrize(
    "error",
    [
        EndpointConnectionError(endpoint_url=ENDPOINT),
        ConnectTimeoutError(endpoint_url=ENDPOINT),
        ReadTimeoutError(endpoint_url=ENDPOINT),
        IncompleteReadError(actual_bytes=1, expected_bytes=2),
        ResponseStreamingError(error="reset"),
    ],
)
def test_no_answer_is_unreachable_and_names_the_address(error: Exception) -> None:
    found = translate(error, "results/orders.csv", ENDPOINT)
    assert type(found) is Unreachable
    assert ENDPOINT in str(found)


def test_a_call_that_boto3_itself_refuses_is_permanent() -> None:
    found = translate(
        ParamValidationError(report="Missing required parameter"), "results/orders.csv", ENDPOINT
    )
    assert type(found) is Permanent
    assert "results/orders.csv" in str(found)
