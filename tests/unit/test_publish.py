"""However often publishing is broken off, whoever comes next ends it right."""

import csv
import io
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipeline import duck, layout, missing, records
from pipeline.claims import Observer
from pipeline.errors import Transient, Unreachable
from pipeline.jobs import Claim, End, Job, NameRecord, Receipt
from pipeline.store import MemoryStore
from sink.collector import Collection, Frozen
from sink.publish import AT_HAND, Publisher
from tests.jobs import make_captured, make_job

CONNECTION = duck.connect()


class Breaking(MemoryStore):
    """A store whose n-th write fails: before it takes effect, or after (an answer that is lost)."""

    def __init__(self, break_at: int, after: bool) -> None:
        super().__init__()
        self.armed = False
        self._left = break_at
        self._after = after

    def _call(self, work: Callable[[], Any]) -> Any:
        self._left -= self.armed
        broken = self.armed and self._left == 0
        if broken and not self._after:
            raise Unreachable("cut before")
        result = work()
        if broken:
            raise Unreachable("cut after")
        return result

    def put(self, key: str, data: bytes, **options: Any) -> str:
        """See MemoryStore."""
        return str(self._call(lambda: super(Breaking, self).put(key, data, **options)))

    def delete(self, key: str, **options: Any) -> None:
        """See MemoryStore."""
        self._call(lambda: super(Breaking, self).delete(key, **options))


def complete(job: Job, rows: int, rejected: Mapping[int, bytes] | None = None, factor: int = 10) -> Frozen:
    collection = Collection(job)
    for row in range(rows):
        number, partition = np.array([row], np.int64), job.partition(row)
        if rejected and row in rejected:
            collection.reject(partition, number, [rejected[row]])
            continue
        total = pa.array([row * factor]).cast(pa.decimal128(38, 2))
        collection.add(partition, number, pa.table({"order_id": [f"id{row}"], "total": total}))
    collection.settle(make_captured(job, rows))
    return collection.freeze()


def open_job(store: MemoryStore, job: Job) -> None:
    store.put(layout.job(job.file_id), job.dump())
    store.put(layout.claim(job.file_id), Claim(nonce="c").dump())
    store.put(layout.open_mark(job.file_id), b"")
    record = NameRecord(
        generation=job.generation, file_id=job.file_id, source=job.source, calculation=job.digest
    )
    store.put(layout.name_record(job.name), record.dump())


def receipt_of(store: MemoryStore, name: str = "orders.csv") -> Receipt:
    receipt = records.read(store, layout.receipt(name), Receipt)
    assert receipt is not None
    return receipt


def keys(store: MemoryStore, prefix: str = "") -> list[str]:
    return [head.key for head in store.list(prefix)]


def assert_published(store: MemoryStore, job: Job, rows: int, factor: int = 10) -> None:
    """The one right state: receipt, output, `<name>`, and nothing left over."""
    receipt = receipt_of(store, job.name)
    assert receipt.file_id == job.file_id
    assert (receipt.rows, receipt.results, receipt.rejected) == (rows, rows, 0)
    assert receipt.output is not None
    data = store.get(receipt.output.key)[0]
    assert data.decode() == "order_id,total\n" + "".join(
        f"id{row},{row * factor}.00\n" for row in range(rows)
    )
    assert store.get(job.name)[0] == data
    assert store.head(job.name).metadata == {"file_id": job.file_id}
    assert keys(store, layout.OPEN) == []
    assert layout.claim(job.file_id) not in keys(store)
    assert [key for key in keys(store, layout.JOBS) if "/out-" in key] == [receipt.output.key]


def test_a_finished_job_lies_where_readers_look() -> None:
    """Output, receipt, `<name>`, end; the mark is gone."""
    store, job = MemoryStore(), make_job()
    open_job(store, job)
    assert Publisher(store).publish(complete(job, 9), CONNECTION).state == "published"
    assert_published(store, job, 9)


def test_what_was_asked_for_again_goes_with_the_claim_of_who_sent_it() -> None:
    store, job = MemoryStore(), make_job()
    open_job(store, job)
    missing.request(store, job.file_id, 0, 1, [0])
    assert Observer(store, layout.repair(job.file_id)).take() is not None
    Publisher(store).publish(complete(job, 9), CONNECTION)
    assert_published(store, job, 9)
    left = {key.rpartition("/")[2].partition("-")[0] for key in keys(store, f"{layout.JOBS}{job.file_id}/")}
    assert left == {"job.json", "end.json", "out"}


