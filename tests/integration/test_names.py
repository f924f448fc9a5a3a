"""Whose a name is: with all stages running, over HTTP, as users see it."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.chain import CONFIGURATION, millstream, running
from tests.integration.stack import Stack, stack
from tests.integration.test_capture import captured_of, job_of, wait_for
from tests.services.kafka import Broker
from tests.services.s3 import S3


@pytest.fixture
def chain(tmp_path: Path, broker: Broker, s3: S3, topic_prefix: str) -> Iterator[Stack]:
    """All stages but a worker: nothing is computed before it is started."""
    (tmp_path / "millstream.toml").write_text(CONFIGURATION)
    with stack(tmp_path, broker, s3, topic_prefix, "watch", "sink", "serve") as started:
        started.logged("watch", "watching")
        yield started


def csv(first: int) -> bytes:
    return b"order_id,quantity\n" + b"".join(b"%d,%d\n" % (row, row) for row in range(first, first + 100))


def result(first: int) -> bytes:
    return b"order_id,twice\n" + b"".join(b"%d,%d\n" % (row, row * 2) for row in range(first, first + 100))


def upload(s3: S3, content: bytes, generation: int) -> None:
    """Upload, and wait until all of it is captured as this generation."""
    s3.client().put_object(Bucket=s3.uploads, Key="orders.csv", Body=content)
    wait_for(lambda: job_of(s3, "orders.csv")["generation"] == generation)
    wait_for(lambda: captured_of(s3, job_of(s3, "orders.csv")["file_id"])["rows"] == 100)


def test_the_newest_upload_wins_though_all_are_computed_after_it_and_whoever_waits_is_told(
    chain: Stack, s3: S3
) -> None:
    """A, B, A again, then a worker: A. One that is cancelled leaves that; a delete takes all of it back."""
    contents = csv(0), csv(1000), csv(0)
    for generation, content in enumerate(contents, 1):
        upload(s3, content, generation)
    chain.start("process")
    answer = chain.get("/results/orders.csv", wait="60")
    assert (answer.status_code, answer.content) == (200, result(0))
    receipt = chain.get("/receipts/orders.csv").json()
    assert (receipt["generation"], receipt["rows"], receipt["rejected"]) == (3, 100, 0)

    chain.stop("process")
    (chain.folder / "orders.csv").write_bytes(csv(2000))
    with running(["-m", "millstream", "push", "orders.csv", "--wait"], chain.folder, chain.env) as waiting:
        wait_for(lambda: job_of(s3, "orders.csv")["generation"] == 4)
        wait_for(lambda: captured_of(s3, job_of(s3, "orders.csv")["file_id"])["rows"] == 100)
        done = millstream("cancel", "orders.csv", folder=chain.folder, env=chain.env)
        assert done.returncode == 0, done.stderr
        log, _ = waiting.communicate(timeout=60)
    assert waiting.returncode == 1
    assert "orders.csv (generation 4) was cancelled: cancelled by millstream cancel" in log
    answer = chain.get("/results/orders.csv")
    assert (answer.content, answer.headers["millstream-state"]) == (result(0), "cancelled")

    done = millstream("delete", "orders.csv", folder=chain.folder, env=chain.env)
    assert done.returncode == 0, done.stderr
    assert chain.get("/results/orders.csv").status_code == 404
    client = s3.client()
    left = [item["Key"] for item in client.list_objects_v2(Bucket=s3.results)["Contents"]]
    assert "orders.csv" not in left
    assert not [key for key in left if "/out-" in key or "/open/" in key]
    assert "Contents" not in client.list_objects_v2(Bucket=s3.uploads)
    receipt = json.loads(
        client.get_object(Bucket=s3.results, Key="_millstream/receipts/orders.csv.json")["Body"].read()
    )
    assert (receipt["state"], receipt["generation"]) == ("deleted", 5)
