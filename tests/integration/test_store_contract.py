"""What an ObjectStore promises, kept by the one in memory, by a real S3 server, and by one whose every call fails twice."""

import threading
from array import array
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import pytest
from botocore.retries.quota import RetryQuota
from botocore.retries.standard import ExponentialBackoff
from pydantic import SecretStr

from millstream import ports
from pipeline.errors import NotFound, Permanent, PreconditionFailed, Refused, Unreachable
from pipeline.s3 import S3Store, client
from pipeline.settings import S3Settings
from pipeline.store import PART_SIZE, READ_CHUNK, MemoryStore, ObjectStore
from tests.services.s3 import S3
from tests.services.s3_faults import Fault, fault_proxy

LARGE = 2 * PART_SIZE + 12345


def settings_of(s3: S3) -> S3Settings:
    return S3Settings(
        endpoint=s3.endpoint,
        access_key=s3.access_key,
        secret_key=SecretStr(s3.secret_key),
        uploads=s3.uploads,
        results=s3.results,
    )


@dataclass
class Kept:
    """A store, and a look behind it: keys of uploads that were begun and neither completed nor aborted."""

    store: ObjectStore
    unfinished: Callable[[], list[str]]


@pytest.fixture(params=["memory", "s3", "failing"])
def kept(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kept]:
    if request.param == "memory":
        yield Kept(MemoryStore(), list)
        return
    s3: S3 = request.getfixturevalue("s3")
    with ExitStack() as until:
        if request.param == "failing":
            monkeypatch.setattr(ExponentialBackoff, "delay_amount", lambda _, __: 0.001)
            monkeypatch.setattr(
                RetryQuota, "acquire", lambda _, __: True
            )  # it allows a hundred tries in a row
            proxy = until.enter_context(fault_proxy(s3.endpoint))
            proxy.faults = (Fault("twice"),)
            s3 = replace(s3, endpoint=proxy.gate("test"))
        connection = client(settings_of(s3))
        until.callback(connection.close)

        def unfinished() -> list[str]:
            found = connection.list_multipart_uploads(Bucket=s3.results)
            return [upload["Key"] for upload in found.get("Uploads", ())]

        yield Kept(S3Store(connection, s3.results), unfinished)


@pytest.fixture
def store(kept: Kept) -> ObjectStore:
    return kept.store


def body(size: int) -> bytes:
    """Bytes that differ from place to place: a piece in the wrong place shows."""
    return array("Q", range(size // 8 + 1)).tobytes()[:size]


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]


def content(store: ObjectStore, key: str, **stretch: Any) -> bytes:
    with store.open(key, **stretch) as found:
        return b"".join(found.chunks)


def test_what_is_put_is_got(store: ObjectStore) -> None:
    etag = store.put("folder/größe, 1.csv", b"a,b\n", metadata={"file_id": "f" * 32})
    data, head = store.get("folder/größe, 1.csv")
    assert data == b"a,b\n"
    assert (head.key, head.etag, head.size) == ("folder/größe, 1.csv", etag, 4)
    assert head.metadata == {"file_id": "f" * 32}
    assert store.head("folder/größe, 1.csv") == head


def test_an_empty_object_is_an_object(store: ObjectStore) -> None:
    store.put("mark", b"")
    assert store.get("mark")[0] == b""
    assert store.head("mark").size == 0
    assert content(store, "mark") == b""


def test_the_etag_follows_the_content_and_not_the_time(store: ObjectStore) -> None:
    first = store.put("key", b"one")
    assert store.put("key", b"two") != first
    assert store.put("key", b"one") == first
    assert '"' not in first


def test_listing_and_head_agree_on_etag_size_and_time(store: ObjectStore) -> None:
    store.put("key", b"content")
    listed = next(store.list("key"))
    head = store.head("key")
    assert (listed.key, listed.etag, listed.size) == (head.key, head.etag, head.size)
    assert listed.last_modified == head.last_modified


@pytest.mark.parametrize("call", ["head", "get"])
def test_a_missing_object_is_not_found(store: ObjectStore, call: str) -> None:
    with pytest.raises(NotFound, match="missing"):
        getattr(store, call)("missing")


def test_a_missing_object_is_not_found_before_the_first_byte(store: ObjectStore) -> None:
    with pytest.raises(NotFound, match="missing"), store.open("missing"):
        pass


def test_copying_a_missing_object_is_not_found(store: ObjectStore) -> None:
    with pytest.raises(NotFound):
        store.copy("missing", "key")


def test_if_none_match_writes_only_where_there_is_none(store: ObjectStore) -> None:
    store.put("key", b"first", if_none_match=True)
    with pytest.raises(PreconditionFailed):
        store.put("key", b"second", if_none_match=True)
    assert store.get("key")[0] == b"first"


def test_if_match_writes_only_over_what_was_read(store: ObjectStore) -> None:
    read = store.put("key", b"read")
    store.put("key", b"changed", if_match=read)
    with pytest.raises(PreconditionFailed):
        store.put("key", b"again", if_match=read)
    with pytest.raises((PreconditionFailed, NotFound)):
        store.put("missing", b"again", if_match=read)
    assert store.get("key")[0] == b"changed"


@pytest.mark.parametrize("condition", ["if_none_match", "if_match"])
def test_of_racing_conditional_puts_exactly_one_wins(store: ObjectStore, condition: str) -> None:
    wanted: dict[str, Any] = {"if_none_match": True}
    if condition == "if_match":
        wanted = {"if_match": store.put("key", b"before")}
    together = threading.Barrier(8)

    def write(number: int) -> bool:
        together.wait()
        try:
            store.put("key", b"writer %d" % number, **wanted)
        except PreconditionFailed:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(write, range(8)))
    assert won.count(True) == 1
    assert store.get("key")[0] == b"writer %d" % won.index(True)


