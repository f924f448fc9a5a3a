"""Waiting for what fails for the moment."""

import pytest

from pipeline import backoff
from pipeline.errors import Refused, Unreachable


def test_pauses_grow_to_a_limit_and_never_come_together() -> None:
    for tries, longest in ((0, 0.4), (1, 0.6), (2, 1.0), (10, 5.2), (10_000, 5.2)):
        found = {backoff.pause(tries) for _ in range(20)}
        assert len(found) > 1 or tries >= 10
        assert 0.2 <= min(found) <= max(found) <= longest


def test_a_start_waits_until_its_services_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff, "_exponential", lambda _: 0.001)
    reasons = ["starting"]
    seen = []

    def look() -> str:
        seen.append(list(reasons))
        if len(seen) < 4:
            raise Unreachable("S3 does not answer")
        return "there"

    assert backoff.until_there(look, reasons) == "there"
    assert seen == [["starting"], *[["S3 does not answer"]] * 3]
    assert reasons == []


def test_what_is_permanent_ends_a_start_at_once() -> None:
    def look() -> None:
        raise Refused("no such bucket")

    with pytest.raises(Refused):
        backoff.until_there(look, [])
