"""Results in the form that the client would rather have: compressed, in another format, shared with others."""

import hashlib
import io
import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from pipeline.errors import Unreachable
from pipeline.store import Body, MemoryStore
from sink import http_send, http_spool, http_stream
from tests.files import Files
from tests.http_client import Client, reader, settings

ROWS = 20_000
CSV = b"order_id,total\n" + b"".join(b"%05d,%d.%02d\n" % (n, n * 7, n % 100) for n in range(ROWS))
SHA = hashlib.sha256(CSV).hexdigest()
URL = "/results/orders.csv"
AS_IT_IS = {"Accept-Encoding": "identity"}


class Opened(MemoryStore):
    """Counts how often an object is opened."""

    opened = 0

    def open(
        self, key: str, *, if_match: str | None = None, start: int = 0, length: int | None = None
    ) -> AbstractContextManager[Body]:
        self.opened += 1
        return super().open(key, if_match=if_match, start=start, length=length)


@pytest.fixture
def store() -> Opened:
    return Opened()


@pytest.fixture
def files(store: Opened) -> Files:
    found = Files(results=store)
    found.published(output=CSV)
    return found


def unzstd(data: bytes) -> bytes:
    return zstandard.ZstdDecompressor().decompressobj().decompress(data)


def raw(client: Client, **headers: str) -> Any:
    """GET without httpx's own Accept-Encoding, and without its decoding."""
    return client.get(URL, headers={name.replace("_", "-"): value for name, value in headers.items()})


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_a_result_is_compressed_for_those_who_take_that(client: Client, coding: str) -> None:
    plain = client.get(URL, headers=AS_IT_IS)
    answer = client.get(URL, headers={"Accept-Encoding": coding})
    assert answer.content == plain.content == CSV  # httpx has undone the coding
    assert answer.headers["content-encoding"] == coding
    assert "content-encoding" not in plain.headers
    assert (plain.headers["etag"], answer.headers["etag"]) == (f'"{SHA}"', f'"{SHA}-{coding}"')
    assert plain.headers["vary"] == answer.headers["vary"] == "Accept, Accept-Encoding"
    assert answer.headers["accept-ranges"] == "none"
    assert answer.headers["content-type"] == "text/csv; charset=utf-8; header=present"
    assert answer.num_bytes_downloaded < len(CSV) / 2


def test_what_a_client_has_compressed_is_not_sent_again(client: Client) -> None:
    headers = {"Accept-Encoding": "zstd, gzip", "If-None-Match": f'"{SHA}-gzip"'}
    answer = client.get(URL, headers=headers)
    assert (answer.status_code, answer.headers["etag"]) == (304, f'"{SHA}-gzip"')
    assert answer.headers["vary"] == "Accept, Accept-Encoding"
    assert "content-encoding" not in answer.headers
    assert client.get(URL, headers=headers | AS_IT_IS).status_code == 200


def test_if_match_of_the_hash_holds_for_who_would_take_it_compressed(client: Client) -> None:
    answer = client.get(URL, headers={"Accept-Encoding": "gzip", "If-Match": f'"{SHA}"'})
    assert (answer.status_code, answer.headers["etag"]) == (200, f'"{SHA}"')
    assert client.get(URL, headers={"Accept-Encoding": "gzip", "If-Match": '"other"'}).status_code == 412


def test_ranges_are_of_the_content_as_it_lies(client: Client) -> None:
    answer = client.get(URL, headers={"Accept-Encoding": "gzip", "Range": "bytes=0-7"})
    assert (answer.status_code, answer.content) == (206, CSV[:8])
    assert answer.headers["etag"] == f'"{SHA}"'
    assert "content-encoding" not in answer.headers


def test_a_range_of_what_was_compressed_gets_the_whole(client: Client) -> None:
    headers = {"Accept-Encoding": "gzip", "Range": "bytes=0-7", "If-Range": f'"{SHA}-gzip"'}
    answer = client.get(URL, headers=headers)
    assert (answer.status_code, answer.content) == (200, CSV)
    assert answer.headers["content-encoding"] == "gzip"


def test_a_coding_that_is_not_there_is_told_apart_from_none(client: Client) -> None:
    answer = client.get(URL, headers={"Accept-Encoding": "br, identity;q=0"})
    assert answer.status_code == 406
    assert "gzip, zstd" in answer.json()["detail"]
    assert client.get(URL, headers={"Accept-Encoding": "br"}).headers["etag"] == f'"{SHA}"'


def test_little_is_sent_as_it_lies(files: Files, client: Client) -> None:
    files.published("small.csv")
    answer = client.get("/results/small.csv", headers={"Accept-Encoding": "gzip"})
    assert "content-encoding" not in answer.headers
    forced = client.get("/results/small.csv", headers={"Accept-Encoding": "gzip, identity;q=0"})
    assert forced.headers["content-encoding"] == "gzip"
    assert forced.content == b"order_id,total\n007,29.97\n"


