"""The worker and the sink through what groups and brokers do, each time with every row checked."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from pipeline.kafka import ensure_topics
from pipeline.kafka_reader import Partitions, Reader
from pipeline.settings import Settings
from tests.integration.chain import settings
from tests.integration.stack import Stack, stack
from tests.integration.test_chain import FLIGHTS, orders, push
from tests.services import kafka
from tests.services.kafka import Broker
from tests.services.s3 import S3
from tests.wait import wait_until

ROWS = 40_000


@pytest.fixture
def chain(tmp_path: Path, broker: Broker, s3: S3, topic_prefix: str) -> Iterator[Stack]:
    """A worker, a sink and a reader."""
    (tmp_path / "millstream.toml").write_text(FLIGHTS)
    with stack(tmp_path, broker, s3, topic_prefix, "process", "sink", "serve") as running:
        running.logged("process", "partitions assigned")
        running.logged("sink", "partitions assigned")
        yield running


Told = Callable[[Partitions], None]


def ignore(_: Partitions) -> None:
    """Do nothing about it."""


def member(chosen: Settings, *, on_assign: Told, on_revoke: Told = ignore, on_lost: Told = ignore) -> Reader:
    """A member of a group that is the test's own: on a broker of several tests others may still be in theirs."""
    return Reader(
        chosen,
        f"{chosen.topic_prefix}.group",
        chosen.rows_topic,
        on_assign=on_assign,
        on_revoke=on_revoke,
        on_lost=on_lost,
        on_replaced=ignore,
    )


def stream(chain: Stack, *names: str) -> None:
    """Push files without waiting for their results."""
    source, _ = orders(range(ROWS), bad=1000)
    for name in names:
        (chain.folder / name).write_text(source)
        push(chain, name)


def assert_right(chain: Stack, *names: str) -> None:
    _, result = orders(range(ROWS), bad=1000)
    for name in names:
        chain.assert_result(name, result)
        receipt = chain.get(f"/receipts/{name}").json()
        assert (receipt["rows"], receipt["results"]) == (ROWS, ROWS - ROWS // 1000)


def test_three_workers_shut_down_one_after_the_other_lose_no_row(chain: Stack) -> None:
    """As a deployment rolls: each leaves with work in hand, and the last is a new one."""
    chain.start("process-2", "process-3")
    chain.logged("process-2", "partitions assigned")
    chain.logged("process-3", "partitions assigned")
    for number, (old, new) in enumerate((("process", "process-4"), ("process-2", None), ("process-3", None))):
        stream(chain, f"orders-{number}.csv")
        if new:
            chain.start(new)
            chain.logged(new, "partitions assigned")
        assert chain.stop(old) == 0
    assert_right(chain, *(f"orders-{number}.csv" for number in range(3)))


def test_topics_made_anew_under_live_stages_are_read_from_their_start(
    tmp_path: Path, broker: Broker, s3: S3, topic_prefix: str
) -> None:
    """Offsets begin at 0 again; neither the worker nor the sink drops what is below where it was."""
    (tmp_path / "millstream.toml").write_text(FLIGHTS)
    with stack(tmp_path, broker, s3, topic_prefix, "process", "sink", "serve") as chain:
        stream(chain, "before.csv")
        assert_right(chain, "before.csv")
        admin = AdminClient({"bootstrap.servers": broker.bootstrap})
        names = [f"{topic_prefix}.rows", f"{topic_prefix}.results"]
        for deleted in admin.delete_topics(names).values():
            deleted.result(30)
        wait_until(lambda: not set(names) & admin.list_topics(timeout=10).topics.keys(), 30)
        for created in admin.create_topics([NewTopic(name, 4, 1) for name in names]).values():
            created.result(30)
        stream(chain, "after.csv")
        assert_right(chain, "after.csv")


@pytest.mark.parametrize("wiped", [False, True], ids=["with its data", "without its data"])
def test_a_broker_that_dies_and_comes_back_costs_no_row(
    wiped: bool, tmp_path: Path, s3: S3, topic_prefix: str
) -> None:
    """With its data half way through a file, without it between two. No stage is restarted."""
    (tmp_path / "millstream.toml").write_text(FLIGHTS)
    with (
        kafka.apache_kafka(tmp_path) as broker,
        stack(tmp_path, broker, s3, topic_prefix, "process", "sink", "serve") as chain,
    ):
        assert broker.restart is not None
        chain.logged("process", "partitions assigned")
        stream(chain, "one.csv")
        if wiped:
            assert_right(chain, "one.csv")
        broker.restart(wiped=wiped)
        stream(chain, "two.csv")
        assert_right(chain, "one.csv", "two.csv")


def test_the_end_of_a_partition_can_be_asked_for_in_a_rebalance(
    broker: Broker, s3: S3, topic_prefix: str
) -> None:
    """Another thread asked librdkafka for it, which answered when the rebalance was over, which waited for that thread."""
    chosen = settings(broker, s3, topic_prefix)
    ensure_topics(chosen)
    answered: list[bool] = []

    def ask(_: Partitions) -> None:
        asking = threading.Thread(target=lambda: reader.high(0), daemon=True)
        asking.start()
        asking.join(5)
        answered.append(not asking.is_alive())

    reader = member(chosen, on_assign=ask)
    deadline = time.monotonic() + 60
    while not answered and time.monotonic() < deadline:
        reader.read(0.1)
    reader.close()
    assert answered == [True]


def test_topics_that_are_gone_and_come_again_are_shared_out_among_all_members(
    broker: Broker, s3: S3, topic_prefix: str
) -> None:
    """All of them find out at about the same time."""
    chosen = settings(broker, s3, topic_prefix)
    ensure_topics(chosen)
    partitions = set(range(chosen.partitions))
    shares: dict[int, set[int]] = {}
    ended = threading.Event()

    def read(number: int) -> None:
        def assigned(mine: Partitions) -> None:
            shares[number] = set(mine)

        def gone(_: Partitions) -> None:
            shares.pop(number, None)

        reader = member(chosen, on_assign=assigned, on_revoke=gone, on_lost=gone)
        while not ended.is_set():
            reader.read(0.1)
        reader.close()

    def are_shared_out() -> bool:
        given = list(shares.values())
        return (
            len(given) == 3 and set().union(*given) == partitions and sum(map(len, given)) == len(partitions)
        )

    threads = [threading.Thread(target=read, args=(number,)) for number in range(3)]
    try:
        for thread in threads:
            thread.start()
        wait_until(are_shared_out, 60)
        admin = AdminClient({"bootstrap.servers": broker.bootstrap})
        for deleted in admin.delete_topics(list(chosen.topics)).values():
            deleted.result(30)
        wait_until(lambda: not any(shares.values()), 60)
        ensure_topics(chosen)
        wait_until(are_shared_out, 60)
    finally:
        ended.set()
        for thread in threads:
            thread.join()
