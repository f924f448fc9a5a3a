"""The pages and `/events`, without a browser."""

import asyncio
import base64
import json
import re
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import httpx
import pytest

from pipeline import layout
from pipeline.jobs import Receipt
from pipeline.picture import Picture
from pipeline.progress import InstanceEvent, JobEvent, instance_key, job_key
from pipeline.settings import changed
from pipeline.store import Head, MemoryStore
from sink import http_live
from sink.http_app import make_app
from sink.http_live import Live
from sink.http_try import LARGEST
from tests.files import Files
from tests.http_client import Client, reader, settings
from tests.jobs import make_job

CONTENT = b'order_id,quantity,price\n007,3,9.99\n008,x,1\n009,"2\n",5\n'
OUTPUT = b"order_id,total\n007,29.97\n009,10.00\n"
REJECTS = b"order_id,quantity,price,_row,_error\n008,x,1,1,quantity: 'x' is not BIGINT\n"


def done(files: Files, key: str = "orders.csv") -> Receipt:
    files.upload(key, CONTENT)
    job = files.take_on(key)
    files.capture(job, 3)
    return files.publish(job, OUTPUT, REJECTS)


@pytest.mark.parametrize("key", ["orders.csv", "orders.csv.gz"])
def test_a_files_page_shows_its_first_rows_with_what_became_of_them(
    files: Files, client: Client, key: str
) -> None:
    done(files, key)
    page = client.get("/files/orders.csv").text
    for wanted in (
        "29.97",
        "10.00",
        "quantity: &#39;x&#39; is not BIGINT",
        "3</b> rows in",
        "2</b> results",
        "1</b> rejected",
    ):
        assert wanted in page
    cells = [page.index(f">{cell}<") for cell in ("007", "29.97", "008", "10.00")]  # digits are in ids, too
    assert cells == sorted(cells)
    assert 'href="/results/orders.csv"' in page
    assert "quantity * price" in page


def test_rejects_are_grouped_by_what_does_not_differ_from_row_to_row(files: Files, client: Client) -> None:
    """And what there is no room for is counted."""
    short = "".join(f',,,{row},"line {row + 2}: expected 3 fields, found 1: {row}"\n' for row in range(100))
    others = "".join(f"1,1,1,{row},o{row}: no\n" for row in range(100, 120))
    files.upload()
    files.publish(files.take_on(), OUTPUT, f"order_id,quantity,price,_row,_error\n{short}{others}".encode())
    page = client.get("/files/orders.csv").text
    assert page.count("expected … fields, found …") == 1
    assert page.count("first in row 0: line 2: expected 3 fields, found 1: 0<") == 1
    assert '<span class="count">100</span>' in page
    assert '<span class="count">9</span><span class="text">for 9 further reasons' in page


def test_of_a_wide_file_the_result_and_what_it_was_made_of_come_first(files: Files, client: Client) -> None:
    """The rest is folded, and nothing is left out."""
    columns = ["order_id", "a", "b", "quantity", *(f"c{number}" for number in range(20)), "price"]
    files.upload(content=f"{','.join(columns)}\n{','.join(f'<{name}>' for name in columns)}\n".encode())
    job = files.take_on()
    wide = job.model_copy(update={"columns": tuple(columns)})
    files.results.put(layout.job(job.file_id), wide.dump())
    files.publish(wide, b"order_id,total\n007,29.97\n")
    page = client.get("/files/orders.csv").text
    seen, folded = page.split("First rows")[1].split("22 further columns of the file</summary>")
    assert re.findall(r'<th scope="col"[^>]*>([^<]*)', seen) == [
        "row",
        "order_id",
        "total",
        "quantity",
        "price",
    ]
    assert re.findall(r'<th scope="col"[^>]*>([^<]*)', folded) == ["row", *columns[1:3], *columns[4:-1]]
    for name in columns:
        assert page.count(f">&lt;{name}&gt;<") == 1


def test_a_narrow_file_is_shown_whole(files: Files, client: Client) -> None:
    done(files)
    assert "further column" not in client.get("/files/orders.csv").text


def test_a_file_all_of_whose_rows_were_rejected_is_not_shown_as_good(files: Files, client: Client) -> None:
    files.published("good.csv")
    files.upload()
    files.publish(files.take_on(), b"order_id,total\n", REJECTS)
    assert 'class="chip waiting">done, 0 results<' in client.get("/files/orders.csv").text
    page = client.get("/").text
    assert page.count('class="chip waiting">done, 0 results<') == 1
    assert page.count('class="chip good">done<') == 1


