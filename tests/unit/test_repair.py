"""Blocks that a broker lost are captured again, and nothing else is."""

import json
from contextlib import ExitStack

import pytest

from pipeline import layout, missing, records
from pipeline.claims import Observer
from pipeline.errors import Unreachable
from pipeline.jobs import Captured, Claim, End
from producer.capture import Capture
from producer.ending import supersede
from producer.marks import send_ends_again
from producer.progress import Silent
from producer.repair import Repair
from producer.stage import Stage
from producer.take_on import take_on
from tests.unit.capture_doubles import Recorder, Steps, csv, stage

NAME = "orders.csv"
ROWS = 30  # blocks of 4 rows: 0 to 7, the last of 2 rows


def captured(here: Stage) -> tuple[Repair, Recorder]:
    """A captured job, and what was sent of it."""
    here.uploads.put(NAME, csv(ROWS))
    sender = Recorder()
    with ExitStack() as contents:
        upload = take_on(here, NAME, contents)
        account = Capture(here, upload.job, upload.file, fresh=True).attempt(sender, Silent())
    assert isinstance(account, Captured)
    return Repair(here, upload.job, account), sender


def asked(here: Stage, work: Repair, *blocks: int, round: int = 1) -> int:
    """The sink asks for blocks of one share; returns its partition."""
    partition = work.job.partition(blocks[0] * work.job.block)
    missing.request(here.results, work.job.file_id, partition, round, blocks)
    return partition


def end_of(here: Stage, work: Repair) -> End | None:
    return records.read(here.results, layout.end(work.job.file_id), End)


def test_just_the_lost_blocks_are_sent_again_as_they_were_and_the_end_of_that_round() -> None:
    here = stage()
    work, first = captured(here)
    partition = asked(here, work, 1, 7)
    again = Recorder()
    assert work.attempt(again)
    *rows, end = again.messages
    sent = {(partition, key): value for partition, key, value in first.messages}
    assert [(key, sent[place, key]) for place, key, _ in rows] == [(key, value) for _, key, value in rows]
    numbers = [int(key.rpartition(b":")[2]) for _, key, _ in rows]
    assert numbers == [4, 5, 6, 7, 28, 29]
    share = work.captured.shares[partition]
    assert (end[0], json.loads(end[2])) == (partition, {"rows": share, "round": 1})


def test_the_end_comes_after_the_rows_are_acknowledged_and_the_request_is_marked() -> None:
    results = Steps()
    here = stage(results=results)
    work, _ = captured(here)
    partition = asked(here, work, 2)
    sender = Recorder(results.log)
    del results.log[:]
    work.attempt(sender)
    request = f"put {layout.missing(work.job.file_id, partition)}"
    steps = [step for step in results.log if step in {"rows", "end", "flush", request}]
    assert steps == ["rows", "flush", request, "end", "flush"]


def test_what_was_captured_again_is_not_again_and_ends_are_sent_of_the_current_round() -> None:
    here = stage()
    work, _ = captured(here)
    partition = asked(here, work, 2)
    work.attempt(Recorder())
    nothing = Recorder()
    assert work.attempt(nothing)
    assert nothing.messages == []
    ends = Recorder()
    assert not send_ends_again(here, work.job.file_id, ends)
    rounds = {place: json.loads(value)["round"] for place, _, value in ends.messages}
    assert rounds == {place: int(place == partition) for place in work.captured.shares}


def test_no_end_is_sent_of_a_share_whose_lost_blocks_are_still_to_come() -> None:
    here = stage()
    work, _ = captured(here)
    partition = asked(here, work, 2)
    ends = Recorder()
    assert send_ends_again(here, work.job.file_id, ends)
    assert {place for place, _, _ in ends.messages} == work.captured.shares.keys() - {partition}


def test_a_repair_that_another_process_makes_is_left_to_it() -> None:
    here = stage()
    work, _ = captured(here)
    asked(here, work, 2)
    assert Observer(here.results, layout.repair(work.job.file_id)).take() is not None
    sender = Recorder()
    assert not work.attempt(sender)
    assert sender.messages == []


def test_a_repair_that_fails_for_the_moment_gives_its_claim_back() -> None:
    here = stage()
    work, _ = captured(here)
    asked(here, work, 2)

    def lost(_count: int) -> None:
        raise Unreachable("the broker is gone")

    with pytest.raises(Unreachable):
        work.attempt(Recorder(on_send=lost))
    claim = records.read(here.results, layout.repair(work.job.file_id), Claim)
    assert claim is not None
    assert claim.nonce == ""
    assert work.attempt(Recorder())


def test_a_round_that_was_overtaken_while_it_was_made_sends_no_end() -> None:
    """The sink asks for the next round in the middle of one: what was sent counts, its end would come too late."""
    here = stage()
    work, _ = captured(here)
    partition = asked(here, work, 2)

    def overtake(_count: int) -> None:
        asked(here, work, 2, 5, round=2)

    sender = Recorder(on_send=overtake)
    assert not work.attempt(sender)
    assert sender.log.count("end") == 0
    sender.on_send = lambda _: None
    assert work.attempt(sender)
    assert json.loads(sender.messages[-1][2]) == {"rows": work.captured.shares[partition], "round": 2}


@pytest.mark.parametrize(
    ("replaced", "why"),
    [(False, "the upload orders.csv is gone"), (True, "the upload orders.csv is another by now")],
)
def test_without_its_upload_a_job_that_lost_rows_fails_and_names_them(replaced: bool, why: str) -> None:
    here = stage()
    work, _ = captured(here)
    asked(here, work, 1, 7)
    if replaced:
        here.uploads.put(NAME, csv(5))
    else:
        here.uploads.delete(NAME)
    assert work.attempt(Recorder())
    end = end_of(here, work)
    assert end is not None
    assert end.state == "failed"
    assert end.reason == f"rows 4 to 7 and 28 to 29 were lost on the way and can't be captured again: {why}"


def test_a_job_that_has_ended_is_repaired_no_more() -> None:
    here = stage()
    work, _ = captured(here)
    asked(here, work, 1)
    supersede(here.results, work.job.file_id, 2)
    ends = Recorder()
    assert not send_ends_again(here, work.job.file_id, ends)
    assert ends.messages == []


def test_a_rounds_end_that_was_not_taken_is_sent_the_next_time() -> None:
    """Its blocks are captured by then, so that nothing else asks for it."""
    here = stage()
    work, _ = captured(here)
    partition = asked(here, work, 2)

    def refuse_end(count: int) -> None:
        if sender.log[-1] == "end":
            raise Unreachable("the broker is gone")

    sender = Recorder(on_send=refuse_end)
    with pytest.raises(Unreachable):
        work.attempt(sender)
    after = Recorder()
    assert work.attempt(after)
    [(place, _, value)] = after.messages
    assert (place, json.loads(value)["round"]) == (partition, 1)
    again = Recorder()
    assert work.attempt(again)
    assert again.messages == []
