"""Where is this file? Every answer, from what lies on S3."""

import pytest

from pipeline import layout
from pipeline.jobs import NameRecord
from pipeline.states import State, look
from pipeline.store import Head, MemoryStore
from tests.files import Files


def where(files: Files, name: str = "orders.csv") -> State:
    return look(files.uploads, files.results, name)


def test_a_name_that_nothing_speaks_of_is_unknown(files: Files) -> None:
    assert where(files).state == "unknown"


@pytest.mark.parametrize("key", ["orders.csv", "orders.csv.gz", "orders.csv.zst"])
def test_an_upload_that_nobody_took_on_is_uploaded(files: Files, key: str) -> None:
    files.upload(key)
    found = where(files)
    assert (found.state, found.pending, found.recomputing, found.generation) == (
        "uploaded",
        True,
        False,
        None,
    )
    assert found.upload is not None
    assert found.upload.key == key


def test_a_job_without_a_claim_waits(files: Files) -> None:
    files.upload()
    job = files.take_on()
    found = where(files)
    assert (found.state, found.generation, found.file_id, found.job) == ("uploaded", 1, job.file_id, job)


def test_while_it_is_captured_the_rows_of_whole_blocks_count(files: Files) -> None:
    files.upload()
    job = files.take_on()
    files.claim(job, blocks=3)
    found = where(files)
    assert (found.state, found.rows_captured, found.rows_malformed) == ("capturing", 3 * job.block, 1)
    assert found.summary == "captured 61 %: 12 rows so far"


def test_once_all_rows_are_captured_it_is_computing(files: Files) -> None:
    files.upload()
    job = files.take_on()
    files.claim(job, blocks=3)
    files.capture(job, rows=10)
    found = where(files)
    assert (found.state, found.rows_captured) == ("computing", 10)
    assert found.summary == "computing: all 10 rows captured"


def test_an_end_without_a_receipt_is_not_published_yet(files: Files) -> None:
    """The receipt is the moment of publication."""
    files.upload()
    job = files.take_on()
    files.capture(job, rows=1)
    files.end(job, "published")
    assert where(files).state == "computing"


def test_the_receipt_makes_it_published(files: Files) -> None:
    receipt = files.published()
    found = where(files)
    assert (found.state, found.served, found.headline) == ("published", receipt, "published")
    assert found.summary == "published: 1 row in, 1 out, 0 rejected"


def test_a_published_file_takes_three_reads(files: Files) -> None:
    class Counting(MemoryStore):
        reads = 0

        def get(self, key: str) -> tuple[bytes, Head]:
            Counting.reads += 1
            return super().get(key)

    files = Files(Counting(), Counting())
    files.published()
    Counting.reads = 0
    where(files)
    assert Counting.reads == 3


def test_a_published_file_stays_published_without_its_upload(files: Files) -> None:
    files.published()
    files.uploads.delete("orders.csv")
    assert where(files).state == "published"


@pytest.mark.parametrize("state", ["failed", "cancelled", "superseded"])
def test_an_end_says_why(files: Files, state: str) -> None:
    files.upload()
    files.end(files.take_on(), state)  # type: ignore[arg-type]
    found = where(files)
    assert (found.state, found.reason, found.served) == (state, f"because it was {state}", None)
    assert not found.pending


def test_other_content_is_newer_than_the_record(files: Files) -> None:
    receipt = files.published()
    files.upload(content=b"order_id,quantity,price\n008,1,1.00\n")
    found = where(files)
    assert (found.state, found.headline, found.served) == ("uploaded", "recomputing", receipt)


def test_an_older_result_stays_while_the_next_generation_is_computed(files: Files) -> None:
    receipt = files.published()
    files.upload(content=b"order_id,quantity,price\n008,1,1.00\n")
    job = files.take_on(generation=2)
    files.claim(job, blocks=1)
    found = where(files)
    assert (found.state, found.headline, found.generation, found.served) == (
        "capturing",
        "recomputing",
        2,
        receipt,
    )
    files.end(job, "failed")
    found = where(files)
    assert (found.state, found.headline, found.served) == ("failed", "failed", receipt)


def test_the_same_upload_again_changes_nothing_while_it_is_published(files: Files) -> None:
    files.published()
    files.upload()
    assert where(files).state == "published"


@pytest.mark.parametrize("state", ["failed", "cancelled"])
def test_the_same_upload_again_is_new_after_a_failure(files: Files, state: str) -> None:
    files.upload()
    files.end(files.take_on(), state)  # type: ignore[arg-type]
    files.upload()
    assert where(files).state == "uploaded"


def test_a_refusal_speaks_of_the_upload_it_was_written_for(files: Files) -> None:
    files.refuse("orders.csv", files.upload(), "no calculation matches")
    found = where(files)
    assert (found.state, found.reason, found.pending) == ("refused", "no calculation matches", False)
    files.upload(content=b"another")
    assert where(files).state == "uploaded"


def test_a_refused_upload_leaves_the_older_result(files: Files) -> None:
    receipt = files.published()
    files.refuse("orders.csv", files.upload(content=b"worse"))
    found = where(files)
    assert (found.state, found.headline, found.served) == ("refused", "refused", receipt)


def test_a_second_source_key_does_not_hide_the_first(files: Files) -> None:
    files.upload("orders.csv.gz")
    files.publish(files.take_on("orders.csv.gz"))
    files.refuse("orders.csv", files.upload("orders.csv"))
    assert where(files).state == "published"


def test_a_file_that_moved_to_another_source_key_is_new(files: Files) -> None:
    files.published()
    files.uploads.delete("orders.csv")
    files.upload("orders.csv.gz")
    assert where(files).state == "uploaded"


def test_a_deleted_file_has_no_result(files: Files) -> None:
    files.published()
    files.delete("orders.csv", generation=2)
    found = where(files)
    assert (found.state, found.served) == ("deleted", None)


def test_a_file_that_is_half_deleted_is_deleted(files: Files) -> None:
    """The record comes first; until the receipt follows, the result is there, and nobody's to see."""
    files.published()
    files.uploads.delete("orders.csv")
    files.results.put(layout.name_record("orders.csv"), NameRecord(generation=2).dump())
    found = where(files)
    assert (found.state, found.served) == ("deleted", None)


def test_an_upload_after_the_deletion_is_new_and_the_old_result_stays_gone(files: Files) -> None:
    files.published()
    files.delete("orders.csv", generation=2)
    files.upload()
    assert (where(files).state, where(files).served) == ("uploaded", None)
    files.publish(files.take_on(generation=3))
    assert where(files).state == "published"


def test_a_generation_that_is_published_between_two_reads_is_seen_whole(files: Files) -> None:
    class Moving(MemoryStore):
        """Publishes the next generation right after the name's record was read."""

        moves = 1

        def get(self, key: str) -> tuple[bytes, Head]:
            found = super().get(key)
            if key == layout.name_record("orders.csv") and self.moves:
                self.moves -= 1
                files.upload(content=b"order_id,quantity,price\n008,1,1.00\n")
                files.publish(files.take_on(generation=2), b"order_id,total\n008,1.00\n")
            return found

    files.results = Moving()
    files.published()
    found = where(files)
    assert (found.state, found.generation) == ("published", 2)
