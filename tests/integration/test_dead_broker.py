"""One broker of three dies for good: the stages go on, and those that have nothing to do take no CPU for it."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import NewTopic

from pipeline import kafka as edge
from tests.integration.chain import settings
from tests.integration.stack import Stack, stack
from tests.integration.test_chain import FLIGHTS, orders, push
from tests.services import kafka
from tests.services.kafka import Broker
from tests.services.s3 import S3
from tests.wait import wait_until

WINDOW = 20
"""Seconds over which CPU is measured."""

IDLE = 0.05
"""Cores that a stage may take while it has nothing to do."""

PARTITIONS = 6


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[tuple[Broker, list["kafka.Node"]]]:
    """Three nodes with ids 1, 2 and 3."""
    with kafka.apache_cluster(tmp_path) as found:
        yield found


def lay_out(broker: Broker, s3: S3, prefix: str) -> None:
    """Make the topics: node 1 leads all partitions of the rows, and a third of the results'."""
    chosen = settings(broker, s3, prefix)
    led_by_one = [[1, 2, 3]] * PARTITIONS
    led_by_all = [[1, 2, 3], [2, 3, 1], [3, 1, 2]] * (PARTITIONS // 3)
    new = [
        NewTopic(name, num_partitions=PARTITIONS, replica_assignment=replicas)
        for name, replicas in ((chosen.rows_topic, led_by_one), (chosen.results_topic, led_by_all))
    ]
    admin = edge.admin_client(chosen)
    for answer in admin.create_topics(new, operation_timeout=30).values():
        answer.result(30)


def leaders(broker: Broker, s3: S3, prefix: str) -> set[int]:
    """Return the nodes that lead partitions of our topics; -1 where nobody does."""
    chosen = settings(broker, s3, prefix)
    topics = edge.admin_client(chosen).list_topics(timeout=10).topics
    ours = (topics[chosen.rows_topic], topics[chosen.results_topic])
    return {partition.leader for topic in ours for partition in topic.partitions.values()}


def cpu(stages: Stack) -> dict[str, float]:
    """Return the seconds of CPU that each stage has taken."""
    taken = {}
    for name, process in stages.processes.items():
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        taken[name] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return taken


def cores(stages: Stack) -> dict[str, float]:
    """Return how many cores each stage takes, measured over WINDOW seconds."""
    began, before = time.monotonic(), cpu(stages)
    time.sleep(WINDOW)
    took = time.monotonic() - began
    return {name: (after - before[name]) / took for name, after in cpu(stages).items()}


def test_idle_stages_take_no_cpu_while_a_broker_is_dead(
    tmp_path: Path, cluster: tuple[Broker, list["kafka.Node"]], s3: S3, topic_prefix: str
) -> None:
    """From the moment that its partitions have no leader, and later on, when others lead them and it still is dead."""
    broker, nodes = cluster
    lay_out(broker, s3, topic_prefix)
    wait_until(lambda: leaders(broker, s3, topic_prefix) == {1, 2, 3})
    (tmp_path / "millstream.toml").write_text(FLIGHTS)
    with stack(
        tmp_path, broker, s3, topic_prefix, "process", "sink", "watch", "serve", MILLSTREAM_REPLICATION="3"
    ) as stages:
        stages.logged("process", "partitions assigned")
        stages.logged("sink", "partitions assigned")
        stages.logged("watch", "watching")
        source, result = orders(range(2000), bad=100)
        (tmp_path / "before.csv").write_text(source)
        push(stages, "before.csv")
        stages.assert_result("before.csv", result)
        nodes[0].kill()
        at_once = cores(stages)
        wait_until(lambda: leaders(broker, s3, topic_prefix) == {2, 3}, 60)
        later = cores(stages)
        for name in ("process", "sink"):
            assert max(at_once[name], later[name]) < IDLE, f"{name}: {at_once}, {later}\n{stages.logs()}"
        (tmp_path / "after.csv").write_text(source)
        push(stages, "after.csv")
        stages.assert_result("after.csv", result)
