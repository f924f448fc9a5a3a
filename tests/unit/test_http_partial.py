"""`?partial=true`: what there is of a result while its job runs."""

from collections.abc import Iterable, Mapping

import pytest

from pipeline import layout
from pipeline.jobs import Job
from pipeline.store import MemoryStore
from sink import http_partial
from sink.collector import Collection
from sink.inventory import Inventory
from sink.parts import Part
from tests.files import Files
from tests.http_client import Client, reader, settings
from tests.unit.sink_doubles import REJECT, add, expected, spill

SO_FAR = "/results/orders.csv?partial=true"


def running(files: Files, generation: int = 1) -> Job:
    """Return a job that is being captured."""
    files.upload(content=b"order_id\n" * generation)
    job = files.take_on(generation=generation)
    files.claim(job, 1)
    return job


def put_on_s3(
    files: Files, job: Job, rows: Iterable[int], rejected: Mapping[int, bytes] | None = None
) -> None:
    """Have a sink hold rows and put them on S3."""
    collection = Collection(job)
    add(collection, rows, rejected)
    assert isinstance(files.results, MemoryStore)
    spill(files.results, collection)


def test_rows_from_the_start_are_sent_as_far_as_there_is_no_gap(files: Files, client: Client) -> None:
    """A reject fills its place; rows that came twice are sent once."""
    job = running(files)
    put_on_s3(files, job, range(7), {3: REJECT})
    put_on_s3(files, job, [*range(5, 10), *range(11, 30)])
    answer = client.get(SO_FAR)
    assert (answer.status_code, answer.headers["millstream-rows"]) == (200, "0-9")
    assert answer.content == expected(row for row in range(10) if row != 3)
    assert answer.headers["millstream-state"] == "capturing"
    assert answer.headers["millstream-file-id"] == job.file_id
    assert answer.headers["cache-control"] == "no-store"
    assert "etag" not in answer.headers
    put_on_s3(files, job, [10])
    assert client.get(SO_FAR).content == expected(row for row in range(30) if row != 3)


def test_a_result_beats_a_reject_of_the_same_row_here_too(files: Files, client: Client) -> None:
    job = running(files)
    put_on_s3(files, job, range(5), {1: REJECT, 2: REJECT})
    put_on_s3(files, job, [2])
    assert client.get(SO_FAR).content == expected([0, 2, 3, 4])


def test_its_head_says_which_rows_and_sends_none(files: Files, client: Client) -> None:
    put_on_s3(files, running(files), range(6))
    answer = client.head(SO_FAR)
    assert (answer.status_code, answer.headers["millstream-rows"], answer.content) == (200, "0-5", b"")
    assert "content-length" not in answer.headers


def test_where_the_first_row_lacks_it_is_as_if_nobody_had_asked(files: Files, client: Client) -> None:
    """202, and come again; an older result is of no interest to who asks for this one."""
    files.published()
    put_on_s3(files, running(files, generation=2), range(1, 30))
    assert client.get("/results/orders.csv").headers["millstream-state"] == "recomputing"
    answer = client.get(SO_FAR)
    assert (answer.status_code, answer.headers["retry-after"]) == (202, "1")
    assert "millstream-rows" not in answer.headers


def test_what_is_published_is_sent_whole(files: Files, client: Client) -> None:
    job = running(files)
    put_on_s3(files, job, range(6))
    receipt = files.publish(job, expected(range(9)))
    answer = client.get(SO_FAR)
    assert answer.content == expected(range(9))
    assert receipt.output is not None
    assert answer.headers["etag"] == f'"{receipt.output.sha256}"'
    assert "millstream-rows" not in answer.headers


def test_what_has_ended_otherwise_has_no_rows_so_far(files: Files, client: Client) -> None:
    job = running(files)
    put_on_s3(files, job, range(6))
    files.end(job, "cancelled")
    assert client.get(SO_FAR).status_code == 409


def test_a_file_whose_parts_are_gone_is_looked_at_again(
    files: Files, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was published between two questions to S3, and its parts removed."""
    job = running(files)
    put_on_s3(files, job, range(6))
    of_job = Inventory.of_job

    def published_meanwhile(inventory: Inventory, file_id: str) -> list[Part]:
        found = of_job(inventory, file_id)
        files.publish(job, expected(range(9)))
        for part in found:
            files.results.delete(part.key)
        return found

    monkeypatch.setattr(Inventory, "of_job", published_meanwhile)
    assert client.get(SO_FAR).content == expected(range(9))
    assert client.app.state.reader.partials == client.app.state.reader.downloads == 0


def test_only_some_are_answered_at_a_time_and_only_as_csv(files: Files, client: Client) -> None:
    job = running(files)
    put_on_s3(files, job, range(6))
    client.app.state.reader.partials = http_partial.AT_ONCE
    answer = client.get(SO_FAR)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    client.app.state.reader.partials = 0
    assert client.get(SO_FAR + "&format=parquet").status_code == 422
    assert client.get(SO_FAR + "&format=csv").content == expected(range(6))
    assert client.app.state.reader.partials == client.app.state.reader.downloads == 0
    assert not list(files.results.list(layout.receipt(job.name)))


def test_a_read_token_guards_it(files: Files) -> None:
    put_on_s3(files, running(files), range(6))
    with reader(files, settings(read_token="secret")) as client:
        assert client.get(SO_FAR).status_code == 401
