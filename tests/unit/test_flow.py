"""When capture waits for what is in flight, and that a sink never holds so much that it waits for ever."""

import threading
from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pytest

from pipeline import metrics
from pipeline.errors import Refused, SettingsError, Unreachable
from pipeline.flight import Mean
from pipeline.messages import Messages
from pipeline.settings import load
from producer.encode import Events
from producer.flow import ASK_EVERY, LOW, STEP, Brake, Flow
from producer.lanes import LARGE, SMALL_LANES, Lanes
from producer.publish import Position, publish_rows
from sink.collector import Share
from sink.ledger import Ledger
from sink.room import QUIET, Reach, too_far_behind
from tests.jobs import make_job
from tests.unit.capture_doubles import SETTINGS, Recorder
from tests.wait import wait_until

ROWS, RESULTS = SETTINGS.rows_topic, SETTINGS.results_topic
BOUND = 1600
BATCH = Messages.of([b"k" * 10] * 4, [b"v" * 90] * 4)
MESSAGE = BATCH.size / 4


class Topics:
    """Messages in flight by topic, and how often that was asked for; the clock."""

    def __init__(self, bound: int | None = BOUND) -> None:
        self.messages = {ROWS: 0, RESULTS: 0}
        self.asked = 0
        self.error: Exception | None = None
        self.now = 100.0
        readers = {ROWS: "the processor", RESULTS: "the sink"}
        self.flow = Flow(bound, readers, self.ask, lambda: self.now)

    def ask(self) -> Mapping[str, int]:
        self.asked += 1
        if self.error is not None:
            raise self.error
        return dict(self.messages)

    def fill(self, topic: str, part: float) -> None:
        """Have so much of the bound on a topic."""
        self.messages[topic] = round(part * BOUND / MESSAGE)

    def later(self, seconds: float = ASK_EVERY) -> bool:
        """Whether a capture that waits may go on after so many seconds."""
        self.now += seconds
        return self.flow.has_room("orders.csv")


def gauge(name: str, topic: str) -> float | None:
    return metrics.REGISTRY.get_sample_value(name, {"topic": topic})


def test_the_broker_is_asked_after_each_sixteenth_of_the_bound_and_not_before() -> None:
    topics = Topics(bound=BATCH.size * STEP * 3)
    for _ in range(9):
        assert topics.flow.sent(BATCH)
    assert topics.asked == 3


def test_without_a_bound_nobody_is_asked() -> None:
    topics = Topics(bound=None)
    topics.fill(ROWS, 100)
    assert all(topics.flow.sent(BATCH) for _ in range(1000))
    assert topics.asked == 0


@pytest.mark.parametrize(("topic", "reader"), [(ROWS, "processor"), (RESULTS, "sink")])
def test_capture_waits_above_the_bound_until_well_below_it(topic: str, reader: str) -> None:
    topics = Topics()
    topics.fill(topic, 0.9)
    assert topics.flow.sent(BATCH)
    topics.fill(topic, 1.1)
    assert not topics.flow.sent(BATCH)
    assert not topics.later()
    topics.fill(topic, LOW + 0.1)
    assert not topics.later()
    assert topics.flow.reason == f"the {reader} is 0 MB behind on topic {topic}"
    topics.fill(topic, LOW - 0.1)
    assert topics.later()
    assert topics.flow.sent(BATCH)
    assert topics.flow.waits() == []


def test_what_is_on_rows_will_be_on_results_and_counts_there_already() -> None:
    topics = Topics()
    topics.fill(ROWS, 0.6)
    topics.fill(RESULTS, 0.3)
    assert topics.flow.sent(BATCH)
    topics.fill(RESULTS, 0.5)
    assert not topics.flow.sent(BATCH)
    assert topics.flow.reason is not None
    assert ROWS in topics.flow.reason