@pytest.mark.parametrize("by", ["query", "header"])
@pytest.mark.parametrize(
    ("form", "media_type"),
    [
        ("json", "application/json"),
        ("parquet", "application/vnd.apache.parquet"),
        ("arrow", "application/vnd.apache.arrow.stream"),
    ],
)
def test_a_result_comes_in_other_formats(client: Client, by: str, form: str, media_type: str) -> None:
    url, headers = (URL, {"Accept": media_type}) if by == "header" else (f"{URL}?format={form}", {})
    answer = client.get(url, headers=headers | AS_IT_IS)
    assert (answer.status_code, answer.headers["content-type"]) == (200, media_type)
    assert answer.headers["etag"] == f'"{SHA}-{form}"'
    assert answer.headers["vary"] == ("Accept, Accept-Encoding" if by == "header" else "Accept-Encoding")
    assert f'filename="orders.results.{form}"' in answer.headers["content-disposition"]
    if form == "json":
        found = json.loads(answer.content, parse_float=str)
        assert (len(found), found[-1]) == (ROWS, {"order_id": "19999", "total": "139993.99"})
        return
    data = answer.content
    table = pq.read_table(io.BytesIO(data)) if form == "parquet" else pa.ipc.open_stream(data).read_all()
    assert (table.num_rows, str(table.schema.field("total").type)) == (ROWS, "decimal128(38, 2)")


def test_a_format_can_be_compressed_too_and_parquet_is_already(client: Client) -> None:
    found = client.get(f"{URL}?format=json", headers={"Accept-Encoding": "gzip"})
    assert (found.headers["content-encoding"], found.headers["etag"]) == ("gzip", f'"{SHA}-json-gzip"')
    assert len(found.json()) == ROWS
    parquet = client.get(f"{URL}?format=parquet", headers={"Accept-Encoding": "gzip"})
    assert "content-encoding" not in parquet.headers


def test_the_head_of_a_form_makes_nothing(client: Client, store: Opened) -> None:
    answer = client.head(f"{URL}?format=parquet", headers=AS_IT_IS)
    assert (answer.status_code, answer.headers["etag"]) == (200, f'"{SHA}-parquet"')
    assert "content-length" not in answer.headers
    assert store.opened == 0
    made = client.get(f"{URL}?format=parquet")
    assert client.head(f"{URL}?format=parquet").headers["content-length"] == str(len(made.content))


def test_an_unknown_format_is_refused_with_those_there_are(client: Client) -> None:
    answer = client.get(f"{URL}?format=xlsx")
    assert answer.status_code == 422
    assert "'parquet'" in answer.json()["detail"]


def test_a_form_is_made_once_for_all_who_want_it(client: Client, store: Opened) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = {
            answer.content for answer in pool.map(lambda _: client.get(f"{URL}?format=parquet"), range(8))
        }
    assert len(found) == 1
    assert store.opened == 1


def test_what_cannot_be_made_is_told_before_anything_is_sent(files: Files, client: Client) -> None:
    files.published("wrong.csv", b"order_id,other\n1,2\n")
    answer = client.get("/results/wrong.csv?format=parquet")
    assert answer.status_code == 502
    assert "has the columns" in answer.json()["detail"]


def test_a_form_too_large_to_be_spooled_is_made_for_each(
    client: Client, store: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_send, "LARGEST", 1000)
    first, second = (client.get(f"{URL}?format=parquet") for _ in range(2))
    assert first.content == second.content
    assert pq.read_table(io.BytesIO(first.content)).num_rows == ROWS
    assert store.opened == 2
    assert client.app.state.reader.making() == 0


def test_with_enough_to_make_results_are_sent_as_they_lie_and_formats_later(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_send, "MAKING", 0)
    assert client.get(URL, headers={"Accept-Encoding": "gzip"}).headers["etag"] == f'"{SHA}"'
    answer = client.get(f"{URL}?format=parquet")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")


