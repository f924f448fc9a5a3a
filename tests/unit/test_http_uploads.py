"""PUT of an upload."""

from asyncio import CancelledError
from collections.abc import AsyncIterator, Iterable, Mapping
from functools import partial

import pytest
from anyio import create_memory_object_stream, run, to_thread

from pipeline.errors import NotFound, SettingsError, Unreachable
from pipeline.settings import Settings
from pipeline.store import PART_SIZE, MemoryStore
from sink.http_reader import UPLOADS
from sink.http_uploads import _BrokenOff, _Item, _pieces
from tests.files import Files
from tests.http_client import CALCULATION, Client, reader, settings

CSV = b"order_id,quantity,price\n007,3,9.99\n"


def unread() -> AsyncIterator[bytes]:
    """A body that nobody may read."""

    class Unread:
        def __aiter__(self) -> "Unread":
            return self

        async def __anext__(self) -> bytes:
            raise AssertionError("the body was read")

    return Unread()


def test_an_upload_lies_in_the_bucket_and_says_where_its_job_is(files: Files, client: Client) -> None:
    answer = client.put("/uploads/orders%20ü.csv", content=CSV)
    assert answer.status_code == 201
    assert answer.headers["location"] == "/jobs/orders%20%C3%BC.csv"
    data, head = files.uploads.get("orders ü.csv")
    assert data == CSV
    assert answer.json() == {
        "name": "orders ü.csv",
        "key": "orders ü.csv",
        "bytes": len(CSV),
        "etag": head.etag,
        "job_url": "/jobs/orders%20%C3%BC.csv",
        "result_url": "/results/orders%20%C3%BC.csv",
    }
    assert client.get(answer.headers["location"]).json()["state"] == "uploaded"


def test_a_large_upload_in_pieces_keeps_every_byte(files: Files, client: Client) -> None:
    data = b"".join(number.to_bytes(8, "big") for number in range((2 * PART_SIZE + 999) // 8))

    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(data), 70_001):
            yield data[at : at + 70_001]

    assert client.put("/uploads/orders.csv", content=pieces()).json()["bytes"] == len(data)
    assert files.uploads.get("orders.csv")[0] == data


def test_an_upload_replaces_the_one_before(files: Files, client: Client) -> None:
    client.put("/uploads/orders.csv", content=b"before\n")
    assert client.put("/uploads/orders.csv", content=CSV).status_code == 201
    assert files.uploads.get("orders.csv")[0] == CSV


@pytest.mark.parametrize(
    ("path", "headers", "key"),
    [
        ("orders.csv.gz", {}, "orders.csv.gz"),
        ("orders.csv.zst", {}, "orders.csv.zst"),
        ("orders.csv", {"Content-Encoding": "gzip"}, "orders.csv.gz"),
        ("orders.csv", {"Content-Encoding": "zstd"}, "orders.csv.zst"),
        ("orders.csv", {"Content-Encoding": "identity"}, "orders.csv"),
    ],
)
def test_a_compressed_upload_is_called_without_its_suffix(
    files: Files, client: Client, path: str, headers: dict[str, str], key: str
) -> None:
    answer = client.put(f"/uploads/{path}", content=b"compressed", headers=headers)
    assert (answer.status_code, answer.headers["location"]) == (201, "/jobs/orders.csv")
    assert files.uploads.get(key)[0] == b"compressed"


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("orders/%2e%2e/x.csv", "'..'"),
        ("/orders.csv", "no leading slash"),
        ("_millstream/orders.csv", "'_millstream/'"),
        ("orders%09.csv", "control characters"),
        ("", "empty"),
        ("orders" + "x" * 900, "at most 900"),
        ("parcels.csv", "no calculation matches 'parcels.csv'"),
    ],
)
def test_what_cannot_become_a_job_is_refused_before_its_body_is_read(
    files: Files, client: Client, path: str, says: str
) -> None:
    answer = client.put(f"/uploads/{path}", content=unread())
    assert answer.status_code == 422
    assert says in answer.json()["detail"]
    assert list(files.uploads.list()) == []


def test_without_a_calculation_the_answer_says_how_to_write_one(client: Client) -> None:
    detail = client.put("/uploads/parcels.csv", content=unread()).json()["detail"]
    assert "[calculations.parcels]" in detail
    assert "orders*.csv" in detail


def test_a_calculation_added_while_it_serves_takes_uploads(files: Files, client: Client) -> None:
    parcels = CALCULATION.model_copy(update={"label": "parcels", "match": "parcels*.csv"})
    found: list[Settings | SettingsError] = [
        settings(token="another").model_copy(update={"calculations": {"parcels": parcels}}),
        SettingsError("millstream.toml: not valid TOML"),
    ]

    def reload() -> Settings | None:
        match found.pop(0) if found else None:
            case SettingsError() as error:
                raise error
            case changed:
                return changed

    assert client.put("/uploads/parcels.csv", content=CSV).status_code == 422
    client.app.state.reader.reload = reload
    # Taken on from the next request on, kept while the file can't be used, and nothing else of it counts.
    assert [client.put("/uploads/parcels.csv", content=CSV).status_code for _ in range(3)] == [201] * 3
    assert not found


@pytest.mark.parametrize("chunked", [True, False])
def test_an_empty_upload_is_refused(files: Files, client: Client, chunked: bool) -> None:
    async def nothing() -> AsyncIterator[bytes]:
        yield b""

    answer = client.put("/uploads/orders.csv", content=nothing() if chunked else b"")
    assert answer.status_code == 422
    assert "empty" in answer.json()["detail"]
    assert list(files.uploads.list()) == []