def test_a_waiting_capture_asks_a_few_times_a_second() -> None:
    topics = Topics()
    topics.fill(ROWS, 2)
    assert not topics.flow.sent(BATCH)
    before = topics.asked
    for _ in range(100):
        assert not topics.later(0.01)
    assert topics.asked - before <= 1 / ASK_EVERY


def test_it_says_who_waits_since_when_and_for_what() -> None:
    topics = Topics(bound=16_000_000)
    topics.messages = {ROWS: round(20e6 / MESSAGE), RESULTS: 0}
    while topics.flow.sent(BATCH):
        pass
    assert topics.flow.waits() == []
    assert not topics.later(0)
    assert not topics.later(12)
    [said] = topics.flow.waits()
    assert (
        said == f"orders.csv: capture waits, for 12 s by now: the processor is 20 MB behind on topic {ROWS}"
    )
    assert gauge("millstream_capture_waiting_seconds", "rows") == 12
    assert gauge("millstream_in_flight_bytes", "rows") == pytest.approx(20e6, rel=0.01)
    topics.messages[ROWS] = 0
    assert topics.later()
    assert topics.flow.waits() == []
    assert gauge("millstream_capture_waiting_seconds", "rows") == 0


def test_a_broker_that_does_not_answer_changes_nothing() -> None:
    topics = Topics()
    topics.error = Unreachable("away")
    assert all(topics.flow.sent(BATCH) for _ in range(10))
    assert topics.asked == 1, "it isn't asked again for two seconds"
    topics.error = None
    topics.fill(ROWS, 2)
    topics.now += 2
    assert not topics.flow.sent(BATCH)
    topics.error = Unreachable("away")
    assert not topics.later()
    topics.error = None
    topics.fill(ROWS, 0)
    assert topics.later(5)


def test_where_the_broker_never_tells_there_is_no_bound() -> None:
    topics = Topics()
    topics.error = Refused("you may not see that group")
    topics.fill(ROWS, 2)
    assert topics.flow.sent(BATCH)
    assert topics.flow.sent(BATCH)
    assert topics.asked == 1


def test_messages_are_taken_for_rather_too_large() -> None:
    mean = Mean()
    mean.take(10, 1000)
    mean.take(1, 5000)
    assert mean.value == 5000
    for _ in range(100):
        mean.take(10, 1000)
    assert mean.value == pytest.approx(100, rel=0.01)


def blocks(count: int) -> list[Events]:
    return [Events(number, 4, 0, (number + 1) * 100, BATCH) for number in range(count)]


def test_capture_waits_between_blocks_with_all_before_acknowledged() -> None:
    """And not after the last: what completes the job is never held."""
    topics = Topics()
    topics.fill(ROWS, 2)
    sender = Recorder()
    reached: list[Position] = []
    waited: list[tuple[int, int, int]] = []

    def sleep(seconds: float) -> None:
        waited.append((len(sender.messages), sender.acknowledged, reached[-1].blocks))
        topics.now += seconds
        if len(waited) % 4 == 0:
            topics.fill(ROWS, 0)

    def sent(events: Events, position: Position) -> None:
        topics.fill(ROWS, 2)

    brake = Brake(topics.flow, "orders.csv", lambda: None, sleep=sleep)
    job = make_job(partitions=3, block=4)
    done = publish_rows(
        job, iter(blocks(3)), Position(), sender, ROWS, sent=sent, acknowledged=reached.append, brake=brake
    )
    assert done.blocks == 3
    assert waited == [(4, 4, 1)] * 4 + [(8, 8, 2)] * 4


def test_a_waiting_capture_notices_that_it_is_to_stop() -> None:
    topics = Topics()
    topics.fill(ROWS, 2)
    assert not topics.flow.sent(BATCH)
    told: list[str] = []

    def check() -> None:
        if len(told) == 2:
            raise KeyboardInterrupt

    brake = Brake(topics.flow, "orders.csv", check, told.append, lambda _seconds: None)
    with pytest.raises(KeyboardInterrupt):
        brake.wait()
    assert told == [f"the processor is 0 MB behind on topic {ROWS}"] * 2
    assert topics.flow.waits() == []