@pytest.mark.parametrize("size", [0, 1, PART_SIZE - 1, PART_SIZE, PART_SIZE + 1, LARGE])
def test_an_upload_keeps_every_byte_in_order(kept: Kept, size: int) -> None:
    data = body(size)
    etag = kept.store.upload("large.csv", pieces(data, 1_000_003), metadata={"file_id": "1"})
    head = kept.store.head("large.csv")
    assert (head.size, head.etag, head.metadata) == (size, etag, {"file_id": "1"})
    assert content(kept.store, "large.csv") == data
    assert kept.unfinished() == []


@pytest.mark.parametrize("before", [0, 3, PART_SIZE + 3, LARGE])
def test_an_upload_that_breaks_off_leaves_nothing(kept: Kept, before: int) -> None:
    def broken() -> Iterator[bytes]:
        yield from pieces(body(before), 1_000_003)
        raise ConnectionAbortedError("the client went away")

    with pytest.raises(ConnectionAbortedError):
        kept.store.upload("large.csv", broken())
    with pytest.raises(NotFound):
        kept.store.head("large.csv")
    assert kept.unfinished() == []


def test_an_upload_that_breaks_off_leaves_what_was_there_before(store: ObjectStore) -> None:
    def broken() -> Iterator[bytes]:
        yield body(LARGE)
        raise ConnectionAbortedError

    store.put("large.csv", b"before")
    with pytest.raises(ConnectionAbortedError):
        store.upload("large.csv", broken())
    assert store.get("large.csv")[0] == b"before"


@pytest.mark.parametrize("size", [0, 5, LARGE])
def test_a_copy_has_the_content_and_metadata_of_its_own(kept: Kept, size: int) -> None:
    store = kept.store
    store.upload("source", pieces(body(size), READ_CHUNK), metadata={"file_id": "old"})
    etag = store.copy("source", "folder/copy.csv", metadata={"file_id": "new"})
    head = store.head("folder/copy.csv")
    assert (head.size, head.etag, head.metadata) == (size, etag, {"file_id": "new"})
    assert content(store, "folder/copy.csv") == body(size)
    assert kept.unfinished() == []


TIMES = pytest.mark.parametrize("times", [1, 400_000], ids=["small", "large"])
"""What is small is got and put, what is large is copied on the server: the promise is the same."""


@TIMES
def test_a_copy_takes_names_that_need_quoting(store: ObjectStore, times: int) -> None:
    store.put("a b/größe+100%?#.csv", b"content" * times)
    store.copy("a b/größe+100%?#.csv", "c d/ß&=.csv")
    assert store.get("c d/ß&=.csv")[0] == b"content" * times


@TIMES
def test_a_copy_is_made_only_where_its_condition_holds(kept: Kept, times: int) -> None:
    store = kept.store
    store.put("one", b"one" * times)
    store.put("two", b"two" * times)
    first = store.copy("one", "target", if_none_match=True)
    with pytest.raises(PreconditionFailed):
        store.copy("two", "target", if_none_match=True)
    second = store.copy("two", "target", if_match=first)
    with pytest.raises(PreconditionFailed):
        store.copy("one", "target", if_match=first)
    assert store.get("target")[0] == b"two" * times
    assert store.head("target").etag == second
    assert kept.unfinished() == []


