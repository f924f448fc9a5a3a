"""What `watch` does about uploads and open jobs, without threads, brokers or time."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from pipeline import layout, missing, records
from pipeline.claims import Observer
from pipeline.errors import Unreachable
from pipeline.jobs import Captured, End, Job, NameRecord
from pipeline.store import Head
from producer.capture import Capture
from producer.heartbeat import Heartbeat
from producer.intake import Intake
from producer.lanes import Lanes, Task
from producer.marks import marked
from producer.progress import Silent
from producer.publish import Position
from producer.stage import Stage
from producer.take_on import take_on
from tests.unit.capture_doubles import Recorder, Steps, csv, stage

NAME = "orders.csv"


class AtOnce(Lanes):
    """Does each task where it is submitted, or all of them `later`."""

    def __init__(self, sender: Recorder) -> None:
        self.sender = sender
        self.tasks: list[str] = []
        self.later = False
        self.left: list[Task] = []
        self.forgotten: list[str] = []

    def submit(self, size: int, name: str, task: Task) -> None:
        self.tasks.append(name)
        self.left.append(task)
        if not self.later:
            self.do()

    def submit_for_open(self, name: str, task: Task) -> None:
        self.submit(0, name, task)

    def forget(self, name: str) -> None:
        self.forgotten.append(name)

    def do(self, *, last_first: bool = False) -> None:
        """Do what is left, and what comes of it."""
        while self.left:
            self.left.pop(-1 if last_first else 0)(self.sender)  # type: ignore[arg-type]

    @contextmanager
    def turn(self, size: int, *, repair: bool = False) -> Iterator[None]:
        yield

    def check(self) -> None:
        pass


def watching(here: Stage) -> tuple[Intake, AtOnce]:
    lanes = AtOnce(Recorder())
    return Intake(here, lanes), lanes


def taken(here: Stage, rows: int = 6) -> Job:
    here.uploads.put(NAME, csv(rows))
    with ExitStack() as contents:
        return take_on(here, NAME, contents).job


def captured(here: Stage, job: Job) -> Captured | None:
    return records.read(here.results, layout.captured(job.file_id), Captured)


def end_of(here: Stage, job: Job) -> End | None:
    return records.read(here.results, layout.end(job.file_id), End)


def test_a_job_that_nobody_goes_on_with_is_gone_on_with_at_the_second_look() -> None:
    """As when a `push` with a calculation of its own dies: the upload itself was refused here."""
    here = stage()
    job = taken(here)
    intake, _ = watching(here)
    intake.look_at_marks(marked(here.results))
    assert captured(here, job) is None, "it may just be being taken on"
    intake.look_at_marks(marked(here.results))
    assert captured(here, job) is not None


def test_a_claimed_job_is_waited_for_and_looked_at_only_as_often_as_claims_are() -> None:
    here = stage()
    job = taken(here)
    held = Observer(here.results, layout.claim(job.file_id)).take()
    assert held is not None
    intake, lanes = watching(here)
    for _ in range(5):
        intake.look_at_marks(marked(here.results))
    assert len(lanes.tasks) == 2
    held.release()
    intake.again()
    assert captured(here, job) is not None


def test_lost_rows_are_captured_again_once_per_request() -> None:
    results = Steps()
    here = stage(results=results)
    job = taken(here, rows=30)
    intake, lanes = watching(here)
    intake.look(list(here.uploads.list()))
    missing.request(here.results, job.file_id, job.partition(0), 1, [0])
    before = len(lanes.sender.messages)
    intake.look_at_marks(marked(here.results))
    keys = lanes.sender.keys()[before:]
    assert keys == [f"{job.file_id}:{what}".encode() for what in (0, 1, 2, 3, "end")]
    del results.log[:]
    for _ in range(3):
        intake.look_at_marks(marked(here.results))
    assert len(lanes.sender.messages) == before + 5
    assert results.log == [], "no call for each job that was repaired once"
    missing.request(here.results, job.file_id, job.partition(0), 2, [0])
    intake.look_at_marks(marked(here.results))
    assert len(lanes.sender.messages) == before + 10


def test_a_repair_cut_short_is_gone_on_with_by_whoever_watches_next() -> None:
    here = stage()
    job = taken(here, rows=30)
    watching(here)[0].look(list(here.uploads.list()))
    missing.request(here.results, job.file_id, job.partition(0), 1, [0])
    intake, lanes = watching(here)
    intake.resume(job.file_id)
    assert f"{job.file_id}:0".encode() in [key for _, key, _ in lanes.sender.messages]


def test_what_is_open_when_a_topic_was_made_anew_gets_its_ends_again_and_no_row_unasked() -> None:
    """Each of two that watch notices it; the sink asks for what it lacks."""
    here = stage()
    job = taken(here, rows=30)
    watching(here)[0].look(list(here.uploads.list()))
    for _ in range(2):
        intake, lanes = watching(here)
        intake.resume(job.file_id)
        assert set(lanes.sender.keys()) == {f"{job.file_id}:end".encode()}


def test_a_replaced_upload_takes_the_job_over_in_mid_capture() -> None:
    here = stage()
    old = taken(here)
    here.uploads.put(NAME, csv(9))
    intake, _ = watching(here)
    intake.resume(old.file_id)  # its own content is gone
    intake.look(list(here.uploads.list()))
    end = end_of(here, old)
    assert end is not None
    assert end.state == "superseded"
    record = records.read(here.results, layout.name_record(NAME), NameRecord)
    assert record is not None
    assert record.generation == 2
    assert record.file_id is not None
    account = records.read(here.results, layout.captured(record.file_id), Captured)
    assert account is not None
    assert account.rows == 9


def test_a_job_whose_upload_was_replaced_by_something_unreadable_fails_and_says_so() -> None:
    here = stage()
    job = taken(here)
    here.uploads.put(NAME, b"\x00\xff no text")
    intake, _ = watching(here)
    intake.look(list(here.uploads.list()))
    end = end_of(here, job)
    assert end is not None
    assert end.state == "failed"
    assert end.reason is not None
    assert "replaced before all of it was captured, and what came was refused" in end.reason


def test_a_captured_job_is_none_the_worse_for_an_unreadable_newer_upload() -> None:
    here = stage()
    job = taken(here)
    intake, _ = watching(here)
    intake.look(list(here.uploads.list()))
    here.uploads.put(NAME, b"\x00\xff no text")
    intake.look(list(here.uploads.list()))
    assert end_of(here, job) is None


@pytest.mark.parametrize("replaced", [False, True])
def test_a_running_capture_notices_that_its_upload_is_gone_or_another(
    replaced: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = stage()
    job = taken(here, rows=30)
    assert Heartbeat.__init__.__kwdefaults__ is not None
    monkeypatch.setitem(Heartbeat.__init__.__kwdefaults__, "every", 0.001)
    noticed = threading.Event()
    beat = Heartbeat.beat

    def watched(self: Heartbeat) -> None:
        try:
            beat(self)
        except Exception:
            noticed.set()
            raise

    def change(_count: int) -> None:
        if replaced:
            here.uploads.put(NAME, csv(5))
        else:
            here.uploads.delete(NAME)
        assert noticed.wait(30)

    monkeypatch.setattr(Heartbeat, "beat", watched)
    sender = Recorder(on_send=change)
    with ExitStack() as contents:
        upload = take_on(here, NAME, contents)
        work = Capture(here, upload.job)
        if replaced:
            with pytest.raises(Exception, match="replaced while it was captured"):
                work.attempt(sender, Silent())
            assert end_of(here, job) is None, "whoever looks at the upload supersedes it"
        else:
            outcome = work.attempt(sender, Silent())
            assert isinstance(outcome, End)
            assert (outcome.state, outcome.reason) == ("failed", "the upload orders.csv is gone")
    assert captured(here, job) is None


def test_the_claim_says_how_much_of_the_file_is_captured() -> None:
    here = stage()
    job = taken(here, rows=30)
    held = Observer(here.results, layout.claim(job.file_id)).take()
    assert held is not None
    with Heartbeat(here, job, held, Position()) as heartbeat:
        heartbeat.expect(200)
        heartbeat.advance(Position(2, 8, 1, 122))
        heartbeat.beat()
    assert held.claim.share == 0.61
    assert (held.claim.blocks, held.claim.rows, held.claim.malformed) == (2, 8, 1)


def test_a_job_is_gone_on_with_also_where_the_first_try_fails() -> None:
    """What raises a transient error is done again from its start."""
    results = Steps()
    here = stage(results=results)
    job = taken(here)
    intake, lanes = watching(here)
    intake.look_at_marks(marked(here.results))
    lanes.later = True
    intake.look_at_marks(marked(here.results))
    [task] = lanes.left
    read = results.get

    def get(key: str) -> tuple[bytes, Head]:
        if key == layout.captured(job.file_id):
            raise Unreachable("no answer")
        return read(key)

    results.get = get  # type: ignore[method-assign]
    with pytest.raises(Unreachable):
        task(lanes.sender)  # type: ignore[arg-type]
    results.get = read  # type: ignore[method-assign]
    lanes.do()
    assert captured(here, job) is not None


def test_a_capture_that_is_broken_off_is_gone_on_with_by_itself() -> None:
    """Under the claim that it has: another attempt, that knows nothing of it, would wait until that is stale."""
    results = Steps()
    here = stage(results=results)
    here.uploads.put(NAME, csv(6))
    intake, lanes = watching(here)

    def silent() -> None:
        raise Unreachable("S3 is silent")

    def sent(_count: int) -> None:
        results.before |= {"captured.json": silent, "claim.json": silent}
        lanes.sender.on_send = lambda _: None

    lanes.sender.on_send = sent
    intake.look(list(here.uploads.list()))
    [job] = [Job.load(results.get(head.key)[0]) for head in results.list() if head.key.endswith("job.json")]
    assert captured(here, job) is not None
    assert lanes.sender.log.count("end") > 0


def test_of_two_that_watch_one_captures_an_upload_and_the_other_waits() -> None:
    """Also where the other looks at it as often as it likes."""
    here = stage()
    here.uploads.put(NAME, csv(30))
    (first, ours), (second, theirs) = watching(here), watching(here)

    def meanwhile(_count: int) -> None:
        second.look(list(here.uploads.list()))
        second.look_at_marks(marked(here.results))
        second.again()

    ours.sender.on_send = meanwhile
    first.look(list(here.uploads.list()))
    meanwhile(0)
    assert theirs.sender.messages == []
    assert len(theirs.tasks) > 8
    rows = [key for key in ours.sender.keys() if not key.endswith(b":end")]  # noqa: SIM118  # it is no mapping
    assert len(rows) == 30


def test_an_upload_on_which_something_unforeseen_failed_is_looked_at_again_once_it_changes() -> None:
    """And where it goes, nobody says any more that it was given up."""

    def broken() -> None:
        raise RuntimeError("a fault of ours")

    uploads = Steps(before={f"open {NAME}": broken})
    here = stage(uploads)
    uploads.put(NAME, csv(6))
    intake, lanes = watching(here)
    with pytest.raises(RuntimeError):
        intake.look(list(uploads.list()))
    intake.look(list(uploads.list()))
    assert lanes.tasks == [NAME]
    uploads.put(NAME, csv(7))
    intake.look(list(uploads.list()))
    assert lanes.sender.log.count("end") > 0
    uploads.delete(NAME)
    intake.look([])
    assert lanes.forgotten == [NAME]
