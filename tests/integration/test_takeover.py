"""Several processes that want to capture one file: one does, the others wait; one that sleeps is replaced, and does no harm."""

import json
import signal
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from pipeline import missing
from pipeline.s3 import S3Store
from tests.integration.chain import Message, consume, millstream, running
from tests.integration.test_capture import captured_of, claim_of, csv, dealt, get, job_of, split, wait_for
from tests.services.kafka import Broker
from tests.services.s3 import S3

IMPATIENT = ["-m", "tests.integration.impatient"]
ROWS = 400_000


def end_of(s3: S3, file_id: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(get(s3, f"_millstream/jobs/{file_id}/end.json") or "null")
    return found


def test_a_capture_that_sleeps_is_taken_over_and_stops_when_it_wakes_up(
    folder: Path, env: dict[str, str], s3: S3, rows_topic: Callable[[], list[Message]]
) -> None:
    (folder / "orders.csv").write_bytes(csv(ROWS))
    with running([*IMPATIENT, "push"], folder, env) as push:
        wait_for(lambda: claim_of(s3, "orders.csv"), 60)
        push.send_signal(signal.SIGSTOP)
        file_id = job_of(s3, "orders.csv")["file_id"]
        assert get(s3, f"_millstream/jobs/{file_id}/captured.json") is None, "it was over before it slept"
        with running([*IMPATIENT, "watch"], folder, env) as watch:
            assert watch.stdout is not None
            assert any(" captured " in line for line in watch.stdout)
            account = captured_of(s3, file_id)
            push.send_signal(signal.SIGCONT)
            log, _ = push.communicate(timeout=60)
    assert push.returncode == 0, log
    assert "another process captures it; waiting for that" in log
    assert "400,000 rows captured" in log
    assert captured_of(s3, file_id) == account
    found, ends = split(rows_topic(), file_id)
    assert found == dealt(file_id, ROWS)
    assert ends == {partition: {"rows": len(share), "round": 0} for partition, share in found.items()}


def test_of_two_pushes_and_a_watch_at_once_one_captures_and_the_others_wait(
    folder: Path, env: dict[str, str], s3: S3, rows_topic: Callable[[], list[Message]]
) -> None:
    (folder / "orders.csv").write_bytes(csv(ROWS))
    with (
        running([*IMPATIENT, "watch"], folder, env),
        running([*IMPATIENT, "push"], folder, env) as first,
        running([*IMPATIENT, "push"], folder, env) as second,
    ):
        logs = [push.communicate(timeout=120)[0] for push in (first, second)]
    assert [first.returncode, second.returncode] == [0, 0], logs
    assert all("400,000 rows captured" in log for log in logs)
    assert any("another process captures it; waiting for that" in log for log in logs)
    job = job_of(s3, "orders.csv")
    assert job["generation"] == 1, "the same content, uploaded twice"
    keys = Counter(key for _, key, _ in rows_topic())
    assert len(keys) == ROWS + 1
    assert {key: times for key, times in keys.items() if times > 1}.keys() <= {f"{job['file_id']}:end"}


def test_an_upload_that_is_deleted_in_mid_capture_fails_its_job_and_one_that_is_replaced_supersedes_it(
    folder: Path, env: dict[str, str], s3: S3
) -> None:
    client = s3.client()
    with running([*IMPATIENT, "watch"], folder, env):
        client.put_object(Bucket=s3.uploads, Key="gone.csv", Body=csv(ROWS))
        wait_for(lambda: claim_of(s3, "gone.csv"), 60)
        client.delete_object(Bucket=s3.uploads, Key="gone.csv")
        client.put_object(Bucket=s3.uploads, Key="changed.csv", Body=csv(ROWS))
        file_id = job_of(s3, "gone.csv")["file_id"]
        end = wait_for(lambda: end_of(s3, file_id))
        assert (end["state"], end["reason"]) == ("failed", "the upload gone.csv is gone")
        wait_for(lambda: claim_of(s3, "changed.csv"), 60)
        old = job_of(s3, "changed.csv")["file_id"]
        client.put_object(Bucket=s3.uploads, Key="changed.csv", Body=csv(10))
        wait_for(lambda: captured_of(s3, job_of(s3, "changed.csv")["file_id"])["rows"] == 10)
        assert job_of(s3, "changed.csv")["generation"] == 2
        assert end_of(s3, old)["state"] == "superseded"


def test_blocks_that_are_asked_for_are_captured_again_and_the_end_of_that_round_is_sent(
    folder: Path, env: dict[str, str], s3: S3, rows_topic: Callable[[], list[Message]]
) -> None:
    (folder / "orders.csv").write_bytes(csv(50_000))
    with running(["-m", "millstream", "watch"], folder, env):
        assert millstream("push", "orders.csv", folder=folder, env=env).returncode == 0
        file_id = job_of(s3, "orders.csv")["file_id"]
        partition = zlib.crc32(file_id.encode()) % 4
        missing.request(S3Store(s3.client(), s3.results), file_id, partition, 1, [4])
        round = b'{"rows":%d,"round":1}' % len(dealt(file_id, 50_000)[partition])
        wait_for(lambda: (partition, f"{file_id}:end", round) in rows_topic(), 60)
    times = Counter(key for _, key, _ in rows_topic())
    assert all(times[f"{file_id}:{row}"] == 1 + (row // 8192 == 4) for row in range(50_000))


@pytest.mark.parametrize("maker", ["an operator", "watch"])
def test_a_topic_that_was_made_anew_gets_the_ends_again(
    maker: str, folder: Path, env: dict[str, str], s3: S3, broker: Broker, topic_prefix: str
) -> None:
    """Where nobody else makes it, `watch` does, after a while."""
    (folder / "orders.csv").write_bytes(csv(20_000))
    topic = f"{topic_prefix}.rows"
    with running(["-m", "millstream", "watch"], folder, env) as watch:
        assert watch.stdout is not None
        assert any("watching" in line for line in watch.stdout)
        assert millstream("push", "orders.csv", folder=folder, env=env).returncode == 0
        file_id = job_of(s3, "orders.csv")["file_id"]
        assert len(split(consume(broker, topic), file_id)[1]) == 3
        admin = AdminClient({"bootstrap.servers": broker.bootstrap})
        admin.delete_topics([topic])[topic].result(30)
        wait_for(lambda: topic not in admin.list_topics(timeout=10).topics, 30)
        if maker == "an operator":
            admin.create_topics([NewTopic(topic, 4, 1)])[topic].result(10)
        wait_for(lambda: len(split(consume(broker, topic), file_id)[1]) == 3, 60)
    found, ends = split(consume(broker, topic), file_id)
    assert found == {}
    assert sum(end["rows"] for end in ends.values()) == 20_000
