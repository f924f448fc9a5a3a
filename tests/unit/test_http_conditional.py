"""Conditional requests (RFC 9110, section 13)."""

from datetime import UTC, datetime

import pytest

from sink.http_conditional import evaluate, http_date, range_holds

ETAG = "abc"
MODIFIED = datetime(2026, 3, 4, 5, 6, 7, 890000, tzinfo=UTC)
SAME = "Wed, 04 Mar 2026 05:06:07 GMT"
BEFORE = "Wed, 04 Mar 2026 05:06:06 GMT"
AFTER = "Wed, 04 Mar 2026 05:06:08 GMT"


@pytest.mark.parametrize(
    ("headers", "verdict"),
    [
        ({}, "send"),
        ({"if-none-match": '"abc"'}, "not modified"),
        ({"if-none-match": 'W/"abc"'}, "not modified"),
        ({"if-none-match": '"x", "abc"'}, "not modified"),
        ({"if-none-match": "*"}, "not modified"),
        ({"if-none-match": '"x"'}, "send"),
        ({"if-none-match": "abc"}, "send"),
        ({"if-modified-since": SAME}, "not modified"),
        ({"if-modified-since": AFTER}, "not modified"),
        ({"if-modified-since": BEFORE}, "send"),
        ({"if-modified-since": "yesterday"}, "send"),
        ({"if-none-match": '"x"', "if-modified-since": AFTER}, "send"),  # the tag decides alone
        ({"if-match": '"abc"'}, "send"),
        ({"if-match": "*"}, "send"),
        ({"if-match": '"x"'}, "precondition failed"),
        ({"if-match": 'W/"abc"'}, "precondition failed"),
        ({"if-match": '"abc"', "if-none-match": '"abc"'}, "not modified"),
        ({"if-unmodified-since": BEFORE}, "precondition failed"),
        ({"if-unmodified-since": SAME}, "send"),
        ({"if-match": '"abc"', "if-unmodified-since": BEFORE}, "send"),
    ],
)
def test_the_conditions_are_evaluated_in_the_order_of_the_rfc(headers: dict[str, str], verdict: str) -> None:
    assert evaluate(headers, ETAG, MODIFIED) == verdict


@pytest.mark.parametrize(
    ("if_range", "only_version", "holds"),
    [
        (None, False, True),
        ('"abc"', False, True),
        ('"x"', False, False),
        ('W/"abc"', False, False),
        (SAME, True, True),
        (SAME, False, False),  # another version may have been published within that second
        (BEFORE, True, False),
        (AFTER, True, False),
        ("nonsense", True, False),
    ],
)
def test_a_range_counts_only_of_the_version_that_the_client_has(
    if_range: str | None, only_version: bool, holds: bool
) -> None:
    assert range_holds(if_range, ETAG, MODIFIED, only_version=only_version) is holds


def test_dates_are_written_as_http_wants_them() -> None:
    assert http_date(MODIFIED) == SAME