@TIMES
def test_of_racing_conditional_copies_one_that_won_stays(kept: Kept, times: int) -> None:
    """SeaweedFS looks at the condition and completes in two steps, so that two may win: whoever copies reads back."""
    store = kept.store
    for number in range(4):
        store.put(f"source-{number}", b"writer %d" % number * times)
    before = store.put("target", b"before")
    together = threading.Barrier(4)

    def write(number: int) -> bool:
        together.wait()
        try:
            store.copy(f"source-{number}", "target", if_match=before)
        except PreconditionFailed:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        won = list(pool.map(write, range(4)))
    assert store.get("target")[0] in [b"writer %d" % number * times for number in range(4) if won[number]]
    assert kept.unfinished() == []


@pytest.mark.parametrize(
    ("start", "length"),
    [
        (0, None),
        (0, 1),
        (10, 5),
        (LARGE - 3, None),
        (LARGE - 3, 3),
        (LARGE - 3, 1000),
        (READ_CHUNK, 2 * READ_CHUNK),
    ],
)
def test_a_stretch_of_an_object_is_streamed(store: ObjectStore, start: int, length: int | None) -> None:
    data = body(LARGE)
    store.upload("large", [data])
    wanted = data[start:] if length is None else data[start : start + length]
    with store.open("large", start=start, length=length) as found:
        assert (found.start, found.length, found.head.size) == (start, len(wanted), LARGE)
        chunks = list(found.chunks)
    assert b"".join(chunks) == wanted
    assert max(map(len, chunks)) <= READ_CHUNK


@pytest.mark.parametrize("kept", ["memory", "s3"], indirect=True)  # the proxy reads each answer to its end
def test_a_stream_can_be_left_half_way(store: ObjectStore) -> None:
    store.upload("large", [body(LARGE)])
    for _ in range(40):  # more than there are connections
        with store.open("large") as found:
            assert next(found.chunks)
    assert content(store, "large", start=LARGE - 1) == body(LARGE)[-1:]


def test_a_stream_is_only_opened_of_the_version_that_was_meant(store: ObjectStore) -> None:
    first = store.put("key", b"first")
    assert content(store, "key", if_match=first) == b"first"
    store.put("key", b"second")
    with pytest.raises(PreconditionFailed), store.open("key", if_match=first):
        pass


def test_a_stretch_outside_the_object_is_refused(store: ObjectStore) -> None:
    store.put("key", b"12345")
    with pytest.raises(Permanent), store.open("key", start=5):
        pass


def test_deleting_twice_is_deleting(store: ObjectStore) -> None:
    store.put("key", b"")
    store.delete("key")
    store.delete("key")
    with pytest.raises(NotFound):
        store.head("key")


def test_a_version_that_was_replaced_isnt_deleted(store: ObjectStore) -> None:
    old, new = store.put("key", b"old"), store.put("key", b"new")
    with pytest.raises(PreconditionFailed):
        store.delete("key", if_match=old)
    assert store.get("key")[0] == b"new"
    store.delete("key", if_match=new)
    with pytest.raises(NotFound):
        store.head("key")
    with pytest.raises((PreconditionFailed, NotFound)):
        store.delete("key", if_match=new)


def test_listing_gives_what_starts_with_the_prefix(store: ObjectStore) -> None:
    for key in ("a.csv", "a/1.csv", "a/2.csv", "a/b/3.csv", "ab.csv", "b.csv"):
        store.put(key, key.encode())
    assert sorted(head.key for head in store.list()) == [
        "a.csv",
        "a/1.csv",
        "a/2.csv",
        "a/b/3.csv",
        "ab.csv",
        "b.csv",
    ]
    assert sorted(head.key for head in store.list("a")) == [
        "a.csv",
        "a/1.csv",
        "a/2.csv",
        "a/b/3.csv",
        "ab.csv",
    ]
    assert sorted(head.key for head in store.list("a/")) == ["a/1.csv", "a/2.csv", "a/b/3.csv"]
    assert sorted(head.key for head in store.list("a/", delimiter="/")) == ["a/1.csv", "a/2.csv"]
    assert list(store.list("missing/")) == []


