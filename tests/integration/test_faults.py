"""What goes wrong beside the rows: each time nothing is acknowledged that isn't done."""

import json
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from millstream import ports
from tests.integration.chain import millstream
from tests.integration.stack import stack
from tests.integration.test_chain import FLIGHTS, orders, push
from tests.services import kafka
from tests.services.kafka import Broker
from tests.services.s3 import S3

SHIPPING = """
[calculations.shipping]
match = "parcels*.csv"
id = "parcel"
columns = { weight = "DOUBLE" }
python = "shipping:cost"
version = "1"
outputs = { cost = "DOUBLE" }
"""


def test_rows_whose_results_the_broker_refuses_are_not_acknowledged(
    tmp_path: Path, broker: Broker, s3: S3, topic_prefix: str
) -> None:
    """The results topic takes no message at all for a while: the worker leaves, and its successor does the work."""
    (tmp_path / "millstream.toml").write_text(FLIGHTS)
    source, result = orders(range(2000))
    (tmp_path / "orders.csv").write_text(source)
    with stack(tmp_path, broker, s3, topic_prefix, "process", "sink", "serve") as chain:
        chain.logged("process", "partitions assigned")
        admin = AdminClient({"bootstrap.servers": broker.bootstrap})

        def limit(size: int) -> None:
            entry = ConfigEntry("max.message.bytes", str(size), incremental_operation=AlterConfigOpType.SET)
            topic = ConfigResource(ResourceType.TOPIC, f"{topic_prefix}.results", incremental_configs=[entry])
            [done] = admin.incremental_alter_configs([topic]).values()
            done.result(30)

        limit(1)
        push(chain, "orders.csv")
        worker = chain.processes.pop("process")
        assert worker.wait(60) == 1
        assert "leaving without a commit" in chain.log("process").read_text()
        group = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": f"{topic_prefix}.processor"})
        at = group.committed(
            [TopicPartition(f"{topic_prefix}.rows", partition) for partition in range(4)], timeout=20
        )
        group.close()
        assert [position.offset for position in at if position.offset > 0] == []
        limit(1_000_000)
        chain.start("process")
        chain.assert_result("orders.csv", result)


def test_a_worker_that_may_read_no_more_leaves_without_a_commit(
    tmp_path: Path, broker: Broker, s3: S3, topic_prefix: str
) -> None:
    """Fenced for good by another of its name: it doesn't live on, call itself ready and read nothing."""
    (tmp_path / "millstream.toml").write_text(FLIGHTS)
    source, result = orders(range(2000))
    (tmp_path / "orders.csv").write_text(source)
    options = {"MILLSTREAM_KAFKA_OPTIONS": json.dumps({"group.instance.id": "the-only-one"})}
    with stack(tmp_path, broker, s3, topic_prefix, "process", "serve", **options) as chain:
        chain.logged("process", "partitions assigned")
        fenced = chain.processes.pop("process")
        log = chain.log("process").rename(tmp_path / "fenced.txt")
        chain.start("process")
        assert fenced.wait(60) == 1
        assert "reading failed; leaving without a commit" in log.read_text()
        chain.env.pop("MILLSTREAM_KAFKA_OPTIONS")
        chain.start("sink")
        push(chain, "orders.csv", "--wait")
        chain.assert_result("orders.csv", result, wait=0)


def test_a_calculation_added_later_reaches_the_worker_that_waits_for_it(
    tmp_path: Path, broker: Broker, s3: S3, topic_prefix: str
) -> None:
    """It holds the rows, sees its configuration change, and begins anew with it; nothing has to be restarted by hand."""
    config = tmp_path / "millstream.toml"
    config.write_text(FLIGHTS)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "millstream.toml").write_text(SHIPPING)
    (elsewhere / "parcels.csv").write_text("parcel,weight\nA1,2.5\nA2,x\n")
    with stack(tmp_path, broker, s3, topic_prefix, "process", "sink", "serve") as chain:
        chain.logged("process", "partitions assigned")
        pushed = millstream("push", "parcels.csv", folder=elsewhere, env=chain.env)
        assert pushed.returncode == 0, pushed.stderr
        chain.logged("process", "is not a calculation of this worker's configuration")
        (tmp_path / "shipping.py").write_text(
            "import pyarrow as pa\nimport pyarrow.compute as pc\n\n"
            "def cost(table: pa.Table) -> pa.Table:\n"
            "    return pa.table({'cost': pc.multiply(table.column('weight'), 2.0)})\n"
        )
        config.write_text(SHIPPING + FLIGHTS)
        chain.assert_result("parcels.csv", "parcel,cost\nA1,5.0\n")
        assert json.loads(chain.get("/receipts/parcels.csv").text)["rejected"] == 1


def test_a_worker_that_stands_still_says_so_and_leaves(
    tmp_path: Path, broker: Broker, s3: S3, topic_prefix: str
) -> None:
    """A function that never returns: after the limit the process ends, without a commit."""
    (tmp_path / "millstream.toml").write_text(SHIPPING)
    (tmp_path / "shipping.py").write_text("import time\n\ndef cost(table):\n    time.sleep(3600)\n")
    (tmp_path / "parcels.csv").write_text("parcel,weight\nA1,2.5\n")
    with stack(tmp_path, broker, s3, topic_prefix, "process", MILLSTREAM_STALL_EXIT="3") as chain:
        chain.logged("process", "partitions assigned")
        push(chain, "parcels.csv")
        assert chain.processes.pop("process").wait(60) == 1
        assert "standing still" in chain.log("process").read_text()


@pytest.mark.parametrize("topic", ["rows", "results"])
def test_a_message_flood_of_strangers_stops_nobody(
    topic: str, tmp_path: Path, broker: Broker, s3: S3, topic_prefix: str
) -> None:
    """Ten thousand messages of forty jobs that nobody knows, in every partition, before the file."""
    (tmp_path / "millstream.toml").write_text(FLIGHTS)
    source, result = orders(range(2000))
    (tmp_path / "orders.csv").write_text(source)
    with stack(tmp_path, broker, s3, topic_prefix, "process", "sink", "serve") as chain:
        chain.logged("process", "partitions assigned")
        producer = Producer({"bootstrap.servers": broker.bootstrap, "batch.size": 30_000})
        for number in range(10_000):
            producer.produce(
                f"{topic_prefix}.{topic}",
                key=f"{number % 40:032x}:{number}",
                value=b"{",
                partition=number % 4,
            )
        producer.flush()
        push(chain, "orders.csv", "--wait")
        chain.assert_result("orders.csv", result, wait=0)


def test_stages_that_start_before_their_services_wait_and_say_so(
    tmp_path: Path, s3: S3, topic_prefix: str
) -> None:
    """The broker comes later than they do: nobody exits, and each says once what it waits for."""
    (tmp_path / "millstream.toml").write_text(FLIGHTS)
    source, result = orders(range(2000))
    (tmp_path / "orders.csv").write_text(source)
    [port] = ports.choose(1)
    later = Broker(f"127.0.0.1:{port}")
    with stack(tmp_path, later, s3, topic_prefix, "watch", "process", "sink", "serve") as chain:
        for name in ("watch", "process", "sink"):
            chain.logged(name, "waiting at the start")
            assert f"Kafka at 127.0.0.1:{port} does not answer" in chain.log(name).read_text()
        with kafka.apache_kafka(tmp_path, port):
            push(chain, "orders.csv")
            chain.assert_result("orders.csv", result)
            for name in list(chain.processes):
                assert chain.stop(name) == 0