@pytest.mark.parametrize("at_hand", [0, AT_HAND], ids=["large", "small"])
@pytest.mark.parametrize("after", [False, True], ids=["call lost", "answer lost"])
@pytest.mark.parametrize("step", range(1, 9))
def test_a_job_cut_at_any_write_is_finished_by_whoever_comes_next(
    step: int, after: bool, at_hand: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The n-th write fails; then the same job is published again by a publisher that knows nothing of it."""
    monkeypatch.setattr("sink.publish.AT_HAND", at_hand)
    store, job = Breaking(step, after), make_job()
    open_job(store, job)
    store.armed = True
    try:
        Publisher(store).publish(complete(job, 9), CONNECTION)
    except Unreachable:
        store.armed = False
        if Publisher(store).finish(job) is None:
            Publisher(store).publish(complete(job, 9), CONNECTION)
    assert_published(store, job, 9)


@pytest.mark.parametrize("after", [False, True], ids=["call lost", "answer lost"])
@pytest.mark.parametrize("step", range(1, 12))
def test_a_newer_generation_cut_at_any_write_leaves_nothing_of_the_older_one(step: int, after: bool) -> None:
    """Also between its receipt, which says no longer whose place it took, and the clearing up."""
    store = Breaking(step, after)
    old, new = make_job(generation=1), make_job(generation=2, etag="b" * 32)
    open_job(store, old)
    Publisher(store).publish(complete(old, 6), CONNECTION)
    open_job(store, new)
    store.armed = True
    with suppress(Unreachable):
        Publisher(store).publish(complete(new, 9), CONNECTION)
    store.armed = False
    if layout.open_mark(new.file_id) in keys(store) and Publisher(store).finish(new) is None:
        Publisher(store).publish(complete(new, 9), CONNECTION)
    assert_published(store, new, 9)
    assert not [key for key in keys(store, layout.JOBS) if "/replaces-" in key]


def test_what_an_older_generation_left_goes_also_where_a_newer_one_came_between() -> None:
    """The second died after its receipt; the third, then the second is finished by others."""
    first, second, third = (make_job(generation=number, etag=f"{number:032x}") for number in (1, 2, 3))
    store = Breaking(6, after=False)  # of the second: output, end, note, receipt, <name>
    open_job(store, first)
    Publisher(store).publish(complete(first, 6), CONNECTION)
    open_job(store, second)
    store.armed = True
    with pytest.raises(Unreachable):
        Publisher(store).publish(complete(second, 7), CONNECTION)
    store.armed = False
    assert receipt_of(store).file_id == second.file_id
    open_job(store, third)
    Publisher(store).publish(complete(third, 8), CONNECTION)
    Publisher(store).finish(second)
    assert_published(store, third, 8)


@pytest.mark.parametrize("at_hand", [0, AT_HAND])
def test_only_what_is_small_is_kept_to_be_written_again(
    at_hand: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large output is copied on the server."""
    copied: list[str] = []

    class Copying(MemoryStore):
        def copy(self, source: str, key: str, **more: Any) -> str:
            copied.append(key)
            return super().copy(source, key, **more)

    monkeypatch.setattr("sink.publish.AT_HAND", at_hand)
    store, job = Copying(), make_job()
    open_job(store, job)
    Publisher(store).publish(complete(job, 9), CONNECTION)
    assert copied == ([] if at_hand else [job.name])
    assert_published(store, job, 9)


def test_a_newer_receipt_is_shown_and_not_the_output_at_hand() -> None:
    """It came between the receipt and `<name>`."""
    old, new = make_job(generation=1), make_job(generation=2, etag="b" * 32)

    class Between(MemoryStore):
        ready = False

        def put(self, key: str, data: bytes, **more: Any) -> str:
            if key == old.name and self.ready:
                self.ready = False
                open_job(self, new)
                Publisher(self).publish(complete(new, 5, factor=7), CONNECTION)
            return super().put(key, data, **more)

    store = Between()
    open_job(store, old)
    store.ready = True
    Publisher(store).publish(complete(old, 9), CONNECTION)
    assert_published(store, new, 5, factor=7)


def test_two_publishers_never_both_win() -> None:
    """The second finds the first's end and finishes that; the object that nobody names is removed."""
    store, job = MemoryStore(), make_job()
    open_job(store, job)
    first = Publisher(store).publish(complete(job, 9), CONNECTION)
    store.put(layout.open_mark(job.file_id), b"")
    second = Publisher(store).publish(complete(job, 9), CONNECTION)
    assert second == first
    assert_published(store, job, 9)


def test_an_older_generation_never_replaces_a_newer_one() -> None:
    """It finishes later, and ends superseded."""
    store = MemoryStore()
    old, new = make_job(generation=1), make_job(generation=2, etag="b" * 32)
    open_job(store, old)
    open_job(store, new)
    Publisher(store).publish(complete(new, 5, factor=7), CONNECTION)
    assert Publisher(store).publish(complete(old, 9), CONNECTION).state == "superseded"
    assert_published(store, new, 5, factor=7)


def test_an_older_generation_that_had_decided_before_does_not_show_either() -> None:
    """It wrote its end, died, and is finished after the newer one was published."""
    store = MemoryStore()
    old, new = make_job(generation=1), make_job(generation=2, etag="b" * 32)
    open_job(store, old)
    store.put(layout.output(old.file_id, "x"), b"old")
    late = Publisher(store).publish(complete(old, 9), CONNECTION)
    assert late.receipt is not None
    store.put(layout.open_mark(old.file_id), b"")
    open_job(store, new)
    Publisher(store).publish(complete(new, 5, factor=7), CONNECTION)
    assert Publisher(store).finish(old) == late
    assert_published(store, new, 5, factor=7)


def test_a_newer_generation_takes_the_place_and_clears_the_older_ones_output() -> None:
    """`<name>` changes by compare-and-set."""
    store = MemoryStore()
    old, new = make_job(generation=1), make_job(generation=2, etag="b" * 32)
    for job, factor in ((old, 10), (new, 3)):
        open_job(store, job)
        Publisher(store).publish(complete(job, 6, factor=factor), CONNECTION)
    assert_published(store, new, 6, factor=3)


def test_somebody_elses_object_under_the_name_is_replaced_once_it_is_seen() -> None:
    """Whatever lay there before."""
    store, job = MemoryStore(), make_job()
    store.put(job.name, b"a user's own")
    open_job(store, job)
    Publisher(store).publish(complete(job, 2), CONNECTION)
    assert_published(store, job, 2)


def test_rejects_are_a_csv_with_the_inputs_columns_row_and_reason() -> None:
    """Rejected by the calculation, and malformed."""
    store, job = MemoryStore(), make_job()
    open_job(store, job)
    bad = {
        1: b'{"error":"price: \'9,99\' is not DECIMAL(18,2)","column":"price",'
        b'"row":{"order_id":"a\\"b","quantity":"1","price":"9,99"}}',
        2: b'{"error":"expected 3 fields, found 2","line":4,"text":"x,y"}',
    }
    end = Publisher(store).publish(complete(job, 4, bad), CONNECTION)
    assert end.receipt is not None
    assert end.receipt.rejects is not None
    assert (end.receipt.rows, end.receipt.results, end.receipt.rejected) == (4, 2, 2)
    data = store.get(end.receipt.rejects.key)[0]
    read = list(csv.reader(io.StringIO(data.decode())))
    assert read == [
        ["order_id", "quantity", "price", "_row", "_error"],
        ['a"b', "1", "9,99", "1", "price: '9,99' is not DECIMAL(18,2)"],
        ["", "", "", "2", "line 4: expected 3 fields, found 2: x,y"],
    ]


def test_a_file_without_rows_gives_a_header() -> None:
    """And a receipt of zeros."""
    store, job = MemoryStore(), make_job()
    open_job(store, job)
    Publisher(store).publish(complete(job, 0), CONNECTION)
    assert_published(store, job, 0)


def test_finish_leaves_a_job_alone_that_has_not_ended() -> None:
    """Its rows may still come."""
    store, job = MemoryStore(), make_job()
    open_job(store, job)
    assert Publisher(store).finish(job) is None
    assert keys(store, layout.OPEN) == [layout.open_mark(job.file_id)]


def test_a_failed_job_loses_its_mark_and_keeps_its_reason() -> None:
    """`end` decides once."""
    store, job = MemoryStore(), make_job()
    open_job(store, job)
    publisher = Publisher(store)
    assert publisher.end(job, "failed", "the upload is gone").state == "failed"
    assert publisher.end(job, "cancelled", "too late").reason == "the upload is gone"
    assert publisher.publish(complete(job, 3), CONNECTION).state == "failed"
    assert keys(store, layout.OPEN) == []
    assert [key for key in keys(store, layout.JOBS) if "/out-" in key] == []
    assert isinstance(records.read(store, layout.end(job.file_id), End), End)


def test_a_full_disk_is_waited_out() -> None:
    """A job isn't given up for what passes."""

    class Full:
        def register(self, *_: object) -> None:
            pass

        def execute(self, _sql: str) -> None:
            raise duck.Error("IO Error: Could not write file: No space left on device")

    store, job = MemoryStore(), make_job()
    open_job(store, job)
    with pytest.raises(Transient, match="is full"):
        Publisher(store).publish(complete(job, 3), Full())  # type: ignore[arg-type]
