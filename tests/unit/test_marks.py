"""Open marks: which jobs are still to be worked on, and when their ends are sent again."""

import itertools
import json
from contextlib import ExitStack

from pipeline import layout, pace, records
from pipeline.jobs import End, Job, NameRecord
from pipeline.store import Head
from producer.capture import Capture
from producer.ending import fail
from producer.marks import FIRST, LONGEST, Reminders, marked, send_ends_again, unfinished
from producer.progress import Silent
from producer.stage import Stage
from producer.take_on import take_on
from producer.watch import Rounds
from tests.unit.capture_doubles import Recorder, csv, stage

NAME = "orders.csv"


def taken(here: Stage, rows: int = 6) -> Job:
    here.uploads.put(NAME, csv(rows))
    with ExitStack() as contents:
        return take_on(here, NAME, contents).job


def end_of(here: Stage, job: Job) -> End | None:
    return records.read(here.results, layout.end(job.file_id), End)


def test_a_marked_job_that_its_name_names_is_unfinished() -> None:
    here = stage()
    job = taken(here)
    assert list(marked(here.results)) == [job.file_id]
    assert unfinished(here, job.file_id) == job


def test_an_ended_job_is_not_and_neither_is_a_mark_without_a_job() -> None:
    here = stage()
    job = taken(here)
    fail(here.results, job, "for a test")
    assert unfinished(here, job.file_id) is None
    assert unfinished(here, "0" * 32) is None


def test_a_job_whose_name_names_another_ends_superseded() -> None:
    here = stage()
    old = taken(here)
    other = NameRecord(generation=old.generation, file_id="f" * 32, source=old.source)
    here.results.put(layout.name_record(NAME), other.dump())
    assert unfinished(here, old.file_id) is None
    end = end_of(here, old)
    assert end is not None
    assert end.state == "superseded"


def test_a_job_that_is_being_taken_on_is_left_alone_while_its_upload_is_there() -> None:
    here = stage()
    job = taken(here)
    here.results.delete(layout.name_record(NAME))
    assert unfinished(here, job.file_id) is None
    assert end_of(here, job) is None
    here.uploads.delete(NAME)
    assert unfinished(here, job.file_id) is None
    end = end_of(here, job)
    assert end is not None
    assert end.state == "failed"


def test_ends_are_sent_again_as_they_were_for_a_captured_job_only() -> None:
    here, first, again = stage(), Recorder(), Recorder()
    job = taken(here)
    send_ends_again(here, job.file_id, again)
    assert again.messages == []
    Capture(here, job).attempt(first, Silent())
    send_ends_again(here, job.file_id, again)
    assert again.messages == [message for message in first.messages if message[1].endswith(b":end")]
    assert sum(json.loads(value)["rows"] for _, _, value in again.messages) == 6
    fail(here.results, job, "for a test")
    sent = len(again.messages)
    send_ends_again(here, job.file_id, again)
    assert len(again.messages) == sent


def test_reminders_come_at_growing_intervals_and_end_with_the_mark() -> None:
    reminders = Reminders()
    times = [now for now in range(0, 5 * 3600, 60) if reminders.due({"a"}, float(now))]
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert times[0] == FIRST
    assert gaps[:6] == [120, 240, 480, 960, 1920, 3600]
    assert max(gaps) == LONGEST
    assert reminders.due(set(), 1e9) == []
    assert reminders.due({"a"}, 1e9) == []


def test_marks_are_looked_at_again_within_minutes_though_a_look_took_an_hour() -> None:
    """S3 did not answer, or the process was asleep: nothing half done would be gone on with for most of a day."""
    now = 100.0

    def slowly() -> dict[str, Head]:
        nonlocal now
        now += 3600.0
        return {}

    looked: list[object] = []
    rounds = Rounds(lambda: now)
    rounds.due(slowly, looked.append)
    now += pace.LONGEST
    rounds.due(slowly, looked.append)
    assert looked == [{}, {}]
    assert [pace.rest(1.0, took) for took in (0.01, 2.0, 3600.0)] == [1.0, 40.0, pace.LONGEST]