def test_a_second_source_key_for_one_name_is_refused(files: Files, client: Client) -> None:
    files.upload("orders.csv.gz")
    answer = client.put("/uploads/orders.csv", content=unread())
    assert answer.status_code == 409
    assert "orders.csv.gz" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("headers", "path", "status"),
    [
        ({"Content-Range": "bytes 0-1/5"}, "orders.csv", 400),
        ({"Content-Encoding": "br"}, "orders.csv", 415),
        ({"Content-Encoding": "gzip"}, "orders.csv.gz", 422),
    ],
)
def test_headers_that_would_change_what_the_body_means_are_refused(
    client: Client, headers: dict[str, str], path: str, status: int
) -> None:
    assert client.put(f"/uploads/{path}", content=unread(), headers=headers).status_code == status


def test_s3_failing_half_way_is_unavailable(files: Files) -> None:
    class Failing(MemoryStore):
        def upload(
            self, key: str, chunks: Iterable[bytes], *, metadata: Mapping[str, str] | None = None
        ) -> str:
            next(iter(chunks))
            raise Unreachable("S3 at http://x does not answer")

    async def much() -> AsyncIterator[bytes]:
        for _ in range(1000):
            yield b"x" * 65536

    with reader(Files(Failing(), files.results)) as client:
        answer = client.put("/uploads/orders.csv", content=much())
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")


def test_more_uploads_than_may_be_are_asked_to_come_again(files: Files, client: Client) -> None:
    threads = client.app.state.reader.upload_threads
    for number in range(UPLOADS):
        client.call(partial(threads.acquire_on_behalf_of_nowait, number))
    answer = client.put("/uploads/orders.csv", content=unread())
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    client.call(partial(threads.release_on_behalf_of, 0))
    assert client.put("/uploads/orders.csv", content=CSV).status_code == 201


def test_a_body_that_stops_coming_leaves_nothing(
    files: Files, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    from anyio import sleep_forever

    async def stalling() -> AsyncIterator[bytes]:
        yield b"x" * 100_000
        await sleep_forever()

    monkeypatch.setattr("sink.http_uploads.IDLE", 0.2)
    answer = client.put("/uploads/orders.csv", content=stalling())
    assert answer.status_code == 408
    with pytest.raises(NotFound):
        files.uploads.head("orders.csv")


def test_a_server_that_ends_gives_an_upload_up_and_says_so(
    files: Files, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    from anyio import sleep_forever

    async def stalling() -> AsyncIterator[bytes]:
        yield CSV
        client.app.state.reader.stopping = lambda: True
        await sleep_forever()

    monkeypatch.setattr("sink.http_uploads.STOPPING", 0.0)
    answer = client.put("/uploads/orders.csv", content=stalling())
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert "nothing was kept" in answer.json()["detail"]
    assert list(files.uploads.list()) == []


def test_a_request_that_the_server_cancels_is_a_problem_and_no_upload(files: Files, client: Client) -> None:
    async def cancelled() -> AsyncIterator[bytes]:
        yield CSV
        raise CancelledError

    answer = client.put("/uploads/orders.csv", content=cancelled())
    assert answer.status_code == 503
    assert list(files.uploads.list()) == []


def test_a_body_that_was_broken_off_is_never_taken_for_its_end() -> None:
    async def broken_off() -> None:
        sender, receiver = create_memory_object_stream[_Item](2)
        await sender.send(CSV)
        sender.close()
        with pytest.raises(_BrokenOff):
            await to_thread.run_sync(lambda: list(_pieces(receiver)))
        receiver.close()

    run(broken_off)


def test_if_none_match_keeps_what_lies_there(files: Files, client: Client) -> None:
    only_new = {"If-None-Match": "*"}
    assert client.put("/uploads/orders.csv", content=CSV, headers=only_new).status_code == 201
    answer = client.put("/uploads/orders.csv", content=unread(), headers=only_new)
    assert answer.status_code == 412
    assert "already" in answer.json()["detail"]
    assert files.uploads.get("orders.csv")[0] == CSV


def test_if_none_match_keeps_what_came_while_the_body_did(files: Files, client: Client) -> None:
    async def slower() -> AsyncIterator[bytes]:
        yield b"mine\n"
        files.upload("orders.csv", CSV)

    answer = client.put("/uploads/orders.csv", content=slower(), headers={"If-None-Match": "*"})
    assert answer.status_code == 412
    assert files.uploads.get("orders.csv")[0] == CSV


@pytest.mark.parametrize(
    ("header", "value"), [("If-Match", '"1"'), ("If-None-Match", '"1"'), ("If-Unmodified-Since", "x")]
)
def test_conditions_that_cannot_be_kept_are_refused(client: Client, header: str, value: str) -> None:
    answer = client.put("/uploads/orders.csv", content=unread(), headers={header: value})
    assert answer.status_code == 400
    assert "If-None-Match: *" in answer.json()["detail"]


def test_a_token_guards_uploads_before_their_body_is_read(files: Files) -> None:
    with reader(files, settings(token="secret")) as client:
        answer = client.put("/uploads/orders.csv", content=unread())
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == 'Bearer realm="millstream"'
        headers = {"Authorization": "Bearer secret"}
        assert client.put("/uploads/orders.csv", content=CSV, headers=headers).status_code == 201