def test_repairs_and_ends_are_done_while_every_capture_waits() -> None:
    """Else what is in flight would wait for a repair, and the repair for what is in flight."""
    stop, room, done = threading.Event(), threading.Event(), threading.Event()

    class Local(Lanes):
        def _publisher(self) -> Recorder:  # type: ignore[override]
            return Recorder()

    lanes = Local(SETTINGS, stop)

    def waits(_publisher: object) -> None:
        with lanes.turn(LARGE):
            room.wait(30)

    def waits_small(_publisher: object) -> None:
        room.wait(30)

    for number in range(SMALL_LANES + 2):
        lanes.submit(0, f"small-{number}", waits_small)
        lanes.submit(LARGE, f"large-{number}", waits)

    def repair(_publisher: object) -> None:
        with lanes.turn(LARGE, repair=True):
            done.set()

    lanes.submit_for_open("lost.csv", repair)
    wait_until(done.is_set)
    assert not room.is_set()
    room.set()
    stop.set()
    lanes.close()


def share(ledger: Ledger, partition: int, first: int, rows: int = 3) -> Share:
    """Return a share that holds rows, the first of which came at an offset."""
    job = make_job(partitions=3, block=100)
    found = Share(job, partition)
    numbers = np.arange(rows) + 100 * first * 3
    found.add(int(numbers[0]) // 100, numbers, pa.table({"total": pa.array(range(rows))}))
    ledger.hold(partition, found.lot, first)
    return found


def test_a_sink_that_holds_commits_back_for_too_long_puts_its_oldest_rows_on_s3() -> None:
    ledger = Ledger()
    ledger.read(0, 0, 999)
    ledger.read(1, 0, 99)
    old, young, other = share(ledger, 0, 100), share(ledger, 0, 900), share(ledger, 1, 50)
    shares = [young, old, other]
    assert ledger.behind() == {0: 900, 1: 50}
    assert too_far_behind(shares, ledger, 950) == []
    assert too_far_behind(shares, ledger, 949) == [old]
    ledger.release(0, old.lot)
    assert too_far_behind([young, other], ledger, 949) == []


def test_what_is_not_held_in_memory_holds_nothing_that_could_be_put_there() -> None:
    """The end of a share that lacks rows holds the commit back, too: only a repair helps, and that doesn't wait."""
    ledger = Ledger()
    ledger.read(0, 0, 999)
    waiting = Share(make_job(partitions=3), 0)
    ledger.hold(0, waiting.end, 10)
    assert too_far_behind([waiting], ledger, 10) == []


def test_a_sink_lets_go_where_capture_stops_before_it_holds_its_quarter() -> None:
    """Results of 10 bytes of rows of 2,000: capture has stopped long before a quarter is held by the sink's count."""
    reach = Reach(16_000_000)
    reach.came(1_000, 10_000, now=0.0)
    assert reach.limit(8_000, 1.0, waited_for=True) == 400_000
    assert reach.limit(8_000, QUIET, waited_for=False) == 400_000, "all is captured: nobody waits"
    assert reach.limit(0, QUIET, waited_for=True) == 400_000, "it isn't this sink that holds it up"
    assert reach.limit(8_000, QUIET, waited_for=True) == 0
    reach.came(1_000, 10_000, now=3.0)
    assert reach.limit(1_000, 3.1, waited_for=True) == 2_000, "it doesn't stand still again"
    reach.over()
    assert reach.limit(1_000, 3.1, waited_for=True) == 400_000


@pytest.mark.parametrize("size", ["1MB", "15MB", "15999KB"])
def test_a_bound_that_the_stages_could_not_work_within_is_refused(size: str) -> None:
    with pytest.raises(SettingsError, match="less than 16MB is less than the stages work on at a time"):
        load(in_flight=size)
    assert load(in_flight="16MB").in_flight_bytes == 16_000_000
    assert load().in_flight_bytes is None
