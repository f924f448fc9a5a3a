"""Several sinks, sinks that die, and rows that are lost: each time the one right result, nothing left over.

The results are computed once, on a topic of their own. What the sinks read is put together from them: which rows come when, and
which never, is data of the test.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from tests.integration.chain import Message, consume
from tests.integration.stack import Stack, stack
from tests.integration.test_chain import FLIGHTS, orders, push
from tests.services import kafka
from tests.services.kafka import Broker
from tests.services.s3 import S3

ROWS, BLOCK = 8_000, 200
SOURCE, RESULT = orders(range(ROWS), bad=100)


@dataclass
class Desk:
    """Sinks and a reader on a topic that the test writes, and the messages that belong there."""

    broker: Broker
    s3: S3
    chain: Stack
    topic: str
    messages: list[Message]

    def send(self, messages: Sequence[Message]) -> None:
        """Put messages on the topic that the sinks read."""
        producer = Producer({"bootstrap.servers": self.broker.bootstrap, "batch.size": 30_000})
        for partition, key, value in messages:
            producer.produce(self.topic, key=key, value=value, partition=partition)
            producer.poll(0)
        assert producer.flush(30) == 0

    def keys(self, prefix: str = "") -> list[str]:
        """Return what lies in the results bucket below `_millstream/`."""
        client = self.s3.client()
        pages = client.get_paginator("list_objects_v2").paginate(
            Bucket=self.s3.results, Prefix=f"_millstream/{prefix}"
        )
        found = [
            item["Key"].removeprefix("_millstream/") for page in pages for item in page.get("Contents", ())
        ]
        client.close()
        return found

    def record(self, key: str) -> Any:
        """Return a JSON object of ours."""
        client = self.s3.client()
        body = client.get_object(Bucket=self.s3.results, Key=f"_millstream/{key}")["Body"].read()
        client.close()
        return json.loads(body)

    def uploads(self) -> list[str]:
        """Return the multipart uploads that are open."""
        client = self.s3.client()
        found = client.list_multipart_uploads(Bucket=self.s3.results).get("Uploads", ())
        client.close()
        return [upload["Key"] for upload in found]

    def committed(self) -> int:
        """Return how many messages the sinks have done with."""
        group = self.topic.removesuffix(".results") + ".sink"
        client = Consumer({"bootstrap.servers": self.broker.bootstrap, "group.id": group})
        at = client.committed([TopicPartition(self.topic, partition) for partition in range(4)], timeout=20)
        client.close()
        return sum(max(0, position.offset) for position in at)

    def assert_right(self, receipt: dict[str, int]) -> None:
        """The result is the file's, its receipt says this, and nothing of the work is left."""
        self.chain.assert_result("orders.csv", RESULT, wait=100)
        found = self.chain.get("/receipts/orders.csv").json()
        assert (found["rows"], found["rejected"]) == (ROWS, ROWS // 100)
        assert {name: found[name] for name in receipt} == receipt
        self.chain.until(lambda: not self.keys("parts/") + self.keys("open/"), "parts and mark to be gone")
        assert self.uploads() == []


@contextmanager
def desk_on(folder: Path, broker: Broker, s3: S3, topic_prefix: str) -> Iterator[Desk]:
    """The results of a file, computed on topics of their own, and a sink and a reader that haven't seen any."""
    (folder / "millstream.toml").write_text(FLIGHTS)
    (folder / "orders.csv").write_text(SOURCE)
    settings = {
        "MILLSTREAM_BLOCK": str(BLOCK),
        "MILLSTREAM_REPAIR_AFTER": "0.5",
        "MILLSTREAM_SINK_MEMORY": "100KB",
    }
    topic = f"{topic_prefix}.results"
    messages: list[Message] = []
    with stack(folder, broker, s3, topic_prefix, "process", **settings) as computing:
        push(computing, "orders.csv")

        def computed() -> bool:
            messages[:] = consume(broker, topic)
            return sum(map(is_end, messages)) == 4

        computing.until(computed, "all results")
    prefix = f"{topic_prefix}-sinks"
    with stack(folder, broker, s3, prefix, "sink", "serve", **settings) as chain:
        chain.logged("sink", "partitions assigned")
        yield Desk(broker, s3, chain, f"{prefix}.results", messages)


@pytest.fixture
def desk(tmp_path: Path, broker: Broker, s3: S3, topic_prefix: str) -> Iterator[Desk]:
    """On the shared broker."""
    with desk_on(tmp_path, broker, s3, topic_prefix) as found:
        yield found


def is_end(message: Message) -> bool:
    return message[1].endswith(":end")


def row_of(message: Message) -> int:
    return -1 if is_end(message) else int(message[1].split(":")[1])


def where(messages: Sequence[Message], test: Callable[[Message], bool]) -> list[Message]:
    return [message for message in messages if test(message)]


def again(message: Message, round: int) -> Message:
    """Return a share's end as that of another round."""
    partition, key, value = message
    return partition, key, json.dumps(json.loads(value) | {"round": round}).encode()


def test_a_job_that_two_sinks_share_is_published_once(desk: Desk) -> None:
    """Each has two partitions; the last to put its shares on S3 assembles."""
    desk.chain.start("sink-2")
    desk.chain.logged("sink-2", "partitions assigned")
    desk.chain.logged("sink", "partitions assigned", times=2)
    desk.send(desk.messages)
    desk.assert_right({"rounds": 0, "duplicates": 0})
    said = [desk.chain.log(name).read_text().count("job published") for name in ("sink", "sink-2")]
    assert sum(said) >= 1


def test_a_sink_that_is_killed_among_its_parts_is_followed_by_one_that_knows_them(desk: Desk) -> None:
    """kill -9 once parts lie on S3 and offsets are committed past them: those rows don't come again, and aren't missed."""
    desk.send(where(desk.messages, lambda message: not is_end(message) and row_of(message) < ROWS - BLOCK))
    desk.chain.until(lambda: desk.keys("parts/"), "parts")
    desk.chain.until(lambda: desk.committed() > 0, "a commit behind them")
    desk.chain.kill("sink")
    desk.chain.start("sink")
    desk.send(where(desk.messages, lambda message: is_end(message) or row_of(message) >= ROWS - BLOCK))
    desk.assert_right({"rounds": 0})


def test_a_sink_that_joins_makes_the_other_put_its_rows_on_s3_and_commit(desk: Desk) -> None:
    """All that was read is in parts, and every offset committed, before the partitions move; both then leave for a third.

    Of those parts whoever asks for what there is so far gets as much as has no gap.
    """
    first = where(
        desk.messages,
        lambda message: 0 <= (row := row_of(message)) < 1000 or (row % 3 == 0 and 0 <= row < ROWS // 2),
    )
    desk.send(first)
    desk.chain.start("sink-2")
    desk.chain.logged("sink-2", "partitions assigned")
    desk.chain.until(lambda: desk.committed() == len(first), "all offsets to be committed")
    assert desk.keys("parts/")
    so_far = desk.chain.get("/results/orders.csv", partial="true")
    assert (so_far.status_code, so_far.headers["millstream-rows"]) == (200, "0-999")
    assert so_far.text == "".join(
        RESULT.splitlines(keepends=True)[:991]
    )  # the header, and all but ten rejects
    for name in ("sink", "sink-2"):
        desk.chain.kill(name)
    desk.chain.start("sink-3")
    done = {(partition, key) for partition, key, _ in first}
    desk.send(where(desk.messages, lambda message: message[:2] not in done))
    desk.assert_right({"rounds": 0})


def test_lost_rows_are_asked_for_once_the_end_has_come_and_nothing_else_asks(desk: Desk) -> None:
    """One share lacks a block and has ended; of another only half has come, and its end is still on its way."""
    lost, slow = desk.messages[0][0], (desk.messages[0][0] + 1) % 4
    mine = where(desk.messages, lambda message: message[0] == lost and not is_end(message))
    block = row_of(mine[0]) // BLOCK
    late = where(desk.messages, lambda message: message[0] == slow)
    missing = where(mine, lambda message: row_of(message) // BLOCK == block)
    [end] = where(desk.messages, lambda message: message[0] == lost and is_end(message))
    gone = {message[:2] for message in missing + late[len(late) // 2 :]}
    desk.send(where(desk.messages, lambda message: message[:2] not in gone))
    job = end[1].partition(":")[0]
    folder = f"jobs/{job}/missing/"
    desk.chain.until(lambda: desk.keys(folder), "rows to be asked for")
    assert desk.keys(folder) == [f"{folder}{lost}.json"]
    asked = desk.record(f"{folder}{lost}.json")
    assert (asked["round"], asked["blocks"]) == (1, [block])
    desk.send([*missing[:100], again(end, 1)])
    desk.chain.until(lambda: desk.record(f"{folder}{lost}.json")["round"] == 2, "a second round")
    assert desk.keys(folder) == [f"{folder}{lost}.json"]
    desk.send([*missing, again(end, 2), *late[len(late) // 2 :]])
    desk.assert_right({"rounds": 2})


def test_a_job_whose_rows_never_come_fails_after_five_rounds_and_says_what_is_missing(desk: Desk) -> None:
    """Each round's end comes, and never the row."""
    [gone] = where(desk.messages, lambda message: row_of(message) == 7)
    [end] = where(desk.messages, lambda message: message[0] == gone[0] and is_end(message))
    desk.send(where(desk.messages, lambda message: message != gone))
    key = f"jobs/{end[1].partition(':')[0]}/missing/{gone[0]}.json"
    for number in range(1, 6):
        desk.chain.until(
            lambda wanted=number: (
                key.removeprefix("") in desk.keys(key) and desk.record(key)["round"] == wanted
            ),
            f"round {number}",
        )
        desk.send([again(end, number)])
    answer = desk.chain.get("/results/orders.csv", wait="60")
    assert answer.status_code == 409, desk.chain.logs()
    assert "rows 0 to 199 have gaps after 5 rounds of repair" in answer.text
    desk.chain.until(lambda: not desk.keys("parts/") + desk.keys("open/"), "parts and mark to be gone")


def test_a_broker_that_loses_its_data_in_mid_job_costs_time_and_no_row(
    tmp_path: Path, s3: S3, topic_prefix: str
) -> None:
    """Some rows lie in parts, some are held, some never came; no stage is restarted, and `watch` sends what it has to."""
    with kafka.apache_kafka(tmp_path) as broker, desk_on(tmp_path, broker, s3, topic_prefix) as desk:
        desk.send(where(desk.messages, lambda message: not is_end(message) and row_of(message) < ROWS // 2))
        desk.chain.until(lambda: desk.keys("parts/"), "parts")
        assert broker.restart is not None
        broker.restart(wiped=True)
        desk.chain.start("watch", "process")
        desk.assert_right({})
