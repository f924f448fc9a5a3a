"""From a CSV to the computed CSV over HTTP, against what DuckDB makes of the same file."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest
from confluent_kafka import Producer

from tests.integration.chain import consume, millstream
from tests.integration.stack import Stack, stack
from tests.services import kafka
from tests.services.kafka import Broker
from tests.services.s3 import S3

FLIGHTS = """
[calculations.flights]
match = "flights*.csv"
id = ["year", "month", "day", "carrier", "flight", "origin"]
nulls = ["NA"]

[calculations.flights.columns]
year = "INTEGER"
month = "INTEGER"
day = "INTEGER"
air_time = "BIGINT"
distance = "BIGINT"
dep_delay = "INTEGER"
time_hour = "TIMESTAMP"

[calculations.flights.outputs]
miles = "CAST(distance AS DECIMAL(18,3)) * 0.868976"
speed = "distance / (air_time / 60)"
leg = "origin || '-' || dest"
date = "make_date(year, month, day)"
local = "time_hour - INTERVAL 5 HOUR"
delayed = "dep_delay > 15"

[calculations.orders]
match = "*.csv"
id = "order_id"
columns = { quantity = "BIGINT", price = "DECIMAL(18,2)" }
outputs = { total = "quantity * price" }
"""

ORACLE = """
COPY (
    SELECT year::VARCHAR AS year, month::VARCHAR AS month, day::VARCHAR AS day, carrier, flight::VARCHAR AS flight, origin,
        CAST(distance AS DECIMAL(18,3)) * 0.868976 AS miles,
        distance / (air_time / 60) AS speed,
        origin || '-' || dest AS leg,
        make_date(year, month, day) AS date,
        time_hour - INTERVAL 5 HOUR AS local,
        dep_delay > 15 AS delayed
    FROM read_csv('{file}', nullstr = 'NA', types = {{
        'year': 'INTEGER', 'month': 'INTEGER', 'day': 'INTEGER', 'flight': 'INTEGER', 'air_time': 'BIGINT',
        'distance': 'BIGINT', 'dep_delay': 'INTEGER', 'time_hour': 'TIMESTAMP'}})
) TO '{out}' (FORMAT csv, HEADER)
"""


@pytest.fixture
def chain(tmp_path: Path, broker: Broker, s3: S3, topic_prefix: str) -> Iterator[Stack]:
    """A worker, a sink and a reader."""
    (tmp_path / "millstream.toml").write_text(FLIGHTS)
    with stack(tmp_path, broker, s3, topic_prefix, "process", "sink", "serve") as running:
        yield running


def push(chain: Stack, *arguments: str, code: int = 0, timeout: float = 120) -> str:
    done = millstream("push", *arguments, folder=chain.folder, env=chain.env, timeout=timeout)
    assert done.returncode == code, done.stderr + chain.logs()
    return done.stderr


def orders(rows: range, *, bad: int = 0) -> tuple[str, str]:
    """Return a CSV and the result it has: every `bad`-th price is no number."""
    source, result = ["order_id,quantity,price\n"], ["order_id,total\n"]
    for row in rows:
        price = f"{row % 50}.25"
        source.append(f"{row:07},{row % 9},{'n/a' if bad and row % bad == 0 else price}\n")
        if not (bad and row % bad == 0):
            cents = (row % 50 * 100 + 25) * (row % 9)
            result.append(f"{row:07},{cents // 100}.{cents % 100:02}\n")
    return "".join(source), "".join(result)


def test_a_real_file_comes_out_as_duckdb_computes_it(chain: Stack, flights_csv: Path, tmp_path: Path) -> None:
    assert_flights(chain, flights_csv, tmp_path / "oracle.csv")


def test_a_real_file_comes_out_the_same_with_the_broker_in_a_container(
    flights_csv: Path, tmp_path: Path, s3: S3, topic_prefix: str
) -> None:
    """The image of docker-compose.yml, as it is published."""
    (tmp_path / "millstream.toml").write_text(FLIGHTS)
    with (
        kafka.kafka_in_container() as broker,
        stack(tmp_path, broker, s3, topic_prefix, "process", "sink", "serve") as chain,
    ):
        assert_flights(chain, flights_csv, tmp_path / "oracle.csv")


def assert_flights(chain: Stack, flights_csv: Path, expected: Path) -> None:
    """336,776 flights: several ids, a decimal, a double, text, a date, a timestamp, a boolean; and `verify` agrees."""
    push(chain, str(flights_csv), "--wait", timeout=200)
    with duckdb.connect() as oracle:
        oracle.execute(ORACLE.format(file=flights_csv, out=expected))
    answer = chain.get("/results/flights.csv")
    assert answer.status_code == 200
    assert answer.content == expected.read_bytes()
    receipt = chain.get("/receipts/flights.csv").json()
    assert receipt["rows"] == 336_776
    assert receipt["results"] + receipt["rejected"] == 336_776
    verified = millstream("verify", "flights.csv", folder=chain.folder, env=chain.env)
    assert verified.returncode == 0, verified.stderr


def test_foreign_and_broken_messages_on_both_topics_change_no_result(
    chain: Stack, broker: Broker, topic_prefix: str
) -> None:
    """A plain producer sends them before, between and after; one job's real keys among them."""
    source, result = orders(range(3000), bad=100)
    (chain.folder / "orders.csv").write_text(source)
    push(chain, "orders.csv", "--wait")
    first = consume(broker, f"{topic_prefix}.rows")
    other = next(key for _, key, _ in first).partition(":")[0]
    producer = Producer({"bootstrap.servers": broker.bootstrap})
    keys = [
        None,
        b"",
        b"hello",
        b"0" * 32 + b":0",
        b"0" * 32 + b":end",
        f"{other}:0".encode(),
        f"{other}:end".encode(),
    ]
    values = [
        None,
        b"",
        b"null",
        b"[]",
        b"{}",
        b"\xff",
        b'{"a":1}{"a":2}',
        b'{"order_id":"1","total":"x"}',
        b"[" * 9999,
    ]
    for topic in (f"{topic_prefix}.rows", f"{topic_prefix}.results"):
        for partition in range(4):
            for key in keys:
                for value in values:
                    producer.produce(topic, value=value, key=key, partition=partition)
    producer.flush()
    (chain.folder / "later.csv").write_text(source)
    push(chain, "later.csv", "--wait")
    for name in ("orders.csv", "later.csv"):
        chain.assert_result(name, result, wait=0)
    assert len(chain.get("/rejects/later.csv").text.splitlines()) == 31


