"""From a claimed job to the ends of its shares, and on from wherever the last one died."""

import csv as plain_csv
import io
import json
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from pipeline import layout, records
from pipeline.claims import Observer
from pipeline.errors import PreconditionFailed, Unreachable
from pipeline.jobs import Captured, Claim, End, Job
from producer.capture import Capture
from producer.encode import encode
from producer.ending import supersede
from producer.progress import Silent
from producer.reader import read
from producer.stage import Stage
from producer.take_on import Upload, take_on
from tests.unit.capture_doubles import SETTINGS, Recorder, Steps, csv, stage

NAME = "orders.csv"


class Crash(BaseException):
    """The process dies."""


@pytest.fixture
def contents() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def taken(here: Stage, data: bytes, contents: ExitStack) -> Upload:
    here.uploads.put(NAME, data)
    return take_on(here, NAME, contents)


def capture(here: Stage, upload: Upload, sender: Recorder) -> Captured | End | None:
    work = Capture(here, upload.job, upload.file, fresh=upload.new)
    return work.attempt(sender, Silent())


def captured(here: Stage, job: Job) -> Captured | None:
    return records.read(here.results, layout.captured(job.file_id), Captured)


def expected(job: Job, data: bytes, *, rows: range | None = None) -> list[tuple[int, bytes, dict[str, str]]]:
    """The messages of a file without malformed rows, by the words of the design and nothing of ours."""
    table = list(plain_csv.DictReader(io.StringIO(data.decode())))
    first = zlib.crc32(job.file_id.encode("ascii"))
    return [
        ((first + row // job.block) % job.partitions, f"{job.file_id}:{row}".encode(), table[row])
        for row in (rows if rows is not None else range(len(table)))
    ]


def rows_of(sender: Recorder) -> list[tuple[int, bytes, dict[str, str]]]:
    return [
        (partition, key, json.loads(value))
        for partition, key, value in sender.messages
        if not key.endswith(b":end")
    ]


def ends_of(sender: Recorder) -> dict[int, dict[str, int]]:
    return {
        partition: json.loads(value) for partition, key, value in sender.messages if key.endswith(b":end")
    }


def test_each_row_goes_to_its_partition_and_each_share_has_its_end(contents: ExitStack) -> None:
    here, sender = stage(), Recorder()
    upload = taken(here, csv(14), contents)
    done = capture(here, upload, sender)
    job = upload.job
    assert rows_of(sender) == expected(job, csv(14))
    shares = Counter(partition for partition, _, _ in rows_of(sender))
    assert ends_of(sender) == {partition: {"rows": rows, "round": 0} for partition, rows in shares.items()}
    assert isinstance(done, Captured)
    assert (done.rows, done.malformed, done.shares) == (14, 0, dict(shares))
    assert done == captured(here, job)


def test_the_account_is_written_after_the_rows_are_acknowledged_and_before_the_ends(
    contents: ExitStack,
) -> None:
    results = Steps()
    here, sender = stage(results=results), Recorder(results.log)
    upload = taken(here, csv(6), contents)
    capture(here, upload, sender)
    steps = [step for step in results.log if step in {"rows", "end", "flush"} or "captured" in step]
    account = f"put {layout.captured(upload.job.file_id)}"
    assert steps == ["rows", "rows", "flush", account, "end", "end", "flush"]


def test_a_file_without_rows_has_one_end_in_block_0s_partition(contents: ExitStack) -> None:
    here, sender = stage(), Recorder()
    upload = taken(here, csv(0), contents)
    capture(here, upload, sender)
    assert ends_of(sender) == {zlib.crc32(upload.job.file_id.encode()) % 3: {"rows": 0, "round": 0}}
    assert len(sender.messages) == 1


def test_malformed_rows_keep_their_row_number_among_the_others(contents: ExitStack) -> None:
    here, sender = stage(), Recorder()
    data = b'order_id,quantity\n1,1\n2\n3,"3\n3"\n4,4,4\n5,5\n'
    upload = taken(here, data, contents)
    done = capture(here, upload, sender)
    values = {key.decode().partition(":")[2]: json.loads(value) for _, key, value in sender.messages}
    assert values == {
        "0": {"order_id": "1", "quantity": "1"},
        "1:rejected": {"error": "expected 2 fields, found 1", "line": 3, "text": "2"},
        "2": {"order_id": "3", "quantity": "3\n3"},
        "3:rejected": {"error": "expected 2 fields, found 3", "line": 6, "text": "4,4,4"},
        "4": {"order_id": "5", "quantity": "5"},
        "end": values["end"],
    }
    assert isinstance(done, Captured)
    assert (done.rows, done.malformed) == (5, 2)


ODD = [
    "plain",
    "",
    " ",
    "null",
    "NULL",
    '"',
    '""',
    ",",
    "a\nb",
    "a\r\nb",
    "\\",
    "\\n",
    "\t",
    "\x00",
    "\x1f",
    "\x7f",
]
ODD += ["é", "日本", "😀", "\u2028", "{}", '{"a":1}', "-0.0", "1e400", "x" * 70_000]


def test_every_odd_cell_arrives_as_it_is(contents: ExitStack) -> None:
    text = io.StringIO(newline="")
    writer = plain_csv.writer(text, quoting=plain_csv.QUOTE_ALL)
    writer.writerows([["order_id", "quantity"], *([str(row), cell] for row, cell in enumerate(ODD))])
    here, sender = stage(), Recorder()
    capture(here, taken(here, text.getvalue().encode(), contents), sender)
    assert [row["quantity"] for _, _, row in rows_of(sender)] == ODD


def test_odd_column_names_arrive_as_they_are(contents: ExitStack) -> None:
    names = ["order_id", "quantity", 'a "quoted" one', "back\\slash", "_row", "error", "end", "é 😀"]
    text = io.StringIO(newline="")
    plain_csv.writer(text).writerows([names, [str(place) for place in range(len(names))]])
    here, sender = stage(), Recorder()
    capture(here, taken(here, text.getvalue().encode(), contents), sender)
    [(_, _, row)] = rows_of(sender)
    assert row == {name: str(place) for place, name in enumerate(names)}


def test_a_row_above_the_limit_is_malformed_and_its_text_fits(contents: ExitStack) -> None:
    here = stage()
    long = "\x01" * 30_000
    upload = taken(here, f"order_id,quantity\n1,1\n2,{long}\n3,3\n".encode(), contents)
    assert upload.file is not None
    blocks = read(upload.file.path, upload.job.dialect, upload.job.columns, block=100)
    events = encode(next(blocks), upload.job.file_id, limit=20_000)
    messages = {key.decode().partition(":")[2]: value for key, value in events.messages}
    assert list(messages) == ["0", "2", "1:rejected"]
    value = json.loads(messages["1:rejected"])
    assert value["line"] == 3
    assert "20,000" in value["error"]
    assert f"2,{long}".startswith(value["text"])
    assert len(value["text"]) > 1000
    assert all(len(key) + len(value) <= 20_000 for key, value in events.messages)
    assert events.malformed == 1


def test_a_raw_text_is_cut_to_64_kb(contents: ExitStack) -> None:
    here = stage()
    upload = taken(here, b"order_id,quantity\n" + b"x" * 200_000 + b"\n", contents)
    sender = Recorder()
    capture(here, upload, sender)
    [(_, _, value)] = rows_of(sender)
    assert value["text"] == "x" * 65_536


def test_a_claimed_job_is_left_to_its_holder(contents: ExitStack) -> None:
    here, sender = stage(), Recorder()
    upload = taken(here, csv(14), contents)
    assert Observer(here.results, layout.claim(upload.job.file_id)).take() is not None
    assert capture(here, upload, sender) is None
    assert sender.messages == []


def test_capture_goes_on_after_the_last_acknowledged_block(contents: ExitStack) -> None:
    here, sender = stage(), Recorder()
    data = b"order_id,quantity\n1\n" + csv(13).split(b"\n", 1)[1]
    upload = taken(here, data, contents)
    job = upload.job
    held = Observer(here.results, layout.claim(job.file_id)).take()
    assert held is not None
    held.release(blocks=2, rows=8, malformed=1)
    done = capture(here, Upload(job), sender)
    assert [key.decode().partition(":")[2] for key in sender.keys()[:6]] == [str(row) for row in range(8, 14)]
    assert isinstance(done, Captured)
    assert (done.rows, done.malformed, done.shares) == (14, 1, job.shares(14))
    assert sum(end["rows"] for end in ends_of(sender).values()) == 14


def test_a_job_whose_last_block_was_acknowledged_has_all_its_rows_counted(contents: ExitStack) -> None:
    here, sender = stage(), Recorder()
    upload = taken(here, csv(6), contents)
    held = Observer(here.results, layout.claim(upload.job.file_id)).take()
    assert held is not None
    held.release(blocks=2, rows=6)
    done = capture(here, Upload(upload.job), sender)
    assert isinstance(done, Captured)
    assert done.rows == 6
    assert rows_of(sender) == []


def test_a_crash_gives_the_claim_back_with_what_is_acknowledged_and_nothing_more(contents: ExitStack) -> None:
    here = stage()
    upload = taken(here, csv(14), contents)

    def crash(count: int) -> None:
        if count > 8:
            raise Crash

    first = Recorder(on_send=crash)
    with pytest.raises(Crash):
        capture(here, upload, first)
    assert first.messages == []  # none was acknowledged, and none is left over for the next file
    claim = records.read(here.results, layout.claim(upload.job.file_id), Claim)
    assert claim is not None
    assert (claim.nonce, claim.blocks) == ("", 0)
    second = Recorder()
    capture(here, Upload(upload.job), second)
    assert rows_of(second) == expected(upload.job, csv(14))


@pytest.mark.parametrize("given_back", [True, False], ids=["claim given back", "claim stays"])
def test_an_account_that_cant_be_written_is_tried_again_at_once(
    contents: ExitStack, given_back: bool
) -> None:
    """All rows are acknowledged by then: whoever holds the claim must not wait until its own is stale."""
    results = Steps()
    here, sender = stage(results=results), Recorder()
    upload = taken(here, csv(14), contents)
    job = upload.job

    def silent() -> None:
        raise Unreachable("S3 is silent")

    def all_sent(count: int) -> None:
        if count == 14:
            results.before[f"put {layout.captured(job.file_id)}"] = silent
            if not given_back:
                results.before[f"put {layout.claim(job.file_id)}"] = silent

    sender.on_send = all_sent
    work = Capture(here, job, upload.file, fresh=upload.new)
    with pytest.raises(Unreachable):
        work.attempt(sender, Silent())
    claim = records.read(results, layout.claim(job.file_id), Claim)
    assert claim is not None
    assert (claim.nonce == "", claim.blocks) == ((True, 4) if given_back else (False, 0))
    done = work.attempt(sender, Silent())
    assert done == captured(here, job)
    assert isinstance(done, Captured)
    assert done.rows == 14
    assert len(rows_of(sender)) == (14 if given_back else 28)  # what the claim doesn't tell of is sent again
    assert sum(end["rows"] for end in ends_of(sender).values()) == 14


def test_ends_that_the_broker_did_not_take_are_sent_by_the_next_try(contents: ExitStack) -> None:
    """And not only when open jobs are reminded of: without them lost rows aren't asked for."""
    here, sender = stage(), Recorder()
    upload = taken(here, csv(14), contents)

    def lost(_count: int) -> None:
        if sender.log[-1] == "end":
            raise Unreachable("the broker is gone")

    sender.on_send = lost
    work = Capture(here, upload.job, upload.file, fresh=upload.new)
    with pytest.raises(Unreachable):
        work.attempt(sender, Silent())
    assert captured(here, upload.job) is not None
    assert ends_of(sender) == {}
    sender.on_send = lambda _: None
    assert work.attempt(sender, Silent()) == captured(here, upload.job)
    assert len(rows_of(sender)) == 14
    assert sum(end["rows"] for end in ends_of(sender).values()) == 14
    sent = len(sender.messages)
    assert work.attempt(sender, Silent()) == captured(here, upload.job)
    assert len(sender.messages) == sent


def test_a_captured_job_isnt_captured_twice(contents: ExitStack) -> None:
    here, sender = stage(), Recorder()
    upload = taken(here, csv(6), contents)
    first = capture(here, upload, sender)
    again = Recorder()
    assert capture(here, Upload(upload.job), again) == first
    assert again.messages == []


def test_an_ended_job_is_captured_no_further(contents: ExitStack) -> None:
    here, sender = stage(), Recorder()
    upload = taken(here, csv(6), contents)
    supersede(here.results, upload.job.file_id, 2)
    outcome = capture(here, Upload(upload.job), sender)
    assert isinstance(outcome, End)
    assert outcome.state == "superseded"
    assert sender.messages == []


def test_a_job_whose_upload_is_gone_fails_and_says_so(contents: ExitStack) -> None:
    here, sender = stage(), Recorder()
    upload = taken(here, csv(6), contents)
    here.uploads.delete(NAME)
    outcome = capture(here, Upload(upload.job), sender)
    assert isinstance(outcome, End)
    assert (outcome.state, outcome.reason) == ("failed", "the upload orders.csv is gone")


def test_a_job_whose_upload_is_another_by_now_is_looked_at_again(contents: ExitStack) -> None:
    here, sender = stage(), Recorder()
    upload = taken(here, csv(6), contents)
    here.uploads.put(NAME, csv(7))
    with pytest.raises(PreconditionFailed):
        capture(here, Upload(upload.job), sender)
    assert sender.messages == []


def test_a_file_that_cant_be_read_to_its_end_fails_its_job(contents: ExitStack) -> None:
    here, sender = stage(), Recorder()
    data = csv(6) + b'7,"' + b"\n".join([b"never closed"] * 20_000)
    outcome = capture(here, taken(here, data, contents), sender)
    assert isinstance(outcome, End)
    assert outcome.state == "failed"
    assert outcome.reason is not None
    assert "line 8" in outcome.reason
    assert not ends_of(sender)


def test_the_limit_of_a_message_is_the_settings(contents: ExitStack) -> None:
    here, sender = stage(), Recorder()
    data = b"order_id,quantity\n1," + b"y" * (SETTINGS.message_bytes + 1) + b"\n2,2\n"
    done = capture(here, taken(here, data, contents), sender)
    assert isinstance(done, Captured)
    assert (done.rows, done.malformed) == (2, 1)
