"""GET and HEAD of results, rejects and receipts, header by header."""

import email
import hashlib
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest

from pipeline import layout
from pipeline.errors import NotFound, Throttled, Unreachable
from pipeline.store import Body, Head, MemoryStore
from tests.files import Files
from tests.http_client import Client, reader, settings

CSV = b"order_id,total\n007,29.97\n"
ETAG = f'"{hashlib.sha256(CSV).hexdigest()}"'


def test_a_published_file_is_sent_with_all_its_headers(files: Files, client: Client) -> None:
    receipt = files.published()
    answer = client.get("/results/orders.csv")
    assert (answer.status_code, answer.content) == (200, CSV)
    expected = {
        "content-type": "text/csv; charset=utf-8; header=present",
        "content-length": str(len(CSV)),
        "content-disposition": "attachment; filename=\"orders.results.csv\"; filename*=UTF-8''orders.results.csv",
        "etag": ETAG,
        "last-modified": "Wed, 04 Mar 2026 05:06:07 GMT",
        "accept-ranges": "bytes",
        "cache-control": "no-cache",
        "millstream-state": "published",
        "millstream-generation": "1",
        "millstream-file-id": receipt.file_id,
    }
    assert {name: answer.headers[name] for name in expected} == expected


def test_head_has_the_headers_of_get_and_asks_for_no_content(files: Files, client: Client) -> None:
    receipt = files.published()
    got = client.get("/results/orders.csv").headers
    assert receipt.output is not None
    files.results.delete(receipt.output.key)
    answer = client.head("/results/orders.csv")
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers == got
    ranged = client.head("/results/orders.csv", headers={"Range": "bytes=0-1"})
    assert (ranged.status_code, ranged.headers["content-length"]) == (200, str(len(CSV)))


def test_a_name_may_hold_slashes_and_any_script(files: Files, client: Client) -> None:
    files.published('2024/größe "1" 100%.csv')
    answer = client.get("/results/2024/gr%C3%B6%C3%9Fe%20%221%22%20100%25.csv")
    assert answer.content == CSV
    assert answer.headers["content-disposition"] == (
        'attachment; filename="gr__e _1_ 100_.results.csv"; '
        "filename*=UTF-8''gr%C3%B6%C3%9Fe%20%221%22%20100%25.results.csv"
    )
    assert client.get("/results/2024%2Fgr%C3%B6%C3%9Fe%20%221%22%20100%25.csv").content == CSV


@pytest.mark.parametrize(
    ("asked", "sent", "content_range"),
    [
        ("bytes=0-7", CSV[:8], f"bytes 0-7/{len(CSV)}"),
        ("bytes=15-", CSV[15:], f"bytes 15-{len(CSV) - 1}/{len(CSV)}"),
        ("bytes=-6", CSV[-6:], f"bytes {len(CSV) - 6}-{len(CSV) - 1}/{len(CSV)}"),
    ],
)
def test_a_range_is_sent_as_partial_content(
    files: Files, client: Client, asked: str, sent: bytes, content_range: str
) -> None:
    files.published()
    answer = client.get("/results/orders.csv", headers={"Range": asked})
    assert (answer.status_code, answer.content) == (206, sent)
    assert answer.headers["content-range"] == content_range
    assert answer.headers["content-length"] == str(len(sent))
    assert answer.headers["etag"] == ETAG


def test_several_ranges_come_as_one_answer_with_parts(files: Files, client: Client) -> None:
    files.published()
    answer = client.get("/results/orders.csv", headers={"Range": "bytes=0-1,-5"})
    assert answer.status_code == 206
    assert "content-range" not in answer.headers
    assert answer.headers["content-length"] == str(len(answer.content))
    message = email.message_from_bytes(
        f"Content-Type: {answer.headers['content-type']}\r\n\r\n".encode() + answer.content
    )
    parts: Any = message.get_payload()
    assert message.get_content_type() == "multipart/byteranges"
    assert [(part["Content-Range"], part.get_payload(decode=True)) for part in parts] == [
        (f"bytes 0-1/{len(CSV)}", CSV[:2]),
        (f"bytes {len(CSV) - 5}-{len(CSV) - 1}/{len(CSV)}", CSV[-5:]),
    ]
    assert parts[0]["Content-Type"] == "text/csv; charset=utf-8; header=present"


