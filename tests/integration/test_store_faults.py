"""What an S3 server can do to a call, and what becomes of it: errors of ours, effects that are read back, nothing left over."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
from botocore.retries.standard import ExponentialBackoff

from pipeline import records
from pipeline.claims import Observer
from pipeline.errors import NotFound, PreconditionFailed, Throttled, Transient, Unreachable
from pipeline.jobs import Claim
from pipeline.s3 import S3Store, client
from pipeline.store import PART_SIZE
from tests.integration.test_store_contract import body, content, pieces, settings_of
from tests.services.s3 import S3
from tests.services.s3_faults import Fault, FaultProxy, Kind, Trap, fault_proxy

LARGE = 2 * PART_SIZE + 12345


@dataclass
class Failing:
    """A store behind the proxy, and the same one beside it."""

    proxy: FaultProxy
    store: S3Store
    right: S3Store
    connection: Any

    def unfinished(self) -> list[str]:
        found = self.connection.list_multipart_uploads(Bucket=self.right.bucket)
        return [upload["Key"] for upload in found.get("Uploads", ())]

    def lose_answer(self, call: str, times: int = 1) -> None:
        """Have calls take effect, and close their connections in place of an answer."""
        self.proxy.traps = tuple(Trap(call, "after", lambda _: None) for _ in range(times))


@pytest.fixture
def failing(s3: S3, monkeypatch: pytest.MonkeyPatch) -> Iterator[Failing]:
    monkeypatch.setattr(ExponentialBackoff, "delay_amount", lambda _, __: 0.001)
    with fault_proxy(s3.endpoint, seed=1) as proxy:
        through, beside = (
            client(settings_of(replace(s3, endpoint=proxy.gate("test")))),
            client(settings_of(s3)),
        )
        yield Failing(proxy, S3Store(through, s3.results), S3Store(beside, s3.results), beside)
        through.close()
        beside.close()


@pytest.mark.parametrize(
    ("kind", "error"), [("500", Throttled), ("503", Throttled), ("reset", Unreachable), ("lost", Unreachable)]
)
def test_a_call_that_fails_for_the_moment_is_transient(
    failing: Failing, kind: Kind, error: type[Transient]
) -> None:
    failing.right.put("key", b"before")
    failing.proxy.faults = (Fault(kind),)
    for call in (failing.store.head, failing.store.get, failing.store.delete):
        with pytest.raises(error):
            call("key")
    with pytest.raises(error):
        failing.store.put("key", b"after")
    with pytest.raises(error):
        list(failing.store.list())


def test_a_body_that_breaks_off_is_transient_and_never_short(failing: Failing) -> None:
    failing.right.upload("large", pieces(body(LARGE), 1_000_003))
    failing.proxy.faults = (Fault("cut"),)
    with pytest.raises(Transient):
        content(failing.store, "large")
    with pytest.raises(Transient):
        failing.store.get("large")


def test_a_put_whose_answer_is_lost_is_made_again(failing: Failing) -> None:
    failing.lose_answer("^PUT ")
    failing.store.put("key", b"content")
    assert failing.right.get("key")[0] == b"content"


def test_a_record_whose_answer_is_lost_is_recognised_as_ours(failing: Failing) -> None:
    """boto3 makes the call again, and is told that somebody was first: it was we."""
    ours = Claim(nonce="ours")
    failing.lose_answer("^PUT ")
    assert records.create(failing.store, "record", ours) == ours
    etag = failing.right.head("record").etag
    failing.lose_answer("^PUT ")
    assert records.replace(failing.store, "record", Claim(nonce="ours", beat=1), etag)
    with pytest.raises(PreconditionFailed):
        failing.store.put("record", b"", if_match=etag)


def test_a_claim_whose_answer_is_lost_is_held(failing: Failing) -> None:
    failing.lose_answer("^PUT ")
    held = Observer(failing.store, "claim").take()
    assert held is not None
    failing.lose_answer("^PUT ")
    held.renew(rows=5)
    assert Claim.load(failing.right.get("claim")[0]).rows == 5
    assert Observer(failing.right, "claim").take() is None


def test_a_completion_whose_answer_is_lost_has_happened_or_is_transient(failing: Failing) -> None:
    failing.lose_answer(r"^POST .*uploadId")
    try:
        failing.store.upload("large", pieces(body(LARGE), PART_SIZE))
    except Transient:
        failing.store.upload("large", pieces(body(LARGE), PART_SIZE))
    assert content(failing.right, "large") == body(LARGE)
    assert failing.unfinished() == []


def test_a_conditional_completion_whose_answer_is_lost_stays_as_it_was_made(failing: Failing) -> None:
    """Whoever copies reads back: the target is the source once, and the second try has its condition against it."""
    large = b"content" * 200_000  # what is small is got and put, in one piece
    failing.right.put("source", large)
    failing.lose_answer(r"^POST .*uploadId")
    with pytest.raises((Transient, PreconditionFailed)):
        failing.store.copy("source", "target", if_none_match=True)
    assert failing.right.get("target")[0] == large
    with pytest.raises(PreconditionFailed):
        failing.store.copy("source", "target", if_none_match=True)
    assert failing.unfinished() == []


@pytest.mark.parametrize("part", [1, 2, 3])
def test_an_upload_one_part_of_which_never_arrives_is_aborted(failing: Failing, part: int) -> None:
    failing.proxy.traps = tuple(Trap(f"partNumber={part}", "before", lambda _: None) for _ in range(9))
    with pytest.raises(Transient):
        failing.store.upload("large", pieces(body(LARGE), PART_SIZE))
    with pytest.raises(NotFound):
        failing.right.head("large")
    assert failing.unfinished() == []


def test_what_was_there_before_stays_until_an_upload_is_complete(failing: Failing) -> None:
    failing.right.put("large", b"before")
    failing.proxy.traps = tuple(Trap("^POST .*uploadId", "before", lambda _: None) for _ in range(9))
    with pytest.raises(Transient):
        failing.store.upload("large", pieces(body(LARGE), PART_SIZE))
    assert failing.right.get("large")[0] == b"before"


def test_listing_goes_on_through_failures_without_gaps(failing: Failing) -> None:
    for number in range(30):
        failing.right.put(f"many/{number:02}", b"")
    failing.proxy.faults = (Fault("500", rate=0.3),)
    for _ in range(5):
        assert [head.key for head in failing.store.list("many/")] == [f"many/{n:02}" for n in range(30)]