def test_the_routes_are_shown_as_readers_want_them(client: Client) -> None:
    """Results first; what deletes is last."""
    found = re.findall(r'class="method">(\w+)</span> <code>([^<]+)', client.get("/docs").text)
    assert found[0] == ("GET", "/results/{name}")
    assert found[-1] == ("DELETE", "/results/{name}")
    order = [
        found.index(one) for one in (("PUT", "/uploads/{name}"), ("GET", "/jobs/{name}"), ("GET", "/events"))
    ]
    assert order == sorted(order)
    assert found.index(("GET", "/events")) < found.index(("GET", "/health/live"))


@pytest.mark.parametrize("broken", [b"[calculations.orders\n", b"kafka = 3\n", b"kafka = 'caf\xe9'\n"])
def test_the_pages_say_that_the_settings_cannot_be_used_until_they_are_mended(
    files: Files, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: bytes
) -> None:
    """And so do the events, for pages that are open; whoever asks first, all are told."""
    monkeypatch.chdir(tmp_path)
    done(files)
    written = tmp_path / "millstream.toml"
    written.write_text('kafka = "here:9092"\n')
    client.app.state.reader.reload = changed()
    live: Live = client.app.state.live

    def told() -> list[bool]:
        pages = [client.get(route).text for route in ("/", "/files/orders.csv")]
        notes = [page.split('id="trouble"')[1].split("</div>")[0] for page in pages]
        asyncio.run(live._make())
        shown = [" hidden>" not in note for note in notes]
        assert [note.count(str(written)) for note in notes] == [int(is_shown) for is_shown in shown]
        return [*shown, json.loads(live.data)["settings_trouble"] is not None]

    assert told() == [False] * 3
    written.write_bytes(broken)
    assert told() == [True] * 3
    assert told() == [True] * 3  # though it is read once
    written.write_text('kafka = "there:9092"\n')
    assert told() == [False] * 3


@pytest.mark.parametrize("name", ["<script>alert(1)</script>.csv", 'a"onload="x.csv', "ü/ä ö.csv"])
def test_whatever_a_name_holds_is_text(files: Files, client: Client, name: str) -> None:
    files.published(name)
    for page in (client.get("/").text, client.get("/files/" + name).text):
        assert "<script>alert" not in page
        assert 'onload="x' not in page.replace("&#34;onload=&#34;x", "")
    assert client.get("/files/" + name).status_code == 200


def test_a_cell_is_text_too(files: Files, client: Client) -> None:
    files.upload(content=b"order_id,quantity,price\n<img src=x onerror=alert(1)>,1,1\n")
    files.capture(files.take_on(), 1)
    assert "<img" not in client.get("/files/orders.csv").text


def test_the_list_is_searched_sorted_and_paged(files: Files, client: Client) -> None:
    for number in range(60):
        files.published(f"day-{number:02}.csv")
    files.published("Other.csv")
    first = client.get("/?sort=name").text
    assert "day-48.csv" in first
    assert "day-49.csv" not in first
    assert "page 1 of 2" in first
    assert "day-59.csv" in client.get("/?sort=name&page=2").text
    found = client.get("/?q=OTHER").text
    assert "Other.csv" in found
    assert "day-00.csv" not in found
    assert "No name has" in client.get("/?q=nothing").text


def test_empty_failed_and_unknown_say_what_to_do(files: Files, client: Client) -> None:
    assert "millstream push" in client.get("/").text
    assert client.get("/files/nothing.csv").status_code == 404
    assert "There is no file called nothing.csv" in client.get("/files/nothing.csv").text
    etag = files.upload("odd.csv")
    files.refuse("odd.csv", etag)
    page = client.get("/files/odd.csv").text
    assert "no calculation matches" in page
    assert "tried again by itself" in page


def test_a_refusals_toml_stands_by_itself_and_its_markup_is_text(files: Files, client: Client) -> None:
    reason = 'no calculation <b>matches</b>:\n\n    [calculations.odd]\n    id = "a"\n\nor let `millstream init FILE` do it'
    files.refuse("odd.csv", files.upload("odd.csv"), reason)
    page = client.get("/files/odd.csv").text
    assert "no calculation &lt;b&gt;matches" in page
    assert "<code>[calculations.odd]\nid = &#34;a&#34;</code></pre>" in page
    assert "or let <code>millstream init FILE</code> do it" in page


def test_a_cancelled_file_says_by_whom_and_how_to_go_on_and_is_no_alarm(files: Files, client: Client) -> None:
    files.upload()
    files.take_on()
    assert client.request("POST", "/jobs/orders.csv/cancel").status_code == 200
    page = client.get("/files/orders.csv").text
    assert "It was cancelled by HTTP." in page
    assert "push --again" in page
    assert 'role="alert"' not in page