@pytest.mark.parametrize(
    "kept", ["memory", "s3"], indirect=True
)  # three thousand failures more tell nothing more
def test_listing_goes_beyond_a_thousand(store: ObjectStore) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: store.put(f"many/{number:05}", b"."), range(1005)))
    assert sorted(head.key for head in store.list("many/")) == [f"many/{number:05}" for number in range(1005)]


def test_a_key_may_be_a_folder_of_another(store: ObjectStore) -> None:
    store.put("orders", b"file")
    store.put("orders/1.csv", b"inside")
    assert store.get("orders")[0] == b"file"
    assert sorted(head.key for head in store.list("orders")) == ["orders", "orders/1.csv"]
    store.delete("orders/1.csv")
    assert store.get("orders")[0] == b"file"


def test_wrong_credentials_are_refused(s3: S3) -> None:
    wrong = settings_of(s3).model_copy(update={"secret_key": SecretStr("wrong")})
    with pytest.raises(Refused, match=r"s3\.secret_key"):
        S3Store(client(wrong), s3.results).put("key", b"")
    with pytest.raises(Refused, match=r"s3\.secret_key"):
        S3Store(client(wrong), s3.results).head("key")


def test_a_missing_bucket_is_named(s3: S3) -> None:
    store = S3Store(client(settings_of(s3)), "no-such-bucket")
    with pytest.raises(Refused, match=r"no bucket 'no-such-bucket'.*s3\.uploads"):
        store.check()
    with pytest.raises(Refused, match="no bucket 'no-such-bucket'"):
        list(store.list())
    with pytest.raises(Refused, match="no bucket 'no-such-bucket'"):
        store.get("key")


@pytest.mark.timeout(10)
def test_a_server_that_is_not_there_is_named_within_ten_seconds() -> None:
    endpoint = f"http://127.0.0.1:{ports.choose(1)[0]}"
    settings = S3Settings(endpoint=endpoint, access_key="key", secret_key=SecretStr("secret"))
    with pytest.raises(Unreachable, match=endpoint):
        S3Store(client(settings), "results").head("key")


@pytest.mark.timeout(10)
def test_a_server_that_swallows_connections_is_named_within_ten_seconds() -> None:
    # An address that is reserved for documentation (RFC 5737): nothing there refuses, and nothing answers.
    settings = S3Settings(endpoint="http://192.0.2.1:9000", access_key="key", secret_key=SecretStr("secret"))
    with pytest.raises(Unreachable, match=r"192\.0\.2\.1"):
        S3Store(client(settings, patience=2), "results").head("key")


def test_uploads_left_by_somebody_who_died_are_listed_and_can_be_aborted(s3: S3) -> None:
    """Outputs and copies alike; twice does no harm."""
    connection = client(settings_of(s3))
    store = S3Store(connection, s3.results)
    for key in ("_millstream/jobs/a/out-1.csv", "north/orders.csv"):
        connection.create_multipart_upload(Bucket=s3.results, Key=key)
    left = list(store.unfinished())
    assert sorted(upload.key for upload in left) == ["_millstream/jobs/a/out-1.csv", "north/orders.csv"]
    for upload in [*left, *left]:
        store.abort(upload)
    assert list(store.unfinished()) == []
    connection.close()


def test_a_large_object_of_this_machines_server_is_read_in_pieces_of_the_very_object_that_was_opened(
    s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.s3.PIECE", 1_000_000)
    content = bytes(array("I", range(900_000)).tobytes())
    connection = client(settings_of(s3))
    asked: list[str] = []
    connection.meta.events.register(
        "before-call.s3.GetObject", lambda params, **_: asked.append(params["headers"]["Range"])
    )
    store = S3Store(connection, s3.results)
    store.upload("large", iter([content]))
    with store.open("large") as body:
        assert (body.head.size, body.length) == (len(content), len(content))
        assert b"".join(body.chunks) == content
    assert asked == [
        "bytes=0-999999",
        "bytes=1000000-1999999",
        "bytes=2000000-2999999",
        "bytes=3000000-3599999",
    ]
    with store.open("large", start=777, length=2_500_000) as body:
        assert b"".join(body.chunks) == content[777:2_500_777]
    with store.open("large") as body:
        assert body.read(10) == content[:10]
        store.put("large", b"another")
        with pytest.raises(PreconditionFailed):
            list(body.chunks)
    connection.close()