def test_ranges_of_which_one_is_there_get_that_one(files: Files, client: Client) -> None:
    files.published()
    answer = client.get("/results/orders.csv", headers={"Range": "bytes=0-1,900-"})
    assert (answer.status_code, answer.content) == (206, CSV[:2])
    assert answer.headers["content-range"] == f"bytes 0-1/{len(CSV)}"


def test_a_range_beyond_the_end_names_the_size(files: Files, client: Client) -> None:
    files.published()
    answer = client.get("/results/orders.csv", headers={"Range": "bytes=1000-"})
    assert answer.status_code == 416
    assert answer.headers["content-range"] == f"bytes */{len(CSV)}"
    assert answer.json()["status"] == 416


def test_if_range_of_an_older_version_gets_the_whole(files: Files, client: Client) -> None:
    files.published()
    headers = {"Range": "bytes=0-7", "If-Range": ETAG}
    assert client.get("/results/orders.csv", headers=headers).status_code == 206
    files.upload(content=b"more\n")
    newer = CSV + b"008,1.00\n"
    files.publish(files.take_on(generation=2), newer)
    answer = client.get("/results/orders.csv", headers=headers)
    assert (answer.status_code, answer.content) == (200, newer)


@pytest.mark.parametrize(
    "header",
    [{"If-None-Match": ETAG}, {"If-None-Match": "*"}, {"If-Modified-Since": "Wed, 04 Mar 2026 05:06:07 GMT"}],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_what_the_client_has_is_not_sent_again(
    files: Files, client: Client, header: dict[str, str], method: str
) -> None:
    files.published()
    answer = client.request(method, "/results/orders.csv", headers=header)
    assert (answer.status_code, answer.content) == (304, b"")
    assert answer.headers["etag"] == ETAG
    assert answer.headers["millstream-state"] == "published"
    assert "content-length" not in answer.headers
    assert "content-type" not in answer.headers


def test_if_match_of_another_version_fails(files: Files, client: Client) -> None:
    files.published()
    answer = client.get("/results/orders.csv", headers={"If-Match": '"another"'})
    assert (answer.status_code, answer.headers["etag"]) == (412, ETAG)


def test_a_pending_file_answers_202_with_its_job(files: Files, client: Client) -> None:
    files.upload()
    job = files.take_on()
    files.claim(job, blocks=2)
    for route in ("results", "rejects", "receipts"):
        answer = client.get(f"/{route}/orders.csv")
        assert answer.status_code == 202
        assert answer.headers["retry-after"] == "1"
        assert answer.headers["location"] == "/jobs/orders.csv"
        assert answer.headers["millstream-state"] == "capturing"
        assert answer.headers["cache-control"] == "no-store"
        found = answer.json()
        assert (found["state"], found["rows_captured"], found["rows_total"]) == ("capturing", 8, None)
        assert (found["file_id"], found["result"]) == (job.file_id, None)


def test_an_older_result_is_sent_while_a_newer_one_is_computed(files: Files, client: Client) -> None:
    files.published()
    files.upload(content=b"other\n")
    files.take_on(generation=2)
    answer = client.get("/results/orders.csv")
    assert (answer.status_code, answer.content) == (200, CSV)
    assert answer.headers["millstream-state"] == "recomputing"
    assert answer.headers["millstream-generation"] == "1"


@pytest.mark.parametrize("state", ["failed", "cancelled"])
def test_a_job_that_gave_up_answers_409_with_the_reason(files: Files, client: Client, state: str) -> None:
    files.upload()
    files.end(files.take_on(), state)  # type: ignore[arg-type]
    answer = client.get("/results/orders.csv")
    assert answer.status_code == 409
    assert answer.json() == {
        "type": "about:blank",
        "title": "Conflict",
        "status": 409,
        "detail": f"no result of orders.csv: because it was {state}",
        "instance": "/results/orders.csv",
        "state": state,
    }
    assert answer.headers["millstream-state"] == state


def test_a_refused_upload_answers_409_or_the_older_result(files: Files, client: Client) -> None:
    files.refuse("orders.csv", files.upload(), "it is no CSV")
    assert client.get("/results/orders.csv").json()["detail"] == "no result of orders.csv: it is no CSV"
    files.published()
    files.refuse("orders.csv", files.upload(content=b"\0"), "it is no CSV")
    answer = client.get("/results/orders.csv")
    assert (answer.status_code, answer.headers["millstream-state"]) == (200, "refused")


def test_a_deleted_file_and_an_unknown_one_are_not_found(files: Files, client: Client) -> None:
    files.published()
    files.delete("orders.csv", generation=2)
    for route in ("results", "rejects", "receipts", "jobs"):
        answer = client.get(f"/{route}/orders.csv")
        assert (answer.status_code, answer.json()["state"]) == (404, "deleted")
        answer = client.get(f"/{route}/nothing.csv")
        assert (answer.status_code, answer.json()["state"]) == (404, "unknown")


@pytest.mark.parametrize(
    "name", ["a/../b.csv", "_millstream/names/orders.csv.json", "/abs.csv", "a%00b", "orders.csv.gz", ""]
)
def test_what_cannot_be_a_name_is_not_found(client: Client, name: str) -> None:
    path = name.replace("..", "%2e%2e")
    answer = client.get(f"/results/{path}")
    assert answer.status_code == 404
    assert answer.json()["title"] == "Not Found"


def test_the_name_of_a_compressed_upload_is_suggested(files: Files, client: Client) -> None:
    files.published("orders.csv.gz")
    assert "'orders.csv'" in client.get("/results/orders.csv.gz").json()["detail"]


def test_rejects_are_sent_as_they_lie(files: Files, client: Client) -> None:
    files.upload()
    rejects = b"order_id,quantity,price,_row,_error\n008,x,1,1,no\n"
    files.publish(files.take_on(), CSV, rejects)
    answer = client.get("/rejects/orders.csv")
    assert answer.content == rejects
    assert answer.headers["etag"] == f'"{hashlib.sha256(rejects).hexdigest()}"'
    assert 'filename="orders.rejects.csv"' in answer.headers["content-disposition"]
    assert client.get("/rejects/orders.csv", headers={"Range": "bytes=-3"}).content == b"no\n"


def test_where_nothing_was_rejected_the_rejects_are_a_header(files: Files, client: Client) -> None:
    files.published()
    answer = client.get("/rejects/orders.csv")
    assert (answer.status_code, answer.content) == (200, b"order_id,quantity,price,_row,_error\n")
    assert answer.headers["content-length"] == str(len(answer.content))
    again = client.get("/rejects/orders.csv", headers={"If-None-Match": answer.headers["etag"]})
    assert again.status_code == 304


def test_the_receipt_is_sent_as_json(files: Files, client: Client) -> None:
    receipt = files.published()
    answer = client.get("/receipts/orders.csv")
    assert answer.headers["content-type"] == "application/json"
    found = answer.json()
    assert found["rows"] == found["results"] + found["rejected"] == 1
    assert found["file_id"] == receipt.file_id
    assert found["output"]["sha256"] == hashlib.sha256(CSV).hexdigest()


def test_the_result_is_what_the_receipt_names_and_never_the_copy(files: Files, client: Client) -> None:
    files.published()
    files.results.put("orders.csv", b"somebody else's\n")
    assert client.get("/results/orders.csv").content == CSV


def test_a_result_that_is_replaced_between_receipt_and_reading_is_found_again(files: Files) -> None:
    class Replacing(MemoryStore):
        """The newer generation is published, and the older output removed, when the older one is about to be read."""

        waiting = True

        def open(
            self, key: str, *, if_match: str | None = None, start: int = 0, length: int | None = None
        ) -> AbstractContextManager[Body]:
            if self.waiting:
                self.waiting = False
                files.upload(content=b"other\n")
                files.publish(files.take_on(generation=2), CSV + b"008,1.00\n")
                self.delete(key)
            return super().open(key, if_match=if_match, start=start, length=length)

    files.results = Replacing()
    files.published()
    with reader(files) as client:
        answer = client.get("/results/orders.csv")
    assert (answer.status_code, answer.content) == (200, CSV + b"008,1.00\n")
    assert answer.headers["millstream-generation"] == "2"


def test_an_output_that_is_gone_for_good_is_unavailable(files: Files, client: Client) -> None:
    receipt = files.published()
    assert receipt.output is not None
    files.results.delete(receipt.output.key)
    answer = client.get("/results/orders.csv")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")


def test_an_output_that_is_not_what_the_receipt_says_is_never_sent(files: Files, client: Client) -> None:
    receipt = files.published()
    assert receipt.output is not None
    files.results.put(receipt.output.key, CSV[:-1])
    answer = client.get("/results/orders.csv")
    assert answer.status_code == 502
    assert f"{len(CSV) - 1} bytes" in answer.json()["detail"]


class Faulty(MemoryStore):
    """Breaks off every stream after one piece of 5 bytes, as often as `faults` says."""

    faults = 0

    def open(
        self, key: str, *, if_match: str | None = None, start: int = 0, length: int | None = None
    ) -> AbstractContextManager[Body]:
        found = super().open(key, if_match=if_match, start=start, length=length)
        if self.faults:
            self.faults -= 1
            with found as body:
                pieces = self._broken(b"".join(body.chunks))
                object.__setattr__(body, "read", lambda _: next(pieces))
        return found

    def _broken(self, data: bytes) -> Iterator[bytes]:
        yield data[:5]
        raise Unreachable("S3 at http://127.0.0.1:1 does not answer")


def test_a_stream_that_s3_breaks_off_goes_on_at_the_next_byte(files: Files) -> None:
    store = Faulty()
    files.results = store
    files.published()
    store.faults = 4
    with reader(files) as client:
        assert client.get("/results/orders.csv").content == CSV


@pytest.mark.parametrize("error", [Unreachable("S3 at http://x does not answer"), Throttled("SlowDown")])
@pytest.mark.parametrize("route", ["/results/orders.csv", "/jobs/orders.csv", "/results"])
def test_s3_out_of_reach_is_unavailable_and_worth_another_try(
    files: Files, error: Exception, route: str
) -> None:
    class Down(MemoryStore):
        def get(self, key: str) -> tuple[bytes, Head]:
            raise error

        def list(self, prefix: str = "", *, delimiter: str = "") -> Iterator[Head]:
            raise error

    with reader(Files(files.uploads, Down())) as client:
        answer = client.get(route)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
    assert answer.json()["detail"] == str(error)


def test_waiting_ends_when_the_file_is_published(files: Files, client: Client) -> None:
    files.upload()
    job = files.take_on()
    looked = threading.Event()
    head = files.uploads.head

    def seen(key: str) -> Head:
        looked.set()
        return head(key)

    files.uploads.head = seen  # type: ignore[method-assign]

    def publish() -> None:
        looked.wait()
        files.publish(job)

    publisher = threading.Thread(target=publish)
    publisher.start()
    answer = client.get("/results/orders.csv?wait=60")
    publisher.join()
    assert (answer.status_code, answer.content) == (200, CSV)


def test_waiting_ends_when_the_job_fails_and_when_the_time_is_over(files: Files, client: Client) -> None:
    files.upload()
    job = files.take_on()
    assert client.get("/results/orders.csv?wait=0.3").status_code == 202
    files.end(job, "failed")
    assert client.get("/results/orders.csv?wait=60").status_code == 409
    assert client.get("/results/nothing.csv?wait=60").status_code == 404


def test_waiting_for_a_newer_result_passes_over_the_older_one(files: Files, client: Client) -> None:
    files.published()
    files.upload(content=b"other\n")
    job = files.take_on(generation=2)
    threading.Timer(0.3, lambda: files.publish(job, CSV + b"008,1.00\n")).start()
    answer = client.get("/results/orders.csv?wait=60")
    assert (answer.status_code, answer.headers["millstream-generation"]) == (200, "2")


@pytest.mark.parametrize("wait", ["-1", "soon", "inf", "nan", ""])
def test_a_wait_that_is_no_time_is_refused(client: Client, wait: str) -> None:
    answer = client.get(f"/results/orders.csv?wait={wait}")
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith("wait = ")


def test_with_a_read_token_shared_caches_keep_nothing(files: Files) -> None:
    files.published()
    with reader(files, settings(read_token="secret")) as client:
        answer = client.get("/results/orders.csv", headers={"Authorization": "Bearer secret"})
    assert answer.headers["cache-control"] == "private, no-cache"


def test_a_missing_job_of_a_published_file_hides_no_result(files: Files, client: Client) -> None:
    receipt = files.published()
    files.results.delete(layout.job(receipt.file_id))
    with pytest.raises(NotFound):
        files.results.get(layout.job(receipt.file_id))
    assert client.get("/results/orders.csv").status_code == 200