class Held(MemoryStore):
    """Gives the first piece of an object, and the rest when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.released = threading.Event()
        self.opened = 0

    def open(
        self, key: str, *, if_match: str | None = None, start: int = 0, length: int | None = None
    ) -> AbstractContextManager[Body]:
        found = super().open(key, if_match=if_match, start=start, length=length)
        self.opened += 1
        with found as body:
            read = body.read
            first = [read(1000)]

            def held(size: int) -> bytes:
                if first:
                    return first.pop()
                assert self.released.wait(30)
                return read(size)

            object.__setattr__(body, "read", held)
        return found


def test_what_several_fetch_at_a_time_is_read_from_s3_for_the_first_and_for_all_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http_send, "READ_CHUNK", 1000)
    store = Held()
    files = Files(results=store)
    files.published(output=CSV)
    with reader(files) as client, ThreadPoolExecutor(6) as pool:
        wanted = [pool.submit(client.get, URL, headers=AS_IT_IS) for _ in range(6)]
        while client.app.state.reader.downloads < 6:
            threading.Event().wait(0.01)
        store.released.set()
        assert {found.result().content for found in wanted} == {CSV}
        assert store.opened == 2
        assert client.get(URL, headers=AS_IT_IS).content == CSV
        assert store.opened == 2
        assert client.app.state.reader.downloads == 0
        assert not client.app.state.reader.underway


def test_a_spool_that_cannot_be_written_is_unavailable(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_spool, "_unnamed", lambda _: os.open("/dev/full", os.O_RDWR))
    answer = client.get(f"{URL}?format=json")
    assert answer.status_code == 503
    assert answer.headers["content-type"] == "application/problem+json"
    assert int(answer.headers["retry-after"]) > 0
    assert "(the setting spool) is full" in answer.json()["detail"]


def test_spools_lie_in_the_folder_that_a_setting_names(files: Files, tmp_path: Path) -> None:
    """Without a name there: a reader that is killed leaves nothing behind."""
    folder = tmp_path / "spool"
    folder.mkdir()
    with reader(files, settings(spool=str(folder))) as client:
        assert client.get(f"{URL}?format=json").status_code == 200
        held = [os.readlink(file) for file in Path("/proc/self/fd").iterdir() if file.is_symlink()]
        assert any(path.startswith(f"{folder}/millstream-spool-") for path in held)
        assert list(folder.iterdir()) == []
        folder.rmdir()
        answer = client.get(f"{URL}?format=parquet")
        assert answer.status_code == 503
        assert "(the setting spool) can't be written to: No such file" in answer.json()["detail"]
        assert client.app.state.reader.downloads == 0


def test_spools_that_nobody_reads_are_kept_up_to_a_limit(
    files: Files, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_spool, "KEPT", 1)
    client.get(f"{URL}?format=json")
    assert client.app.state.reader.spools.find(f"{SHA}-json") is None


def test_s3_out_of_reach_is_told_for_forms_too(files: Files) -> None:
    class Down(MemoryStore):
        def open(
            self, key: str, *, if_match: str | None = None, start: int = 0, length: int | None = None
        ) -> AbstractContextManager[Body]:
            raise Unreachable("S3 at http://x does not answer")

    with reader(found := Files(results=Down())) as client:
        found.published(output=CSV)
        for url in (URL, f"{URL}?format=json"):
            answer = client.get(url)
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
        assert client.app.state.reader.downloads == 0


def test_more_downloads_than_may_be_are_asked_to_come_again(files: Files) -> None:
    wanted = settings()
    limited = wanted.model_copy(update={"http": wanted.http.model_copy(update={"downloads": 1})})
    with reader(files, limited) as client:
        state = client.app.state.reader
        seat = state.seat("other")
        answer = client.get(URL)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        assert client.head(URL).status_code == 200
        seat.leave()
        assert client.get(URL).content == CSV


def test_pieces_are_small_where_there_are_many_downloads(client: Client) -> None:
    state = client.app.state.reader
    sizes = []
    for downloads in (0, 1, 100, 1000, 5000):
        state.downloads = downloads
        sizes.append(state.piece())
    state.downloads = 0
    assert sizes == [1 << 20, 1 << 20, 167_772, 16_777, 16 << 10]


def test_other_origins_are_let_in_by_a_setting(files: Files) -> None:
    wanted = settings()
    cors = wanted.model_copy(update={"http": wanted.http.model_copy(update={"cors": ("https://a.example",)})})
    with reader(files, cors) as client:
        for origin, allowed in (("https://a.example", "https://a.example"), ("https://b.example", None)):
            answer = client.get(URL, headers={"Origin": origin})
            assert answer.headers.get("access-control-allow-origin") == allowed
        answer = client.get("/results/none.csv", headers={"Origin": "https://a.example"})
        assert answer.headers["access-control-allow-origin"] == "https://a.example"
        assert "Millstream-State" in answer.headers["access-control-expose-headers"]
        asked = {
            "Origin": "https://a.example",
            "Access-Control-Request-Method": "PUT",
            "Access-Control-Request-Headers": "authorization",
        }
        preflight = client.request("OPTIONS", "/uploads/orders.csv", headers=asked)
        assert preflight.status_code == 200
        assert "PUT" in preflight.headers["access-control-allow-methods"]
        assert preflight.headers["access-control-allow-headers"] == "authorization"
    with reader(files) as client:
        assert (
            "access-control-allow-origin"
            not in client.get(URL, headers={"Origin": "https://a.example"}).headers
        )


def test_a_client_that_takes_nothing_is_given_up(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_stream, "IDLE", 0.05)
    with reader(files) as client:
        state = client.app.state.reader

        async def stuck() -> None:
            import anyio

            async def receive() -> dict[str, object]:
                await anyio.sleep_forever()
                raise AssertionError

            async def send(message: object) -> None:
                await anyio.sleep_forever()

            scope = {
                "type": "http",
                "method": "GET",
                "path": URL,
                "raw_path": URL.encode(),
                "query_string": b"",
                "headers": [],
                "http_version": "1.1",
                "scheme": "http",
                "server": ("reader", 80),
                "root_path": "",
            }
            await client.app(scope, receive, send)

        client.call(stuck)
        assert state.downloads == 0
