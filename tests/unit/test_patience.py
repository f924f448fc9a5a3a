"""When a command gives up on a broker, or on S3."""

import socket

import pytest

from pipeline.errors import JobEnded, Unreachable
from pipeline.store import Head, MemoryStore
from producer.patience import Patience, _listens
from producer.wait import wait_for_end
from tests.files import Files


class Broker:
    """A clock, what isn't acknowledged, and whether something listens."""

    def __init__(self) -> None:
        self.time = 0.0
        self.pending = 7
        self.up = False
        self.patience = Patience(
            "broker:9092", lambda: self.pending, now=lambda: self.time, listens=lambda _: self.up
        )

    def wait(self, seconds: float) -> None:
        for _ in range(int(seconds * 2)):
            self.time += 0.5
            self.patience.check()


def test_a_broker_that_has_gone_is_given_up_after_ten_seconds_and_named() -> None:
    broker = Broker()
    broker.wait(10)
    with pytest.raises(Unreachable, match="Kafka at broker:9092 has gone away"):
        broker.wait(1)


def test_a_slow_broker_is_waited_for() -> None:
    broker = Broker()
    broker.up = True
    broker.wait(60)
    broker.up = False
    with pytest.raises(Unreachable):
        broker.wait(11)


def test_each_acknowledgement_and_each_new_wait_begin_anew() -> None:
    broker = Broker()
    for _ in range(3):
        broker.wait(9)
        broker.pending -= 1
    broker.time += 60  # nothing was waited for
    broker.wait(9)


def test_an_address_listens_where_one_of_the_servers_does() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert _listens(f"127.0.0.1:1, PLAINTEXT://127.0.0.1:{port}")
    assert not _listens(f"127.0.0.1:1,[::1]:1,127.0.0.1:{port}")


def test_s3_that_comes_back_is_waited_for_and_one_that_does_not_is_given_up() -> None:
    class Shaky(MemoryStore):
        failing = 0

        def get(self, key: str) -> tuple[bytes, Head]:
            self.failing -= 1
            if self.failing >= 0:
                raise Unreachable("S3 at http://x does not answer")
            return super().get(key)

    results = Shaky()
    files = Files(results=results)
    files.upload()
    job = files.take_on()
    receipt = files.publish(job)
    time = 0.0

    def sleep(seconds: float) -> None:
        nonlocal time
        time += seconds

    results.failing = 5
    assert wait_for_end(results, job, sleep=sleep, now=lambda: time) == receipt
    results.failing = 1000
    with pytest.raises(Unreachable) as given_up:
        wait_for_end(results, job, sleep=sleep, now=lambda: time)
    assert time < 20
    assert "the computing goes on" in "".join(given_up.value.__notes__)


def test_whoever_waits_is_told_that_a_job_was_cancelled_or_deleted() -> None:
    files = Files()
    files.upload()
    job = files.take_on()
    files.end(job, "cancelled")
    with pytest.raises(JobEnded, match=r"orders\.csv \(generation 1\) was cancelled: because"):
        wait_for_end(files.results, job)
    files = Files()
    files.upload()
    job = files.take_on()
    files.publish(job)
    files.delete("orders.csv", 2)
    with pytest.raises(JobEnded, match="was published, and has been deleted since"):
        wait_for_end(files.results, job)
