"""What operators see from outside while the stages run: figures that balance, and the name of what stands still."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.integration.stack import Stack, stack
from tests.integration.test_chain import FLIGHTS, orders, push
from tests.services.kafka import Broker
from tests.services.s3 import S3

STAGES = ("watch", "process", "sink", "serve")


def address(chain: Stack, stage: str) -> str:
    """Return where the stage's latest process answers probes and scrapers."""
    said = [line for line in chain.log(stage).read_text().splitlines() if "health and metrics" in line]
    found = re.search(r"http://127\.0\.0\.1:\d+", said[-1])
    assert found, said[-1]
    return found[0]


def figure(chain: Stack, stage: str, name: str, /, **labels: str) -> float:
    """Return the sum of a metric's samples with these labels, as Prometheus's own parser reads them."""
    text = httpx.get(f"{address(chain, stage)}/metrics", timeout=10).text
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


@pytest.fixture
def chain(tmp_path: Path, broker: Broker, s3: S3, topic_prefix: str) -> Iterator[Stack]:
    """All four stages, each with a port for metrics."""
    (tmp_path / "millstream.toml").write_text(FLIGHTS)
    with stack(tmp_path, broker, s3, topic_prefix, *STAGES, MILLSTREAM_HEALTH_PORT="0") as running:
        running.logged("sink", "partitions assigned")
        running.logged("process", "partitions assigned")
        running.logged("serve", "serving")
        yield running


def test_rows_in_are_rows_out_and_rejects_across_a_workers_kill(chain: Stack, s3: S3) -> None:
    """Each row once in what capture and sink count; in what the worker counts, those that came again as well."""
    total, bad = 150_000, 150
    source, result = orders(range(total), bad=total // bad)
    s3.client().put_object(Bucket=s3.uploads, Key="orders.csv", Body=source.encode())
    chain.until(lambda: figure(chain, "process", "millstream_rows_total") > 0, "the worker to compute")
    computed = figure(chain, "process", "millstream_rows_total", stage="process")
    chain.kill("process")
    chain.start("process")
    chain.assert_result("orders.csv", result)

    captured = figure(chain, "watch", "millstream_captured_rows_total")
    results = figure(chain, "sink", "millstream_published_rows_total", fate="result")
    rejected = figure(chain, "sink", "millstream_published_rows_total", fate="rejected")
    assert (captured, results, rejected) == (total, total - bad, bad)
    computed += figure(chain, "process", "millstream_rows_total", stage="process")
    assert computed >= total
    assert figure(chain, "sink", "millstream_rows_total", stage="store") >= total

    assert figure(chain, "process", "millstream_rejects_total", reason="cell") >= 1
    assert figure(chain, "watch", "millstream_bytes_total", stage="capture") == pytest.approx(
        len(source), abs=1
    )
    assert figure(chain, "watch", "millstream_s3_calls_total", operation="GetObject", outcome="ok") >= 1
    assert figure(chain, "sink", "millstream_file_seconds_count") == 1
    assert figure(chain, "sink", "millstream_partitions") == 4
    for stage in STAGES:
        assert figure(chain, stage, "process_resident_memory_bytes") > 1e6
        assert httpx.get(f"{address(chain, stage)}/health/ready", timeout=10).json()["status"] == "ready"
    chain.until(
        lambda: all(
            figure(chain, stage, "millstream_consumer_lag_messages") == 0 for stage in ("process", "sink")
        ),
        "all lag to be gone",
    )


GATE = """
import os, time

def wait(row):
    while not os.path.exists("open"):
        time.sleep(0.05)
    return {"twice": 2 * int(row["n"])}
"""

GATED = """
[calculations.gated]
match = "*.csv"
id = "n"
python = "gate:wait"
version = "1"
per_row = true
outputs = { twice = "BIGINT" }
"""


def test_what_stands_still_is_named_in_log_metrics_and_readiness(
    tmp_path: Path, broker: Broker, s3: S3, topic_prefix: str
) -> None:
    (tmp_path / "millstream.toml").write_text(GATED)
    (tmp_path / "gate.py").write_text(GATE)
    (tmp_path / "numbers.csv").write_text("n\n" + "".join(f"{n}\n" for n in range(100)))
    watched = {
        "MILLSTREAM_HEALTH_PORT": "0",
        "MILLSTREAM_STALL_AFTER": "1",
        "MILLSTREAM_LOG_FORMAT": "json",
    }
    stages = ("process", "sink", "serve")
    with stack(tmp_path, broker, s3, topic_prefix, *stages, **watched) as chain:
        chain.logged("process", "partitions assigned")
        push(chain, "numbers.csv")
        chain.logged("process", "standing still")
        ready = httpx.get(f"{address(chain, 'process')}/health/ready", timeout=10)
        assert ready.status_code == 503
        [stall] = ready.json()["stalls"]
        assert (stall["stage"], stall["file"], stall["row"]) == ("process", "numbers.csv", 0)
        assert (stall["offset"], stall["lag"]) == (0, 101)  # the rows, and the end of their share
        assert f"partition {stall['partition']} stands still at offset 0" in ready.json()["reasons"][0]
        where = {"stage": "process", "partition": str(stall["partition"])}
        assert figure(chain, "process", "millstream_stalled_seconds", **where) >= 1
        assert figure(chain, "process", "millstream_consumer_lag_messages", **where) == 101

        (tmp_path / "open").touch()
        assert chain.get("/results/numbers.csv", wait="60").text.splitlines()[-1] == "99,198"
        chain.logged("process", "moving again")
        ready_again = f"{address(chain, 'process')}/health/ready"
        chain.until(lambda: httpx.get(ready_again, timeout=10).status_code == 200, "the worker to be ready")
        assert figure(chain, "process", "millstream_stalls_total") == 1

        lines = [json.loads(line) for stage in stages for line in chain.log(stage).read_text().splitlines()]
    assert all({"event", "stage", "level", "timestamp"} <= line.keys() for line in lines)
    [said] = [line for line in lines if line["event"] == "standing still"]
    same = stall.keys() - {"seconds", "since", "in_hand"}
    assert {name: said[name] for name in same} == {name: stall[name] for name in same}