def test_a_plain_consumer_reads_results_as_the_design_shows_them(
    chain: Stack, broker: Broker, topic_prefix: str
) -> None:
    """Key and value of a result, a reject, a malformed row passed on, and the end."""
    (chain.folder / "orders.csv").write_text('order_id,quantity,price\n007,3,9.99\n008,1,"9,99"\n009,5\n')
    push(chain, "orders.csv", "--wait")
    messages = consume(broker, f"{topic_prefix}.results")
    file_id = messages[0][1].partition(":")[0]
    assert messages[0][2] == b'{"order_id":"007","total":29.97}'
    assert {key.removeprefix(file_id): json.loads(value) for _, key, value in messages} == {
        ":0": {"order_id": "007", "total": 29.97},
        ":1:rejected": {
            "error": "price: '9,99' is not DECIMAL(18,2)",
            "column": "price",
            "row": {"order_id": "008", "quantity": "1", "price": "9,99"},
        },
        ":2:rejected": {"error": "expected 3 fields, found 2", "line": 4, "text": "009,5"},
        ":end": {"rows": 3, "round": 0},
    }
    assert messages[-1][1].endswith(":end")


def test_a_header_alone_gives_a_header_and_rejects_alone_give_one_too(chain: Stack) -> None:
    """Both are published, and both balance."""
    (chain.folder / "empty.csv").write_text("order_id,quantity,price\n")
    (chain.folder / "bad.csv").write_text("order_id,quantity,price\n1,x,y\n2,x,y\n")
    push(chain, "empty.csv", "bad.csv", "--wait")
    for name, rejected in (("empty.csv", 0), ("bad.csv", 2)):
        chain.assert_result(name, "order_id,total\n", wait=0)
        assert chain.get(f"/receipts/{name}").json()["rejected"] == rejected


@pytest.mark.parametrize("victim", ["process", "sink"])
def test_a_stage_killed_half_way_loses_and_doubles_nothing(
    chain: Stack, victim: str, broker: Broker, topic_prefix: str
) -> None:
    """kill -9 while rows stream through; its successor goes on where offsets say."""
    source, result = orders(range(60_000), bad=1000)
    (chain.folder / "orders.csv").write_text(source)
    chain.logged(victim, "partitions assigned")
    push(chain, "orders.csv")
    chain.kill(victim)
    chain.start(victim)
    chain.assert_result("orders.csv", result)
    receipt = chain.get("/receipts/orders.csv").json()
    assert (receipt["rows"], receipt["results"], receipt["rejected"]) == (60_000, 59_940, 60)
    chain.logged(victim, "partitions assigned", times=2)  # also where all was done before the kill


def test_workers_that_join_leave_and_sleep_lose_no_row(chain: Stack) -> None:
    """A second one joins, one sleeps past its session and wakes up, one leaves; four files stream meanwhile."""
    source, result = orders(range(40_000), bad=1000)
    chain.logged("process", "partitions assigned")
    for number, step in enumerate(("join", "sleep", "wake", "leave")):
        (chain.folder / f"orders-{number}.csv").write_text(source)
        push(chain, f"orders-{number}.csv")
        match step:
            case "join":
                chain.start("process-2")
                chain.logged("process-2", "partitions assigned")
            case "sleep":
                chain.pause("process")
                chain.logged("process-2", "partitions assigned", times=2)
            case "wake":
                os.kill(chain.processes["process"].pid, signal.SIGCONT)
                chain.logged("process-2", "partitions assigned", times=3)
            case "leave":
                assert chain.stop("process") == 0
    for number in range(4):
        chain.assert_result(f"orders-{number}.csv", result)