def test_s3_failing_is_a_page_that_says_so(files: Files) -> None:
    from pipeline.errors import Unreachable

    class Away(MemoryStore):
        def list(self, prefix: str = "", *, delimiter: str = "") -> Iterator[Head]:
            raise Unreachable("S3 at http://x does not answer")

    with reader(Files(files.uploads, Away())) as client:
        answer = client.get("/")
    assert answer.status_code == 503
    assert "S3 at http://x does not answer" in answer.text


@pytest.mark.parametrize("route", ["/", "/files/orders.csv", "/try", "/docs"])
def test_every_page_forbids_scripts_and_styles_that_are_not_ours(
    files: Files, client: Client, route: str
) -> None:
    done(files)
    answer = client.get(route)
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert " style=" not in answer.text
    assert "<style" not in answer.text
    assert " onclick=" not in answer.text


def test_static_parts_are_kept_by_browsers_and_nothing_else_is_given(client: Client) -> None:
    page = client.get("/").text
    address = page.split('<script src="')[1].split('"')[0]
    answer = client.get(address)
    assert "immutable" in answer.headers["cache-control"]
    assert client.get(address, headers={"If-None-Match": answer.headers["etag"]}).status_code == 304
    for wrong in ("/static/nothing.js", "/static/..%2Fhttp_app.py", "/static/%2e%2e/http_app.py"):
        assert client.get(wrong).status_code == 404


def test_try_hands_the_request_on_and_says_what_went_wrong(files: Files) -> None:
    def trial(request: bytes, stopping: Callable[[], bool]) -> bytes:
        wanted = json.loads(request)
        if wanted["calculation"] == "bad":
            return b'{"error":"outputs.total: syntax error"}'
        return json.dumps(
            {
                "calculation": "c",
                "dialect": "d",
                "columns": ["a"],
                "outputs": [],
                "rows": [],
                "computed": 1,
                "rejected": 0,
            }
        ).encode()

    body = {"name": "a.csv", "content": base64.b64encode(b"a\n1\n").decode()}
    with reader(files, settings(token="secret")) as client:
        client.app.state.trial = trial
        assert client.request("POST", "/try", json=body).status_code == 401
        right = {"Authorization": "Bearer secret"}
        assert client.request("POST", "/try", json=body, headers=right).json()["computed"] == 1
        answer = client.request("POST", "/try", json=body | {"calculation": "bad"}, headers=right)
        assert (answer.status_code, answer.json()["detail"]) == (422, "outputs.total: syntax error")
        assert (
            client.request("POST", "/try", json=body | {"content": "x" * 200_000}, headers=right).status_code
            == 422
        )
        client.app.state.trial = None
        assert client.request("POST", "/try", json=body, headers=right).status_code == 404


def test_a_try_that_is_too_large_is_not_read_to_its_end(files: Files) -> None:
    """Nor is memory given to it before anybody has shown a token."""
    sent = []

    async def endless() -> AsyncIterator[bytes]:
        while True:
            sent.append(100_000)
            yield b" " * 100_000

    with reader(files, settings(token="secret")) as client:
        headers = {"Content-Type": "application/json"}
        assert client.request("POST", "/try", content=endless(), headers=headers).status_code == 413
    assert sum(sent) < 2 * LARGEST


def told(picture: Picture, rows: int) -> None:
    job = make_job()
    event = JobEvent(at=picture._clock(), name=job.name, generation=1, rows=rows, share=0.5)
    picture.apply(job_key(job.file_id, "capture"), event.dump())


async def _events(app: object, until: int, headers: dict[bytes, bytes] | None = None) -> list[bytes]:
    """Watch `/events` until so many pieces have come."""
    pieces: list[bytes] = []
    enough, gone = asyncio.Event(), asyncio.Event()

    async def receive() -> dict[str, object]:
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, object]) -> None:
        if body := message.get("body"):
            assert isinstance(body, bytes)
            pieces.append(body)
            if len(pieces) >= until:
                enough.set()

    scope = {
        "type": "http",
        "method": "GET",
        "path": "/events",
        "raw_path": b"/events",
        "query_string": b"",
        "headers": list((headers or {}).items()),
        "http_version": "1.1",
        "scheme": "http",
        "server": ("reader", 80),
        "client": ("here", 1),
        "root_path": "",
    }
    assert callable(app)
    task = asyncio.create_task(app(scope, receive, send))
    waiter = asyncio.create_task(enough.wait())
    await asyncio.wait([task, waiter], timeout=20, return_when=asyncio.FIRST_COMPLETED)
    waiter.cancel()
    gone.set()
    await asyncio.wait([task], timeout=20)
    return pieces


