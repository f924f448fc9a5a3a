"""Calls of S3 are counted by kind and outcome, and never by key."""

import pytest
from prometheus_client import generate_latest

from pipeline import metrics
from pipeline.errors import NotFound, PreconditionFailed, Unreachable
from pipeline.s3 import S3Store, client
from pipeline.s3_meter import outcome
from pipeline.settings import S3Settings
from tests.services.s3 import S3


def calls(operation: str, outcome: str) -> float:
    labels = {"operation": operation, "outcome": outcome}
    return metrics.REGISTRY.get_sample_value("millstream_s3_calls_total", labels) or 0


def test_each_call_is_counted_with_its_outcome(s3: S3) -> None:
    store = S3Store(
        client(S3Settings(endpoint=s3.endpoint, access_key=s3.access_key, secret_key=s3.secret_key)),
        s3.results,
    )
    kinds = [("PutObject", "ok"), ("PutObject", "precondition"), ("HeadObject", "not_found")]
    before = [calls(*kind) for kind in kinds]
    store.put("secret-name.csv", b"1", if_none_match=True)
    with pytest.raises(PreconditionFailed):
        store.put("secret-name.csv", b"2", if_none_match=True)
    with pytest.raises(NotFound):
        store.head("another")
    assert [calls(*kind) for kind in kinds] == [count + 1 for count in before]
    assert b"secret-name" not in generate_latest(metrics.REGISTRY)


def test_tries_that_boto3_makes_by_itself_are_counted_too() -> None:
    settings = S3Settings(endpoint="http://127.0.0.1:1", access_key="a", secret_key="b")
    before = calls("HeadObject", "unreachable")
    with pytest.raises(Unreachable):
        S3Store(client(settings), "results").head("a")
    assert calls("HeadObject", "unreachable") == before + 3


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (200, "ok"),
        (304, "ok"),
        (403, "refused"),
        (400, "error"),
        (416, "error"),
        (429, "throttled"),
        (503, "throttled"),
    ],
)
def test_a_status_says_the_outcome(status: int, kind: str) -> None:
    assert outcome({"status_code": status}, None) == kind