def test_two_hundred_watchers_share_one_snapshot_a_second(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it costs is counted: snapshots made, whoever many watch."""
    monkeypatch.setattr(http_live, "EVERY", 0.05)
    picture = Picture()
    app = make_app(settings(), files.uploads, files.results, picture=picture)

    async def watch() -> list[list[bytes]]:
        told(picture, 10)
        watching = [asyncio.create_task(_events(app, 3)) for _ in range(200)]
        live: Live = app.state.live
        while live.watchers < 200:
            await asyncio.sleep(0.01)
        before = live.made
        told(picture, 20)
        found = await asyncio.gather(*watching)
        assert live.made - before < 100
        assert live.watchers == 0
        return found

    found = asyncio.run(watch())
    assert all(pieces[0] == b"retry: 2000\n\n" for pieces in found)
    assert all(b'"rows_captured":20' in pieces[-1] for pieces in found)
    assert len({pieces[-1] for pieces in found}) == 1


def test_who_comes_back_with_the_last_event_is_not_sent_it_again(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_live, "HEARTBEAT", 0.1)
    picture = Picture()
    told(picture, 10)
    app = make_app(settings(), files.uploads, files.results, picture=picture)

    async def watch() -> None:
        first = await _events(app, 2)
        number = first[1].split(b"\n")[0].removeprefix(b"id: ")
        again = await _events(app, 2, {b"last-event-id": number})
        assert again[1] == b": still here\n\n"
        later = await _events(app, 2, {b"last-event-id": b"of-another-reader"})
        assert later[1] == first[1]

    asyncio.run(watch())


def test_watchers_are_told_what_a_job_waits_for_while_it_does(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_live, "EVERY", 0.05)
    picture = Picture()
    told(picture, 10)
    worker = InstanceEvent(at=picture._clock(), started=picture._clock())
    picture.apply(instance_key("process", "here-1"), worker.dump())
    app = make_app(settings(), files.uploads, files.results, picture=picture)

    def waits(piece: bytes) -> object:
        return json.loads(piece.partition(b"data: ")[2])["jobs"][0]["waits_for"]

    first = asyncio.run(_events(app, 2))
    assert waits(first[-1]) == "no capture is running: start one with  millstream watch"
    picture.apply(
        instance_key("watch", "here-2"), InstanceEvent(at=picture._clock(), started=picture._clock()).dump()
    )
    assert waits(asyncio.run(_events(app, 2))[-1]) is None


def test_events_end_when_the_server_is_asked_to(files: Files) -> None:
    app = make_app(settings(), files.uploads, files.results)

    async def watch() -> None:
        watching = asyncio.create_task(_events(app, 1_000))
        while app.state.live.watchers == 0:
            await asyncio.sleep(0.01)
        app.state.reader.stopping = lambda: True
        await asyncio.wait_for(watching, 5)

    asyncio.run(watch())
    assert app.state.live.watchers == 0


def test_more_watchers_than_may_be_are_asked_to_come_again(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And there is room again as soon as one has gone."""
    monkeypatch.setattr(http_live, "EVERY", 0.05)
    picture = Picture()
    app = make_app(settings(watchers=2), files.uploads, files.results, picture=picture)
    live: Live = app.state.live

    async def watch() -> None:
        watching = [asyncio.create_task(_events(app, 3)) for _ in range(2)]
        while live.watchers < 2:
            await asyncio.sleep(0.01)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://reader") as client:
            refused = await client.get("/events")
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "10")
        assert refused.headers["content-type"] == "application/problem+json"
        assert "as many watch as may" in refused.json()["detail"]
        told(picture, 20)
        await asyncio.gather(*watching)
        assert live.watchers == 0
        assert await _events(app, 1)

    asyncio.run(asyncio.wait_for(watch(), 20))


def test_a_running_job_has_what_the_stages_tell(files: Files) -> None:
    files.upload()
    job = files.take_on()
    files.capture(job, 1000)
    picture = Picture()
    for second, rows in ((-2.0, 100), (0.0, 300)):
        event = JobEvent(at=picture._clock() + second, name=job.name, generation=1, rows=rows, rejected=2)
        picture.apply(job_key(job.file_id, "store", 1), event.dump())
    with reader(files) as client:
        client.app.state.reader.picture = picture
        found = client.get("/jobs/orders.csv").json()
    assert (found["rows_total"], found["rows_computed"], found["rows_stored"], found["rows_rejected"]) == (
        1000,
        300,
        300,
        2,
    )
    assert found["rows_per_second"]["store"] == pytest.approx(100, abs=1)
